//! Kept answers, each with the label that came for it.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::admin::AdminState;
use crate::admin::extract::{InModel, Params};
use crate::admin::reply::{ApiError, ErrorBody};
use crate::error::Error;
use crate::monitor::quality::{AnswersOf, AnswersView};

/// The most requests of a page.
const LIMIT_MAX: usize = 10_000;
const LIMIT: usize = 1000;
/// The largest whole number that every client reads as it is: 2^53 − 1.
const AFTER_MAX: u64 = 9_007_199_254_740_991;

/// Which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// The cursor of the page before; the oldest ones, if absent.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    after: Option<u64>,
    /// The most requests of the page; 1,000 by default. A page with many rows ends earlier.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<usize>,
    /// Whether only rows with a label are wanted (`true`, the default), or all.
    labelled: Option<bool>,
}

/// The answers of a model that are kept, row by row, with their labels, the oldest first.
///
/// Needs an operator's token where tokens are needed: labels may be about persons. A label
/// that comes for an answer of a page that was read before is not seen by reading on.
#[utoipa::path(get, path = "/v1/models/{model}/answers", tag = "models",
    params(("model" = String, Path, description = "Its name"), Wanted),
    responses(
        (status = 200, description = "A page of them", body = AnswersView),
        (status = 400, description = "No such limit or cursor", body = ErrorBody),
        (status = 404, description = "No such model", body = ErrorBody),
        (status = 409, description = "No model keeps its answers", body = ErrorBody),
        (status = 503, description = "They cannot be read, or the gateway stops", body = ErrorBody),
    )
)]
pub(super) async fn answers(
    State(state): State<AdminState>,
    InModel(model): InModel,
    Params(wanted): Params<Wanted>,
) -> Result<Json<AnswersView>, ApiError> {
    // An unknown model is told as everywhere.
    state.control.model(&model)?;
    let limit = wanted.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let message = format!("limit: expected 1 to {LIMIT_MAX}, got {limit}");
        return Err(ApiError(Error::invalid(message)));
    }
    let (after, labelled) = (wanted.after.unwrap_or(0), wanted.labelled.unwrap_or(true));
    if after > AFTER_MAX {
        let message =
            format!("after: expected the next of a page, at most {AFTER_MAX}, got {after}");
        return Err(ApiError(Error::invalid(message)));
    }
    Ok(Json(state.quality.answers(AnswersOf { model, after, limit, labelled }).await?))
}
