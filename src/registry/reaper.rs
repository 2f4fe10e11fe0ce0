//! Frees versions that left, and what others hold and do not need, on a thread
//! of its own.
//!
//! It holds each until nobody else does, so that the last reference is never
//! dropped by a request, and only then says that the version retired.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::registry::settle::Place;
use crate::serving::LoadedVersion;
use crate::types::thread::{Class, LeastShare, Pulse, STACK_BYTES, enter};

/// How often it looks whether somebody still holds a version.
const POLL: Duration = Duration::from_millis(10);

/// What a version made for shapes is freed when they did not come for this long.
const IDLE: Duration = Duration::from_secs(300);

/// What the thread is asked to do.
enum Work {
    Free(Leaving),
    Trim(Vec<Arc<LoadedVersion>>),
}

/// A version that left.
pub(super) struct Leaving {
    pub(super) place: Place,
    pub(super) ticket: u64,
    pub(super) version: Arc<LoadedVersion>,
}

/// The memory of this place's ticket is free.
pub(super) struct Freed {
    pub(super) place: Place,
    pub(super) ticket: u64,
}

/// Takes versions that left; dropping it ends the thread.
pub(super) struct Reaper(Sender<Work>);

impl Reaper {
    /// Starts the thread. It drops `alive` when it ends.
    pub(super) fn spawn(
        freed: mpsc::Sender<Freed>,
        alive: mpsc::Sender<()>,
    ) -> std::io::Result<Self> {
        // Bounded by the versions that there are, and a list of them now and then.
        let (work, receiver) = channel();
        let thread = thread::Builder::new().name("reaper".into()).stack_size(STACK_BYTES);
        thread.spawn(move || {
            enter(Class::Background);
            run(&receiver, &freed);
            drop(alive);
        })?;
        Ok(Self(work))
    }

    /// Hands over a version. No plan names it any more.
    pub(super) fn take(&self, leaving: Leaving) {
        // The thread ends only when the manager does.
        let _ = self.0.send(Work::Free(leaving));
    }

    /// Frees what these versions hold for bursts that are over.
    pub(super) fn trim(&self, versions: Vec<Arc<LoadedVersion>>) {
        let _ = self.0.send(Work::Trim(versions));
    }
}

fn run(receiver: &Receiver<Work>, freed: &mpsc::Sender<Freed>) {
    let mut held: Vec<Leaving> = Vec::new();
    let pulse = Pulse::new(LeastShare::Tenth);
    loop {
        let next = if held.is_empty() {
            receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            receiver.recv_timeout(POLL)
        };
        match next {
            Ok(Work::Free(leaving)) => held.push(leaving),
            Ok(Work::Trim(versions)) => {
                pulse.during(|| versions.iter().for_each(|version| version.trim(IDLE)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for leaving in held.extract_if(.., |l| Arc::strong_count(&l.version) == 1) {
            let Leaving { place, ticket, version } = leaving;
            pulse.during(|| drop(version));
            if freed.blocking_send(Freed { place, ticket }).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::version as doubler;
    use crate::types::{ModelName, VersionId};

    #[tokio::test]
    async fn a_version_is_freed_when_nobody_holds_it() {
        let (freed, mut news) = mpsc::channel(4);
        let (alive, mut ended) = mpsc::channel(1);
        let reaper = Reaper::spawn(freed, alive).unwrap();
        let place = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
        let version = Arc::new(doubler());
        let request = Arc::clone(&version);
        let weak = Arc::downgrade(&version);
        reaper.take(Leaving { place: place.clone(), ticket: 7, version });
        // Another one, that nobody holds, is freed meanwhile.
        let free = Arc::new(doubler());
        reaper.take(Leaving { place: place.clone(), ticket: 8, version: free });
        assert_eq!(news.recv().await.unwrap().ticket, 8);
        assert!(weak.upgrade().is_some() && news.try_recv().is_err());
        drop(request);
        assert_eq!(news.recv().await.unwrap().ticket, 7);
        assert!(weak.upgrade().is_none());
        drop(reaper);
        assert!(ended.recv().await.is_none());
    }
}
