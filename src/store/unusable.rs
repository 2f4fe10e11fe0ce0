//! In place of a store that cannot be used: it knows of nothing, and takes nothing.

use tokio::sync::watch;

use crate::error::{Error, ErrorCode, Result};
use crate::store::{
    AuditEntry, Kept, NewEntry, Pending, RolloutQuery, RolloutRow, Store, TokenRow, Wanted,
};
use crate::types::ModelName;

/// Says why on every occasion.
pub struct Unusable {
    why: String,
    /// Nothing ever is.
    recorded: watch::Sender<u64>,
}

impl Unusable {
    /// `why` is told to whoever wants something recorded.
    #[must_use]
    pub fn new(why: String) -> Self {
        Self { why, recorded: watch::Sender::new(0) }
    }

    fn refused<'a, T: Send + 'a>(&self) -> Pending<'a, T> {
        done(Err(Error::new(ErrorCode::Unavailable, self.why.clone())))
    }
}

fn done<'a, T: Send + 'a>(value: Result<T>) -> Pending<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Store for Unusable {
    fn wanted<'a>(&'a self, _: &'a ModelName) -> Pending<'a, Option<Wanted>> {
        done(Ok(None))
    }

    fn record<'a>(
        &'a self,
        _: &'a ModelName,
        _: NewEntry,
        _: &'a Wanted,
    ) -> Pending<'a, AuditEntry> {
        self.refused()
    }

    fn note<'a>(&'a self, _: Option<&'a ModelName>, _: NewEntry) -> Pending<'a, AuditEntry> {
        self.refused()
    }

    fn history<'a>(&'a self, _: Option<&'a ModelName>, _: usize) -> Pending<'a, Vec<AuditEntry>> {
        self.refused()
    }

    fn state_at(&self, _: u64) -> Pending<'_, Option<(String, Wanted)>> {
        self.refused()
    }

    fn keep<'a>(&'a self, _: &'a Kept) -> Pending<'a, ()> {
        self.refused()
    }

    fn discard<'a>(&'a self, _: &'a Kept) -> Pending<'a, ()> {
        self.refused()
    }

    /// An error, so that nothing is taken for what nobody keeps.
    fn kept(&self) -> Pending<'_, Vec<Kept>> {
        self.refused()
    }

    fn save_rollout<'a>(&'a self, _: &'a RolloutRow) -> Pending<'a, ()> {
        self.refused()
    }

    fn rollouts<'a>(&'a self, _: &'a RolloutQuery) -> Pending<'a, Vec<RolloutRow>> {
        done(Ok(Vec::new()))
    }

    fn last_rollout(&self) -> Pending<'_, u64> {
        done(Ok(0))
    }

    fn rollout_steps<'a>(&'a self, _: u64) -> Pending<'a, Vec<AuditEntry>> {
        self.refused()
    }

    /// An error, so that nobody is let in whose token may have been revoked.
    fn tokens(&self) -> Pending<'_, Vec<TokenRow>> {
        self.refused()
    }

    fn add_token<'a>(&'a self, _: &'a TokenRow, _: NewEntry) -> Pending<'a, AuditEntry> {
        self.refused()
    }

    fn remove_token<'a>(&'a self, _: &'a str, _: NewEntry) -> Pending<'a, Option<AuditEntry>> {
        self.refused()
    }

    fn probe(&self) -> Pending<'_, ()> {
        self.refused()
    }

    fn recorded(&self) -> watch::Receiver<u64> {
        self.recorded.subscribe()
    }

    fn after(&self, _: u64, _: usize) -> Pending<'_, Vec<AuditEntry>> {
        self.refused()
    }

    fn told<'a>(&'a self, _: &'a str) -> Pending<'a, Option<u64>> {
        self.refused()
    }

    fn tell<'a>(&'a self, _: &'a str, _: u64) -> Pending<'a, ()> {
        self.refused()
    }
}
