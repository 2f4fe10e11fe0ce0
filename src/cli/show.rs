//! `foreshadow show`: one model, or one version, in full.

use clap::Args;

use crate::cli::client::ClientArgs;
use crate::cli::failure::Failure;
use crate::cli::models::short;
use crate::cli::reply::{Model, TensorSpec, Version};
use crate::cli::table::Sheet;
use crate::cli::{figures, output, report};
use crate::types::{ModelName, VersionId};

/// Show a model: its plan, its versions, and where they come from.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  foreshadow show churn\n  foreshadow show churn 2")]
pub(super) struct ShowArgs {
    /// The model's name
    model: ModelName,
    /// Only this version
    version: Option<VersionId>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: &ShowArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    let reply = admin.get_json(&format!("/v1/models/{}", args.model)).await?;
    let model: Model = admin.parse(reply.clone())?;
    let Some(version) = args.version else {
        if args.client.json {
            return output::print_json(&reply);
        }
        output::print(&whole(&model));
        return Ok(());
    };
    let at = model.versions.iter().position(|found| found.version == version.get());
    let at = at.ok_or_else(|| {
        let known: Vec<_> = model.versions.iter().map(|found| found.version.to_string()).collect();
        let known = known.join(", ");
        Failure::failed(format!("model {} has no version {version}; versions: {known}", model.name))
    })?;
    if args.client.json {
        return output::print_json(&reply["versions"][at]);
    }
    output::print(&one(&model, &model.versions[at]));
    Ok(())
}

fn whole(model: &Model) -> String {
    let mut lines = vec![format!("{}: {}", model.name, model.plan.in_words())];
    let optional = [("description", &model.description), ("owner", &model.owner)];
    for (name, value) in optional {
        lines.extend(value.iter().map(|value| format!("{name}: {value}")));
    }
    lines.push(format!("plan: generation {}", model.plan.generation));
    let previous = model.plan.previous_champion;
    lines.extend(previous.map(|version| format!("a rollback would go back to: {version}")));
    lines.extend(model.problems.iter().map(|problem| format!("problem: {problem}")));
    lines.extend(model.not_taken.iter().map(|what| format!("not taken: {what}")));
    let mut sheet =
        Sheet::new(&["version", "role", "state", "cost/row", "digest", "metrics", "notes"]);
    for version in &model.versions {
        let metrics = version.lineage.metrics.iter();
        let metrics: Vec<_> = metrics.map(|(name, value)| format!("{name} {value}")).collect();
        let notes = version.reason.clone().or_else(|| version.lineage.notes.clone());
        sheet.row([
            version.version.to_string(),
            model.plan.role(version.version),
            version.state.clone(),
            figures::seconds(version.cost_seconds),
            version.digest.as_deref().map(short).unwrap_or_default(),
            metrics.join(", "),
            notes.unwrap_or_default(),
        ]);
    }
    format!("{}\n\n{}", lines.join("\n"), sheet.render())
}

fn one(model: &Model, version: &Version) -> String {
    let role = model.plan.role(version.version);
    let role = if role.is_empty() { "no role".into() } else { role };
    let mut lines = vec![format!("{} {}: {role}", model.name, version.version)];
    let mut line = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("  {name:<13} {value}")));
    };
    line("state", Some(format!("{} since {}", version.state, version.since)));
    line("reason", version.reason.clone());
    line("digest", version.digest.clone());
    line("engine", version.engine.clone());
    line("cost per row", version.cost_seconds.map(|cost| figures::seconds(Some(cost))));
    let lineage = &version.lineage;
    line("code commit", lineage.code_commit.clone());
    line("data digest", lineage.data_digest.clone());
    line("seed", lineage.seed.map(|seed| seed.to_string()));
    line("training run", lineage.training_run.clone());
    line("author", lineage.author.clone());
    line("created", lineage.created.clone());
    line("notes", lineage.notes.clone());
    lineage.metrics.iter().for_each(|(name, value)| line(name, Some(value.to_string())));
    lines.extend(signature(version));
    if let Some(found) = &version.report {
        lines.extend(report::findings(found));
        lines.extend(report::costs(found).map(|table| format!("\n{table}")));
    }
    lines.join("\n")
}

/// What it takes and gives: as its trial tells, or as it is loaded.
fn signature(version: &Version) -> Vec<String> {
    let told = version.report.as_ref().map(report::signature).unwrap_or_default();
    if !told.is_empty() {
        return told;
    }
    let line = |name: &'static str| move |spec: &TensorSpec| report::line(name, &tensor(spec));
    let inputs = version.inputs.iter().map(line("input"));
    inputs.chain(version.outputs.iter().map(line("output"))).collect()
}

fn tensor(spec: &TensorSpec) -> String {
    format!("{} {} {:?}", spec.name, spec.datatype, spec.shape)
}
