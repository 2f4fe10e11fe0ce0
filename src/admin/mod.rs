//! The control API, `/metrics` and the health page, for operators and
//! monitoring.
//!
//! Handlers only translate: they read [`Control`]'s board and send it
//! changes; what a change does is the registry's business.
//!
//! Invariants: nothing but `/healthz` answers without the token where one is
//! set; a foreign `Host` or `Origin` is refused, so that no web page can
//! reach a gateway on its reader's machine; every body, every wait and the
//! number of connections are bounded; every error is `{"error": "…"}`.

mod access;
mod alerts;
mod anomalies;
mod answers;
mod capture;
mod changes;
mod document;
mod drift;
mod events;
mod extract;
mod models;
mod pages;
mod quality;
mod reply;
mod rollouts;
mod router;
mod serve;
#[cfg(test)]
pub(crate) mod testing;
mod tokens;

use std::sync::Arc;

use crate::capture::Capture;
use crate::monitor::Monitor;
use crate::monitor::quality::Quality;
use crate::registry::Control;
use crate::rollout::Rollouts;
use crate::telemetry::Metrics;
use crate::types::Readiness;

pub use access::{Access, Tokens};
pub use events::Events;
pub use router::{openapi, router};
pub use serve::serve;

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct AdminState {
    /// Reads the models and changes them.
    pub control: Control,
    /// Reads rollouts and steers them.
    pub rollouts: Rollouts,
    /// Reads what the monitor found.
    pub monitor: Monitor,
    /// Reads what came of labels.
    pub quality: Quality,
    /// Reads what is stored of the requests.
    pub capture: Capture,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What `/healthz` shows.
    pub readiness: Readiness,
    /// Who may call.
    pub access: Access,
    /// Tokens with names and roles.
    pub tokens: Arc<Tokens>,
    /// What happens, as it happens.
    pub events: Events,
}
