//! Alerts: what somebody should look at.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::AdminState;
use crate::admin::extract::Params;
use crate::admin::reply::{ApiError, ErrorBody};
use crate::monitor::AlertView;

/// Which alerts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those in this state.
    state: Option<AlertState>,
}

/// How an alert stands.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AlertState {
    /// Its condition holds, not for long enough.
    Pending,
    /// Somebody should look.
    Firing,
    /// It is over.
    Resolved,
}

impl AlertState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// Alerts, and what stands in none.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlertList {
    /// Those that fire first, then those that are pending, then what was resolved in the
    /// last hour.
    alerts: Vec<AlertView>,
    /// Conditions that hold and are not followed, since there are too many alerts.
    passed_over: usize,
    /// Alerts that fired or were resolved and wait to be written into the history, from
    /// which webhooks and events are told.
    unrecorded: u64,
    /// Those that never will be: too many waited.
    dropped: u64,
}

/// What somebody should look at: failed requests, slow ones, drift, models and versions
/// that cannot serve, a store that cannot be written.
#[utoipa::path(get, path = "/v1/alerts", tag = "alerts",
    params(Which),
    responses(
        (status = 200, description = "The alerts", body = AlertList),
        (status = 400, description = "Malformed", body = ErrorBody),
    )
)]
pub(super) async fn alerts(
    State(state): State<AdminState>,
    Params(which): Params<Which>,
) -> Result<Json<AlertList>, ApiError> {
    let board = state.monitor.alerts();
    let wanted = |alert: &&AlertView| which.state.is_none_or(|state| state.as_str() == alert.state);
    let (unrecorded, dropped) = state.metrics.alert_entries();
    let alerts = board.alerts.iter().filter(wanted).cloned().collect();
    Ok(Json(AlertList { alerts, passed_over: board.passed_over, unrecorded, dropped }))
}
