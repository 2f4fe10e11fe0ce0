//! The wanted state for the life of the process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::store::{AuditEntry, NewEntry, Pending, Store, Wanted, chain};
use crate::types::ModelName;

/// Entries kept; older ones are dropped.
const ENTRIES_MAX: usize = 10_000;

/// Keeps everything in memory.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wanted: HashMap<ModelName, Wanted>,
    entries: VecDeque<AuditEntry>,
    last_number: u64,
    last_hash: String,
}

impl Memory {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, model: &ModelName, entry: NewEntry, wanted: &Wanted) -> AuditEntry {
        let mut state = self.lock();
        state.last_number += 1;
        let (number, json) = (state.last_number, wanted.to_json());
        let entry = chain::seal(entry, number, model, &state.last_hash, &json);
        state.last_hash.clone_from(&entry.hash);
        state.wanted.insert(model.clone(), wanted.clone());
        state.entries.push_back(entry.clone());
        if state.entries.len() > ENTRIES_MAX {
            state.entries.pop_front();
        }
        entry
    }
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

    fn history<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        limit: usize,
    ) -> Pending<'a, Vec<AuditEntry>> {
        let state = self.lock();
        let newest_first = state.entries.iter().rev();
        let mine = newest_first.filter(|e| model.is_none_or(|m| m.as_str() == e.model));
        done(mine.take(limit).cloned().collect())
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
            shadows: vec![],
            salt: [7; 16],
            unloaded: Unloaded { all: true, ..Unloaded::default() },
        };
        assert_eq!(store.wanted(&churn).await.unwrap(), None);
        for (model, action) in [(&churn, "a"), (&fraud, "b"), (&churn, "c")] {
            store.record(model, entry(action), &wanted).await.unwrap();
        }
        assert_eq!(store.wanted(&churn).await.unwrap(), Some(wanted));
        let mine = store.history(Some(&churn), 10).await.unwrap();
        assert_eq!(mine.iter().map(|e| e.action.as_str()).collect::<Vec<_>>(), ["c", "a"]);
        let all = store.history(None, 2).await.unwrap();
        assert_eq!(all.iter().map(|e| e.number).collect::<Vec<_>>(), [3, 2]);
    }
}
