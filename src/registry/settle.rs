//! When a version's folder is whole. Pure: times are arguments.
//!
//! A folder is whole when it appeared by a rename, or when nothing in it has
//! changed for the settle time: by the kernel's change times where the clocks
//! agree (so that a restart waits for nothing), else by what we saw ourselves.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use crate::registry::scan::{Files, Found};
use crate::types::{ModelName, VersionId};

/// A version's place in the repository.
pub(super) type Place = (ModelName, VersionId);

/// A folder that has not settled after this many settle times is not waited
/// for at start.
const PATIENCE: u32 = 10;

/// How far a version's folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wholeness {
    /// Its files may be taken.
    Whole,
    /// It changed a moment ago.
    Settling,
    /// It keeps changing, or its artifact does not come.
    Stalled,
}

struct Seen {
    files: Files,
    first: Instant,
    unchanged_since: Instant,
    renamed: bool,
}

/// Remembers what was seen of each folder; forgets those that are gone.
pub(super) struct Settle {
    time: Duration,
    seen: HashMap<Place, Seen>,
}

impl Settle {
    pub(super) fn new(time: Duration) -> Self {
        Self { time, seen: HashMap::new() }
    }

    /// Takes a look at `now` (and `wall`, the same moment on the wall clock).
    /// `renamed` are the folders that appeared by a rename since the last look.
    pub(super) fn observe(
        &mut self,
        found: &Found,
        renamed: &HashSet<Place>,
        now: Instant,
        wall: SystemTime,
    ) -> HashMap<Place, Wholeness> {
        let places = found.models.iter().flat_map(|(model, found)| {
            found.versions.iter().map(move |(version, files)| ((model.clone(), *version), files))
        });
        let mut seen = HashMap::new();
        let mut result = HashMap::new();
        for (place, files) in places {
            let mut entry = self.seen.remove(&place).unwrap_or_else(|| Seen {
                files: files.clone(),
                first: now,
                unchanged_since: now,
                renamed: false,
            });
            if entry.files != *files {
                entry.files = files.clone();
                entry.unchanged_since = now;
                entry.renamed = false;
            }
            entry.renamed |= renamed.contains(&place);
            result.insert(place.clone(), entry.wholeness(now, wall, self.time));
            seen.insert(place, entry);
        }
        self.seen = seen;
        result
    }

    /// When the next folder may have settled; `None` if nothing is settling.
    pub(super) fn next(&self, result: &HashMap<Place, Wholeness>) -> Option<Duration> {
        let settling = result.values().any(|w| *w == Wholeness::Settling);
        settling.then_some(self.time.max(Duration::from_millis(1)))
    }
}

impl Seen {
    fn wholeness(&self, now: Instant, wall: SystemTime, time: Duration) -> Wholeness {
        let quiet = now.saturating_duration_since(self.unchanged_since) >= time
            || wall.duration_since(self.files.changed).is_ok_and(|quiet| quiet >= time);
        let waited = now.saturating_duration_since(self.first) >= time * PATIENCE;
        match (self.files.stamps.contains_key(&self.files.artifact), self.renamed || quiet) {
            (true, true) => Wholeness::Whole,
            (false, true) => Wholeness::Stalled,
            (_, false) if waited => Wholeness::Stalled,
            (_, false) => Wholeness::Settling,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::scan::{ARTIFACT, FoundModel, Stamp};

    const TIME: Duration = Duration::from_secs(1);

    fn place() -> Place {
        (ModelName::new("m").unwrap(), VersionId::new(1).unwrap())
    }

    /// A repository with one version: its artifact's size, and when the kernel
    /// last saw it change.
    fn found(size: Option<u64>, changed: SystemTime) -> Found {
        let stamp = |size| Stamp { size, modified_nanos: 0, inode: 1 };
        let stamps = size.map(|s| (ARTIFACT.to_owned(), stamp(s))).into_iter().collect();
        let files = Files { artifact: ARTIFACT.to_owned(), stamps, changed };
        let versions = [(place().1, files)].into();
        let model = FoundModel { versions, ..FoundModel::default() };
        Found { models: [(place().0, model)].into(), problems: vec![] }
    }

    /// Looks at `(seconds, size, renamed)` one after the other; the kernel's
    /// times are in the future, as from a clock that is ahead.
    fn looks(list: &[(u64, Option<u64>, bool)]) -> Vec<Wholeness> {
        let mut settle = Settle::new(TIME);
        let (start, wall) = (Instant::now(), SystemTime::now());
        let ahead = wall + Duration::from_secs(3600);
        let look = |&(second, size, renamed): &(u64, Option<u64>, bool)| {
            let renamed = if renamed { HashSet::from([place()]) } else { HashSet::new() };
            let after = Duration::from_secs(second);
            settle.observe(&found(size, ahead), &renamed, start + after, wall + after)[&place()]
        };
        list.iter().map(look).collect()
    }

    #[test]
    fn a_folder_is_whole_when_it_is_quiet_or_was_renamed() {
        use Wholeness::{Settling, Stalled, Whole};
        let quiet = (0, Some(5), false);
        assert_eq!(looks(&[quiet, (1, Some(5), false)]), [Settling, Whole]);
        let growing = [quiet, (1, Some(6), false), (2, Some(6), false)];
        assert_eq!(looks(&growing), [Settling, Settling, Whole]);
        assert_eq!(looks(&[(0, Some(5), true)]), [Whole]);
        // Who writes into a folder after renaming it has to settle after all.
        assert_eq!(looks(&[(0, Some(5), true), (1, Some(6), false)]), [Whole, Settling]);
        assert_eq!(looks(&[(0, None, false), (1, None, false)]), [Settling, Stalled]);
        assert_eq!(looks(&[quiet, (10, Some(6), false)]), [Settling, Stalled]);
    }

    #[test]
    fn a_restart_waits_for_nothing() {
        let mut settle = Settle::new(TIME);
        let (now, wall) = (Instant::now(), SystemTime::now());
        let old = found(Some(5), wall - TIME);
        let result = settle.observe(&old, &HashSet::new(), now, wall);
        assert_eq!(result[&place()], Wholeness::Whole);
        assert_eq!(settle.next(&result), None);
        let fresh = found(Some(5), wall);
        let result = settle.observe(&fresh, &HashSet::new(), now, wall);
        assert_eq!((result[&place()], settle.next(&result)), (Wholeness::Settling, Some(TIME)));
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut settle = Settle::new(TIME);
        let (now, wall) = (Instant::now(), SystemTime::now());
        settle.observe(&found(Some(5), wall), &HashSet::new(), now, wall);
        settle.observe(&Found::default(), &HashSet::new(), now, wall);
        assert!(settle.seen.is_empty());
    }
}
