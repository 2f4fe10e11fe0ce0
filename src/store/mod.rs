//! What is wanted, and the record of how it came to be.
//!
//! The trait is what the manager writes through before each publish. `sqlite`
//! keeps it in a file of the state folder; `memory`, for tests, for the life of the
//! process; `unusable` stands in for one that cannot be used. Each entry is chained to
//! the one before (`chain`).

mod chain;
mod memory;
mod predictions;
mod sqlite;
mod tokens;
mod unusable;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::Result;
use crate::types::{Digest, ModelName, Share, VersionId};

pub use memory::Memory;
pub use predictions::{
    AnswerRow, CellRow, Changes, NewPrediction, PREDICTIONS_FILE, Page, PageOf, Predictions,
    Stored, TrialKey, TrialRow, WaitingLabel,
};
pub use sqlite::{FILE, Sqlite};
pub use tokens::{NewToken, TokenRole, TokenRow, secret_digest};
pub use unusable::Unusable;

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
    /// The canary is the former champion, kept as a control.
    #[serde(default)]
    pub holdback: bool,
    /// The shadows and their sample rates.
    pub shadows: Vec<(VersionId, Share)>,
    /// The secret of the split, 16 bytes, drawn anew with each new canary.
    pub salt: [u8; 16],
    /// What is not to be loaded, although it is there.
    #[serde(default)]
    pub unloaded: Unloaded,
    /// The contents of the versions that it names, where they were known: a number
    /// may have another one later.
    #[serde(default)]
    pub pinned: BTreeMap<VersionId, Digest>,
    /// The highest version that was ready while the model served: what is above it
    /// after a restart has arrived meanwhile. `None` where nobody noted it.
    #[serde(default)]
    pub newest: Option<VersionId>,
}

impl Wanted {
    /// The same without a version that may not be started with. A champion gives
    /// way to `base`.
    #[must_use]
    pub fn without(&self, version: VersionId, base: VersionId) -> Self {
        let mut next = self.clone();
        if next.champion == Some(version) {
            next.champion = Some(base);
            if let Some(at) = next.previous.iter().rposition(|former| *former == base) {
                next.previous.truncate(at);
            }
            next.canary = None;
        }
        next.canary = next.canary.filter(|(canary, _)| *canary != version);
        next.holdback &= next.canary.is_some();
        next.shadows.retain(|(shadow, _)| *shadow != version);
        next
    }

    /// As it is stored.
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("it has no key that is no string")
    }
}

impl std::fmt::Display for Wanted {
    /// `champion 1, canary 2 at 10%, shadow 3 at 100%`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(champion) = self.champion else { return f.write_str("nobody") };
        write!(f, "champion {champion}")?;
        if let Some((version, weight)) = self.canary {
            let role = if self.holdback { "control" } else { "canary" };
            write!(f, ", {role} {version} at {weight}")?;
        }
        let mut shadows = self.shadows.iter();
        shadows.try_for_each(|(version, sample)| write!(f, ", shadow {version} at {sample}"))
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
    /// The model; empty for what is about the gateway itself, as its tokens are.
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
    /// What a rollout's decision was made from, in JSON.
    pub evidence: Option<String>,
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
    /// A rollout's step, if it is one.
    pub rollout: Option<RolloutStep>,
}

impl NewEntry {
    /// Of something that is about no model.
    #[must_use]
    pub fn of_gateway(actor: String, action: String) -> Self {
        let (from, to) = (String::new(), String::new());
        Self { actor, action, reason: None, from, to, rollout: None }
    }
}

/// What is wanted of a model that was never seen, or of none.
const NOTHING: &str = "null";
/// The model of entries that are about none, and what is wanted of it.
const GATEWAY: (&str, &str) = ("", NOTHING);

/// What a rollout's step adds to its entry.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutStep {
    /// The rollout as it stands after the step, which is kept with the entry or
    /// not at all.
    pub row: RolloutRow,
    /// What the decision was made from, in JSON.
    pub evidence: Option<String>,
}

/// A rollout as it is stored: what is in `state` is its owner's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutRow {
    /// Its number, from 1, over all models.
    pub id: u64,
    /// The model.
    pub model: ModelName,
    /// The version that it brings in.
    pub version: VersionId,
    /// Whether it has not come to its end.
    pub open: bool,
    /// The rest, in JSON.
    pub state: String,
    /// Which keys it has counted, as the recorder writes them; `None` to leave those
    /// that are kept.
    pub keys: Option<Vec<u8>>,
}

