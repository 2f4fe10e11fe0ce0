//! What operators ask of the monitor.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::Thread;

use crate::error::{Error, ErrorCode, Result};
use crate::types::{ModelName, Profile, VersionId};

/// A version of a model.
pub(super) type Key = (ModelName, VersionId);

/// Whether a version may learn its profile anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relearn {
    May,
    /// Its owner does not want it watched.
    Off,
    /// Its folder has a profile.
    Given,
    /// Nobody learns.
    LearnsNone,
}

impl Relearn {
    /// The error says why it may not; `None` is no loaded version.
    pub(super) fn check(own: Option<Self>, (model, version): &Key) -> Result<()> {
        let file = Profile::FILE;
        let (code, why) = match own {
            Some(Self::May) => return Ok(()),
            None => {
                (ErrorCode::NotFound, "it is not loaded, or has been for a moment only".to_owned())
            }
            Some(Self::Off) => {
                (ErrorCode::Conflict, "its model.toml says [monitor] drift = false".to_owned())
            }
            Some(Self::Given) => (
                ErrorCode::Conflict,
                format!("its folder has a {file}; write that anew, or remove it to learn one"),
            ),
            Some(Self::LearnsNone) => (
                ErrorCode::Conflict,
                format!("monitor.learn_rows is 0, so nothing is learnt; give it a {file}"),
            ),
        };
        Err(Error::new(code, format!("model {model}, version {version}: {why}")))
    }
}

/// Versions that shall learn anew in the next round. As many as there are, at most.
#[derive(Default)]
pub(super) struct Asks {
    relearn: Mutex<BTreeSet<Key>>,
    wakes: OnceLock<Thread>,
}

impl Asks {
    fn with<T>(&self, of: impl FnOnce(&mut BTreeSet<Key>) -> T) -> T {
        of(&mut self.relearn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes this thread when something is asked.
    pub(super) fn wakes(&self, thread: Thread) {
        // It is one, and says so once.
        let _ = self.wakes.set(thread);
    }

    pub(super) fn add(&self, model: ModelName, version: VersionId) {
        self.with(|all| all.insert((model, version)));
        if let Some(thread) = self.wakes.get() {
            thread.unpark();
        }
    }

    pub(super) fn has(&self, model: &ModelName, version: VersionId) -> bool {
        self.with(|all| all.contains(&(model.clone(), version)))
    }

    pub(super) fn all(&self) -> BTreeSet<Key> {
        self.with(|all| all.clone())
    }

    pub(super) fn done(&self, done: &BTreeSet<Key>) {
        self.with(|all| all.retain(|key| !done.contains(key)));
    }
}
