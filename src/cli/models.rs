//! `foreshadow models`: what is there, and who answers.

use clap::Args;

use crate::cli::client::ClientArgs;
use crate::cli::failure::Failure;
use crate::cli::reply::{Model, Models};
use crate::cli::table::Sheet;
use crate::cli::{figures, output};

/// List models with their versions, roles and states.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  foreshadow models")]
pub(super) struct ModelsArgs {
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: &ModelsArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    let reply = admin.get_json("/v1/models").await?;
    if args.client.json {
        return output::print_json(&reply);
    }
    output::print(&render(&admin.parse::<Models>(reply)?.models));
    Ok(())
}

fn render(models: &[Model]) -> String {
    if models.is_empty() {
        return "no models yet".into();
    }
    let mut sheet = Sheet::new(&["model", "version", "role", "state", "digest", "reason"]);
    for model in models {
        if model.versions.is_empty() {
            let none = || figures::NONE.to_owned();
            let reason = "it has no version yet".to_owned();
            sheet.row([model.name.clone(), none(), none(), none(), none(), reason]);
        }
        for version in &model.versions {
            sheet.row([
                model.name.clone(),
                version.version.to_string(),
                model.plan.role(version.version),
                version.state.clone(),
                version.digest.as_deref().map(short).unwrap_or_default(),
                version.reason.clone().unwrap_or_default(),
            ]);
        }
    }
    let problems = models.iter().flat_map(|model| {
        model.problems.iter().map(move |problem| format!("\n{}: {problem}", model.name))
    });
    let problems: String = problems.collect();
    if problems.is_empty() {
        return sheet.render();
    }
    format!("{}\n{problems}", sheet.render())
}

/// The first twelve hex digits of a digest.
pub(super) fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_version_has_a_line_and_problems_stand_below() {
        let version = |number: u64, state: &str, reason: Option<&str>| {
            json!({
                "version": number, "state": state, "reason": reason,
                "digest": format!("sha256:{}", "ab".repeat(32)), "engine": "tract",
                "lineage": {}, "inputs": [], "outputs": [], "cost_seconds": 1e-5,
                "since": "2026-01-01T00:00:00Z", "a_later_field": 1
            })
        };
        let model = json!({
            "name": "churn", "owner": null, "description": null, "features": [],
            "routing_key": null, "problems": ["model.toml: unknown key"],
            "plan": {
                "generation": 3, "champion": {"version": 1},
                "canary": {"version": 2, "weight": "10%"},
                "shadows": [{"version": 3, "sample": "100%"}], "previous_champion": null
            },
            "versions": [
                version(1, "ready", None), version(2, "ready", None), version(3, "ready", None),
                version(4, "failed", Some("unsupported operator TfIdfVectorizer in node tfidf; this engine lacks it"))
            ]
        });
        let empty = json!({
            "name": "fraud", "owner": null, "description": null, "problems": [], "versions": [],
            "plan": {
                "generation": 0, "champion": null, "canary": null, "shadows": [],
                "previous_champion": null
            }
        });
        let models: Vec<Model> = serde_json::from_value(json!([model, empty])).unwrap();
        let text = render(&models);
        let words: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["MODEL", "VERSION", "ROLE", "STATE", "DIGEST", "REASON"]);
        assert_eq!(words[2], ["churn", "2", "canary", "10%", "ready", "abababababab"]);
        assert_eq!(words[3], ["churn", "3", "shadow", "100%", "ready", "abababababab"]);
        assert!(text.contains("unsupported operator"), "{text}");
        assert!(text.contains("it has no version yet"), "{text}");
        assert!(text.ends_with("churn: model.toml: unknown key"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}
