//! The chain of the audit log: each entry carries a hash over itself and over
//! the hash of the entry before it. Pure.
//!
//! So a changed, a removed or a reordered entry shows. A tail that was cut off,
//! or a chain that was written anew from some point on, shows to whoever kept a
//! later entry's hash: it is not in the chain any more.

use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use crate::store::{AuditEntry, NewEntry};
use crate::types::Digest;

/// An entry, and what was wanted from then on, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// The entry, with its hash.
    pub(super) entry: AuditEntry,
    /// The wanted state, in JSON.
    pub(super) state: String,
}

/// The hash of an entry whose own `hash` does not count: SHA-256 over `before` (the
/// hash of the entry before, empty for the first) and each field, every one
/// behind its length in eight bytes, so that none can grow into the next. Evidence
/// is a field only where there is some, as before there could be any.
#[must_use]
pub(super) fn hash(before: &str, entry: &AuditEntry, state: &str) -> String {
    let AuditEntry { number, time, model, actor, action, reason, from, to, evidence, hash: _ } =
        entry;
    let number = number.to_string();
    let given = if reason.is_some() { "1" } else { "0" };
    let reason = reason.as_deref().unwrap_or_default();
    let mut sum = Sha256::new();
    let fields = [before, &number, time, model, actor, action, given, reason, from, to, state];
    for field in fields.into_iter().chain(evidence.as_deref()) {
        sum.update((field.len() as u64).to_be_bytes());
        sum.update(field);
    }
    Digest::new(sum.finalize().into()).to_string()
}

/// The entry with this number, now, behind the one with the hash `before`.
pub(super) fn seal(
    new: NewEntry,
    number: u64,
    model: &str,
    before: &str,
    state: &str,
) -> AuditEntry {
    let mut entry = AuditEntry {
        number,
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        model: model.to_owned(),
        actor: new.actor,
        action: new.action,
        reason: new.reason,
        from: new.from,
        to: new.to,
        evidence: new.rollout.and_then(|step| step.evidence),
        hash: String::new(),
    };
    entry.hash = hash(before, &entry, state);
    entry
}

/// Where a chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// Entries are missing, or not in their order.
    #[error("entry {expected} is missing: {got} stands in its place")]
    Missing {
        /// The number that was due.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// An entry is not what it was.
    #[error("entry {0} was changed, or one before it: its hash does not fit")]
    Changed(u64),
    /// A hash that was known is not in the chain.
    #[error("no entry has the hash {0}: the end of the log was cut off, or it was written anew")]
    NoSuchHash(String),
}

/// A check of a chain, from its first entry on.
#[derive(Clone, Debug, Default)]
pub(super) struct Check {
    /// Entries so far.
    entries: u64,
    /// The hash of the last of them.
    head: String,
    /// The hash that must be among them.
    known: Option<String>,
    found: bool,
}

