//! Whether the process wants traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Starting, ready or draining; only moves forward. Clones share the state.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Every version that was found at start has been tried.
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

    /// `starting`, `ready` or `draining`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self.0.load(SeqCst) {
            STARTING => "starting",
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
        assert!(!readiness.is_ready());
        readiness.set_ready();
        assert!(readiness.clone().is_ready());
        readiness.set_draining();
        readiness.set_ready();
        assert_eq!(readiness.as_str(), "draining");
    }
}
