//! Looks at the models folder whenever it changes, and every now and then.
//!
//! The kernel's notices can fail (none on network file systems, watches run
//! out, queues overflow), so they only say *when* to look; what is there is
//! always read anew. Runs on a thread of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::registry::folder::{Folder, Said};
use crate::registry::scan::{self, Files, Found, FoundModel, ModelFileSeen, Stamp};
use crate::registry::settings::ModelFile;
use crate::registry::settle::{Place, Settle, Wholeness};
use crate::types::ModelName;

/// Changes come in bursts: a look waits until none came for this long …
const QUIET: Duration = Duration::from_millis(20);
/// … but not longer than this.
const QUIET_MAX: Duration = Duration::from_millis(200);
/// A file that changes is looked at again after this long at the earliest.
const SETTLE_MIN: Duration = Duration::from_millis(1);
/// Renames that are remembered between two looks; those beyond settle.
const RENAMED_MAX: usize = 4096;

/// One look at the repository.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Snapshot {
    pub(super) models: BTreeMap<ModelName, ModelSnapshot>,
    /// How many looks had been asked for when it began.
    pub(super) asked: u64,
}

/// One model, as the repository has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelSnapshot {
    /// `model.toml` and `config.pbtxt`, or what is wrong with them.
    pub(super) file: Result<Arc<ModelFile>, String>,
    pub(super) versions: BTreeMap<crate::types::VersionId, VersionSnapshot>,
    pub(super) problems: Vec<String>,
    /// Something could not be read: what is missing may still be there.
    pub(super) partial: bool,
}

/// One version, as the repository has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VersionSnapshot {
    pub(super) files: Files,
    pub(super) wholeness: Wholeness,
}

/// Wakes the watching thread.
#[derive(Clone)]
pub(super) struct Waker {
    wake: SyncSender<()>,
    asked: Arc<AtomicU64>,
}

impl Waker {
    pub(super) fn wake(&self) {
        // Full means that it is awake already.
        let _ = self.wake.try_send(());
    }

    /// Asks for a look; the number that its snapshot, or a later one, reaches.
    pub(super) fn ask(&self) -> u64 {
        let number = self.asked.fetch_add(1, SeqCst) + 1;
        self.wake();
        number
    }
}

/// What a model's settings come from; `None` where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
struct Stamps {
    toml: Option<Stamp>,
    triton: Option<Stamp>,
    /// The label files that the `config.pbtxt` names.
    labels: BTreeMap<String, Option<Stamp>>,
}

impl Stamps {
    /// Those of the files as they were found; the error is that one cannot be
    /// read.
    fn of(found: &FoundModel, labels: &[String]) -> Result<Self, String> {
        let stamp = |seen: &ModelFileSeen| match seen {
            ModelFileSeen::Present(stamp) => Ok(Some(*stamp)),
            ModelFileSeen::Absent => Ok(None),
            ModelFileSeen::Unreadable(why) => Err(why.clone()),
        };
        let labels = labels.iter().map(|name| (name.clone(), found.beside.get(name).copied()));
        Ok(Self {
            toml: stamp(&found.model_file)?,
            triton: stamp(&found.triton_file)?,
            labels: labels.collect(),
        })
    }
}

/// A model's settings, as they were last taken.
struct KnownFile {
    stamps: Stamps,
    said: Said,
    /// Other files that we saw since, and since when.
    next: Option<(Stamps, Instant)>,
}

/// What the watching thread needs.
pub(super) struct Watch {
    models_dir: PathBuf,
    rescan: Duration,
    engines: Vec<&'static str>,
    settle: Settle,
    settle_time: Duration,
    files: HashMap<ModelName, KnownFile>,
    /// What the artifacts are called, by the last good settings.
    artifacts: HashMap<ModelName, String>,
    renamed: Arc<Mutex<HashSet<PathBuf>>>,
    wakes: Receiver<()>,
    asked: Arc<AtomicU64>,
    last: Option<Snapshot>,
    /// Folders that cannot be models, as last reported.
    problems: Vec<String>,
}

