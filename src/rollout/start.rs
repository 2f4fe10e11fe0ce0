//! Starts the controller, and ends it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::registry::Control;
use crate::rollout::controller::{Controller, Inbox, Parts};
use crate::rollout::handle::Board;
use crate::rollout::traffic::Traffic;
use crate::rollout::{Rollout, Rollouts};
use crate::store::Store;
use crate::telemetry::Metrics;

/// Wishes that may wait for the controller; more are refused.
const ASKS_MAX: usize = 64;

/// Settings of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often rollouts are looked at.
    pub tick: Duration,
    /// How often their counts are kept: so much may be lost with the process.
    pub checkpoint: Duration,
}

impl Default for Settings {
    /// A look each second, and a checkpoint every five.
    fn default() -> Self {
        Self { tick: Duration::from_secs(1), checkpoint: Duration::from_secs(5) }
    }
}

/// The running controller.
pub struct Running {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Running {
    /// Keeps what is known, and ends. To be called before the registry's end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the controller of rollouts had panicked");
        }
    }
}

/// Starts the controller on the current tokio runtime, with the rollouts that had
/// not ended ([`super::recover`]).
///
/// # Errors
/// Somebody has taken the arrivals already, or the store cannot be read.
pub async fn spawn(
    settings: Settings,
    control: Control,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    open: Vec<Rollout>,
) -> Result<(Rollouts, Running)> {
    let arrivals = control
        .arrivals()
        .ok_or_else(|| Error::internal("somebody else brings in what arrives"))?;
    let last_id = store.last_rollout().await?;
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let (stop, stopped) = watch::channel(false);
    let board = Board::default();
    let steps = Arc::new(watch::Sender::new(0));
    let traffic = Arc::new(Traffic::default());
    let controller = Controller::new(Parts {
        control: control.clone(),
        store: Arc::clone(&store),
        metrics,
        board: Arc::clone(&board),
        steps: Arc::clone(&steps),
        traffic: Arc::clone(&traffic),
        settings,
        open,
        last_id,
    });
    let inbox = Inbox { asks: asked, arrivals, stop: stopped };
    let task = tokio::spawn(controller.run(inbox));
    Ok((Rollouts { control, store, asks, board, steps, traffic }, Running { task, stop }))
}
