//! Whether what is wanted can be recorded.

use std::sync::{Mutex, PoisonError};

use prometheus::IntGauge;

use crate::telemetry::Metrics;
use crate::telemetry::metrics::{DECLARED, Declare};

/// How the store is.
pub(super) struct StoreStanding {
    up: IntGauge,
    problem: Mutex<Option<String>>,
}

impl StoreStanding {
    pub(super) fn declare(d: &Declare<'_>) -> Self {
        let help = "1 while changes can be recorded; else 0, and what adds risk is refused.";
        let up = d.add(IntGauge::new("foreshadow_store_up", help).expect(DECLARED));
        up.set(1);
        Self { up, problem: Mutex::default() }
    }

    pub(super) fn set(&self, problem: Option<String>) {
        self.up.set(i64::from(problem.is_none()));
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Metrics {
    /// Whether changes can be recorded now; else what is wrong.
    pub fn set_store(&self, problem: Option<String>) {
        self.store.set(problem);
    }

    /// Why changes cannot be recorded, if they cannot.
    #[must_use]
    pub fn store_problem(&self) -> Option<String> {
        self.store.problem()
    }
}
