//! Rows that are odd by what the versions were made for.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::AdminState;
use crate::admin::extract::InModel;
use crate::admin::reply::{ApiError, ErrorBody};
use crate::monitor::AnomalyView;

/// Odd rows of a model's loaded versions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AnomalyList {
    /// The lowest number first.
    versions: Vec<AnomalyView>,
}

/// Which rows that a model's versions answered are odd by their profiles.
#[utoipa::path(get, path = "/v1/models/{model}/anomalies", tag = "models",
    params(("model" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "Each loaded version", body = AnomalyList),
        (status = 404, description = "No such model", body = ErrorBody),
    )
)]
pub(super) async fn anomalies(
    State(state): State<AdminState>,
    InModel(model): InModel,
) -> Result<Json<AnomalyList>, ApiError> {
    // An unknown model is told as everywhere.
    state.control.model(&model)?;
    let versions = state.monitor.anomalies(&model);
    let versions = versions.iter().map(|view| AnomalyView::clone(view)).collect();
    Ok(Json(AnomalyList { versions }))
}
