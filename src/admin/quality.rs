//! Quality: how good answers were, now that their labels came.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::admin::AdminState;
use crate::admin::extract::{InModel, Params};
use crate::admin::reply::{ApiError, ErrorBody};
use crate::error::Error;
use crate::monitor::quality::QualityView;

/// The most days that can be asked for.
const DAYS_MAX: u32 = 3650;
const DAYS: u32 = 7;

/// Over how long.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Period {
    /// The answers of so many days, today (UTC) among them; 7 by default.
    #[param(minimum = 1, maximum = 3650)]
    days: Option<u32>,
}

/// How good a model's answers were: by version, role and group.
#[utoipa::path(get, path = "/v1/models/{model}/quality", tag = "models",
    params(("model" = String, Path, description = "Its name"), Period),
    responses(
        (status = 200, description = "Each version in each role", body = QualityView),
        (status = 400, description = "No such number of days", body = ErrorBody),
        (status = 404, description = "No such model", body = ErrorBody),
    )
)]
pub(super) async fn quality(
    State(state): State<AdminState>,
    InModel(model): InModel,
    Params(period): Params<Period>,
) -> Result<Json<QualityView>, ApiError> {
    // An unknown model is told as everywhere.
    state.control.model(&model)?;
    let days = period.days.unwrap_or(DAYS);
    if !(1..=DAYS_MAX).contains(&days) {
        let message = format!("days: expected 1 to {DAYS_MAX}, got {days}");
        return Err(ApiError(Error::invalid(message)));
    }
    Ok(Json(state.quality.show(&model, days).await?))
}
