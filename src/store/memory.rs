//! The wanted state for the life of the process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::error::{Error, ErrorCode, Result};
use crate::store::{
    AuditEntry, GATEWAY, Kept, NOTHING, NewEntry, Pending, RolloutQuery, RolloutRow, Store,
    TokenRow, Wanted, chain,
};
use crate::types::{Digest, ModelName, VersionId};

/// Entries kept; older ones are dropped.
const ENTRIES_MAX: usize = 10_000;

/// Keeps everything in memory.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
    recorded: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    wanted: HashMap<ModelName, Wanted>,
    /// With what was wanted from then on; `None` for those that are about no model.
    entries: VecDeque<(AuditEntry, Option<Wanted>)>,
    kept: BTreeMap<(ModelName, VersionId, Digest), Kept>,
    rollouts: BTreeMap<u64, RolloutRow>,
    tokens: BTreeMap<String, TokenRow>,
    /// Webhook → the last entry that it was told.
    told: HashMap<String, u64>,
    /// Entry → rollout.
    steps: BTreeMap<u64, u64>,
    last_number: u64,
    last_hash: String,
}

impl Memory {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, model: &ModelName, entry: NewEntry, wanted: &Wanted) -> AuditEntry {
        let mut state = self.lock();
        let number = state.last_number + 1;
        if let Some(step) = &entry.rollout {
            state.steps.insert(number, step.row.id);
            state.rollouts.insert(step.row.id, step.row.clone());
        }
        state.wanted.insert(model.clone(), wanted.clone());
        let json = wanted.to_json();
        self.append(&mut state, (model.as_str(), &json), Some(wanted.clone()), entry)
    }

    fn append(
        &self,
        state: &mut State,
        (model, json): (&str, &str),
        wanted: Option<Wanted>,
        entry: NewEntry,
    ) -> AuditEntry {
        state.last_number += 1;
        let entry = chain::seal(entry, state.last_number, model, &state.last_hash, json);
        state.last_hash.clone_from(&entry.hash);
        state.entries.push_back((entry.clone(), wanted));
        if state.entries.len() > ENTRIES_MAX
            && let Some((oldest, _)) = state.entries.pop_front()
        {
            state.steps.remove(&oldest.number);
        }
        self.recorded.send_replace(entry.number);
        entry
    }
}

fn key(kept: &Kept) -> (ModelName, VersionId, Digest) {
    (kept.model.clone(), kept.version, kept.digest)
}

/// A future that is done.
fn done<'a, T: Send + 'a>(value: T) -> Pending<'a, T> {
    Box::pin(std::future::ready(Result::Ok(value)))
}

impl Store for Memory {
    fn wanted<'a>(&'a self, model: &'a ModelName) -> Pending<'a, Option<Wanted>> {
        done(self.lock().wanted.get(model).cloned())
    }