impl Check {
    /// Of a chain that must have an entry with the hash `known`, if there is one.
    #[must_use]
    pub(super) fn new(known: Option<String>) -> Self {
        Self { known, ..Self::default() }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// It does not follow on those before it.
    pub(super) fn take(&mut self, record: &Record) -> Result<(), Broken> {
        let (expected, got) = (self.entries + 1, record.entry.number);
        if got != expected {
            return Err(Broken::Missing { expected, got });
        }
        if hash(&self.head, &record.entry, &record.state) != record.entry.hash {
            return Err(Broken::Changed(got));
        }
        self.entries = got;
        self.head.clone_from(&record.entry.hash);
        self.found |= self.known.as_ref() == Some(&self.head);
        Ok(())
    }

    /// How many entries there are, and the hash of the last (empty without any).
    ///
    /// # Errors
    /// The known hash was not among them.
    pub(super) fn end(self) -> Result<(u64, String), Broken> {
        match self.known {
            Some(known) if !self.found => Err(Broken::NoSuchHash(known)),
            _ => Ok((self.entries, self.head)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: u64) -> Vec<Record> {
        let mut before = String::new();
        let record = |number| {
            let mut entry = AuditEntry {
                number,
                time: "2026-01-02T03:04:05.678Z".into(),
                model: "churn".into(),
                actor: "eve".into(),
                action: format!("promote {number}"),
                reason: (number % 2 == 0).then(|| "better".to_owned()),
                from: "champion 1".into(),
                to: "champion 2".into(),
                evidence: (number % 2 == 0).then(|| "[]".to_owned()),
                hash: String::new(),
            };
            entry.hash = hash(&before, &entry, "{}");
            before.clone_from(&entry.hash);
            Record { entry, state: "{}".into() }
        };
        (1..=length).map(record).collect()
    }

    fn check(records: &[Record], known: Option<&str>) -> Result<(u64, String), Broken> {
        let mut check = Check::new(known.map(str::to_owned));
        records.iter().try_for_each(|record| check.take(record))?;
        check.end()
    }

    #[test]
    fn a_whole_chain_is_whole() {
        let records = chain(5);
        let head = records[4].entry.hash.clone();
        assert_eq!(check(&records, None), Ok((5, head.clone())));
        assert_eq!(check(&records, Some(&head)), Ok((5, head.clone())));
        assert_eq!(check(&records, Some(&records[1].entry.hash)), Ok((5, head)));
        assert_eq!(check(&[], None), Ok((0, String::new())));
    }

    #[test]
    fn every_field_counts_and_none_grows_into_the_next() {
        let changes: [fn(&mut Record); 11] = [
            |r| r.entry.time.push('x'),
            |r| r.entry.model.push('x'),
            |r| r.entry.actor.push('x'),
            |r| r.entry.action.push('x'),
            |r| r.entry.reason = None,
            |r| r.entry.from.push('x'),
            |r| r.entry.to.push('x'),
            |r| r.state.push('x'),
            |r| r.entry.evidence = None,
            |r| r.entry.evidence = Some("[1]".into()),
            |r| {
                let last = r.entry.actor.pop().unwrap();
                r.entry.action.insert(0, last);
            },
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut records = chain(4);
            change(&mut records[1]);
            assert_eq!(check(&records, None), Err(Broken::Changed(2)), "{i}");
        }
        let mut records = chain(1);
        records[0].entry.reason = Some(String::new());
        assert_eq!(check(&records, None), Err(Broken::Changed(1)));
    }

    #[test]
    fn what_was_removed_reordered_or_written_anew_shows() {
        let records = chain(4);
        let mut removed = records.clone();
        removed.remove(1);
        assert_eq!(check(&removed, None), Err(Broken::Missing { expected: 2, got: 3 }));
        let mut renumbered = removed.clone();
        for (number, record) in (1..).zip(&mut renumbered) {
            record.entry.number = number;
        }
        assert_eq!(check(&renumbered, None), Err(Broken::Changed(2)));
        let mut swapped = records.clone();
        swapped.swap(1, 2);
        assert_eq!(check(&swapped, None), Err(Broken::Missing { expected: 2, got: 3 }));
        let mut moved = swapped.clone();
        (moved[1].entry.number, moved[2].entry.number) = (2, 3);
        assert_eq!(check(&moved, None), Err(Broken::Changed(2)));
        let head = &records[3].entry.hash;
        let missing = Err(Broken::NoSuchHash(head.clone()));
        assert_eq!(check(&records[..3], Some(head)), missing);
        // A chain that fits in itself, but is another.
        let mut anew = records.clone();
        let mut before = String::new();
        for record in &mut anew {
            record.entry.actor = "mallory".into();
            record.entry.hash = hash(&before, &record.entry, &record.state);
            before.clone_from(&record.entry.hash);
        }
        assert!(check(&anew, None).is_ok());
        assert_eq!(check(&anew, Some(head)), missing);
    }
}
