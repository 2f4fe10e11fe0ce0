//! Which versions of a model there are, and which models.

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::reply::{self, Reply};
use crate::protocol::route::Which;
use crate::protocol::v2::metadata::pinned;
use crate::routing::Plan;
use crate::types::{ModelName, Role, VersionId};

#[derive(Serialize, ToSchema)]
#[schema(as = V1Alive)]
pub(in crate::protocol) struct Alive {
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V1Models)]
pub(in crate::protocol) struct Models {
    #[schema(value_type = Vec<String>)]
    models: Vec<ModelName>,
}

/// TensorFlow Serving's `GetModelStatusResponse`, and what KServe's clients read
/// of a model.
#[derive(Serialize, ToSchema)]
#[schema(as = V1Status)]
pub(in crate::protocol) struct Status<'a> {
    model_version_status: Vec<VersionStatus>,
    /// Of the model as a whole; not for one of its versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ready: Option<bool>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V1VersionStatus)]
struct VersionStatus {
    version: String,
    state: &'static str,
    status: Outcome,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V1Outcome)]
struct Outcome {
    error_code: &'static str,
    error_message: &'static str,
}

impl VersionStatus {
    /// A version that answers whoever asks for it.
    fn available(version: VersionId) -> Self {
        let status = Outcome { error_code: "OK", error_message: "" };
        Self { version: version.to_string(), state: "AVAILABLE", status }
    }
}

/// `GET /`: whoever can answer is alive.
pub(in crate::protocol) fn alive() -> Reply {
    reply::value(&Alive { status: "alive" })
}

/// `GET /v1/models`: names, sorted.
pub(in crate::protocol) fn models(models: Vec<ModelName>) -> Reply {
    reply::value(&Models { models })
}

/// `GET /v1/models/{m}[/versions/{v}|/labels/{l}]`: the versions that are ready,
/// the newest first.
pub(in crate::protocol) fn status(plan: &Plan, which: Which<'_>) -> Result<Reply> {
    let versions = versions(plan, which)?;
    let whole = matches!(which, Which::Any);
    Ok(reply::value(&Status {
        model_version_status: versions.into_iter().map(VersionStatus::available).collect(),
        name: whole.then_some(plan.model.as_str()),
        ready: whole.then_some(plan.champion.is_some()),
    }))
}

/// The ready versions that a path asks for, the newest first. To name one is an
/// error where it is none.
pub(super) fn versions(plan: &Plan, which: Which<'_>) -> Result<Vec<VersionId>> {
    match which {
        Which::Any => Ok(plan.ready.keys().rev().copied().collect()),
        Which::Version(version) => Ok(vec![pinned(plan, version)?]),
        Which::Label(_) => match which.role()? {
            Some(role) => labelled(plan, role),
            None => Ok(Vec::new()),
        },
    }
}

fn labelled(plan: &Plan, role: Role) -> Result<Vec<VersionId>> {
    let mut versions: Vec<_> = match role {
        Role::Champion => plan.champion.iter().map(|arm| arm.version.id()).collect(),
        Role::Canary => plan.canary.iter().map(|canary| canary.arm.version.id()).collect(),
        Role::Shadow => plan.shadows.iter().map(|shadow| shadow.version.id()).collect(),
    };
    if versions.is_empty() {
        let message = format!("model {} has no {role} now", plan.model);
        return Err(Error::new(ErrorCode::NotFound, message));
    }
    versions.sort_unstable_by(|a, b| b.cmp(a));
    Ok(versions)
}
