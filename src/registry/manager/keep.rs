//! The contents that are kept for a rollback, and for how long.
//!
//! Whatever has a role is noted in the store with its files. Those are not removed from
//! the state folder while it is noted; it is noted until its retention is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::registry::loader::Digests;
use crate::registry::manager::Manager;
use crate::registry::manager::model::Model;
use crate::registry::retention::{Content, Idle, Retention, expendable};
use crate::registry::wanted;
use crate::store::{Kept, Wanted};
use crate::types::{Digest, ModelName, VersionId};

/// How exactly is noted when a content was last wanted, in seconds: not every change
/// of a weight shall be written twice.
const NEEDED_STEP: u64 = 3600;

type Key = (ModelName, VersionId, Digest);

/// What is noted.
pub(super) struct Keeping {
    retention: Retention,
    /// `None` until the store has told it.
    rows: Option<BTreeMap<Key, (Kept, Arc<Content>)>>,
    /// What could not be written yet.
    unwritten: BTreeSet<Key>,
}

impl Keeping {
    pub(super) const fn new(retention: Retention) -> Self {
        Self { retention, rows: None, unwritten: BTreeSet::new() }
    }

    /// What a version consists of, if it is kept.
    pub(super) fn content(
        &self,
        model: &ModelName,
        version: VersionId,
        digest: Digest,
    ) -> Option<Arc<Content>> {
        let (_, content) = self.rows.as_ref()?.get(&(model.clone(), version, digest))?;
        Some(Arc::clone(content))
    }

    /// Everything that is stored for it; `None` where that is not known.
    pub(super) fn digests(&self) -> Option<impl Iterator<Item = Digest>> {
        let rows = self.rows.as_ref()?.values();
        Some(rows.flat_map(|(_, content)| content.digests.clone().each()))
    }
}

