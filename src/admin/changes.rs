//! What operators may change. Every reply is the model as it stands after
//! the publish.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::admin::AdminState;
use crate::admin::access::Caller;
use crate::admin::extract::{
    Body, InModel, InVersion, Params, maybe_whole, numbered, provenance, version, whole,
};
use crate::admin::reply::{ApiError, ErrorBody};
use crate::registry::{Change, ModelView, Provenance};
use crate::types::{ModelName, Share};

type Changed = Result<Json<ModelView>, ApiError>;

/// A canary and its weight.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CanaryBody {
    /// The version's number.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 9007199254740991.0)]
    version: u64,
    /// Its share of the requests (`"5%"`), in steps of 0.01 %.
    #[schema(value_type = String, pattern = r"^(100(\.00?)?|[0-9]{1,2}(\.[0-9]{1,2})?) ?%?$")]
    weight: Share,
    /// Why.
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
    /// By whose hand.
    #[schema(max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    actor: Option<String>,
}

/// A shadow's sample.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShadowBody {
    /// The share of the champion's requests that are copied; `"100%"` if absent.
    #[schema(value_type = Option<String>, pattern = r"^(100(\.00?)?|[0-9]{1,2}(\.[0-9]{1,2})?) ?%?$")]
    sample: Option<Share>,
    /// Why.
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
    /// By whose hand.
    #[schema(max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    actor: Option<String>,
}

/// A version to promote.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PromoteBody {
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

/// What to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackBody {
    /// The audit entry from which on it was so; the previous champion, and no canary,
    /// if absent.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 1, maximum = 9007199254740991.0)]
    entry: Option<u64>,
    /// Why.
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
    /// By whose hand.
    #[schema(max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    actor: Option<String>,
}

/// Who and why.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ByWhom {
    /// Why.
    #[param(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
    /// By whose hand.
    #[param(max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    actor: Option<String>,
}

async fn change(state: &AdminState, model: &ModelName, change: Change, by: Provenance) -> Changed {
    let view = state.control.change(model, change, by).await?;
    Ok(Json(ModelView::clone(&view)))
}

/// Makes a version the canary, or changes its weight.
#[utoipa::path(put, path = "/v1/models/{model}/canary", tag = "changes",
    params(("model" = String, Path, description = "Its name")),
    request_body = CanaryBody,
    responses(
        (status = 200, description = "Published", body = ModelView),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 404, description = "No such model or version", body = ErrorBody),
        (status = 409, description = "The version may not be canary now", body = ErrorBody),
    )
)]
pub(super) async fn set_canary(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<CanaryBody>,
) -> Changed {
    let by = provenance(&caller, body.actor, body.reason)?;
    let version = version(body.version)?;
    change(&state, &model, Change::SetCanary { version, weight: body.weight }, by).await
}

/// Takes the canary out; the champion answers everything.
#[utoipa::path(delete, path = "/v1/models/{model}/canary", tag = "changes",
    params(("model" = String, Path, description = "Its name"), ByWhom),
    responses(
        (status = 200, description = "Published", body = ModelView),
        (status = 404, description = "No such model", body = ErrorBody),
        (status = 409, description = "There is no canary", body = ErrorBody),
    )
)]
pub(super) async fn remove_canary(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Params(by): Params<ByWhom>,
) -> Changed {
    let by = provenance(&caller, by.actor, by.reason)?;
    change(&state, &model, Change::RemoveCanary, by).await
}

/// Runs a version on copies of the champion's requests, or changes its sample.
#[utoipa::path(put, path = "/v1/models/{model}/shadows/{version}", tag = "changes",
    params(
        ("model" = String, Path, description = "Its name"),
        ("version" = u64, Path, description = "The version's number"),
    ),
    request_body = Option<ShadowBody>,
    responses(
        (status = 200, description = "Published", body = ModelView),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 404, description = "No such model or version", body = ErrorBody),
        (status = 409, description = "The version may not be a shadow now", body = ErrorBody),
    )
)]
pub(super) async fn set_shadow(
    State(state): State<AdminState>,
    caller: Caller,
    InVersion(model, version): InVersion,
    Body(body): Body<ShadowBody>,
) -> Changed {
    let by = provenance(&caller, body.actor, body.reason)?;
    let sample = body.sample.unwrap_or(Share::ALL);
    change(&state, &model, Change::SetShadow { version, sample }, by).await
}

/// Stops copying to a version.
#[utoipa::path(delete, path = "/v1/models/{model}/shadows/{version}", tag = "changes",
    params(
        ("model" = String, Path, description = "Its name"),
        ("version" = u64, Path, description = "The version's number"),
        ByWhom,
    ),
    responses(
        (status = 200, description = "Published", body = ModelView),
        (status = 404, description = "No such model or version", body = ErrorBody),
        (status = 409, description = "The version is no shadow", body = ErrorBody),
    )
)]
pub(super) async fn remove_shadow(
    State(state): State<AdminState>,
    caller: Caller,
    InVersion(model, version): InVersion,
    Params(by): Params<ByWhom>,
) -> Changed {
    let by = provenance(&caller, by.actor, by.reason)?;
    change(&state, &model, Change::RemoveShadow { version }, by).await
}

/// Makes a version the champion.
#[utoipa::path(post, path = "/v1/models/{model}/promote", tag = "changes",
    params(("model" = String, Path, description = "Its name")),
    request_body = PromoteBody,
    responses(
        (status = 200, description = "Published", body = ModelView),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 404, description = "No such model or version", body = ErrorBody),
        (status = 409, description = "The version is not ready", body = ErrorBody),
    )
)]
pub(super) async fn promote(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<PromoteBody>,
) -> Changed {
    let by = provenance(&caller, body.actor, body.reason)?;
    let version = version(body.version)?;
    change(&state, &model, Change::Promote { version }, by).await
}

/// Makes the previous champion the champion again, and takes the canary out; or makes
/// it as it was from an audit entry on.
///
/// A version of then whose folder is gone is loaded from its copy, while that is kept.
/// A canary or shadow that cannot be had is left out, and named in the history.
#[utoipa::path(post, path = "/v1/models/{model}/rollback", tag = "changes",
    params(("model" = String, Path, description = "Its name")),
    request_body = Option<RollbackBody>,
    responses(
        (status = 200, description = "Published", body = ModelView),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 404, description = "No such model or entry", body = ErrorBody),
        (status = 409, description = "The champion to go back to cannot be had", body = ErrorBody),
    )
)]
pub(super) async fn rollback(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<RollbackBody>,
) -> Changed {
    let by = provenance(&caller, body.actor, body.reason)?;
    let back = match body.entry {
        Some(entry) => Change::Restore { entry: numbered("entry", entry)? },
        None => Change::Rollback,
    };
    change(&state, &model, back, by).await
}
