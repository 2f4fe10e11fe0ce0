//! Who answers: slot → plan → split, then the run, then the shadows' copies.
//!
//! Invariants: nothing from here down knows HTTP, gRPC or JSON; a request
//! loads its plan exactly once; a plan never changes; a shadow cannot be seen
//! by a client.

mod agreement;
mod catalog;
mod plan;
mod router;
mod shadow;
pub mod split;
#[cfg(test)]
mod testing;

pub use agreement::{Agreement, Judge, Mismatch};
pub use catalog::{Catalog, Slot};
pub use plan::{Arm, Assignment, Canary, Choice, Plan, SHADOWS_MAX, Shadow};
pub use router::{Answer, Router};
pub use shadow::{Disagreement, Lane, LaneSettings, Worst};
pub use split::Salt;
