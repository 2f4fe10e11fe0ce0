//! What somebody should look at: conditions that last become alerts, and alerts that are
//! over for long enough are resolved.
//!
//! ```text
//! Facts (counts, levels, drift, who serves, the store) → rules (pure) → Finding
//!     → Book of Standing (pure) → board → admin, metrics, log
//!                               └ Notice → app → history → webhooks, events
//! ```
//!
//! Bounds: alerts that are followed, characters that one says, and, by the times in
//! [`Timing`], how often one can fire. All of it is in memory: after a restart a
//! condition that still holds becomes an alert anew; but for a level, of which what was
//! usual is not known any more.

mod book;
mod levels;
mod round;
mod rules;
mod scores;
mod state;
mod traffic;
mod view;

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::types::{ModelName, Share, VersionId};

pub(super) use round::Watchman;
pub use view::{AlertBoard, AlertView};

/// What alerts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Columns of a version that serves have drifted.
    Drift,
    /// More of a model's requests fail than usually, all at once.
    ErrorLevel,
    /// Too many of a model's requests fail.
    Errors,
    /// A version treats groups differently.
    Fairness,
    /// Too many of a model's requests take too long.
    Latency,
    /// A model has no champion that is ready.
    NoChampion,
    /// Too many of a version's answers are wrong, by their labels.
    Quality,
    /// A champion's answers are other than usually, all at once.
    ScoreLevel,
    /// Changes cannot be recorded.
    Store,
    /// A model gets more requests than usually, or fewer, all at once.
    TrafficLevel,
    /// A version was tried and cannot serve.
    VersionFailed,
}

impl Rule {
    /// The word in the API, metric labels and the history.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::ErrorLevel => "error_level",
            Self::Errors => "errors",
            Self::Fairness => "fairness",
            Self::Latency => "latency",
            Self::NoChampion => "no_champion",
            Self::Quality => "quality",
            Self::ScoreLevel => "score_level",
            Self::Store => "store",
            Self::TrafficLevel => "traffic_level",
            Self::VersionFailed => "version_failed",
        }
    }
}

/// One alert: a rule, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertKey {
    /// The rule.
    pub rule: Rule,
    /// The model; `None` for what is about the gateway itself.
    pub model: Option<ModelName>,
    /// The version; `None` for what is about none.
    pub version: Option<VersionId>,
}

impl fmt::Display for AlertKey {
    /// Without the model: `drift of version 2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule.as_str())?;
        self.version.map_or(Ok(()), |version| write!(f, " of version {version}"))
    }
}

/// Settings of the alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSettings {
    /// Whether there are any.
    pub enabled: bool,
    /// How often conditions are looked at: no less often than the counts are.
    pub tick: Duration,
    /// When one fires, and when it is over.
    pub timing: Timing,
    /// The requests of the last so long are looked at, a twelfth more or less.
    pub window: Duration,
    /// Fewer requests in it tell nothing.
    pub requests_min: u64,
    /// The share of failed requests above which there is an alert; `None` for none.
    pub errors_above: Option<Share>,
    /// The 99th percentile above which there is an alert; `None` for none.
    pub p99_above: Option<Duration>,
    /// The time over which a level is what is usual; 120 ticks at least.
    pub usual: Duration,
    /// Whether there are alerts of the rate of requests.
    pub traffic_level: bool,
    /// Whether there are alerts of the share of failures.
    pub error_level: bool,
    /// Whether there are alerts of the answers.
    pub score_level: bool,
    /// Whether there are alerts of drift.
    pub drift: bool,
    /// Whether there are alerts of what labels and groups say.
    pub quality: bool,
    /// Whether there are alerts of the store.
    pub store: bool,
    /// Whether there are alerts of models without a champion and versions that failed.
    pub models: bool,
}

/// When an alert fires, and when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a condition must hold.
    pub pending: Duration,
    /// How long it must be gone.
    pub clear_after: Duration,
    /// The least time from one firing of an alert to its next.
    pub again_after: Duration,
}

impl AlertSettings {
    /// How often conditions must be looked at; `None` where it need not be often, since no
    /// level is watched.
    pub(super) fn looks_every(&self) -> Option<Duration> {
        let levels = self.traffic_level || self.error_level || self.score_level;
        (self.enabled && levels).then_some(self.tick)
    }
}

/// How a model stands, as control sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStanding {
    /// Its name.
    pub model: ModelName,
    /// Who answers.
    pub champion: Option<VersionId>,
    /// Who answers some.
    pub canary: Option<VersionId>,
    /// The canary's share of the traffic.
    pub weight: Option<Share>,
    /// Whether it has a version that nobody had unloaded.
    pub wants_champion: bool,
    /// Versions that cannot serve, and why.
    pub failed: Vec<(VersionId, String)>,
}

/// An alert that fired or was resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Which.
    pub key: AlertKey,
    /// Whether it fired; else it was resolved.
    pub fired: bool,
    /// Why, in words.
    pub says: String,
    /// When.
    pub at: SystemTime,
}

/// Says how all models stand. Must not wait.
pub type Look = Box<dyn Fn() -> Vec<ModelStanding> + Send>;

/// Takes what others are to be told. Must not wait.
pub type Tell = Box<dyn Fn(Notice) + Send>;
