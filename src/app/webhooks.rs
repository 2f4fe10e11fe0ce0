//! Who is told what happens.

use std::sync::Arc;

use crate::config::{Config, read_webhooks};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::webhooks::{Couriers, Settings};

/// Starts what the file of webhooks says, on the current tokio runtime.
///
/// # Errors
/// The file has changed for the worse since the settings were checked, or TLS cannot be
/// set up.
pub(super) fn spawn(
    config: &Config,
    store: &Arc<dyn Store>,
    metrics: &Metrics,
) -> Result<Couriers> {
    let crate::config::Webhooks { timeout, pause, give_up, .. } = config.webhooks;
    let webhooks = config.webhooks.file.as_deref().map(read_webhooks).transpose();
    let webhooks = webhooks.map_err(Error::invalid)?.unwrap_or_default();
    Couriers::spawn(webhooks, Settings { timeout, pause, give_up }, store, metrics)
}