impl Manager {
    /// Has the store tell what is kept, until it has. Nothing is removed before.
    pub(super) async fn read_kept(&mut self) {
        if self.keeping.rows.is_some() {
            return;
        }
        let rows = match self.store.kept().await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(%error, detail = error.detail(), "what is kept for a rollback is \
                    not known; nothing is removed from the state folder until it is");
                return;
            }
        };
        let mut known = BTreeMap::new();
        for row in rows {
            match serde_json::from_str::<Content>(&row.content) {
                Ok(content) => {
                    let key = (row.model.clone(), row.version, row.digest);
                    known.insert(key, (row, Arc::new(content)));
                }
                Err(error) => tracing::warn!(model = %row.model, version = %row.version, %error,
                    "what is kept of a version cannot be read"),
            }
        }
        self.keeping.rows = Some(known);
    }

    /// Notes what has a role in either state: it is wanted now, or was until now.
    pub(super) async fn note_kept(&mut self, name: &ModelName, before: Option<&Wanted>) {
        let (Some(model), Some(rows)) = (self.models.get(name), &mut self.keeping.rows) else {
            return;
        };
        let now = seconds_now();
        for wanted in before.into_iter().chain(&model.wanted) {
            // A former champion is what a rollback goes to, until it is no more.
            for version in wanted::roles(wanted).chain(wanted.previous.iter().copied()) {
                let entry = model.entries.get(&version);
                let content = entry.and_then(|entry| {
                    let (digests, lineage) = (entry.digests.clone()?, entry.lineage.clone());
                    Some((Content { digests, lineage }, entry.bytes))
                });
                let pinned = wanted.pinned.get(&version).copied();
                let digest = content.as_ref().map(|(c, _)| c.digests.whole.digest()).or(pinned);
                let Some(digest) = digest else { continue };
                let key = (name.clone(), version, digest);
                if let Some((row, _)) = rows.get_mut(&key) {
                    if now.saturating_sub(row.needed) < NEEDED_STEP {
                        continue;
                    }
                    row.needed = now;
                } else if let Some((content, bytes)) = content {
                    let text = serde_json::to_string(&content).expect("its keys are strings");
                    let (model, needed) = (name.clone(), now);
                    let row = Kept { model, version, digest, content: text, bytes, needed };
                    rows.insert(key.clone(), (row, Arc::new(content)));
                } else {
                    continue;
                }
                self.keeping.unwritten.insert(key);
            }
        }
        self.write_kept().await;
    }

    async fn write_kept(&mut self) {
        let Some(rows) = &self.keeping.rows else { return };
        while let Some(key) = self.keeping.unwritten.first().cloned() {
            if let Some((row, _)) = rows.get(&key)
                && let Err(error) = self.store.keep(row).await
            {
                tracing::error!(model = %row.model, version = %row.version, %error,
                    "cannot be noted as kept for a rollback after a restart; tried again");
                return;
            }
            self.keeping.unwritten.remove(&key);
        }
    }

    /// What is wanted of models whose folders are not there: an empty mount is no reason
    /// to forget a champion, however long it was that. `None` where nobody knows.
    async fn wanted_elsewhere(&self) -> BTreeMap<ModelName, Option<Wanted>> {
        let rows = self.keeping.rows.iter().flat_map(BTreeMap::keys);
        let names: BTreeSet<_> = rows.map(|(name, ..)| name.clone()).collect();
        let mut elsewhere = BTreeMap::new();
        for name in names.into_iter().filter(|name| !self.models.contains_key(name)) {
            match self.store.wanted(&name).await {
                Ok(Some(wanted)) => drop(elsewhere.insert(name, Some(wanted))),
                Ok(None) => {}
                Err(_) => drop(elsewhere.insert(name, None)),
            }
        }
        elsewhere
    }

    /// Forgets what is kept no more; its files go with the next sweep.
    pub(super) async fn prune(&mut self) {
        self.read_kept().await;
        self.write_kept().await;
        let elsewhere = self.wanted_elsewhere().await;
        let Some(rows) = &mut self.keeping.rows else { return };
        let is_needed = |key: &Key| match elsewhere.get(&key.0) {
            Some(wanted) => wanted.is_none(),
            None => is_needed(&self.models, key),
        };
        let now = seconds_now();
        let pinned = |key: &Key| {
            let wanted = elsewhere.get(&key.0).and_then(Option::as_ref);
            wanted.is_some_and(|wanted| wanted.pinned.get(&key.1) == Some(&key.2))
        };
        let idle = rows.iter().filter(|(key, _)| !is_needed(key));
        let idle = idle.map(|(key, (row, _))| Idle {
            key: key.clone(),
            model: row.model.clone(),
            bytes: row.bytes,
            needed: if pinned(key) { now } else { row.needed },
        });
        for key in expendable(idle.collect(), self.keeping.retention, now) {
            let Some((row, content)) = rows.get(&key) else { continue };
            if let Err(error) = self.store.discard(row).await {
                tracing::warn!(model = %row.model, version = %row.version, %error,
                    "what is kept no more cannot be forgotten; tried again");
                return;
            }
            tracing::info!(model = %row.model, version = %row.version, digest = %row.digest,
                "kept for a rollback no more");
            self.garbage.extend(content.digests.clone().each());
            self.keeping.unwritten.remove(&key);
            rows.remove(&key);
        }
    }
}

/// Whether a version with this content is there, is wanted, or is what a rollback
/// would go back to.
fn is_needed(models: &BTreeMap<ModelName, Model>, (name, version, digest): &Key) -> bool {
    let Some(model) = models.get(name) else { return false };
    let is_it = |digests: &Digests| digests.whole.digest() == *digest;
    let there = model.entries.get(version).and_then(|entry| entry.digests.as_ref());
    let pinned = model.wanted.as_ref().and_then(|wanted| wanted.pinned.get(version));
    there.is_some_and(is_it) || pinned == Some(digest)
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
