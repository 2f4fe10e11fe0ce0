//! Rollouts: what they know, and what people ask of them.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use crate::admin::AdminState;
use crate::admin::access::Caller;
use crate::admin::extract::{Body, InModel, Params, provenance, version, whole};
use crate::admin::reply::{ApiError, ErrorBody};
use crate::error::Error;
use crate::rollout::{Forecast, Replayed, RolloutView};
use crate::types::RolloutOverrides;

type Shown = Result<Json<RolloutView>, ApiError>;

/// The most rollouts of one reply.
const LIMIT_MAX: usize = 100;

/// A version to bring in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartBody {
    /// The version's number.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 9007199254740991.0)]
    version: u64,
    /// What this rollout does differently from what `model.toml` says.
    #[serde(default)]
    overrides: RolloutOverrides,
    /// Why.
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
    /// By whose hand.
    #[schema(max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    actor: Option<String>,
}

/// Who and why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepBody {
    /// Why.
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
    /// By whose hand.
    #[schema(max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    actor: Option<String>,
}

/// A remark.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommentBody {
    /// The remark.
    #[schema(
        max_length = 1000,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    text: String,
    /// By whose hand.
    #[schema(max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    actor: Option<String>,
}

/// A rollout that has not begun.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanBody {
    /// The version's number.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 9007199254740991.0)]
    version: u64,
    /// What the rollout would do differently from what `model.toml` says.
    #[serde(default)]
    overrides: RolloutOverrides,
}

/// How many rollouts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// The most; 10 if absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
}

/// A model's rollouts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RolloutList {
    /// The newest first.
    rollouts: Vec<RolloutView>,
}

/// The newest rollout of a model, with all that it is judged by.
#[utoipa::path(get, path = "/v1/models/{model}/rollout", tag = "rollouts",
    params(("model" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The rollout", body = RolloutView),
        (status = 404, description = "No such model, or it had no rollout", body = ErrorBody),
    )
)]
pub(super) async fn status(State(state): State<AdminState>, InModel(model): InModel) -> Shown {
    Ok(Json(state.rollouts.status(&model).await?))
}

/// Begins to bring in a version.
#[utoipa::path(post, path = "/v1/models/{model}/rollout", tag = "rollouts",
    params(("model" = String, Path, description = "Its name")),
    request_body = StartBody,
    responses(
        (status = 200, description = "Begun", body = RolloutView),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 404, description = "No such model or version", body = ErrorBody),
        (status = 409, description = "It cannot begin now", body = ErrorBody),
    )
)]
pub(super) async fn start(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<StartBody>,
) -> Shown {
    let by = provenance(&caller, body.actor, body.reason)?;
    let version = version(body.version)?;
    Ok(Json(state.rollouts.start(&model, version, body.overrides, by).await?))
}

/// Lets a rollout wait where it is; harm that is shown still ends it.
#[utoipa::path(post, path = "/v1/models/{model}/rollout/pause", tag = "rollouts",
    params(("model" = String, Path, description = "Its name")),
    request_body = Option<StepBody>,
    responses(
        (status = 200, description = "Done", body = RolloutView),
        (status = 400, description = "Malformed, or without a reason", body = ErrorBody),
        (status = 404, description = "No rollout is under way", body = ErrorBody),
        (status = 409, description = "It is paused already", body = ErrorBody),
    )
)]
pub(super) async fn pause(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<StepBody>,
) -> Shown {
    let by = provenance(&caller, body.actor, body.reason)?;
    Ok(Json(state.rollouts.pause(&model, by).await?))
}

/// Lets a rollout go on; one that had stopped gets its stage's time again.
#[utoipa::path(post, path = "/v1/models/{model}/rollout/resume", tag = "rollouts",
    params(("model" = String, Path, description = "Its name")),
    request_body = Option<StepBody>,
    responses(
        (status = 200, description = "Done", body = RolloutView),
        (status = 400, description = "Malformed, or without a reason", body = ErrorBody),
        (status = 404, description = "No rollout is under way", body = ErrorBody),
        (status = 409, description = "It runs already", body = ErrorBody),
    )
)]
pub(super) async fn resume(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<StepBody>,
) -> Shown {
    let by = provenance(&caller, body.actor, body.reason)?;
    Ok(Json(state.rollouts.resume(&model, by).await?))
}

/// Ends a rollout, and takes the version out of its role.
#[utoipa::path(post, path = "/v1/models/{model}/rollout/abort", tag = "rollouts",
    params(("model" = String, Path, description = "Its name")),
    request_body = Option<StepBody>,
    responses(
        (status = 200, description = "Done", body = RolloutView),
        (status = 400, description = "Malformed, or without a reason", body = ErrorBody),
        (status = 404, description = "No rollout is under way", body = ErrorBody),
        (status = 409, description = "The version cannot be taken out", body = ErrorBody),
    )
)]
pub(super) async fn abort(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<StepBody>,
) -> Shown {
    let by = provenance(&caller, body.actor, body.reason)?;
    Ok(Json(state.rollouts.abort(&model, by).await?))
}

/// Goes to the next stage without waiting for evidence; needs a reason.
#[utoipa::path(post, path = "/v1/models/{model}/rollout/skip", tag = "rollouts",
    params(("model" = String, Path, description = "Its name")),
    request_body = Option<StepBody>,
    responses(
        (status = 200, description = "Done", body = RolloutView),
        (status = 400, description = "Malformed, or without a reason", body = ErrorBody),
        (status = 404, description = "No rollout is under way", body = ErrorBody),
        (status = 409, description = "It is in its last stage", body = ErrorBody),
    )
)]
pub(super) async fn skip(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<StepBody>,
) -> Shown {
    let by = provenance(&caller, body.actor, body.reason)?;
    Ok(Json(state.rollouts.skip(&model, by).await?))
}

