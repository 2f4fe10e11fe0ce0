//! `foreshadow canary`: gives a version a share of the requests.

use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

use crate::cli::failure::Failure;
use crate::cli::{ChangeOptions, output, reply};
use crate::types::{ModelName, Share, VersionId};

/// Send a share of the requests to a version, or change that share.
#[derive(Debug, Args)]
#[command(after_help = "\
A raised weight only adds users to the canary; none of them flips back.

Examples:
  foreshadow canary churn 2 --weight 5%
  foreshadow canary churn 2 --weight 0.25% --reason \"first hour\"
  foreshadow canary churn --off")]
pub(super) struct CanaryArgs {
    /// The model's name
    model: ModelName,
    /// The version's number
    #[arg(required_unless_present = "off", conflicts_with = "off")]
    version: Option<VersionId>,
    /// Its share of the requests, in steps of 0.01%
    #[arg(long, value_name = "SHARE", required_unless_present = "off", conflicts_with = "off")]
    weight: Option<Share>,
    /// Take the canary out; the champion answers everything
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    options: ChangeOptions,
}

pub(super) async fn run(args: &CanaryArgs) -> Result<(), Failure> {
    let path = format!("/v1/models/{}/canary", args.model);
    let Some((version, weight)) = args.version.zip(args.weight) else {
        let query = args.options.change.query();
        return change(&args.options, Method::DELETE, &format!("{path}{query}"), None).await;
    };
    let fields = json!({"version": version, "weight": weight});
    change(&args.options, Method::PUT, &path, Some(fields)).await
}

/// Asks for a change, and says who answers now.
pub(super) async fn change(
    options: &ChangeOptions,
    method: Method,
    path: &str,
    fields: Option<Value>,
) -> Result<(), Failure> {
    let admin = options.client.connect()?;
    let body = fields.map(|fields| {
        let fields = if let Value::Object(fields) = fields { fields } else { Map::new() };
        options.change.body(fields)
    });
    let reply = admin.send(method, path, body).await?;
    if options.client.json {
        return output::print_json(&reply);
    }
    let model: reply::Model = admin.parse(reply)?;
    output::print(&format!("{}: {}", model.name, model.plan.in_words()));
    Ok(())
}
