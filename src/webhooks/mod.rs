//! Tells others what happens: each entry of the audit log as a signed webhook.
//!
//! The log is the queue. A webhook's place in it is kept in the store, and moves on when
//! its receiver has taken an entry: each entry arrives at least once and in its order,
//! after a restart as well. Every webhook has its own task, so that one whose receiver is
//! away holds up nobody else.
//!
//! Pure: `sign`, `payload`, `patience`. Effects: `courier`, `client`.
//!
//! Invariants: nothing here is waited for by a change or a request; every wait, reply and
//! retry is bounded, and what is given up is counted and logged; neither a secret nor a
//! URL is ever logged.

mod client;
mod courier;
mod patience;
mod payload;
mod sign;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Webhook;
use crate::error::Result;
use crate::store::Store;
use crate::telemetry::Metrics;
use client::Post;
use courier::Courier;

/// How deliveries are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a receiver may take.
    pub timeout: Duration,
    /// The first pause after a failure; each further one is twice as long.
    pub pause: Duration,
    /// How old an entry may be when it fails again; then it is given up.
    pub give_up: Duration,
}

/// The running couriers.
pub struct Couriers {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Couriers {
    /// Starts a courier for each webhook on the current tokio runtime.
    ///
    /// # Errors
    /// The system's roots of trust cannot be read, and a webhook needs them.
    pub fn spawn(
        webhooks: Vec<Webhook>,
        settings: Settings,
        store: &Arc<dyn Store>,
        metrics: &Metrics,
    ) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for webhook in webhooks {
            let stats = metrics.webhook(&webhook.name);
            let post = Post::new(&webhook.url, settings.timeout)?;
            let courier = Courier::new(webhook, settings, Arc::clone(store), post, stats);
            let mut stopped = stopped.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = courier.run() => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            });
        }
        Ok(Self { tasks, stop })
    }

    /// Ends them; what is under way is sent again after the next start.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a webhook's courier had panicked");
            }
        }
    }
}
