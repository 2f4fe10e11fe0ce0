//! Which contents are kept for a rollback once nobody needs them. Pure.
//!
//! A content that had a role is kept while its version is wanted or there; then for a
//! stated time, as one of a stated number per model, and within a stated number of
//! bytes for all. What was wanted longest ago goes first.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::registry::Lineage;
use crate::registry::loader::Digests;
use crate::types::ModelName;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    /// Contents of one model that nobody needs.
    pub(super) versions: usize,
    /// How long after they were last wanted.
    pub(super) time: Duration,
    /// Bytes of all contents that nobody needs.
    pub(super) bytes: u64,
}

/// All that it takes to load a version again: its files, which are in the state
/// folder, and what its `version.toml` said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) digests: Digests,
    pub(super) lineage: Lineage,
}

/// A content that nobody needs now.
#[derive(Clone, Debug)]
pub(super) struct Idle<K> {
    pub(super) key: K,
    pub(super) model: ModelName,
    pub(super) bytes: u64,
    /// When it was last wanted, in seconds since 1970.
    pub(super) needed: u64,
}

/// Those of `idle` that are kept no more, at `now` seconds since 1970.
pub(super) fn expendable<K>(mut idle: Vec<Idle<K>>, retention: Retention, now: u64) -> Vec<K> {
    idle.sort_by_key(|one| std::cmp::Reverse(one.needed));
    let mut of_model: BTreeMap<ModelName, usize> = BTreeMap::new();
    let (mut bytes, mut going) = (0_u64, Vec::new());
    for Idle { key, model, bytes: own, needed } in idle {
        let count = of_model.entry(model).or_default();
        let old = now.saturating_sub(needed) >= retention.time.as_secs();
        let fits = bytes.saturating_add(own) <= retention.bytes;
        if old || *count >= retention.versions || !fits {
            going.push(key);
            continue;
        }
        *count += 1;
        bytes += own;
    }
    going
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wanted_longest_ago_goes_first() {
        let idle = |key: u64, model: &str, bytes, needed| Idle {
            key,
            model: ModelName::new(model).unwrap(),
            bytes,
            needed,
        };
        let all = || {
            vec![
                idle(1, "a", 10, 100),
                idle(2, "a", 10, 200),
                idle(3, "b", 10, 150),
                idle(4, "a", 10, 300),
            ]
        };
        let much = Retention { versions: 9, time: Duration::from_secs(1000), bytes: 1000 };
        let of = |retention, now| {
            let mut going = expendable(all(), retention, now);
            going.sort_unstable();
            going
        };
        assert_eq!(of(much, 300), [0; 0]);
        assert_eq!(of(much, 1150), [1, 3]);
        // A clock that was turned back makes nothing old.
        assert_eq!(of(much, 0), [0; 0]);
        assert_eq!(of(Retention { versions: 2, ..much }, 300), [1]);
        assert_eq!(of(Retention { versions: 0, ..much }, 300), [1, 2, 3, 4]);
        assert_eq!(of(Retention { bytes: 25, ..much }, 300), [1, 3]);
        assert_eq!(of(Retention { time: Duration::ZERO, ..much }, 300), [1, 2, 3, 4]);
    }
}
