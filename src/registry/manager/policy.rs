//! Which versions a model's version policy takes.

use std::collections::BTreeSet;

use crate::registry::State;
use crate::registry::manager::model::{Entry, Model};
use crate::registry::settle::Wholeness;
use crate::registry::wanted;
use crate::types::{VersionId, VersionPolicy};

impl Model {
    /// Marks what the policy leaves out, with the reason; the versions that it
    /// did leave out until now. What has a role, or would get one by a rollback,
    /// stays.
    pub(super) fn apply_policy(&mut self) -> Vec<VersionId> {
        let Some(file) = self.file.clone() else { return Vec::new() };
        let policy = file.version_policy();
        let usable = self.entries.iter().filter(|(_, entry)| entry.may_serve());
        let taken = taken(policy, usable.map(|(version, _)| *version));
        let needed = self.needed();
        let mut let_in = Vec::new();
        for (version, entry) in &mut self.entries {
            if entry.state == State::Retiring {
                // What it retires for stays as it is.
                continue;
            }
            let chosen = taken.contains(version) || needed.contains(version);
            let left_out = entry.may_serve() && !chosen;
            if entry.left_out && !left_out {
                let_in.push(*version);
            }
            entry.left_out = left_out;
            if left_out && entry.state == State::Discovered && !entry.busy {
                entry.queued = None;
                entry.reason = Some(format!("version_policy ({policy}) leaves it out"));
            }
        }
        let_in
    }

    /// Versions that have a role, are to get one, or would by a rollback.
    fn needed(&self) -> BTreeSet<VersionId> {
        let mut needed: BTreeSet<_> = self.basis.resolved.versions().collect();
        needed.extend(&self.summoned);
        if let Some(wanted) = &self.wanted {
            needed.extend(wanted.champion);
            needed.extend(wanted.canary.map(|(version, _)| version));
            needed.extend(wanted.shadows.iter().map(|(version, _)| *version));
            needed.extend(wanted::rollback_target(wanted, &wanted::ready(&self.trials())));
        }
        if let Some(start) = &self.start {
            needed.extend(self.wanted.is_none().then_some(start.champion));
            needed.extend(start.canary.map(|(version, _)| version));
            needed.extend(start.shadows.iter().map(|(version, _)| *version));
        }
        needed
    }
}

impl Entry {
    /// Whether something can still come of it.
    fn may_serve(&self) -> bool {
        let stalled = self.wholeness == Wholeness::Stalled && !self.busy && self.queued.is_none();
        match self.state {
            State::Discovered => self.present && !stalled,
            State::Checking | State::Loading | State::WarmingUp | State::Ready => self.present,
            State::Failed | State::Retiring | State::Retired | State::Unloaded => false,
        }
    }

    /// Why it is let go.
    pub(super) const fn why_it_leaves(&self) -> &'static str {
        match (self.present, &self.kept) {
            (true, _) => "version_policy leaves it out",
            (false, Some(_)) => "restored, its folder is gone",
            (false, None) => "its folder is gone",
        }
    }
}

/// The versions of these that a policy takes.
fn taken(policy: &VersionPolicy, versions: impl Iterator<Item = VersionId>) -> BTreeSet<VersionId> {
    let versions: BTreeSet<_> = versions.collect();
    match policy {
        VersionPolicy::All => versions,
        VersionPolicy::Latest(count) => versions.into_iter().rev().take(*count).collect(),
        VersionPolicy::Specific(these) => {
            versions.into_iter().filter(|version| these.contains(version)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_policies() {
        let ids = |numbers: &[u64]| -> Vec<_> {
            numbers.iter().filter_map(|number| VersionId::new(*number)).collect()
        };
        let all = || ids(&[1, 3, 10]).into_iter();
        let cases = [
            (VersionPolicy::All, ids(&[1, 3, 10])),
            (VersionPolicy::Latest(1), ids(&[10])),
            (VersionPolicy::Latest(2), ids(&[3, 10])),
            (VersionPolicy::Latest(9), ids(&[1, 3, 10])),
            (VersionPolicy::Specific(ids(&[3, 4])), ids(&[3])),
            (VersionPolicy::Specific(vec![]), ids(&[])),
        ];
        for (policy, expected) in cases {
            assert_eq!(taken(&policy, all()), expected.into_iter().collect(), "{policy}");
        }
    }
}