    fn record<'a>(
        &'a self,
        model: &'a ModelName,
        entry: NewEntry,
        wanted: &'a Wanted,
    ) -> Pending<'a, AuditEntry> {
        done(self.write(model, entry, wanted))
    }

    fn note<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        entry: NewEntry,
    ) -> Pending<'a, AuditEntry> {
        let mut state = self.lock();
        let wanted = model.and_then(|model| state.wanted.get(model).cloned());
        let json = wanted.as_ref().map_or_else(|| NOTHING.to_owned(), Wanted::to_json);
        let name = model.map_or("", ModelName::as_str);
        done(self.append(&mut state, (name, &json), wanted, entry))
    }

    fn history<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        limit: usize,
    ) -> Pending<'a, Vec<AuditEntry>> {
        let state = self.lock();
        let newest_first = state.entries.iter().rev().map(|(entry, _)| entry);
        let mine = newest_first.filter(|e| model.is_none_or(|m| m.as_str() == e.model));
        done(mine.take(limit).cloned().collect())
    }

    fn save_rollout<'a>(&'a self, row: &'a RolloutRow) -> Pending<'a, ()> {
        self.lock().rollouts.insert(row.id, row.clone());
        done(())
    }

    fn rollouts<'a>(&'a self, query: &'a RolloutQuery) -> Pending<'a, Vec<RolloutRow>> {
        let state = self.lock();
        let all = state.rollouts.values();
        done(match query {
            RolloutQuery::Open => all.filter(|row| row.open).cloned().collect(),
            RolloutQuery::Id(id) => state.rollouts.get(id).cloned().into_iter().collect(),
            RolloutQuery::Newest(model, limit) => {
                all.rev().filter(|row| row.model == *model).take(*limit).cloned().collect()
            }
        })
    }

    fn last_rollout(&self) -> Pending<'_, u64> {
        done(self.lock().rollouts.keys().next_back().copied().unwrap_or(0))
    }

    fn tokens(&self) -> Pending<'_, Vec<TokenRow>> {
        done(self.lock().tokens.values().cloned().collect())
    }

    fn add_token<'a>(&'a self, row: &'a TokenRow, entry: NewEntry) -> Pending<'a, AuditEntry> {
        let mut state = self.lock();
        if state.tokens.contains_key(&row.name) {
            let message = format!("there is a token {:?} already; revoke it first", row.name);
            return Box::pin(async { Err(Error::new(ErrorCode::Conflict, message)) });
        }
        state.tokens.insert(row.name.clone(), row.clone());
        done(self.append(&mut state, GATEWAY, None, entry))
    }

    fn remove_token<'a>(
        &'a self,
        name: &'a str,
        entry: NewEntry,
    ) -> Pending<'a, Option<AuditEntry>> {
        let mut state = self.lock();
        if state.tokens.remove(name).is_none() {
            return done(None);
        }
        done(Some(self.append(&mut state, GATEWAY, None, entry)))
    }

    fn rollout_steps<'a>(&'a self, id: u64) -> Pending<'a, Vec<AuditEntry>> {
        let state = self.lock();
        let mine = |entry: &&AuditEntry| state.steps.get(&entry.number) == Some(&id);
        done(state.entries.iter().map(|(entry, _)| entry).filter(mine).cloned().collect())
    }

    fn state_at(&self, number: u64) -> Pending<'_, Option<(String, Wanted)>> {
        let state = self.lock();
        let found = state.entries.iter().find(|(entry, _)| entry.number == number);
        done(found.and_then(|(entry, wanted)| Some((entry.model.clone(), wanted.clone()?))))
    }

    fn keep<'a>(&'a self, kept: &'a Kept) -> Pending<'a, ()> {
        self.lock().kept.insert(key(kept), kept.clone());
        done(())
    }

    fn discard<'a>(&'a self, kept: &'a Kept) -> Pending<'a, ()> {
        self.lock().kept.remove(&key(kept));
        done(())
    }

    fn kept(&self) -> Pending<'_, Vec<Kept>> {
        done(self.lock().kept.values().cloned().collect())
    }

    fn probe(&self) -> Pending<'_, ()> {
        done(())
    }

    fn recorded(&self) -> watch::Receiver<u64> {
        self.recorded.subscribe()
    }

    fn after(&self, number: u64, limit: usize) -> Pending<'_, Vec<AuditEntry>> {
        let state = self.lock();
        let entries = state.entries.iter().map(|(entry, _)| entry);
        done(entries.filter(|entry| entry.number > number).take(limit).cloned().collect())
    }

    fn told<'a>(&'a self, webhook: &'a str) -> Pending<'a, Option<u64>> {
        done(self.lock().told.get(webhook).copied())
    }

    fn tell<'a>(&'a self, webhook: &'a str, number: u64) -> Pending<'a, ()> {
        self.lock().told.insert(webhook.to_owned(), number);
        done(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Unloaded;
    use crate::types::VersionId;

    fn entry(action: &str) -> NewEntry {
        NewEntry {
            actor: "test".into(),
            action: action.into(),
            reason: None,
            from: String::new(),
            to: String::new(),
            rollout: None,
        }
    }

    #[tokio::test]
    async fn what_was_recorded_is_read_back_newest_first() {
        let store = Memory::default();
        let (churn, fraud) = (ModelName::new("churn").unwrap(), ModelName::new("fraud").unwrap());
        let wanted = Wanted {
            champion: VersionId::new(1),
            previous: vec![],
            canary: None,
            holdback: false,
            shadows: vec![],
            salt: [7; 16],
            unloaded: Unloaded { all: true, ..Unloaded::default() },
            pinned: BTreeMap::new(),
            newest: None,
        };
        assert_eq!(store.wanted(&churn).await.unwrap(), None);
        for (model, action) in [(&churn, "a"), (&fraud, "b"), (&churn, "c")] {
            store.record(model, entry(action), &wanted).await.unwrap();
        }
        assert_eq!(store.wanted(&churn).await.unwrap(), Some(wanted.clone()));
        assert_eq!(store.state_at(2).await.unwrap(), Some(("fraud".to_owned(), wanted)));
        assert_eq!(store.state_at(4).await.unwrap(), None);
        let mine = store.history(Some(&churn), 10).await.unwrap();
        assert_eq!(mine.iter().map(|e| e.action.as_str()).collect::<Vec<_>>(), ["c", "a"]);
        let all = store.history(None, 2).await.unwrap();
        assert_eq!(all.iter().map(|e| e.number).collect::<Vec<_>>(), [3, 2]);
    }
    #[tokio::test]
    async fn a_note_changes_nothing_that_is_wanted() {
        let store = Memory::default();
        let churn = ModelName::new("churn").unwrap();
        let noted = store.note(Some(&churn), entry("alert")).await.unwrap();
        assert_eq!((noted.number, &*noted.model), (1, "churn"));
        assert_eq!(store.state_at(1).await.unwrap(), None);
        assert_eq!(store.wanted(&churn).await.unwrap(), None);
    }
}
