//! Which requests are stored, and what became of them.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use axum::Json;
use axum::extract::State;

use crate::admin::AdminState;
use crate::admin::extract::InModel;
use crate::admin::reply::{ApiError, ErrorBody};
use crate::capture::CaptureView;

/// Which answered requests of a model are stored, how many were, and how many were not.
#[utoipa::path(get, path = "/v1/models/{model}/capture", tag = "models",
    params(("model" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "What its model.toml asks for, and the counts", body = CaptureView),
        (status = 404, description = "No such model", body = ErrorBody),
    )
)]
pub(super) async fn capture(
    State(state): State<AdminState>,
    InModel(model): InModel,
) -> Result<Json<CaptureView>, ApiError> {
    // An unknown model is told as everywhere.
    state.control.model(&model)?;
    Ok(Json(state.capture.view(&model)))
}