/// Which rollouts to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutQuery {
    /// Those that have not come to their end.
    Open,
    /// This one.
    Id(u64),
    /// The newest of a model, newest first, at most so many.
    Newest(ModelName, usize),
}

/// A content that had a role once, and is kept for a rollback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The model.
    pub model: ModelName,
    /// The version that had it.
    pub version: VersionId,
    /// What the version was known by.
    pub digest: Digest,
    /// Its files and where it came from, as the registry writes it.
    pub content: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was last wanted, in seconds since 1970.
    pub needed: u64,
}

/// A future of the store.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Where the wanted state and the audit log live.
pub trait Store: Send + Sync {
    /// What is wanted for a model; `None` if it was never seen.
    fn wanted<'a>(&'a self, model: &'a ModelName) -> Pending<'a, Option<Wanted>>;

    /// Writes the entry and the new wanted state together, or neither. After
    /// `DeadlineExceeded` nobody knows which: what is recorded next settles it.
    fn record<'a>(
        &'a self,
        model: &'a ModelName,
        entry: NewEntry,
        wanted: &'a Wanted,
    ) -> Pending<'a, AuditEntry>;

    /// Writes an entry that changes nothing that is wanted, of a model or, for `None`, of
    /// the gateway itself. Going back to it goes back to what was wanted then.
    fn note<'a>(&'a self, model: Option<&'a ModelName>, entry: NewEntry)
    -> Pending<'a, AuditEntry>;

    /// The newest `limit` entries of a model (of all, for `None`), newest first.
    fn history<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        limit: usize,
    ) -> Pending<'a, Vec<AuditEntry>>;

    /// Keeps a rollout as it stands, without an entry: a checkpoint.
    fn save_rollout<'a>(&'a self, row: &'a RolloutRow) -> Pending<'a, ()>;

    /// Rollouts that were kept.
    fn rollouts<'a>(&'a self, query: &'a RolloutQuery) -> Pending<'a, Vec<RolloutRow>>;

    /// The highest number of a rollout; 0 without any.
    fn last_rollout(&self) -> Pending<'_, u64>;

    /// All tokens, by name.
    fn tokens(&self) -> Pending<'_, Vec<TokenRow>>;

    /// Keeps a token with its entry, if there is none of its name (`Conflict`).
    fn add_token<'a>(&'a self, row: &'a TokenRow, entry: NewEntry) -> Pending<'a, AuditEntry>;

    /// Removes a token, with an entry; `None` if there was none.
    fn remove_token<'a>(
        &'a self,
        name: &'a str,
        entry: NewEntry,
    ) -> Pending<'a, Option<AuditEntry>>;

    /// The audit entries that a rollout's steps made, oldest first.
    fn rollout_steps<'a>(&'a self, id: u64) -> Pending<'a, Vec<AuditEntry>>;

    /// The model of an audit entry, and what was wanted of it from then on; `None` if
    /// there is no such entry, or it is about no model.
    fn state_at(&self, number: u64) -> Pending<'_, Option<(String, Wanted)>>;

    /// Notes a content, or that it was needed later.
    fn keep<'a>(&'a self, kept: &'a Kept) -> Pending<'a, ()>;

    /// Forgets a content.
    fn discard<'a>(&'a self, kept: &'a Kept) -> Pending<'a, ()>;

    /// All contents that are noted.
    fn kept(&self) -> Pending<'_, Vec<Kept>>;

    /// Whether something can be written.
    fn probe(&self) -> Pending<'_, ()>;

    /// Changes whenever an entry was recorded by this process.
    fn recorded(&self) -> watch::Receiver<u64>;

    /// The entries after this number, oldest first, at most `limit`.
    fn after(&self, number: u64, limit: usize) -> Pending<'_, Vec<AuditEntry>>;

    /// Up to which entry a webhook has been told; `None` for one that is new.
    fn told<'a>(&'a self, webhook: &'a str) -> Pending<'a, Option<u64>>;

    /// Notes that a webhook has been told up to this entry.
    fn tell<'a>(&'a self, webhook: &'a str, number: u64) -> Pending<'a, ()>;
}
