//! Words that every layer shares: identities, shares, tensors, signatures.
//!
//! Invariant: nothing here knows HTTP, JSON, an engine or a runtime.

mod answers;
mod declared;
mod feedback;
mod ids;
mod inbox;
mod labels;
mod plans;
mod pool;
mod profile;
mod readiness;
mod repository;
mod rollout;
mod settings;
mod share;
mod signature;
mod tensor;
pub mod thread;

pub use answers::{AnswerReader, argmax, is_label, is_scores};
pub use declared::{
    Declared, DeclaredTensor, TritonSettings, VersionPolicy, WarmUpInput, WarmUpSample,
};
pub use feedback::{
    Feedback, Label, LabelValue, PredictionId, Problem, Receipt, Reporting, RowAnswer, Truth,
};
pub use ids::{Digest, MODEL_NAME_BYTES_MAX, ModelName, Role, VersionId};
pub use inbox::{Full, Inbox};
pub use labels::{
    CLASSES_MAX, GROUPINGS_MAX, GROUPS_MAX, GUARDED_GROUPS_MAX, GroupSource, Grouping,
    KEPT_ROWS_MAX, LabelSettings, OTHER,
};
pub use plans::PlanFigures;
pub use pool::Pool;
pub(crate) use profile::rows_of_request;
pub use profile::{
    BINS_MAX, Bins, CATEGORY_BYTES_MAX, Combination, Counts, FEATURES_MAX, Feature,
    JUDGED_ROWS_MIN, PICKED_MAX, Picker, PlaceOf, Profile, ProfileBuilder, Rarity, RowRarity,
    SeenRow, Together, WhyOdd,
};
pub use readiness::Readiness;
pub use repository::{Asked, Granting, IndexEntry, ModelState, Repository, Wish};
pub use rollout::{
    GuardOverride, GuardOverrides, GuardPolicies, LimitPolicy, OnNewer, OnWorse, RatioPolicy,
    RolloutOverrides, RolloutPolicy,
};
pub use settings::{Batching, CaptureRule, ModelSettings, Task};
pub use share::Share;
pub use signature::{Dim, Docs, Signature, TensorSpec};
pub use tensor::{Data, Datatype, Tensor, element_count};
