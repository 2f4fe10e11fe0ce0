//! Which answers count in the rollouts under way: wrong ones, and how often groups are
//! selected. Pure.
//!
//! An answer counts where it was given: by the split, of either version, while the judged
//! one had the share that is kept with it. Rows of one request are on one side together,
//! and so are the requests of one routing key: each counts once, in all and once in each
//! group.

mod selection;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::monitor::quality::who::Who;
use crate::store::{NewPrediction, TrialKey, TrialRow};
use crate::telemetry::{ArmRole, GroupWrong, Groups, Trial, TrialCounts, Wrong, WrongCounts};
use crate::types::{GUARDED_GROUPS_MAX, LabelSettings, ModelName, OTHER, Share};

/// Routing keys of wrong answers that are remembered of one trial, each once for all rows and
/// for each of its groups: some 10 MB. Of the rest nothing is counted, on neither side.
const KEYS_MAX: usize = 400_000;
/// The cell of the first group whose selection is counted.
const SELECTION: u16 = 1_000;

/// A key, for wrong answers to all rows (0) or to a group (its place, from 1), or for the
/// selection of a group (its place, from [`SELECTION`]).
type Key = (u16, u64);

/// Keys that were counted.
#[derive(Default)]
struct Keys {
    wrong: HashSet<Key>,
    selection: HashSet<Key>,
}

/// What becomes of an event of a key.
enum Taken {
    /// It counts,
    New,
    /// has counted before,
    Known,
    /// or cannot be told from one that has.
    Lost,
}

/// Remembers a key of a cell, if there is one and there is room.
fn take(
    (known, new): (&HashSet<Key>, &mut HashSet<Key>),
    (cell, key): (u16, Option<u64>),
    room: bool,
) -> Taken {
    let Some(key) = key.map(|key| (cell, key)) else { return Taken::New };
    if known.contains(&key) || new.contains(&key) {
        return Taken::Known;
    }
    if !room {
        return Taken::Lost;
    }
    new.insert(key);
    Taken::New
}

/// What is counted of one trial.
struct Counted {
    trial: Trial,
    counts: TrialCounts,
    keys: Keys,
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct Record {
    model: ModelName,
    trial: Trial,
    #[serde(flatten)]
    counts: TrialCounts,
}

/// A wrong answer to a row.
pub(super) struct WrongRow<'a> {
    pub(super) who: &'a Who,
    /// When it was answered, in milliseconds since 1970.
    pub(super) at: i64,
    pub(super) key: Option<u64>,
    pub(super) groups: &'a [u8],
    /// The groups of the request's rows that are known to be wrong already.
    pub(super) before: &'a BTreeSet<Groups>,
}

/// All trials.
#[derive(Default)]
pub(super) struct Ledger {
    models: BTreeMap<ModelName, Counted>,
    /// Rollouts whose trials are to be removed from the store.
    pub(super) ended: Vec<i64>,
}

impl Ledger {
    /// What is stored.
    pub(super) fn read(rows: &[TrialRow], keys: &[TrialKey]) -> Self {
        let mut of: HashMap<i64, Keys> = HashMap::new();
        for TrialKey { rollout, cell, key } in keys {
            let Keys { wrong, selection } = of.entry(*rollout).or_default();
            (if *cell < SELECTION { wrong } else { selection }).insert((*cell, *key));
        }
        let mut ledger = Self::default();
        for TrialRow { rollout, what } in rows {
            match serde_json::from_str(what) {
                Ok(Record { model, trial, counts }) => {
                    let keys = of.remove(rollout).unwrap_or_default();
                    ledger.put(model, Counted { trial, counts, keys });
                }
                Err(error) => tracing::warn!(rollout, %error, "a trial cannot be read"),
            }
        }
        ledger
    }

    fn put(&mut self, model: ModelName, counted: Counted) {
        let own = counted.trial.rollout;
        if let Some(former) = self.models.insert(model, counted)
            && former.trial.rollout != own
        {
            self.ended.push(number(former.trial.rollout));
        }
    }

    /// Begins the trials that are asked for, and ends those that nobody asks for any more.
    pub(super) fn follow(&mut self, asked: Vec<(ModelName, Option<Trial>)>) {
        for (model, trial) in asked {
            let known = self.models.get(&model).map(|counted| counted.trial);
            if known == trial {
                continue;
            }
            if let Some(former) = self.models.remove(&model) {
                self.ended.push(number(former.trial.rollout));
            }
            if let Some(trial) = trial {
                let (counts, keys) = Default::default();
                self.put(model, Counted { trial, counts, keys });
            }
        }
    }

    /// Whether a trial asks for what was answered then, by whom.
    pub(super) fn asks_for(&self, who: &Who, at: i64) -> bool {
        let counted = self.models.get(&who.model);
        counted.is_some_and(|counted| arm(&counted.trial, who, at).is_some())
    }

    /// What is known of each.
    pub(super) fn all(&self) -> impl Iterator<Item = (&ModelName, Trial, &TrialCounts)> {
        self.models.iter().map(|(model, own)| (model, own.trial, &own.counts))
    }
}

/// Counts that are to be stored before they count.
#[derive(Default)]
pub(super) struct TrialDraft {
    models: BTreeMap<ModelName, Part>,
}

/// That of one model: all counts, and the keys that are new.
struct Part {
    counts: TrialCounts,
    keys: Keys,
}

impl TrialDraft {
    fn part(&mut self, model: &ModelName, counted: &Counted) -> &mut Part {
        let fresh = || Part { counts: counted.counts.clone(), keys: Keys::default() };
        self.models.entry(model.clone()).or_insert_with(fresh)
    }