/// Promotes without waiting for evidence, and watches; needs a reason.
#[utoipa::path(post, path = "/v1/models/{model}/rollout/promote", tag = "rollouts",
    params(("model" = String, Path, description = "Its name")),
    request_body = Option<StepBody>,
    responses(
        (status = 200, description = "Done", body = RolloutView),
        (status = 400, description = "Malformed, or without a reason", body = ErrorBody),
        (status = 404, description = "No rollout is under way", body = ErrorBody),
        (status = 409, description = "It is in its last stage, or not approved", body = ErrorBody),
    )
)]
pub(super) async fn promote(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<StepBody>,
) -> Shown {
    let by = provenance(&caller, body.actor, body.reason)?;
    Ok(Json(state.rollouts.promote(&model, by).await?))
}

/// Approves of the promotion, as somebody else than who began it.
#[utoipa::path(post, path = "/v1/models/{model}/rollout/approve", tag = "rollouts",
    params(("model" = String, Path, description = "Its name")),
    request_body = Option<StepBody>,
    responses(
        (status = 200, description = "Done", body = RolloutView),
        (status = 400, description = "Malformed, or without a reason", body = ErrorBody),
        (status = 403, description = "Whoever began it cannot approve of it", body = ErrorBody),
        (status = 404, description = "No rollout is under way", body = ErrorBody),
        (status = 409, description = "It asks for nobody's approval", body = ErrorBody),
    )
)]
pub(super) async fn approve(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<StepBody>,
) -> Shown {
    caller.must_be_known()?;
    let by = provenance(&caller, body.actor, body.reason)?;
    Ok(Json(state.rollouts.approve(&model, by).await?))
}

/// Adds a remark to a rollout's log.
#[utoipa::path(post, path = "/v1/models/{model}/rollout/comments", tag = "rollouts",
    params(("model" = String, Path, description = "Its name")),
    request_body = CommentBody,
    responses(
        (status = 200, description = "Added", body = RolloutView),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 404, description = "No rollout is under way", body = ErrorBody),
    )
)]
pub(super) async fn comment(
    State(state): State<AdminState>,
    caller: Caller,
    InModel(model): InModel,
    Body(body): Body<CommentBody>,
) -> Shown {
    let by = provenance(&caller, body.actor, Some(body.text))?;
    let text = by.reason.clone().ok_or_else(|| Error::invalid("text: expected a remark"))?;
    Ok(Json(state.rollouts.comment(&model, text, by).await?))
}

/// One forecast at a time, and elsewhere: it computes for seconds at worst, and the rest
/// of control must not wait for it.
static TURN: Semaphore = Semaphore::const_new(1);

/// How long each stage of a rollout would take at the present traffic.
#[utoipa::path(post, path = "/v1/models/{model}/rollout/plan", tag = "rollouts",
    params(("model" = String, Path, description = "Its name")),
    request_body = PlanBody,
    responses(
        (status = 200, description = "The plan", body = Forecast),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 404, description = "No such model or version", body = ErrorBody),
        (status = 409, description = "There is no traffic to plan by", body = ErrorBody),
    )
)]
pub(super) async fn forecast(
    State(state): State<AdminState>,
    InModel(model): InModel,
    Body(body): Body<PlanBody>,
) -> Result<Json<Forecast>, ApiError> {
    let version = version(body.version)?;
    let _turn = TURN.acquire().await;
    let work = move || state.rollouts.forecast(&model, version, &body.overrides);
    let forecast = tokio::task::spawn_blocking(work).await;
    Ok(Json(forecast.map_err(|error| Error::internal(format!("the forecast: {error}")))??))
}

/// The newest rollouts of a model.
#[utoipa::path(get, path = "/v1/models/{model}/rollouts", tag = "rollouts",
    params(("model" = String, Path, description = "Its name"), ListParams),
    responses(
        (status = 200, description = "The newest first", body = RolloutList),
        (status = 404, description = "No such model", body = ErrorBody),
    )
)]
pub(super) async fn list(
    State(state): State<AdminState>,
    InModel(model): InModel,
    Params(params): Params<ListParams>,
) -> Result<Json<RolloutList>, ApiError> {
    let limit = params.limit.unwrap_or(10);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Error::invalid(format!("limit {limit}: expected 1 to {LIMIT_MAX}")).into());
    }
    Ok(Json(RolloutList { rollouts: state.rollouts.list(&model, limit).await? }))
}

/// Makes every decision of a rollout again, from what was recorded of it.
#[utoipa::path(get, path = "/v1/rollouts/{id}/replay", tag = "rollouts",
    params(("id" = u64, Path, description = "Its number", minimum = 1, maximum = 9007199254740991.0)),
    responses(
        (status = 200, description = "Whether it comes out the same", body = Replayed),
        (status = 404, description = "No such rollout", body = ErrorBody),
    )
)]
pub(super) async fn replay(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Json<Replayed>, ApiError> {
    let number = id.parse::<u64>().ok().filter(|id| *id > 0);
    let id = number
        .ok_or_else(|| Error::invalid(format!("rollout {id:?}: expected a whole number from 1")))?;
    Ok(Json(state.rollouts.replay(id).await?))
}
