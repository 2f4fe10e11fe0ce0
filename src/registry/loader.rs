//! Brings versions from their folders into memory, on control's own threads.
//!
//! Pin, try in a child, load, warm up. The last two cannot be killed, which is
//! why the child goes first. Bounded: a job waits only when the manager hands
//! out more than there are threads, which it does not.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::engine::{EngineSet, declare};
use crate::registry::Lineage;
use crate::registry::artifact::{self, Whole};
use crate::registry::blobs::{Blobs, PinError, Pinned, digest, read_text};
use crate::registry::gate;
use crate::registry::preflight::{Candidate, Preflight, Report};
use crate::registry::profile;
use crate::registry::retention::Content;
use crate::registry::scan::{ARTIFACT, Files, GOLDEN_FILE, Stamp, VERSION_FILE, apart};
use crate::registry::settings::{Gate, TOML_BYTES_MAX, located};
use crate::registry::settle::Place;
use crate::serving::LoadedVersion;
use crate::telemetry::GivenProfile;
use crate::types::thread::{Class, LeastShare, Pulse, STACK_BYTES, enter};
use crate::types::{Declared, Digest, Profile};

/// The largest `golden.json`, in bytes.
const GOLDEN_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The digests that a version is pinned to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Digests {
    pub(super) whole: Whole,
    pub(super) golden: Option<Digest>,
}

impl Digests {
    /// Everything that is stored for it.
    pub(super) fn each(self) -> impl Iterator<Item = Digest> {
        let version = self.whole.digest();
        let files = self.whole.files.into_values();
        [version, self.whole.artifact].into_iter().chain(files).chain(self.golden)
    }
}

/// One thing to do for one version.
pub(super) struct Job {
    pub(super) place: Place,
    /// Which life of this place it belongs to: outcomes of a former one are
    /// dropped.
    pub(super) ticket: u64,
    pub(super) folder: PathBuf,
    /// The artifact's path in the folder.
    pub(super) artifact: String,
    pub(super) task: Task,
}

/// How a version is to be loaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Intake {
    /// With this engine.
    pub(super) engine: String,
    /// As its owner declares it.
    pub(super) declared: Option<Arc<Declared>>,
}

/// What to do.
pub(super) enum Task {
    /// Load it so; what is measured will be judged so. Not from its folder, but what
    /// is kept, where that is given; and nothing but `expected`, where somebody gave it
    /// its role as that.
    Load { intake: Intake, gate: Gate, kept: Option<Arc<Content>>, expected: Option<Digest> },
    /// Its files were touched: are they still these?
    Verify(Digests),
}

/// News of a job.
pub(super) struct News {
    pub(super) place: Place,
    pub(super) ticket: u64,
    pub(super) step: Step,
}

/// How far a job is.
pub(super) enum Step {
    /// Its bytes are pinned, and how many they are; the child tries them now.
    Pinned(Box<Content>, u64),
    /// The child has ended; what it found out.
    Tried(Arc<Report>),
    /// The child was content; it is loaded now.
    Loading,
    /// It runs zeros now.
    WarmingUp(&'static str),
    /// The end: what came of it.
    Done(Outcome),
}

/// What came of a job.
pub(super) enum Outcome {
    /// It may serve.
    Ready(Arc<LoadedVersion>),
    /// It may not; why.
    Failed(String),
    /// There is no room for it; why. It is worth another try later.
    NoRoom(String),
    /// Its folder holds another content than the expected one.
    Other(Box<Digests>),
    /// Its folder is not whole after all; what is missing.
    NotYet(String),
    /// Whether its files have another content than the one that is pinned; and its
    /// profile, which is no part of that.
    Verified { changed: bool, profile: GivenProfile },
}

/// What the loading threads need.
pub(super) struct Tools {
    pub(super) blobs: Blobs,
    pub(super) engines: EngineSet,
    pub(super) preflight: Arc<dyn Preflight>,
    pub(super) artifact_bytes_max: u64,
}

/// Hands jobs to the threads; dropping it ends them after their present job.
pub(super) struct Loader {
    jobs: SyncSender<Job>,
    threads: usize,
}

impl Loader {
    /// Starts the threads. `alive` is dropped by each when it ends.
    pub(super) fn spawn(
        threads: usize,
        tools: Tools,
        news: &mpsc::Sender<News>,
        alive: &mpsc::Sender<()>,
    ) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let (jobs, receiver) = sync_channel(threads);
        let (receiver, tools) = (Arc::new(Mutex::new(receiver)), Arc::new(tools));
        for i in 0..threads {
            let (receiver, tools) = (Arc::clone(&receiver), Arc::clone(&tools));
            let (news, alive) = (news.clone(), alive.clone());
            let thread = thread::Builder::new().name(format!("loader-{i}"));
            thread.stack_size(STACK_BYTES).spawn(move || {
                enter(Class::Background);
                let pulse = Pulse::new(LeastShare::Tenth);
                while let Some(job) = next(&receiver) {
                    if tools.handle(job, &news, &pulse).is_err() {
                        break;
                    }
                }
                drop(alive);
            })?;
        }
        Ok(Self { jobs, threads })
    }

