//! What `serve` prints on stdout: where it listens, what it serves, and a
//! line to paste.
#![expect(clippy::print_stdout, reason = "it is the command's output")]

use std::path::Path;

use serde_json::value::RawValue;

use crate::app::App;
use crate::config::{Config, Switch};
use crate::registry::{ModelView, State};

/// A larger sample is not read for the pasted line.
const SAMPLE_BYTES_MAX: u64 = 4 << 20;

/// Where it listens; printed as soon as it does.
pub(super) fn addresses(app: &App, config: &Config) {
    let secured = if config.server.tls_certificate.is_some() { " (TLS)" } else { "" };
    let grpc = app.grpc_address();
    let grpc = grpc.map_or_else(|| "off".to_owned(), |address| format!("{address}{secured}"));
    println!(
        "foreshadow {}\n  inference  {}://{}\n  grpc       {grpc}\n  admin      http://{}  (metrics: /metrics, description: /v1/openapi.json)\n  models     {}",
        env!("CARGO_PKG_VERSION"),
        scheme(config),
        app.inference_address(),
        app.admin_address(),
        config.repository.models.display()
    );
    if is_open(config) {
        println!(
            "  access     whoever is on this machine may change everything, without a token \
             ([admin] open)"
        );
    }
    if let Some(problem) = app.metrics.store_problem() {
        println!("  ! {problem}");
        println!("  ! changes that add risk are refused, and nothing that is done is remembered");
    }
}

/// Whether the admin API asks nobody who they are.
fn is_open(config: &Config) -> bool {
    config.admin.open == Switch::On && config.admin.token.is_none()
}

/// How the inference listener is spoken to.
const fn scheme(config: &Config) -> &'static str {
    if config.server.tls_certificate.is_some() { "https" } else { "http" }
}

/// What it serves; printed once every version found at start was tried.
pub(super) async fn models_when_tried(app: &App, config: &Config) {
    app.control().wait_for(|_| app.readiness().is_tried().then_some(())).await;
    let models = app.control().models();
    println!();
    if models.is_empty() {
        println!("  no models yet: put one into {}", config.repository.models.display());
    }
    for model in &models {
        for line in describe(model) {
            println!("  {line}");
        }
    }
    let folder = &config.repository.models;
    let base = format!("{}://{}", scheme(config), app.inference_address());
    let sample = models.iter().find_map(|model| paste(&base, folder, model));
    if let Some(line) = sample {
        println!("\nTry:\n{line}\n");
    }
}

/// `churn   champion 1, canary 2 at 10%, shadow 3`, and what went wrong.
fn describe(model: &ModelView) -> Vec<String> {
    let mut lines = vec![format!("{:<12} {}", model.name, model.plan)];
    let mut wrong = |text: String| lines.push(format!("{:<12} ! {text}", ""));
    for problem in &model.problems {
        wrong(problem.clone());
    }
    for version in model.versions.iter().filter(|v| v.state == State::Failed) {
        let reason = version.reason.as_deref().unwrap_or("no reason recorded");
        wrong(format!("version {} failed: {reason}", version.version));
    }
    lines
}

/// A `curl` line that answers, if the model serves and brought sample rows.
fn paste(base: &str, folder: &Path, model: &ModelView) -> Option<String> {
    model.plan.champion.as_ref()?;
    let row = first_row(&folder.join(&model.name).join("sample.json"))?;
    // Inside single quotes a shell takes everything but the quote itself.
    let row = row.replace('\'', "'\\''");
    Some(format!("curl -sS {base}/predict/{} -d '{{\"instances\":[{row}]}}'", model.name))
}

/// The first of the sample's rows, as it is written there.
fn first_row(file: &Path) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Sample<'a> {
        #[serde(borrow)]
        instances: Vec<&'a RawValue>,
    }
    if std::fs::metadata(file).ok()?.len() > SAMPLE_BYTES_MAX {
        return None;
    }
    let text = std::fs::read_to_string(file).ok()?;
    let sample: Sample<'_> = serde_json::from_str(&text).ok()?;
    sample.instances.first().map(|row| row.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_is_taken_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sample.json");
        assert_eq!(first_row(&file), None);
        std::fs::write(&file, r#"{"instances": [{"a": 1.50}, [2]]}"#).unwrap();
        assert_eq!(first_row(&file).as_deref(), Some(r#"{"a": 1.50}"#));
        std::fs::write(&file, r#"{"instances": []}"#).unwrap();
        assert_eq!(first_row(&file), None);
    }
}
