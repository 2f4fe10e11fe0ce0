//! From the repository on disk to the slots. The manager in here is the sole
//! publisher of plans.
//!
//! Invariants: no plan is published whose versions have not passed preflight
//! and warm-up; a bad model, file or setting changes nothing that serves;
//! every publish has an audit entry, written before it; a version is freed by
//! a control thread, and only when no request holds it.

mod artifact;
mod blobs;
mod check;
mod compare;
mod control;
mod folder;
mod gate;
mod index;
mod labels;
mod lineage;
mod loader;
mod manager;
mod open;
pub mod preflight;
mod profile;
mod push;
mod reaper;
mod retention;
mod scan;
mod settings;
mod settle;
mod start;
#[cfg(test)]
mod testing;
mod triton;
mod view;
mod wanted;
mod watch;

/// Single steps, for `fuzz/`.
#[doc(hidden)]
pub mod steps {
    pub use super::triton::read_config;
}

pub use check::{CheckSettings, CheckStep, Checked, Status, check};
pub use control::{
    Arrival, Board, Change, Command, Control, OfRollout, Provenance, RolesSeen, Watched,
};
pub use lineage::Lineage;
pub use open::{Opened, open};
pub use push::push;
pub use start::{Past, Prepared, Registry, RegistrySettings, Unrecorded};
pub use view::{
    ArmView, CanaryView, Comparison, ComparisonArm, ComparisonShadow, DisagreementView, ModelView,
    PlanView, ShadowView, State, TensorSpecView, TensorView, VersionView,
};