    /// Jobs that may run at once.
    pub(super) const fn threads(&self) -> usize {
        self.threads
    }

    /// Hands a job out; `false` if all threads are busy.
    pub(super) fn submit(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}

fn next(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// The manager is gone.
struct Gone;

impl Tools {
    fn handle(&self, job: Job, news: &mpsc::Sender<News>, pulse: &Pulse) -> Result<(), Gone> {
        let (place, ticket) = (job.place.clone(), job.ticket);
        let tell = |step| {
            let news_item = News { place: place.clone(), ticket, step };
            news.blocking_send(news_item).map_err(|_| Gone)
        };
        let work = || match &job.task {
            Task::Load { intake, gate, kept, expected } => {
                let taken = pulse.during(|| match kept {
                    Some(kept) => self.again(&job, intake, kept),
                    None => self.pin(&job, intake),
                });
                match other(&taken, *expected) {
                    Some(digests) => Ok(Outcome::Other(Box::new(digests))),
                    None => self.load(&job, taken, intake, *gate, pulse, &tell),
                }
            }
            Task::Verify(digests) => Ok(pulse.during(|| self.verify(&job, digests))),
        };
        // What `work` touched is dropped with the panic.
        let outcome = catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| Ok(Outcome::Failed("the loader panicked on it".to_owned())))?;
        tell(Step::Done(outcome))
    }

    fn load(
        &self,
        job: &Job,
        taken: Result<(Candidate, Whole, Lineage), PinError>,
        intake: &Intake,
        gate: Gate,
        pulse: &Pulse,
        tell: &impl Fn(Step) -> Result<(), Gone>,
    ) -> Result<Outcome, Gone> {
        let (candidate, whole, lineage) = match taken {
            Ok(pinned) => pinned,
            Err(PinError::Moving(why)) => return Ok(Outcome::NotYet(why)),
            Err(PinError::Refused(why)) => return Ok(Outcome::Failed(why)),
            Err(PinError::NoRoom(why)) => return Ok(Outcome::NoRoom(why)),
        };
        let golden = candidate.golden.as_ref().map(|(_, digest)| *digest);
        let content = Content { digests: Digests { whole, golden }, lineage };
        let bytes = self.blobs.bytes(content.digests.clone().each());
        tell(Step::Pinned(Box::new(content), bytes))?;
        // Without the pulse: this thread only waits.
        let report = match self.preflight.try_candidate(&candidate) {
            Ok(report) => Arc::new(report),
            Err(failure) => {
                tell(Step::Tried(Arc::new(*failure.report)))?;
                return Ok(Outcome::Failed(format!("preflight: {}", failure.reason)));
            }
        };
        tracing::info!(
            model = %candidate.model, version = %candidate.version,
            signature = %report.signature.words, cost_seconds = report.row_seconds(),
            rows_independent = report.rows_independent(), "preflight passed"
        );
        if gate::cost(gate, report.row_seconds()).is_err() {
            // In a calmer moment it may be quick enough.
            self.preflight.forget(&candidate);
        }
        tell(Step::Tried(Arc::clone(&report)))?;
        tell(Step::Loading)?;
        let engine = match self.engines.require(&candidate.engine) {
            Ok(engine) => engine,
            Err(error) => return Ok(Outcome::Failed(error.to_string())),
        };
        let declared = intake.declared.as_deref();
        let load = || engine.load(&candidate.artifact).and_then(|graph| declare(graph, declared));
        let graph = match pulse.during(load) {
            Ok(graph) => graph,
            Err(error) => return Ok(Outcome::Failed(error.to_string())),
        };
        let (model, id) = (candidate.model, candidate.version);
        let version = LoadedVersion::new(model, id, candidate.digest, engine.name(), graph)
            .with_rows_independent(report.rows_independent());
        version.watch().give(profile::read(&job.folder, version.model(), version.digest()));
        tell(Step::WarmingUp(engine.name()))?;
        let samples = declared.map(|declared| &declared.warm_up[..]).unwrap_or_default();
        let warm_up = || version.warm_up().and_then(|_| version.warm_up_with(samples));
        Ok(match pulse.during(warm_up) {
            Ok(()) => Outcome::Ready(Arc::new(version)),
            Err(error) => Outcome::Failed(format!("warm-up: {error}")),
        })
    }

    /// Takes the folder's bytes, and checks them against what it says itself.
    pub(super) fn pin(
        &self,
        job: &Job,
        intake: &Intake,
    ) -> Result<(Candidate, Whole, Lineage), PinError> {
        let text = read_text(&job.folder.join(VERSION_FILE), TOML_BYTES_MAX)?.unwrap_or_default();
        let lineage = Lineage::parse(&text).map_err(PinError::Refused)?;
        let engine = lineage.engine.as_deref().unwrap_or(&intake.engine);
        self.engines
            .require(engine)
            .map_err(|error| PinError::Refused(format!("{VERSION_FILE}: {}", error.message())))?;
        let copies = artifact::copy(&self.blobs, &job.artifact(), self.artifact_bytes_max)?;
        let whole = copies.digests();
        if let Some(why) = lineage.mismatch(&whole).map_err(PinError::Refused)? {
            return Err(PinError::Moving(format!("waits: {why}")));
        }
        let golden = job.folder.join(GOLDEN_FILE);
        let golden =
            golden.exists().then(|| self.blobs.copy(&golden, GOLDEN_BYTES_MAX)).transpose()?;
        // Only what is whole goes into the store: nobody would remove the rest.
        let artifact = copies.keep(&self.blobs)?;
        let golden = golden.map(|golden| self.blobs.keep(golden)).transpose()?;
        let candidate = Candidate {
            model: job.place.0.clone(),
            version: job.place.1,
            artifact,
            digest: whole.digest(),
            golden: golden.map(|Pinned { digest, path }| (path, digest)),
            engine: engine.to_owned(),
            declared: intake.declared.as_ref().map(|declared| declared.without_classes()),
        };
        Ok((candidate, whole, lineage))
    }

    /// Takes what is kept, as [`Self::pin`] takes a folder.
    fn again(
        &self,
        job: &Job,
        intake: &Intake,
        kept: &Content,
    ) -> Result<(Candidate, Whole, Lineage), PinError> {
        let Content { digests: Digests { whole, golden }, lineage } = kept.clone();
        let engine = lineage.engine.as_deref().unwrap_or(&intake.engine).to_owned();
        let golden = golden
            .map(|digest| Ok((self.blobs.check(digest, GOLDEN_BYTES_MAX)?, digest)))
            .transpose()?;
        let candidate = Candidate {
            model: job.place.0.clone(),
            version: job.place.1,
            artifact: artifact::again(&self.blobs, &whole, self.artifact_bytes_max)?,
            digest: whole.digest(),
            golden,
            engine,
            declared: intake.declared.as_ref().map(|declared| declared.without_classes()),
        };
        Ok((candidate, whole, lineage))
    }

    fn verify(&self, job: &Job, pinned: &Digests) -> Outcome {
        let files = pinned.whole.files.keys();
        let whole = artifact::digests(&job.artifact(), files, self.artifact_bytes_max);
        let golden = job.folder.join(GOLDEN_FILE);
        let golden = golden.exists().then(|| digest(&golden, GOLDEN_BYTES_MAX)).transpose();
        match (whole, golden) {
            (Err(PinError::Moving(why)), _) | (_, Err(PinError::Moving(why))) => {
                Outcome::NotYet(why)
            }
            (Ok(whole), Ok(golden)) => {
                let changed = Digests { whole, golden } != *pinned;
                let (model, version) = (&job.place.0, pinned.whole.digest());
                Outcome::Verified { changed, profile: profile::read(&job.folder, model, version) }
            }
            // Nothing is stored here.
            (Err(PinError::Refused(_) | PinError::NoRoom(_)), _)
            | (_, Err(PinError::Refused(_) | PinError::NoRoom(_))) => {
                Outcome::Verified { changed: true, profile: None }
            }
        }
    }
}

/// What was taken, if it is not what was expected.
fn other(
    taken: &Result<(Candidate, Whole, Lineage), PinError>,
    expected: Option<Digest>,
) -> Option<Digests> {
    let ((candidate, whole, _), expected) = (taken.as_ref().ok()?, expected?);
    let golden = candidate.golden.as_ref().map(|(_, digest)| *digest);
    (whole.digest() != expected).then(|| Digests { whole: whole.clone(), golden })
}

impl Lineage {
    /// Parses the text of a `version.toml`; the error says where and what.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| located(VERSION_FILE, text, &error))
    }

