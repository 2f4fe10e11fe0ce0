//! What the process tells about itself: metrics and the recorder's counts.
//!
//! Every metric is declared once, in [`Metrics`]; the request path holds
//! resolved handles ([`ArmStats`], [`QueueStats`], [`ShadowStats`]) and looks nothing up by
//! name.
//!
//! Invariant: nothing here blocks a request; all writes are atomic counts.

mod arm;
mod connections;
mod fine;
mod metrics;
mod queue;
mod shadow;
mod statistics;
mod triton;

pub use arm::{Answered, ArmSnapshot, ArmStats};
pub use connections::{ConnectionCut, ConnectionProtocol};
pub use fine::FineHistogram;
pub use metrics::{ArmRole, Metrics};
pub use queue::{Left, QueueStats, Refusal, Split};
pub use shadow::{DropReason, ShadowFailure, ShadowSnapshot, ShadowStats};
pub use statistics::{ModelStatistics, StatisticDuration};
