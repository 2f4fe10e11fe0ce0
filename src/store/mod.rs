//! What is wanted, and the record of how it came to be.
//!
//! The trait is what the manager writes through before each publish. `sqlite`
//! keeps it in a file of the state folder; `memory`, for tests, for the life of the
//! process. Each entry is chained to the one before (`chain`).

mod chain;
mod memory;
mod sqlite;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::types::{ModelName, Share, VersionId};

pub use memory::Memory;
pub use sqlite::{FILE, Sqlite};

/// Who should answer for a model: what the operators (and the policy) want,
/// whether or not those versions are ready at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Answers what the canary does not.
    pub champion: Option<VersionId>,
    /// What a rollback goes back to, newest last; bounded by [`PREVIOUS_MAX`].
    pub previous: Vec<VersionId>,
    /// The canary and its weight.
    pub canary: Option<(VersionId, Share)>,
    /// The shadows and their sample rates.
    pub shadows: Vec<(VersionId, Share)>,
    /// The secret of the split, 16 bytes, drawn anew with each new canary.
    pub salt: [u8; 16],
    /// What is not to be loaded, although it is there.
    #[serde(default)]
    pub unloaded: Unloaded,
}

impl Wanted {
    /// As it is stored.
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("it has no key that is no string")
    }
}

/// What somebody had unloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unloaded {
    /// The whole model, with what will come of it.
    pub all: bool,
    /// Single versions.
    pub versions: BTreeSet<VersionId>,
}

impl Unloaded {
    /// Whether a version is among it.
    #[must_use]
    pub fn has(&self, version: VersionId) -> bool {
        self.all || self.versions.contains(&version)
    }
}

/// Former champions that are remembered.
pub const PREVIOUS_MAX: usize = 16;

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// Its number, from 1, over all models.
    pub number: u64,
    /// When, RFC 3339, UTC.
    pub time: String,
    /// The model.
    pub model: String,
    /// By whose hand.
    pub actor: String,
    /// What was done (`promote`, `canary`, `version ready`, …) with its arguments.
    pub action: String,
    /// Why, if they said.
    pub reason: Option<String>,
    /// The plan before, in words (`champion 1, canary 2 at 10%, shadow 3`).
    pub from: String,
    /// The plan after, in words.
    pub to: String,
    /// SHA-256 over the entry and the hash of the one before: whoever keeps it can
    /// tell later whether the log is still the same up to here.
    pub hash: String,
}

/// An entry before it has a number and a time.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEntry {
    /// By whose hand.
    pub actor: String,
    /// What is done.
    pub action: String,
    /// Why.
    pub reason: Option<String>,
    /// The plan before, in words.
    pub from: String,
    /// The plan after, in words.
    pub to: String,
}

/// A future of the store.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Where the wanted state and the audit log live.
pub trait Store: Send + Sync {
    /// What is wanted for a model; `None` if it was never seen.
    fn wanted<'a>(&'a self, model: &'a ModelName) -> Pending<'a, Option<Wanted>>;

    /// Writes the entry and the new wanted state together, or neither.
    fn record<'a>(
        &'a self,
        model: &'a ModelName,
        entry: NewEntry,
        wanted: &'a Wanted,
    ) -> Pending<'a, AuditEntry>;

    /// The newest `limit` entries of a model (of all, for `None`), newest first.
    fn history<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        limit: usize,
    ) -> Pending<'a, Vec<AuditEntry>>;
}
