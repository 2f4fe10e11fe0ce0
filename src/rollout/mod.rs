//! A new version's way from shadow to canary to champion, by evidence.
//!
//! ```text
//! recorder's counts → Jury (guards) → outcome → policy (pure) → controller → manager → publish
//! ```
//!
//! A rollout walks its stages: a shadow, then weights, then champion with a small
//! control beside it for a watch period. "Worse" takes the version out at once;
//! "not worse" by all guards of a stage moves on; anything else holds. A stage that
//! reaches its longest time stops in front of a person and never promotes.
//!
//! Invariants: every step is an entry of the audit log with the evidence that it
//! was taken on, kept in the same transaction as the rollout itself; `replay`
//! makes the same verdicts of it. Nothing here is asked by a request: the judge
//! reads counters ([`crate::telemetry::recorder`]). At most one rollout a model.
//! After a restart a rollout goes on in its stage with its evidence, less what was
//! counted since the last checkpoint; after several unclean exits in a stage its
//! version is taken out before anything is loaded, since it may be the cause.

mod controller;
mod explain;
mod forecast;
mod handle;
mod jury;
mod policy;
mod record;
mod recover;
mod replay;
mod stage;
mod start;
mod traffic;
mod view;

pub use forecast::{Forecast, GuardForecast, LimitForecast, StageForecast};
pub use handle::Rollouts;
pub use record::{Phase, Rollout};
pub use recover::{Recovered, recover};
pub use replay::{Replayed, ReplayedStep};
pub use stage::Stage;
pub use start::{Running, Settings, spawn};
pub use view::{GuardView, LogView, RolloutView, TrafficView};
