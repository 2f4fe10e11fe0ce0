//! How much traffic a champion has at present.
//!
//! What it has had in all its life says little of an evening. So its count is noted
//! now and then, and the oldest note of the last minutes is what the present is
//! measured from.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::types::{ModelName, VersionId};

/// How far back "at present" reaches.
pub(super) const WINDOW: Duration = Duration::from_secs(300);
/// How often a count is noted.
const EVERY: Duration = Duration::from_secs(15);
/// Less than this says nothing yet.
const LEAST: Duration = Duration::from_secs(10);

/// Counts of the last minutes, by model.
#[derive(Default)]
pub(super) struct Traffic {
    models: Mutex<BTreeMap<ModelName, Recent>>,
}

/// Of one champion; at most `WINDOW / EVERY` notes and one before.
struct Recent {
    version: VersionId,
    notes: VecDeque<(Instant, u64)>,
}

impl Traffic {
    /// Notes how many requests each champion has had; models that are not among them
    /// are forgotten.
    pub(super) fn note(&self, now: Instant, champions: &[(ModelName, VersionId, u64)]) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let there: BTreeSet<_> = champions.iter().map(|(model, ..)| model).collect();
        models.retain(|model, _| there.contains(model));
        for (model, version, requests) in champions {
            let recent = models
                .entry(model.clone())
                .or_insert_with(|| Recent { version: *version, notes: VecDeque::new() });
            if recent.version != *version {
                *recent = Recent { version: *version, notes: VecDeque::new() };
            }
            let newest = recent.notes.back();
            if newest.is_some_and(|(at, _)| now.duration_since(*at) < EVERY) {
                continue;
            }
            recent.notes.push_back((now, *requests));
            while recent.notes.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
                recent.notes.pop_front();
            }
        }
    }

    /// Requests per second of a champion in the last minutes, or in its life of `age`
    /// if that is all there is to go by.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(super) fn per_second(
        &self,
        (model, version): (&ModelName, VersionId),
        now: Instant,
        requests: u64,
        age: Duration,
    ) -> f64 {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = models.get(model).filter(|recent| recent.version == version);
        let since = recent.and_then(|recent| recent.notes.front()).copied();
        let since = since.map(|(at, before)| (now.duration_since(at), before));
        let (span, before) = since.filter(|(span, _)| *span >= LEAST).unwrap_or((age, 0));
        requests.saturating_sub(before) as f64 / span.as_secs_f64().max(1e-3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_is_the_last_minutes_and_nothing_before() {
        let traffic = Traffic::default();
        let (churn, fraud) = (ModelName::new("churn").unwrap(), ModelName::new("fraud").unwrap());
        let [one, two] = [1, 2].map(|n| VersionId::new(n).unwrap());
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let rate = |version, seconds, requests| {
            let age = Duration::from_secs(10_000);
            traffic.per_second((&churn, version), at(seconds), requests, age)
        };
        assert_eq!(rate(one, 0, 50_000), 5.0, "its life is all there is");
        // A busy day, and then an evening of a request a second.
        for second in 0..1_000_u64 {
            traffic.note(at(second), &[(churn.clone(), one, 50_000 + second)]);
        }
        assert_eq!(rate(one, 1_000, 51_000), 1.0);
        let notes = |model| traffic.models.lock().unwrap().get(model).map(|r| r.notes.len());
        assert!(notes(&churn).is_some_and(|notes| notes <= 21));
        assert_eq!(rate(two, 1_000, 100_000), 10.0, "another champion has another life");
        traffic.note(at(1_001), &[(churn.clone(), two, 7), (fraud.clone(), one, 7)]);
        assert_eq!((notes(&churn), notes(&fraud)), (Some(1), Some(1)));
        traffic.note(at(1_002), &[(fraud.clone(), one, 8)]);
        assert_eq!(notes(&churn), None);
    }
}
