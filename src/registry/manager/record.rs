//! Has the store take what was done, now or as soon as it can.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorCode, Result};
use crate::registry::manager::Manager;
use crate::registry::manager::model::Owed;
use crate::store::{AuditEntry, NewEntry, Wanted};
use crate::types::ModelName;

/// How long a store that did not answer is left alone.
const SILENCE: Duration = Duration::from_secs(10);
/// How often one that failed is asked whether it is back.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Notes that may stand behind an entry that the store did not answer for.
const NOTES_MAX: usize = 20;

impl Manager {
    /// Writes an entry, after those that could not be written when they were
    /// due. What reduces risk goes on without.
    pub(super) async fn record(
        &mut self,
        name: &ModelName,
        entry: NewEntry,
        wanted: &Wanted,
        reduces_risk: bool,
    ) -> Result<()> {
        let written = match self.catch_up(name).await {
            Ok(()) => self.write(name, entry.clone(), wanted).await,
            Err(error) => Err(error),
        };
        let Err(error) = written else { return Ok(()) };
        tracing::error!(model = %name, %error, detail = error.detail(), carried_out = reduces_risk,
            action = entry.action, "a change cannot be recorded");
        self.metrics.set_store(Some(error.message().to_owned()));
        // The store may have taken it after all.
        let unknown = error.code() == ErrorCode::DeadlineExceeded;
        if let Some(model) = self.models.get_mut(name) {
            if reduces_risk {
                let entry = carried_out_now(entry);
                model.owe(Owed { entry, wanted: wanted.clone(), unknown });
            } else if unknown && let Some(before) = model.wanted.clone() {
                let entry = not_carried_out(&entry);
                model.owe(Owed { entry, wanted: before, unknown: false });
            }
            self.show(name);
        }
        if reduces_risk {
            return Ok(());
        }
        let error = Error::new(ErrorCode::Unavailable, error.message());
        Err(error.context("the change cannot be recorded, so nothing was changed"))
    }

    /// Has the store write an entry, unless it was silent a moment ago: nobody shall wait
    /// for it again and again.
    async fn write(&mut self, name: &ModelName, entry: NewEntry, wanted: &Wanted) -> Result<()> {
        if self.silent.is_some_and(|since| since.elapsed() < SILENCE) {
            let message = "the store did not answer a moment ago, and is not asked yet again";
            return Err(Error::new(ErrorCode::Unavailable, message));
        }
        match self.store.record(name, entry, wanted).await {
            Ok(AuditEntry { number, action, actor, hash, .. }) => {
                // The hash outlives the store here, as a witness of it.
                tracing::info!(model = %name, entry = number, actor, action, hash, "recorded");
                self.metrics.set_store(None);
                Ok(())
            }
            Err(error) => {
                let silent = error.code() == ErrorCode::DeadlineExceeded;
                self.silent = silent.then(Instant::now);
                Err(error)
            }
        }
    }

    /// Writes what was carried out and could not be recorded then, each entry with what
    /// was wanted from then on.
    pub(super) async fn catch_up(&mut self, name: &ModelName) -> Result<()> {
        while let Some(owed) = self.models.get(name).and_then(|model| model.owed.front().cloned()) {
            let there = owed.unknown && self.is_newest(name, &owed.entry).await?;
            let written = match there {
                true => Ok(()),
                false => self.write(name, owed.entry, &owed.wanted).await,
            };
            if let Err(error) = written {
                let owed = self.models.get_mut(name).and_then(|model| model.owed.front_mut());
                if let Some(owed) = owed {
                    owed.unknown |= error.code() == ErrorCode::DeadlineExceeded;
                }
                return Err(error);
            }
            if let Some(model) = self.models.get_mut(name) {
                model.owed.pop_front();
            }
        }
        Ok(())
    }

    /// Whether an entry that the store did not answer for is there already. Others note
    /// what changes no plan; such entries may stand behind it.
    async fn is_newest(&self, name: &ModelName, entry: &NewEntry) -> Result<bool> {
        let newest = self.store.history(Some(name), NOTES_MAX).await?;
        let newest = newest.iter().find(|entry| !(entry.from.is_empty() && entry.to.is_empty()));
        Ok(newest.is_some_and(|newest| {
            newest.action == entry.action && newest.from == entry.from && newest.to == entry.to
        }))
    }

    /// Looks now and then whether the store is back.
    pub(super) async fn probe_store(&mut self) {
        if self.metrics.store_problem().is_none() || self.probed.elapsed() < PROBE_EVERY {
            return;
        }
        self.probed = Instant::now();
        if self.store.probe().await.is_ok() {
            tracing::info!("changes can be recorded again");
            self.silent = None;
            self.metrics.set_store(None);
        }
    }
}

/// With the time at which it was done, which is not the one of its entry.
fn carried_out_now(mut entry: NewEntry) -> NewEntry {
    let when = humantime::format_rfc3339_millis(std::time::SystemTime::now());
    let note = format!("carried out at {when}, recorded later");
    entry.reason = Some(match entry.reason {
        Some(reason) => format!("{reason} ({note})"),
        None => note,
    });
    entry
}

/// What settles whether a change is in force that the store did not answer for: it is
/// written behind it, with what is wanted in truth.
fn not_carried_out(entry: &NewEntry) -> NewEntry {
    NewEntry {
        actor: "foreshadow".to_owned(),
        action: format!("not carried out: {}", entry.action),
        reason: Some("the store did not answer in time".to_owned()),
        from: entry.from.clone(),
        to: entry.from.clone(),
        rollout: None,
    }
}
