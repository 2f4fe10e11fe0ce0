//! Drift: whether today's rows look like those that the versions were made for.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::AdminState;
use crate::admin::access::Caller;
use crate::admin::extract::{Body, InModel, provenance, version, whole};
use crate::admin::reply::{ApiError, ErrorBody};
use crate::monitor::DriftView;
use crate::registry::Change;
use crate::types::ModelName;

type Drifts = Result<Json<DriftList>, ApiError>;

/// Drift of a model's loaded versions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DriftList {
    /// The lowest number first.
    versions: Vec<DriftView>,
}

/// Whether the rows that a model's versions answer look like those that they were made
/// for, window by window.
#[utoipa::path(get, path = "/v1/models/{model}/drift", tag = "models",
    params(("model" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "Each loaded version", body = DriftList),
        (status = 404, description = "No such model", body = ErrorBody),
    )
)]
pub(super) async fn drift(State(state): State<AdminState>, InModel(model): InModel) -> Drifts {
    // An unknown model is told as everywhere.
    state.control.model(&model)?;
    Ok(list(&state, &model))
}

fn list(state: &AdminState, model: &ModelName) -> Json<DriftList> {
    let versions = state.monitor.drift(model);
    Json(DriftList { versions: versions.iter().map(|view| DriftView::clone(view)).collect() })
}

/// A version that learns its profile anew.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RelearnBody {
    /// The version's number.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 9007199254740991.0)]
    version: u64,
    /// Why.
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
    /// By whose hand.
    #[schema(max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    actor: Option<String>,
}

/// Has a version forget the profile that it learnt, and learn one from the rows that it
/// answers from now on.
#[utoipa::path(post, path = "/v1/models/{model}/drift/relearn", tag = "changes",
    params(("model" = String, Path, description = "Its name")),
    request_body = RelearnBody,
    responses(
        (status = 200, description = "It learns", body = DriftList),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 404, description = "No such model or version", body = ErrorBody),
        (status = 409, description = "The version has a profile.json, or learns none", body = ErrorBody),
    )
)]
pub(super) async fn relearn(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<RelearnBody>,
) -> Drifts {
    let by = provenance(&caller, body.actor, body.reason)?;
    let version = version(body.version)?;
    state.control.model(&model)?;
    // Nothing is written down that cannot be done.
    state.monitor.may_relearn(&model, version)?;
    state.control.change(&model, Change::Relearn { version }, by).await?;
    state.monitor.relearn(&model, version).await?;
    Ok(list(&state, &model))
}
