//! The command line of the load generator.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod commands;

fn main() -> ExitCode {
    let result = match args::Cli::parse().command {
        args::Command::Run(run) => commands::run(&run),
        args::Command::Scenario { kind } => commands::scenario(&kind),
        args::Command::Model(model) => commands::model(&model),
        args::Command::Versions(versions) => commands::versions(&versions),
        args::Command::Bare(bare) => commands::bare(&bare),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}
