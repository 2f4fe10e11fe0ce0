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
use crate::registry::retention::Retention;
use crate::registry::watch::{Waker, Watch};
use crate::routing::Catalog;
use crate::store::{NewEntry, Store, Wanted};
use crate::telemetry::Metrics;
use crate::types::{Digest, ModelName, Readiness};

/// News that may wait for the manager; a thread with more waits itself.
const NEWS_MAX: usize = 64;
/// Versions that may wait for their rollout to begin.
const ARRIVALS_MAX: usize = 256;
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
    /// How long a former champion whose folder is gone stays loaded.
    pub retire_after: Duration,
    /// Contents of one model that are kept for a rollback when nobody needs them.
    pub keep_versions: usize,
    /// How long after they were last wanted.
    pub keep_for: Duration,
    /// Bytes of all of them.
    pub keep_bytes_max: u64,
}

impl Default for RegistrySettings {
    /// `models` and `.foreshadow` in the working directory; a look every 10 s, a
    /// settle time of 1 s, one load at a time, artifacts up to 2 GiB, ready with any
    /// model; former champions stay loaded for 10 min, 10 contents of a model and
    /// 20 GiB of all are kept for 30 days.
    fn default() -> Self {
        Self {
            models_dir: PathBuf::from("models"),
            state_dir: PathBuf::from(".foreshadow"),
            rescan: Duration::from_secs(10),
            settle: Duration::from_secs(1),
            load_threads: 1,
            artifact_bytes_max: 2 << 30,
            ready_when_all: false,
            retire_after: Duration::from_secs(600),
            keep_versions: 10,
            keep_for: Duration::from_secs(30 * 24 * 3600),
            keep_bytes_max: 20 << 30,
        }
    }
}

/// A repository and a state folder that can be used, the latter by nobody else.
pub struct Prepared {
    settings: RegistrySettings,
    models_dir: PathBuf,
    blobs: Blobs,
    stored: Vec<Digest>,
}

impl Prepared {
    /// Takes the lock of the state folder. To be done before anything in it is
    /// opened: whoever comes too late has changed nothing.
    ///
    /// # Errors
    /// The models folder is missing, or the state folder cannot be used.
    pub fn new(settings: RegistrySettings) -> Result<Self> {
        let models_dir = models_dir(&settings)?;
        let opened = Blobs::open(&settings.state_dir).and_then(|b| b.list().map(|list| (b, list)));
        let (blobs, stored) = opened.map_err(|error| {
            let folder = settings.state_dir.display();
            Error::invalid(format!("state folder {folder} cannot be used: {error}"))
        })?;
        Ok(Self { settings, models_dir, blobs, stored })
    }
}

/// A change that was made before the registry began, and that the store could not
/// take: it is in force, and recorded as soon as it can be.
#[derive(Clone, Debug, PartialEq)]
pub struct Unrecorded {
    /// Whose.
    pub model: ModelName,
    /// What is to be recorded.
    pub entry: NewEntry,
    /// What is wanted from then on.
    pub wanted: Wanted,
}

/// What is known of former times.
pub struct Past {
    /// What was acknowledged.
    pub store: Arc<dyn Store>,
    /// What is in force besides.
    pub unrecorded: Vec<Unrecorded>,
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
    /// A thread cannot be started.
    pub fn spawn(
        prepared: Prepared,
        engines: EngineSet,
        preflight: Arc<dyn Preflight>,
        past: Past,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        readiness: Readiness,
    ) -> Result<(Control, Self)> {
        let Prepared { settings, models_dir, blobs, stored } = prepared;
        let Past { store, unrecorded } = past;
        let (alive, ended) = mpsc::channel(1);
        let (news_sender, news) = mpsc::channel(NEWS_MAX);
        let (freed_sender, freed) = mpsc::channel(NEWS_MAX);
        let (snapshot_sender, snapshots) = mpsc::channel(1);
        let (arrivals, arrived) = mpsc::channel(ARRIVALS_MAX);
        let (stop, stopped) = watch::channel(false);
        let names = engines.names().collect();
        let (watch, waker) =
            Watch::new(models_dir.clone(), settings.rescan, settings.settle, names);
        let (control, board, commands) =
            Control::channel(Arc::clone(&catalog), Arc::clone(&store), arrived);
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
            arrivals,
            unrecorded,
            blobs,
            stored,
            retention: Retention {
                versions: settings.keep_versions,
                time: settings.keep_for,
                bytes: settings.keep_bytes_max,
            },
            retire_after: settings.retire_after,
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