    /// Counts whom an answer selects, if a trial asks for it.
    pub(super) fn count_answer(&mut self, ledger: &Ledger, who: &Who, answer: &NewPrediction) {
        let Some(counted) = ledger.models.get(&who.model) else { return };
        let Some(arm) = arm(&counted.trial, who, answer.at) else { return };
        if counted.trial.by_selection {
            let Part { counts, keys } = self.part(&who.model, counted);
            let take = |cell, key, room| {
                take((&counted.keys.selection, &mut keys.selection), (cell, key), room)
            };
            selection::count(&mut counts.selection, &who.labels, arm, answer, take);
        }
    }

    /// Counts a wrong answer, if a trial asks for it.
    pub(super) fn count(&mut self, ledger: &Ledger, row: &WrongRow<'_>) {
        let Some(counted) = ledger.models.get(&row.who.model) else { return };
        let Some((is_judged, share)) = arm(&counted.trial, row.who, row.at) else { return };
        let Part { counts: TrialCounts { wrong, .. }, keys } = self.part(&row.who.model, counted);
        if counted.trial.by_group && wrong.all.is_empty() && wrong.groups.is_empty() {
            let none = |(grouping, group)| GroupWrong { grouping, group, counts: Vec::new() };
            wrong.groups = declared(&row.who.labels).map(none).collect();
        }
        let mut is_lost = false;
        for cell in cells(wrong, row) {
            let room = counted.keys.wrong.len() + keys.wrong.len() < KEYS_MAX;
            match take((&counted.keys.wrong, &mut keys.wrong), (cell, row.key), room) {
                Taken::New => {}
                Taken::Known => continue,
                Taken::Lost => {
                    is_lost = true;
                    continue;
                }
            }
            let counts = match cell.checked_sub(1) {
                None => &mut wrong.all,
                Some(group) => &mut wrong.groups[usize::from(group)].counts,
            };
            add(counts, share, is_judged);
        }
        wrong.lost += u64::from(is_lost);
    }

    /// As it is stored.
    pub(super) fn rows(&self, ledger: &Ledger) -> (Vec<TrialRow>, Vec<TrialKey>) {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for (model, Part { counts, keys }) in &self.models {
            let Some(Counted { trial, .. }) = ledger.models.get(model) else { continue };
            let record = Record { model: model.clone(), trial: *trial, counts: counts.clone() };
            let what = serde_json::to_string(&record).expect("it has no key that is no string");
            let rollout = number(trial.rollout);
            rows.push(TrialRow { rollout, what });
            let keys = keys.wrong.iter().chain(&keys.selection);
            all.extend(keys.map(|(cell, key)| TrialKey { rollout, cell: *cell, key: *key }));
        }
        (rows, all)
    }

    /// It is stored: it counts.
    pub(super) fn done(self, ledger: &mut Ledger) {
        for (model, Part { counts, keys }) in self.models {
            if let Some(counted) = ledger.models.get_mut(&model) {
                counted.counts = counts;
                counted.keys.wrong.extend(keys.wrong);
                counted.keys.selection.extend(keys.selection);
            }
        }
    }
}

/// Whether the judged version answered, and its share then; `None` if the answer is not
/// part of the trial.
fn arm(trial: &Trial, who: &Who, at: i64) -> Option<(bool, Share)> {
    let (_, canary) = who.split.as_ref().filter(|_| at >= trial.since)?;
    let is_judged = who.version == trial.version;
    if !is_judged && who.version != trial.base {
        return None;
    }
    // While the judged one is champion, the former one is canary.
    let judged_is_canary = is_judged == (who.role == ArmRole::Canary.as_str());
    let share = if judged_is_canary {
        *canary
    } else {
        Share::from_basis_points(Share::ALL.basis_points().checked_sub(canary.basis_points())?)?
    };
    Some((is_judged, share))
}

/// All rows, and the groups of a row; less those in which the request counted before.
fn cells(wrong: &Wrong, row: &WrongRow<'_>) -> Vec<u16> {
    let mut cells = Vec::with_capacity(1 + row.groups.len());
    if row.before.is_empty() {
        cells.push(0);
    }
    let groupings = row.who.labels.groupings.iter().zip(row.groups).enumerate();
    for (i, (grouping, group)) in groupings {
        if row.before.iter().any(|before| before.get(i) == Some(group)) {
            continue;
        }
        let name = grouping.group_name(*group);
        let is_own = |own: &GroupWrong| own.grouping == grouping.name && own.group == name;
        let place = wrong.groups.iter().position(is_own);
        cells.extend(place.and_then(|place| u16::try_from(place + 1).ok()));
    }
    cells
}

/// Every group that `model.toml` declares, with those of other values: grouping and name.
fn declared(labels: &LabelSettings) -> impl Iterator<Item = (String, String)> {
    let groups = labels.groupings.iter().flat_map(|grouping| {
        let named = (0..OTHER).take(grouping.values.len()).chain([OTHER]);
        named.map(|group| (grouping.name.clone(), grouping.group_name(group).to_owned()))
    });
    groups.take(GUARDED_GROUPS_MAX)
}

fn add(counts: &mut Vec<WrongCounts>, share: Share, is_judged: bool) {
    let known = counts.iter().position(|own| own.share == share);
    let at = known.unwrap_or_else(|| {
        counts.push(WrongCounts { share, champion: 0, canary: 0 });
        counts.len() - 1
    });
    let side = if is_judged { &mut counts[at].canary } else { &mut counts[at].champion };
    *side += 1;
}

fn number(rollout: u64) -> i64 {
    i64::try_from(rollout).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
