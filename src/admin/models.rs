//! What is there: models, comparisons, the audit log.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::admin::AdminState;
use crate::admin::extract::{InModel, InVersion, Params};
use crate::admin::reply::{ApiError, Disagreements, ErrorBody, History, ModelList};
use crate::error::Error;
use crate::registry::{Comparison, ModelView};
use crate::types::ModelName;

/// Entries of the audit log without `limit`.
const LIMIT_DEFAULT: usize = 50;
/// The most entries of one reply.
const LIMIT_MAX: usize = 1000;

/// All models with their plans and versions.
#[utoipa::path(get, path = "/v1/models", tag = "models", responses(
    (status = 200, description = "All models, by name", body = ModelList),
))]
pub(super) async fn list(State(state): State<AdminState>) -> Json<ModelList> {
    let short = |model: &Arc<ModelView>| {
        let mut model = ModelView::clone(model);
        model.versions.iter_mut().for_each(|version| version.report = None);
        model
    };
    Json(ModelList { models: state.control.models().iter().map(short).collect() })
}

/// One model with its plan and versions.
#[utoipa::path(get, path = "/v1/models/{model}", tag = "models",
    params(("model" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The model", body = ModelView),
        (status = 404, description = "No such model", body = ErrorBody),
    )
)]
pub(super) async fn show(
    State(state): State<AdminState>,
    InModel(model): InModel,
) -> Result<Json<ModelView>, ApiError> {
    Ok(Json(ModelView::clone(&*state.control.model(&model)?)))
}

/// The figures of champion, canary and shadows, side by side.
#[utoipa::path(get, path = "/v1/models/{model}/compare", tag = "judging",
    params(("model" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The figures since the process started", body = Comparison),
        (status = 404, description = "No such model", body = ErrorBody),
    )
)]
pub(super) async fn compare(
    State(state): State<AdminState>,
    InModel(model): InModel,
) -> Result<Json<Comparison>, ApiError> {
    Ok(Json(state.control.comparison(&model)?))
}

/// The requests on which a shadow differed most from the champion.
#[utoipa::path(get, path = "/v1/models/{model}/shadows/{version}/disagreements", tag = "judging",
    params(
        ("model" = String, Path, description = "Its name"),
        ("version" = u64, Path, description = "The shadow's number"),
    ),
    responses(
        (status = 200, description = "The worst few, with input and both answers", body = Disagreements),
        (status = 404, description = "No such model or shadow", body = ErrorBody),
    )
)]
pub(super) async fn disagreements(
    State(state): State<AdminState>,
    InVersion(model, version): InVersion,
) -> Result<Json<Disagreements>, ApiError> {
    let disagreements = state.control.disagreements(&model, version)?;
    Ok(Json(Disagreements { disagreements }))
}

/// How much of the audit log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryParams {
    /// The most entries; 50 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// The audit log of one model.
#[utoipa::path(get, path = "/v1/models/{model}/history", tag = "history",
    params(("model" = String, Path, description = "Its name"), HistoryParams),
    responses(
        (status = 200, description = "The newest entries, newest first", body = History),
        (status = 404, description = "No such model", body = ErrorBody),
    )
)]
pub(super) async fn model_history(
    State(state): State<AdminState>,
    InModel(model): InModel,
    Params(params): Params<HistoryParams>,
) -> Result<Json<History>, ApiError> {
    state.control.model(&model)?;
    history(&state, Some(&model), &params).await
}

/// The audit log of all models.
#[utoipa::path(get, path = "/v1/history", tag = "history", params(HistoryParams), responses(
    (status = 200, description = "The newest entries, newest first", body = History),
))]
pub(super) async fn whole_history(
    State(state): State<AdminState>,
    Params(params): Params<HistoryParams>,
) -> Result<Json<History>, ApiError> {
    history(&state, None, &params).await
}

async fn history(
    state: &AdminState,
    model: Option<&ModelName>,
    params: &HistoryParams,
) -> Result<Json<History>, ApiError> {
    let limit = params.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Error::invalid(format!("limit {limit}: expected 1 to {LIMIT_MAX}")).into());
    }
    Ok(Json(History { entries: state.control.history(model, limit).await? }))
}
