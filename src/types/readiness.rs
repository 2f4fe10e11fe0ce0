//! Whether the process wants traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

const STARTING: u8 = 0;
const WAITING: u8 = 1;
const READY: u8 = 2;
const DRAINING: u8 = 3;

/// Starting, waiting for a model that serves, ready or draining; only moves
/// forward: who has been ready stays so until the end, whatever becomes of a
/// single model. Clones share the state.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Every version that was found at start has been tried, but of the models
    /// that should serve not enough do.
    pub fn set_waiting(&self) {
        self.0.fetch_max(WAITING, SeqCst);
    }

    /// It can answer.
    pub fn set_ready(&self) {
        self.0.fetch_max(READY, SeqCst);
    }

    /// The process is going away.
    pub fn set_draining(&self) {
        self.0.fetch_max(DRAINING, SeqCst);
    }

    /// Whether to send traffic here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(SeqCst) == READY
    }

    /// Whether what was found at start has been tried.
    #[must_use]
    pub fn is_tried(&self) -> bool {
        self.0.load(SeqCst) >= WAITING
    }

    /// `starting`, `waiting for models that serve`, `ready` or `draining`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self.0.load(SeqCst) {
            STARTING => "starting",
            WAITING => "waiting for models that serve",
            READY => "ready",
            _ => "draining",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_moves_forward() {
        let readiness = Readiness::default();
        assert!(!readiness.is_tried());
        readiness.set_waiting();
        assert!(readiness.is_tried() && !readiness.is_ready());
        readiness.set_ready();
        readiness.set_waiting();
        assert!(readiness.clone().is_ready());
        readiness.set_draining();
        readiness.set_ready();
        assert_eq!(readiness.as_str(), "draining");
    }
}
