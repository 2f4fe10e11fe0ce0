//! Drift: whether today's rows look like those that the versions were made for.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::AdminState;
use crate::admin::extract::InModel;
use crate::admin::reply::{ApiError, ErrorBody};
use crate::monitor::DriftView;

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
pub(super) async fn drift(
    State(state): State<AdminState>,
    InModel(model): InModel,
) -> Result<Json<DriftList>, ApiError> {
    // An unknown model is told as everywhere.
    state.control.model(&model)?;
    let versions = state.monitor.drift(&model);
    Ok(Json(DriftList { versions: versions.iter().map(|view| DriftView::clone(view)).collect() }))
}