impl Watch {
    /// A watch over `models_dir`, and what wakes (and, once `run`'s receiver
    /// is gone, ends) it.
    pub(super) fn new(
        models_dir: PathBuf,
        rescan: Duration,
        settle: Duration,
        engines: Vec<&'static str>,
    ) -> (Self, Waker) {
        let (wake, wakes) = sync_channel(1);
        let asked: Arc<AtomicU64> = Arc::default();
        let watch = Self {
            models_dir,
            rescan,
            engines,
            settle: Settle::new(settle),
            settle_time: settle,
            files: HashMap::new(),
            artifacts: HashMap::new(),
            renamed: Arc::default(),
            wakes,
            asked: Arc::clone(&asked),
            last: None,
            problems: Vec::new(),
        };
        (watch, Waker { wake, asked })
    }

    /// Looks until nobody takes the snapshots any more. Blocks.
    pub(super) fn run(mut self, waker: &Waker, snapshots: &mpsc::Sender<Snapshot>) {
        let mut watched = self.folder();
        let mut notices = self.subscribe(waker);
        let mut told = Instant::now();
        while !snapshots.is_closed() {
            let next = match self.look() {
                Ok((snapshot, next)) => {
                    // Now and then the same again: the manager tries again
                    // what it could not do.
                    if self.last.as_ref() != Some(&snapshot) || told.elapsed() >= self.rescan {
                        told = Instant::now();
                        self.last = Some(snapshot.clone());
                        if snapshots.blocking_send(snapshot).is_err() {
                            return;
                        }
                    }
                    next
                }
                Err(error) => {
                    // Not taken for an empty folder: everything keeps serving.
                    tracing::error!(models_dir = %self.models_dir.display(), %error,
                        "the models folder cannot be read; what is loaded keeps serving");
                    None
                }
            };
            let folder = self.folder();
            if folder.is_some() && folder != watched {
                tracing::info!(models_dir = %self.models_dir.display(),
                    "the models folder is another one now");
                // The kernel tells of the former one only, which may be gone.
                drop(notices);
                notices = self.subscribe(waker);
                // For what happened in between.
                waker.wake();
            }
            watched = folder;
            self.wait(next.map_or(self.rescan, |next| next.min(self.rescan)));
        }
    }

    /// Which folder the path leads to now; `None` if to none. The time of
    /// birth tells folders apart that got the same inode, where it is known.
    fn folder(&self) -> Option<(u64, u64, Option<SystemTime>)> {
        let metadata = self.models_dir.metadata().ok()?;
        Some((metadata.dev(), metadata.ino(), metadata.created().ok()))
    }

    /// Asks the kernel for notices. Without them the rescan still works.
    fn subscribe(&self, waker: &Waker) -> Option<notify::RecommendedWatcher> {
        let (waker, renamed) = (waker.clone(), Arc::clone(&self.renamed));
        let notice = move |event: notify::Result<notify::Event>| {
            match &event {
                Ok(event) if !matters(event) => return,
                Ok(event) => remember_renames(event, &renamed),
                Err(error) => tracing::warn!(%error, "a change notice was lost; looking again"),
            }
            waker.wake();
        };
        let watcher = notify::recommended_watcher(notice).and_then(|mut watcher| {
            watcher.watch(&self.models_dir, RecursiveMode::Recursive).map(|()| watcher)
        });
        watcher
            .inspect_err(|error| {
                tracing::warn!(%error, rescan = ?self.rescan,
                    "no change notices for the models folder; polling only");
            })
            .ok()
    }

