//! Starts the registry's threads and its manager, and ends them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::engine::EngineSet;
use crate::error::{Error, Result};
use crate::registry::Control;
use crate::registry::blobs::Blobs;
use crate::registry::loader::{Loader, Tools};
use crate::registry::manager::{Inbox, Manager, Parts};
use crate::registry::preflight::Preflight;
use crate::registry::reaper::Reaper;
use crate::registry::watch::{Waker, Watch};
use crate::routing::Catalog;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::types::Readiness;

/// News that may wait for the manager; a thread with more waits itself.
const NEWS_MAX: usize = 64;
/// How long a stop waits for threads: a load cannot be interrupted, and ends
/// with the process.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Settings of a [`Registry`].
#[derive(Clone, Debug, PartialEq)]
pub struct RegistrySettings {
    /// The repository: one folder per model. Must exist.
    pub models_dir: PathBuf,
    /// Where pinned artifacts are kept; created if needed.
    pub state_dir: PathBuf,
    /// How often the repository is looked at without a notice.
    pub rescan: Duration,
    /// How long a version's files, or a changed `model.toml`, must be unchanged
    /// before they are taken.
    pub settle: Duration,
    /// Versions that are tried and loaded at once.
    pub load_threads: usize,
    /// The largest artifact, in bytes.
    pub artifact_bytes_max: u64,
    /// Whether all models must serve before it is ready, not only one.
    pub ready_when_all: bool,
}

impl Default for RegistrySettings {
    /// `models` and `.foreshadow` in the working directory; a look every 10 s, a
    /// settle time of 1 s, one load at a time, artifacts up to 2 GiB, ready with any
    /// model.
    fn default() -> Self {
        Self {
            models_dir: PathBuf::from("models"),
            state_dir: PathBuf::from(".foreshadow"),
            rescan: Duration::from_secs(10),
            settle: Duration::from_secs(1),
            load_threads: 1,
            artifact_bytes_max: 2 << 30,
            ready_when_all: false,
        }
    }
}

/// The running registry.
pub struct Registry {
    manager: JoinHandle<()>,
    stop: watch::Sender<bool>,
    preflight: Arc<dyn Preflight>,
    waker: Waker,
    ended: mpsc::Receiver<()>,
}

impl Registry {
    /// Starts the threads and, on the current tokio runtime, the manager.
    /// Returns at once: versions become ready later, which [`Control::changed`]
    /// and `readiness` tell.
    ///
    /// # Errors
    /// The models folder is missing, the state folder cannot be used, or a
    /// thread cannot be started.
    pub fn spawn(
        settings: RegistrySettings,
        engines: EngineSet,
        preflight: Arc<dyn Preflight>,
        store: Arc<dyn Store>,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        readiness: Readiness,
    ) -> Result<(Control, Self)> {
        let models_dir = models_dir(&settings)?;
        let opened = Blobs::open(&settings.state_dir).and_then(|b| b.list().map(|list| (b, list)));
        let (blobs, stored) = opened.map_err(|error| {
            let folder = settings.state_dir.display();
            Error::invalid(format!("state folder {folder} cannot be used: {error}"))
        })?;
        let (alive, ended) = mpsc::channel(1);
        let (news_sender, news) = mpsc::channel(NEWS_MAX);
        let (freed_sender, freed) = mpsc::channel(NEWS_MAX);
        let (snapshot_sender, snapshots) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let names = engines.names().collect();
        let (watch, waker) =
            Watch::new(models_dir.clone(), settings.rescan, settings.settle, names);
        let (control, board, commands) = Control::channel(Arc::clone(&catalog), Arc::clone(&store));
        let control = control.with_waker(waker.clone());

        let artifact_bytes_max = settings.artifact_bytes_max;
        let tools = Tools {
            blobs: blobs.clone(),
            engines,
            preflight: Arc::clone(&preflight),
            artifact_bytes_max,
        };
        let loader = Loader::spawn(settings.load_threads, tools, &news_sender, &alive);
        let loader = loader.map_err(|error| no_thread(&error))?;
        let reaper = Reaper::spawn(freed_sender, alive.clone()).map_err(|e| no_thread(&e))?;
        let watch_waker = waker.clone();
        std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || {
                watch.run(&watch_waker, &snapshot_sender);
                drop(alive);
            })
            .map_err(|error| no_thread(&error))?;

        let (steps, looked) = (control.steps(), control.looked());
        let manager = Manager::new(Parts {
            models_dir,
            board,
            steps,
            looked,
            store,
            catalog,
            metrics,
            readiness,
            ready_when_all: settings.ready_when_all,
            loader,
            reaper,
            blobs,
            stored,
        });
        let inbox = Inbox { commands, snapshots, news, freed, stop: stopped };
        let manager = tokio::spawn(manager.run(inbox));
        Ok((control, Self { manager, stop, preflight, waker, ended }))
    }

    /// Ends the manager, the threads and the child processes. What serves is
    /// not touched; operators' changes are refused from now on.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.preflight.stop();
        if let Err(error) = (&mut self.manager).await {
            tracing::error!(%error, "the registry's manager had panicked");
        }
        // The manager held the receivers: the threads find nobody to talk to.
        self.waker.wake();
        if tokio::time::timeout(STOP_MAX, self.ended.recv()).await.is_err() {
            tracing::warn!("a load is still running; it ends with the process");
        }
    }
}

/// The models folder, absolute. Links stay links: a tool that deploys by
/// turning one to another folder is followed.
fn models_dir(settings: &RegistrySettings) -> Result<PathBuf> {
    let folder = settings.models_dir.display();
    let wrong = |why: String| {
        let expected = "expected a folder with one folder per model";
        Error::invalid(format!("models folder {folder}: {why}; {expected}"))
    };
    let metadata = settings.models_dir.metadata().map_err(|error| wrong(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(wrong("it is no folder".to_owned()));
    }
    std::path::absolute(&settings.models_dir).map_err(|error| wrong(error.to_string()))
}

fn no_thread(error: &std::io::Error) -> Error {
    Error::internal("a thread of the registry could not be started").with_detail(error)
}
