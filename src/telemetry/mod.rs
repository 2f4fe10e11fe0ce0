//! What the process tells about itself: metrics and the recorder's counts.
//!
//! Every metric is declared once, in [`Metrics`]; the request path holds
//! resolved handles ([`ArmStats`], [`QueueStats`], [`ShadowStats`]) and looks nothing up by
//! name.
//!
//! Invariant: nothing here blocks a request; all writes are atomic counts.

mod alerts;
mod anomaly;
mod arm;
mod capture;
mod connections;
mod drift;
mod features;
mod fine;
mod keeper;
mod labels;
mod metrics;
mod queue;
pub mod recorder;
mod rollouts;
mod shadow;
mod statistics;
mod store;
mod trials;
mod triton;
mod watch;
mod webhooks;

pub use alerts::AlertLabels;
pub use anomaly::{OddCounts, OddRow, Oddness};
pub use arm::{Answered, ArmRole, ArmSnapshot, ArmStats};
pub use capture::{
    CaptureDrop, CaptureSnapshot, CaptureStats, Captures, Drawn, Offered, Record, Tap,
};
pub use connections::{ConnectionCut, ConnectionProtocol};
pub use drift::{ColumnFigures, DriftFigures};
pub use features::{FeatureCounts, FeatureSnapshot};
pub use fine::FineHistogram;
pub use keeper::{Answerer, Asked, Groups, Keeper, Kept, KeptCounters, KeptInbox, KeptRow};
pub use labels::{QualityFigure, QualityStanding, WrongRate};
pub use metrics::Metrics;
pub use queue::{Left, QueueStats, Refusal, Split};
pub use rollouts::{GuardFigures, RolloutFigures};
pub use shadow::{DropReason, NoiseSnapshot, Runs, ShadowFailure, ShadowSnapshot, ShadowStats};
pub use statistics::{ModelStatistics, StatisticDuration};
pub use trials::{
    GroupSelection, GroupWrong, SelectedRows, Selection, SelectionCounts, Trial, TrialCounts,
    Trials, Wrong, WrongCounts,
};
pub use watch::{GivenProfile, Learnt, Watch, Watches};
pub use webhooks::WebhookStats;