    /// What of the files does not have the digest that is stated for it, if
    /// any; the error is a statement that makes no sense.
    pub(super) fn mismatch(&self, whole: &Whole) -> Result<Option<String>, String> {
        let stated = self.artifact_digest.iter().map(|digest| (ARTIFACT, digest));
        let stated = stated.chain(self.file_digests.iter().map(|(file, d)| (&**file, d)));
        for (file, text) in stated {
            let found =
                if file == ARTIFACT { Some(&whole.artifact) } else { whole.files.get(file) };
            let found = found.ok_or_else(|| {
                format!("{VERSION_FILE}: file_digests names {file:?}, which {ARTIFACT} does not")
            })?;
            let stated = text.parse::<Digest>().map_err(|error| {
                let key = if file == ARTIFACT { "artifact_digest" } else { "file_digests" };
                format!("{VERSION_FILE}: {key}: {error}")
            })?;
            if stated != *found {
                return Ok(Some(format!(
                    "{file} has the digest {found}, and {VERSION_FILE} states {stated}"
                )));
            }
        }
        Ok(None)
    }
}

impl Job {
    fn artifact(&self) -> PathBuf {
        self.folder.join(&self.artifact)
    }
}

/// The files of a version that its content consists of: a new lineage is no
/// new content, and what belongs to nothing is none. Its profile is looked at with it.
pub(super) fn content(files: &Files, digests: Option<&Digests>) -> BTreeMap<String, Stamp> {
    let (beside, _) = apart(&files.artifact);
    let external = |name: &str| {
        let location = name.strip_prefix(beside);
        location.is_some_and(|l| digests.is_some_and(|d| d.whole.files.contains_key(l)))
    };
    let is_content = |name: &str| {
        name == files.artifact || name == GOLDEN_FILE || name == Profile::FILE || external(name)
    };
    let files = files.stamps.iter().filter(|(name, _)| is_content(name));
    files.map(|(name, stamp)| (name.clone(), *stamp)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    use super::*;
    use crate::registry::preflight::{BatchCost, Failure};
    use crate::registry::testing::FakeEngine;
    use crate::types::{ModelName, VersionId};

    /// Measures 250 µs, and counts what it is to forget.
    #[derive(Default)]
    struct Forgetting(AtomicUsize);

    impl Preflight for Forgetting {
        fn try_candidate(&self, _: &Candidate) -> Result<Report, Failure> {
            let cost = BatchCost { rows: 1, seconds: 250e-6, ..BatchCost::default() };
            Ok(Report { costs: vec![cost], ..Report::default() })
        }

        fn forget(&self, _: &Candidate) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_report_that_says_too_slow_is_not_kept() {
        for (cost_max, forgotten) in [(None, 0), (Some(300), 0), (Some(200), 1)] {
            let root = tempfile::tempdir().unwrap();
            std::fs::write(root.path().join(ARTIFACT), "a").unwrap();
            let preflight = Arc::new(Forgetting::default());
            let tools = Tools {
                blobs: Blobs::open(&root.path().join("state")).unwrap(),
                engines: EngineSet::default().with(Arc::new(FakeEngine)),
                preflight: Arc::<Forgetting>::clone(&preflight),
                artifact_bytes_max: 1000,
            };
            let cost_max = cost_max.map(Duration::from_micros);
            let gate = Gate { cost_max, ..Gate::default() };
            let place = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
            let intake = Intake { engine: "tract".into(), ..Intake::default() };
            let (folder, artifact) = (root.path().to_owned(), ARTIFACT.to_owned());
            let task = Task::Load { intake, gate, kept: None, expected: None };
            let job = Job { place, ticket: 0, folder, artifact, task };
            let (news, _received) = mpsc::channel(16);
            assert!(tools.handle(job, &news, &Pulse::new(LeastShare::Tenth)).is_ok());
            assert_eq!(preflight.0.load(SeqCst), forgotten, "{cost_max:?}");
        }
    }
}
