//! Brings the entries of the log to one webhook.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;

use super::client::{Post, Refused};
use super::{Settings, patience, payload, sign};
use crate::config::Webhook;
use crate::error::Result;
use crate::store::{AuditEntry, Store};
use crate::telemetry::WebhookStats;

/// Entries that are read at once.
const BATCH: usize = 64;
/// How often the log is looked at although nothing was recorded here: another process
/// may have, as `foreshadow token --state` does.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The pause before a store that failed is asked again.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// One webhook's.
pub(super) struct Courier {
    webhook: Webhook,
    settings: Settings,
    store: Arc<dyn Store>,
    recorded: watch::Receiver<u64>,
    post: Post,
    stats: WebhookStats,
}

impl Courier {
    pub(super) fn new(
        webhook: Webhook,
        settings: Settings,
        store: Arc<dyn Store>,
        post: Post,
        stats: WebhookStats,
    ) -> Self {
        let recorded = store.recorded();
        Self { webhook, settings, store, recorded, post, stats }
    }

    /// Never ends by itself.
    pub(super) async fn run(mut self) {
        let mut told = None;
        loop {
            match self.round(told).await {
                Ok(now) => told = Some(now),
                Err(error) => {
                    tracing::warn!(webhook = self.webhook.name, %error,
                        "entries cannot be read or noted as delivered; tried again");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        }
    }

    /// Brings what there is after `told`, or waits until there is something; up to
    /// where it came.
    async fn round(&mut self, told: Option<u64>) -> Result<u64> {
        let told = match told {
            Some(told) => told,
            None => self.begin().await?,
        };
        let entries = self.store.after(told, BATCH).await?;
        let Some(last) = entries.last().map(|entry| entry.number) else {
            // Too late, or without anybody who records: both are reasons to look again.
            let _ = tokio::time::timeout(LOOK_EVERY, self.changed()).await;
            return Ok(told);
        };
        let mut noted = told;
        for entry in entries.iter().filter(|entry| self.is_wanted(entry)) {
            self.deliver(entry).await;
            // At worst it is sent again.
            self.note(entry.number).await;
            noted = entry.number;
        }
        if noted != last {
            self.note(last).await;
        }
        Ok(last)
    }

    /// Waits until something is recorded here.
    async fn changed(&mut self) {
        if self.recorded.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Where it stands. A webhook that is new is told what happens from now on.
    async fn begin(&self) -> Result<u64> {
        if let Some(told) = self.store.told(&self.webhook.name).await? {
            return Ok(told);
        }
        let newest = self.store.history(None, 1).await?;
        let newest = newest.first().map_or(0, |entry| entry.number);
        self.store.tell(&self.webhook.name, newest).await?;
        Ok(newest)
    }

    async fn note(&self, number: u64) {
        if let Err(error) = self.store.tell(&self.webhook.name, number).await {
            tracing::warn!(webhook = self.webhook.name, %error,
                "what was delivered cannot be noted: it is sent again after a restart");
        }
    }

    fn is_wanted(&self, entry: &AuditEntry) -> bool {
        let models = self.webhook.models.as_ref();
        models.is_none_or(|models| models.iter().any(|model| model.as_str() == entry.model))
    }

    /// Sends an entry until it is taken, or given up.
    async fn deliver(&self, entry: &AuditEntry) {
        let (webhook, number) = (&self.webhook.name, entry.number);
        let (mut failures, first) = (0_u32, Instant::now());
        loop {
            let Err(Refused { why, after, lasting }) = self.send(entry).await else {
                self.stats.delivered();
                return;
            };
            self.stats.failed();
            failures = failures.saturating_add(1);
            // What waited while nobody could send it has had no chance yet.
            let age = age(entry).min(first.elapsed());
            let pause = match patience::is_final(failures, lasting) {
                true => None,
                false => patience::pause(self.settings, failures, age, after),
            };
            let Some(pause) = pause else {
                self.stats.given_up();
                tracing::error!(
                    webhook,
                    entry = number,
                    failures,
                    why,
                    hash = entry.hash,
                    "a webhook was not delivered, and is given up"
                );
                return;
            };
            // 1, 2, 4, …: a receiver that is away for long fills no log.
            if failures.is_power_of_two() {
                tracing::warn!(webhook, entry = number, failures, why, again_in = ?pause,
                    "a webhook was not delivered");
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn send(&self, entry: &AuditEntry) -> std::result::Result<(), Refused> {
        let (id, body) = (payload::id(entry), payload::body(entry, self.webhook.form));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let key = self.webhook.secret.as_deref();
        let signature = key.map(|key| sign::signature(key, &id, now, body.as_bytes()));
        let headers = [
            ("webhook-id", id),
            ("webhook-timestamp", now.to_string()),
            ("webhook-signature", signature.unwrap_or_default()),
        ];
        self.post.send(headers, body).await
    }
}

/// How long ago it was recorded; for a time that cannot be read or lies ahead, nothing.
fn age(entry: &AuditEntry) -> Duration {
    let then = humantime::parse_rfc3339(&entry.time).ok();
    then.and_then(|then| SystemTime::now().duration_since(then).ok()).unwrap_or_default()
}
