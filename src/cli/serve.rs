//! `foreshadow serve`: runs the gateway.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::output;
use crate::config::{Config, FlagValue, Sources};

/// Serve the models in a folder. This is what happens without a command, too.
#[derive(Debug, Args)]
#[command(after_help = "\
A flag goes before the environment, which goes before the file.

Examples:
  foreshadow serve
  foreshadow serve --models /srv/models --listen 0.0.0.0:8000
  FORESHADOW_LOG_FORMAT=json foreshadow serve --config gateway.toml
  foreshadow serve --config gateway.toml --check-config")]
pub(super) struct ServeArgs {
    /// The folder of models [default: models]
    #[arg(long, value_name = "DIR")]
    models: Option<String>,
    /// A TOML file with settings; FORESHADOW_CONFIG names one as well
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the inference listener [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of the gRPC listener, or off [default: 127.0.0.1:8001]
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<String>,
    /// Address of the admin API and /metrics [default: 127.0.0.1:8002]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// The folder for what must outlive the process [default: .foreshadow]
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// Show Triton's metric names on /metrics as well (on or off) [default: off]
    #[arg(long, value_name = "on|off")]
    triton_metrics: Option<String>,
    /// Check the settings, print them all, and exit with 0, or with 2 if any is wrong
    #[arg(long)]
    check_config: bool,
}

impl ServeArgs {
    fn sources(&self) -> Sources {
        let flags = [
            ("repository.models", "--models", &self.models),
            ("server.listen", "--listen", &self.listen),
            ("grpc.listen", "--grpc-listen", &self.grpc_listen),
            ("admin.listen", "--admin-listen", &self.admin_listen),
            ("repository.state", "--state", &self.state),
            ("admin.triton_metrics", "--triton-metrics", &self.triton_metrics),
        ];
        let given = flags
            .into_iter()
            .filter_map(|(key, flag, value)| Some(FlagValue { key, flag, value: value.clone()? }));
        Sources {
            file: self.config.clone(),
            environment: std::env::vars_os().collect(),
            flags: given.collect(),
        }
    }
}

pub(super) fn run(args: &ServeArgs) -> ExitCode {
    let config = match Config::load(&args.sources()) {
        Ok(config) => config,
        Err(problems) => {
            output::complain(&problems.to_string());
            return ExitCode::from(2);
        }
    };
    if args.check_config {
        output::print(&config.to_toml());
        return ExitCode::SUCCESS;
    }
    // Only here: a configuration may be checked on another machine.
    let models = &config.repository.models;
    if !models.is_dir() {
        output::complain(&format!(
            "repository.models: {} is not a folder; name the folder of models with --models DIR",
            models.display()
        ));
        return ExitCode::from(2);
    }
    crate::app::serve(&config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_settings_that_exist() {
        let some = || Some("x".to_owned());
        let args = ServeArgs {
            models: some(),
            config: None,
            listen: some(),
            grpc_listen: some(),
            admin_listen: some(),
            state: some(),
            triton_metrics: some(),
            check_config: false,
        };
        let flags = args.sources().flags;
        assert_eq!(flags.len(), 6);
        for flag in flags {
            let known = crate::config::KEYS.iter().any(|key| key.path() == flag.key);
            assert!(known, "{}", flag.key);
        }
    }
}
