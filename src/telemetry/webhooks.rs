//! What became of webhooks.

use prometheus::{IntCounter, IntCounterVec};

use crate::telemetry::Metrics;
use crate::telemetry::metrics::Declare;

/// All of them.
pub(super) struct Webhooks {
    sent: IntCounterVec,
}

/// The counts of one webhook.
#[derive(Clone)]
pub struct WebhookStats {
    delivered: IntCounter,
    failed: IntCounter,
    given_up: IntCounter,
}

impl Webhooks {
    pub(super) fn declare(d: &Declare<'_>) -> Self {
        let help = "Messages to webhooks: delivered, failed (and tried again), given_up.";
        let labels = &["webhook", "outcome"];
        Self { sent: d.counters("foreshadow_webhook_messages_total", help, labels) }
    }
}

impl Metrics {
    /// The counts of a webhook, shown from now on.
    #[must_use]
    pub fn webhook(&self, name: &str) -> WebhookStats {
        let of = |outcome| self.webhooks.sent.with_label_values(&[name, outcome]);
        WebhookStats { delivered: of("delivered"), failed: of("failed"), given_up: of("given_up") }
    }
}

impl WebhookStats {
    /// A message was taken.
    pub fn delivered(&self) {
        self.delivered.inc();
    }

    /// One was not, and may be tried again.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// One never will be.
    pub fn given_up(&self) {
        self.given_up.inc();
    }
}
