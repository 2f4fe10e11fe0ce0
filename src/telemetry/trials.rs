//! What labels and kept answers say of the arms of the rollouts under way: from whoever
//! stores and joins them to whoever judges.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::telemetry::Metrics;
use crate::types::{ModelName, Share, VersionId};

/// A comparison of two versions by what they answered, and by its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The rollout that asks.
    pub rollout: u64,
    /// Answers from this time on count, in milliseconds since 1970.
    pub since: i64,
    /// The version that was champion before.
    pub base: VersionId,
    /// The version that is judged.
    pub version: VersionId,
    /// Whether it is judged within each group as well.
    pub by_group: bool,
    /// Whether it is judged by how often groups are selected.
    #[serde(default)]
    pub by_selection: bool,
}

/// Wrong answers while the judged version had one share. A request counts once, and so
/// does a routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongCounts {
    /// The judged version's share.
    pub share: Share,
    /// The other version's.
    pub champion: u64,
    /// The judged version's.
    pub canary: u64,
}

/// Wrong answers within a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupWrong {
    /// By what rows are divided.
    pub grouping: String,
    /// Its name.
    pub group: String,
    /// By share.
    pub counts: Vec<WrongCounts>,
}

/// All that labels say of a trial so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// Of all rows, by share.
    pub all: Vec<WrongCounts>,
    /// Of each group that was declared when the first wrong answer was known; the same from then on,
    /// since the level is split over them.
    pub groups: Vec<GroupWrong>,
    /// Wrong answers that were not counted: too many routing keys are remembered.
    pub lost: u64,
}

/// Rows, and those of them to which the positive class was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedRows {
    /// All of them.
    pub rows: u64,
    /// Those that were selected.
    pub selected: u64,
}

/// Rows while the judged version had one share. Of a request a group counts once, and so
/// does it of a routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectionCounts {
    /// The judged version's share.
    pub share: Share,
    /// The other version's.
    pub champion: SelectedRows,
    /// The judged version's.
    pub canary: SelectedRows,
}

/// Rows of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSelection {
    /// By what rows are divided.
    pub grouping: String,
    /// Its name.
    pub group: String,
    /// By share.
    pub counts: Vec<SelectionCounts>,
}

/// How often each group was selected so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Each group that was declared when the first answer came; the same from then on, since
    /// the level is split over them.
    pub groups: Vec<GroupSelection>,
    /// Answers that were not counted: too many routing keys are remembered.
    pub lost: u64,
    /// Routing keys that were counted, once for each of their groups, by share.
    #[serde(default)]
    pub keyed: Vec<(Share, u64)>,
}

impl Selection {
    /// How many routing keys were counted at a share.
    #[must_use]
    pub fn keyed_at(&self, share: Share) -> u64 {
        self.keyed.iter().find(|(own, _)| *own == share).map_or(0, |(_, keys)| *keys)
    }

    /// One more was counted at a share, if it has a key.
    pub fn keyed(&mut self, share: Share, has_key: bool) {
        let known = self.keyed.iter_mut().find(|(own, _)| *own == share);
        match known {
            Some((_, keys)) => *keys += u64::from(has_key),
            None if has_key => self.keyed.push((share, 1)),
            None => {}
        }
    }
}

/// All that is known of a trial so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialCounts {
    /// By labels.
    pub wrong: Wrong,
    /// By answers alone.
    #[serde(default)]
    pub selection: Selection,
}

/// Of one model.
#[derive(Default)]
struct Entry {
    /// What is asked for; `Some(None)` once that has ended.
    trial: Option<Option<Trial>>,
    told: Option<(Trial, Arc<TrialCounts>)>,
}

/// All trials, by model: at most one each.
#[derive(Default)]
pub struct Trials {
    models: Mutex<BTreeMap<ModelName, Entry>>,
}

impl Trials {
    /// From now on answers are counted for this one, in place of a former one.
    pub fn follow(&self, model: &ModelName, trial: Trial) {
        self.lock().entry(model.clone()).or_default().trial = Some(Some(trial));
    }

    /// Nobody asks any more.
    pub fn end(&self, model: &ModelName) {
        self.lock().insert(model.clone(), Entry { trial: Some(None), told: None });
    }

    /// What each model's trial is; `None` where the last one has ended.
    #[must_use]
    pub fn all(&self) -> Vec<(ModelName, Option<Trial>)> {
        let models = self.lock();
        models.iter().filter_map(|(model, entry)| Some((model.clone(), entry.trial?))).collect()
    }

    /// Tells what is known of a trial now.
    pub fn tell(&self, model: &ModelName, trial: Trial, counts: &TrialCounts) {
        let mut models = self.lock();
        let told = &mut models.entry(model.clone()).or_default().told;
        if told.as_ref().is_none_or(|(own, known)| *own != trial || **known != *counts) {
            *told = Some((trial, Arc::new(counts.clone())));
        }
    }

    /// What is known of a trial; `None` before anything is.
    #[must_use]
    pub fn counts(&self, model: &ModelName, trial: Trial) -> Option<Arc<TrialCounts>> {
        let models = self.lock();
        let told = models.get(model)?.told.as_ref()?;
        (told.0 == trial).then(|| Arc::clone(&told.1))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ModelName, Entry>> {
        // Whole entries are replaced: none is half done.
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    /// What labels and answers say of rollouts.
    #[must_use]
    pub const fn trials(&self) -> &Trials {
        &self.trials
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_of_the_trial_that_is_asked_for() {
        let (trials, model) = (Trials::default(), ModelName::new("m").unwrap());
        let [base, version] = [1, 2].map(|n| VersionId::new(n).unwrap());
        let trial =
            Trial { rollout: 7, since: 100, base, version, by_group: true, by_selection: false };
        trials.follow(&model, trial);
        assert_eq!(trials.counts(&model, trial), None);
        let wrong = Wrong { lost: 3, ..Wrong::default() };
        trials.tell(&model, trial, &TrialCounts { wrong, ..TrialCounts::default() });
        assert_eq!(trials.counts(&model, trial).map(|counts| counts.wrong.lost), Some(3));
        let anew = Trial { since: 200, ..trial };
        trials.follow(&model, anew);
        assert_eq!(
            (trials.counts(&model, anew), trials.all()),
            (None, vec![(model.clone(), Some(anew))])
        );
        trials.end(&model);
        assert_eq!((trials.counts(&model, trial), trials.all()), (None, vec![(model, None)]));
    }
}