    /// Waits for a notice and the end of its burst, or for `time`.
    fn wait(&self, time: Duration) {
        if self.wakes.recv_timeout(time).is_err() {
            return;
        }
        let started = Instant::now();
        while started.elapsed() < QUIET_MAX {
            if self.wakes.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// One look, and when to look again at the latest.
    fn look(&mut self) -> std::io::Result<(Snapshot, Option<Duration>)> {
        // Taken before reading: what comes later is for the next look.
        let asked = self.asked.load(SeqCst);
        let renamed =
            std::mem::take(&mut *self.renamed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut found = scan::interpret(&scan::read(&self.models_dir)?);
        if found.problems != self.problems {
            self.problems.clone_from(&found.problems);
            for problem in &found.problems {
                tracing::warn!(%problem, "a folder of the repository is no model");
            }
        }
        let renamed = places(&self.models_dir, &renamed, &found);
        self.files.retain(|name, _| found.models.contains_key(name));
        self.artifacts.retain(|name, _| found.models.contains_key(name));
        let mut files = self.model_files(&mut found);
        let wholeness = self.settle.observe(&found, &renamed, Instant::now(), SystemTime::now());
        let next = self.settle.next(&wholeness);
        let models = found.models.into_iter().filter_map(|(name, model)| {
            let file = files.remove(&name)?;
            let version = |(version, files): (_, Files)| {
                let wholeness = wholeness[&(name.clone(), version)];
                (version, VersionSnapshot { files, wholeness })
            };
            let versions = model.versions.into_iter().map(version).collect();
            let (problems, partial) = (model.problems, model.partial);
            Some((name.clone(), ModelSnapshot { file, versions, problems, partial }))
        });
        let models = models.collect();
        let changing = self.files.values().any(|known| known.next.is_some());
        let next = if changing { Some(self.settle_time.max(SETTLE_MIN)) } else { next };
        Ok((Snapshot { models, asked }, next))
    }

    /// The settings of each model that was found. They name the artifacts.
    fn model_files(
        &mut self,
        found: &mut Found,
    ) -> HashMap<ModelName, Result<Arc<ModelFile>, String>> {
        let mut files = HashMap::with_capacity(found.models.len());
        for (name, model) in &mut found.models {
            let file = self.model_file(name, model);
            if let Ok(file) = &file {
                self.artifacts.insert(name.clone(), file.artifact().to_owned());
            }
            // Of settings that are wrong now, what was taken before holds.
            if let Some(artifact) = self.artifacts.get(name) {
                model.versions.values_mut().for_each(|files| files.set_artifact(artifact));
            }
            files.insert(name.clone(), file);
        }
        files
    }

    /// Reads a model's settings if their files changed since the last look.
    /// Settings that are in force stay until the change is over: many tools
    /// empty or remove a file before they write it, which is valid, and not
    /// what was meant.
    fn model_file(
        &mut self,
        name: &ModelName,
        found: &FoundModel,
    ) -> Result<Arc<ModelFile>, String> {
        if let Some(known) = self.files.get_mut(name)
            && known.holds(Stamps::of(found, &known.said.labels)?, self.settle_time, Instant::now())
        {
            return known.said.file.clone();
        }
        let stamps = Stamps::of(found, &[])?;
        let said = if stamps == Stamps::default() {
            Said { file: Ok(Arc::default()), labels: Vec::new() }
        } else {
            let path = self.models_dir.join(name.as_str());
            let (toml, triton) = (stamps.toml.is_some(), stamps.triton.is_some());
            // What cannot be read now is not remembered: the next look may be
            // let in.
            Folder { path: &path, model: name, toml, triton }.read(&self.engines)?
        };
        let stamps = Stamps::of(found, &said.labels)?;
        let file = said.file.clone();
        self.files.insert(name.clone(), KnownFile { stamps, said, next: None });
        file
    }
}

impl KnownFile {
    /// Whether what is known holds still, now that `stamps` were seen.
    fn holds(&mut self, stamps: Stamps, settle: Duration, now: Instant) -> bool {
        if self.stamps == stamps {
            self.next = None;
            return true;
        }
        let since = match &self.next {
            Some((next, since)) if *next == stamps => *since,
            _ => now,
        };
        self.next = Some((stamps, since));
        self.said.file.is_ok() && now.saturating_duration_since(since) < settle
    }
}

/// Reading causes notices as well; they would make us look for ever.
fn matters(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn remember_renames(event: &notify::Event, renamed: &Mutex<HashSet<PathBuf>>) {
    let target = match event.kind {
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => event.paths.first(),
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => event.paths.get(1),
        _ => None,
    };
    if let Some(target) = target {
        let mut renamed = renamed.lock().unwrap_or_else(PoisonError::into_inner);
        if renamed.len() < RENAMED_MAX {
            renamed.insert(target.clone());
        }
    }
}

/// The versions whose folder, or whose model's folder, came by a rename.
fn places(models_dir: &Path, renamed: &HashSet<PathBuf>, found: &Found) -> HashSet<Place> {
    let mut places = HashSet::new();
    for path in renamed {
        let Ok(inner) = path.strip_prefix(models_dir) else { continue };
        let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy()).collect();
        let Some((name, model)) = parts.first().and_then(|m| found.models.get_key_value(&**m))
        else {
            continue;
        };
        match &parts[1..] {
            [] => places.extend(model.versions.keys().map(|v| (name.clone(), *v))),
            [version] => places.extend(version.parse().ok().map(|v| (name.clone(), v))),
            _ => {}
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::scan::{MODEL_FILE, TRITON_FILE};
    use crate::types::VersionId;

    fn place(model: &str, version: u64) -> Place {
        (ModelName::new(model).unwrap(), VersionId::new(version).unwrap())
    }

    #[test]
    fn a_rename_counts_for_the_folder_or_all_versions_of_the_model() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a/1", "a/2", "b/1", "b/2"] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let found = scan::interpret(&scan::read(root.path()).unwrap());
        let renamed = ["a/2", "b", "a/1/model.onnx", "unknown", "../x"];
        let renamed = renamed.iter().map(|p| root.path().join(p)).collect();
        let got = places(root.path(), &renamed, &found);
        assert_eq!(got, HashSet::from([place("a", 2), place("b", 1), place("b", 2)]));
    }

    #[test]
    fn reading_is_no_change() {
        let event = |kind| notify::Event::new(kind);
        assert!(!matters(&event(EventKind::Access(AccessKind::Open(AccessMode::Any)))));
        assert!(matters(&event(EventKind::Access(AccessKind::Close(AccessMode::Write)))));
        assert!(matters(&event(EventKind::Other)), "a rescan flag comes with it");
    }

    #[test]
    fn a_bad_model_file_is_read_once_and_again_when_it_changed() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("m");
        std::fs::create_dir_all(folder.join("1")).unwrap();
        let hour = Duration::from_secs(3600);
        let (mut watch, _waker) =
            Watch::new(root.path().into(), hour, Duration::ZERO, vec!["tract"]);
        let mut file = || watch.look().unwrap().0.models["m"].file.clone();
        assert_eq!(file(), Ok(Arc::default()));
        std::fs::write(folder.join(MODEL_FILE), "ownr = 1").unwrap();
        assert!(file().unwrap_err().contains("ownr"));
        std::fs::write(folder.join(MODEL_FILE), "owner = \"growth\"").unwrap();
        assert_eq!(file().unwrap().owner.as_deref(), Some("growth"));
    }

    #[test]
    fn a_config_pbtxt_and_its_label_files_are_settings_too() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("m");
        std::fs::create_dir_all(folder.join("1")).unwrap();
        std::fs::write(folder.join("1/net.onnx"), "x").unwrap();
        let hour = Duration::from_secs(3600);
        let (mut watch, _waker) =
            Watch::new(root.path().into(), hour, Duration::ZERO, vec!["tract"]);
        let config = "default_model_filename: 'net.onnx' output { name: 'y' data_type: TYPE_FP32 \
                      dims: 2 label_filename: 'labels.txt' }";
        let mut look = || {
            let model = watch.look().unwrap().0.models["m"].clone();
            (model.file, model.versions.into_values().next().unwrap())
        };
        std::fs::write(folder.join(TRITON_FILE), config).unwrap();
        let (file, version) = look();
        assert!(file.unwrap_err().contains("labels.txt is not there"));
        assert_eq!(version.files.artifact, "model.onnx");
        std::fs::write(folder.join("labels.txt"), "no\nyes\n").unwrap();
        let (file, version) = look();
        let classes = |file: &ModelFile| file.declared().unwrap().outputs[0].classes.clone();
        assert_eq!(classes(&file.unwrap()), ["no", "yes"]);
        assert_eq!(version.files.artifact, "net.onnx");
        std::fs::write(folder.join("labels.txt"), "never\nalways\n").unwrap();
        assert_eq!(classes(&look().0.unwrap()), ["never", "always"]);
        std::fs::write(folder.join(TRITON_FILE), "backend: 'python'").unwrap();
        assert!(look().0.unwrap_err().contains("got \"python\""));
        std::fs::remove_file(folder.join(TRITON_FILE)).unwrap();
        assert_eq!(look().0, Ok(Arc::default()));
    }

    #[test]
    fn a_models_folder_that_was_exchanged_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let (models, next) = (root.path().join("models"), root.path().join("next"));
        std::fs::create_dir_all(models.join("a/1")).unwrap();
        std::fs::create_dir_all(next.join("b/1")).unwrap();
        // No rescan helps.
        let hour = Duration::from_secs(3600);
        let (watch, waker) = Watch::new(models.clone(), hour, hour, vec!["tract"]);
        let (sender, mut snapshots) = mpsc::channel(1);
        let runs = waker.clone();
        let thread = std::thread::spawn(move || watch.run(&runs, &sender));
        let mut until = |model: &str| {
            while !snapshots.blocking_recv().unwrap().models.contains_key(model) {}
        };
        until("a");
        std::fs::rename(&models, root.path().join("former")).unwrap();
        std::fs::rename(&next, &models).unwrap();
        waker.wake();
        until("b");
        std::fs::create_dir_all(models.join("c/1")).unwrap();
        until("c");
        drop(snapshots);
        waker.wake();
        thread.join().unwrap();
    }

    #[test]
    fn settings_stay_until_the_next_ones_have_settled() {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let stamp = |size| Stamps {
            toml: Some(Stamp { size, modified_nanos: 0, inode: 1 }),
            ..Stamps::default()
        };
        let said = || Said { file: Ok(Arc::default()), labels: vec![] };
        let good = || KnownFile { stamps: stamp(9), said: said(), next: None };
        let mut known = good();
        assert!(known.holds(stamp(0), second, now), "emptied, to be written");
        assert!(known.holds(Stamps::default(), second, now + second), "removed, to be written");
        assert!(known.holds(stamp(7), second, now + 2 * second));
        assert!(known.holds(stamp(7), second, now + second * 5 / 2));
        assert!(!known.holds(stamp(7), second, now + 3 * second), "quiet for a second");
        let mut known = good();
        assert!(known.holds(stamp(0), second, now));
        assert!(known.holds(stamp(9), second, now + 9 * second), "back again");
        assert!(known.next.is_none());
        let said = Said { file: Err("bad".into()), ..said() };
        let mut bad = KnownFile { said, ..good() };
        assert!(!bad.holds(stamp(0), second, now), "nothing is lost by a try");
    }

    #[test]
    fn a_model_file_that_could_not_be_read_is_tried_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("m");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(MODEL_FILE), "owner = \"growth\"").unwrap();
        let stamp = Stamp::of(&folder.join(MODEL_FILE).metadata().unwrap());
        let hour = Duration::from_secs(3600);
        let (mut watch, _waker) = Watch::new(root.path().into(), hour, hour, vec!["tract"]);
        let away = root.path().join("away");
        let found =
            FoundModel { model_file: ModelFileSeen::Present(stamp), ..FoundModel::default() };
        let mut file = || watch.model_file(&ModelName::new("m").unwrap(), &found);
        std::fs::rename(&folder, &away).unwrap();
        assert!(file().is_err());
        // The same file is there again: nothing about it has changed.
        std::fs::rename(&away, &folder).unwrap();
        assert_eq!(file().unwrap().owner.as_deref(), Some("growth"));
    }
}
