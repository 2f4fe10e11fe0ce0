//! What the manager knows of one model.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Instant, SystemTime};

use crate::registry::loader::{Digests, Intake, content};
use crate::registry::manager::build::Split;
use crate::registry::preflight::Report;
use crate::registry::retention::Content;
use crate::registry::scan::{ARTIFACT, Files};
use crate::registry::settings::{ModelFile, Start};
use crate::registry::settle::Wholeness;
use crate::registry::view::{ArmView, CanaryView, ShadowView};
use crate::registry::wanted::{self, Resolved, Trial, Trials};
use crate::registry::{Lineage, ModelView, PlanView, State, TensorSpecView, VersionView};
use crate::routing::{Slot, Worst};
use crate::serving::LoadedVersion;
use crate::store::{NewEntry, Wanted};
use crate::telemetry::recorder::Recorder;
use crate::types::{Digest, ModelName, ModelSettings, Signature, TensorSpec, VersionId};

/// Retired versions that are still shown.
const RETIRED_MAX: usize = 20;

/// What a version waits for a loader thread for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    Load,
    Verify,
}

/// One version.
pub(super) struct Entry {
    pub(super) state: State,
    pub(super) since: String,
    pub(super) reason: Option<String>,
    pub(super) lineage: Lineage,
    pub(super) digests: Option<Digests>,
    pub(super) engine: Option<&'static str>,
    pub(super) loaded: Option<Arc<LoadedVersion>>,
    /// What its trial found out.
    pub(super) report: Option<Arc<Report>>,
    /// The signature of what loads and was refused by the gate.
    pub(super) refused: Option<Signature>,
    /// Its life: a number that comes back with every piece of news.
    pub(super) ticket: u64,
    /// Its folder, as last seen; and whether it is there still.
    pub(super) files: Files,
    pub(super) wholeness: Wholeness,
    pub(super) present: bool,
    /// The folder as it was when it was last handed to a loader thread.
    pub(super) tried: Option<Files>,
    pub(super) queued: Option<Queued>,
    pub(super) busy: bool,
    /// When it was whole.
    pub(super) whole_since: Instant,
    /// It appeared while the model served: the policy decides when it is ready.
    pub(super) arrived: bool,
    /// Its files have another content than the one that is pinned.
    pub(super) changed: bool,
    /// How it was loaded last.
    pub(super) intake: Option<Intake>,
    /// The model's version policy leaves it out.
    pub(super) left_out: bool,
    /// It retires because it was unloaded, not because its folder left.
    pub(super) unloading: bool,
    /// Bytes of what is pinned.
    pub(super) bytes: u64,
    /// What it is loaded from in place of its folder, which is gone.
    pub(super) kept: Option<Arc<Content>>,
    /// When it was champion last.
    pub(super) reigned: Option<Instant>,
    /// What it was when it was given its role, in the process before: its folder may
    /// hold something else by now, which nobody gave a role.
    pub(super) expected: Option<Digest>,
    /// It failed for want of room: from then on it may be tried again.
    pub(super) again_from: Option<Instant>,
}

/// What was seen of a folder that is not there.
pub(super) fn no_files() -> Files {
    let (artifact, stamps) = (ARTIFACT.to_owned(), BTreeMap::new());
    Files { artifact, stamps, changed: SystemTime::UNIX_EPOCH }
}

impl Entry {
    pub(super) fn new(ticket: u64, files: Files, wholeness: Wholeness, arrived: bool) -> Self {
        Self {
            state: State::Discovered,
            since: now(),
            reason: None,
            lineage: Lineage::default(),
            digests: None,
            engine: None,
            loaded: None,
            report: None,
            refused: None,
            ticket,
            files,
            wholeness,
            present: true,
            tried: None,
            queued: None,
            busy: false,
            whole_since: Instant::now(),
            arrived,
            changed: false,
            intake: None,
            left_out: false,
            unloading: false,
            bytes: 0,
            kept: None,
            reigned: None,
            expected: None,
            again_from: None,
        }
    }

    /// A version that comes back although its folder is gone.
    pub(super) fn again(ticket: u64, kept: Arc<Content>) -> Self {
        let entry = Self::new(ticket, no_files(), Wholeness::Whole, false);
        Self { present: false, kept: Some(kept), ..entry }
    }

    /// Whether it is on its way into service.
    pub(super) const fn is_under_way(&self) -> bool {
        matches!(
            self.state,
            State::Discovered | State::Checking | State::Loading | State::WarmingUp
        )
    }

    /// Queues what its folder asks for.
    pub(super) fn consider(&mut self) {
        let there = self.present || self.kept.is_some() && self.is_under_way();
        let whole = there && self.wholeness == Wholeness::Whole;
        if self.busy || self.queued.is_some() || self.tried.as_ref() == Some(&self.files) {
            return;
        }
        match self.state {
            // Why, the policy tells.
            State::Discovered if self.left_out => {}
            State::Discovered if whole => {
                self.queued = Some(Queued::Load);
                self.reason = Some("waits for its turn to be tried".to_owned());
                self.whole_since = Instant::now();
            }
            State::Discovered => self.reason = Some(self.waits_for()),
            State::Ready | State::Failed if whole && self.content_touched() => {
                self.queued = Some(Queued::Verify);
            }
            _ => {}
        }
    }

    fn waits_for(&self) -> String {
        let artifact = self.files.stamps.contains_key(&self.files.artifact);
        match (self.wholeness, artifact) {
            (_, false) => format!("waits for {}, which is not there", self.files.artifact),
            (Wholeness::Stalled, true) => {
                "its files keep changing; waits until they stop".to_owned()
            }
            (_, true) => "waits until its files stop changing".to_owned(),
        }
    }

    fn content_touched(&self) -> bool {
        let content = |files: &Files| content(files, self.digests.as_ref());
        self.tried.as_ref().is_some_and(|tried| content(tried) != content(&self.files))
    }

    /// How far it is on its way into service.
    fn trial(&self) -> Trial {
        match self.state {
            State::Ready => Trial::Ready,
            // Its number is taken again, or it is to be loaded again.
            State::Retiring if self.present && !self.left_out => Trial::Pending,
            State::Failed | State::Retiring | State::Retired | State::Unloaded => Trial::Out,
            State::Checking | State::Loading | State::WarmingUp => Trial::Pending,
            State::Discovered => {
                let settling = self.wholeness == Wholeness::Settling;
                let coming = self.busy
                    || self.queued.is_some()
                    || self.present && !self.left_out && settling;
                if coming { Trial::Pending } else { Trial::Out }
            }
        }
    }

    pub(super) fn view(&self, version: VersionId) -> VersionView {
        let loaded = self.loaded.as_ref();
        let specs = |pick: fn(&LoadedVersion) -> &[TensorSpec]| -> Vec<TensorSpecView> {
            loaded.map(|v| pick(v).iter().map(spec_view).collect()).unwrap_or_default()
        };
        VersionView {
            version,
            state: self.state,
            reason: self.reason.clone(),
            digest: self.digests.as_ref().map(|digests| digests.whole.digest().to_string()),
            engine: self.engine,
            lineage: self.lineage.clone(),
            inputs: specs(|v| &v.signature().inputs),
            outputs: specs(|v| &v.signature().outputs),
            cost_seconds: loaded.map(|v| v.cost().of(1).as_secs_f64()),
            report: self.report.clone(),
            since: self.since.clone(),
        }
    }
}

fn spec_view(spec: &TensorSpec) -> TensorSpecView {
    TensorSpecView {
        name: spec.name.clone(),
        datatype: spec.datatype.as_str(),
        shape: spec.wire_shape(),
    }
}

/// RFC 3339, UTC.
pub(super) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// What a published plan was made from: if it is the same, so is the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Basis {
    pub(super) resolved: Resolved,
    pub(super) ready: Vec<VersionId>,
    pub(super) settings: Arc<ModelSettings>,
}

/// One model.
pub(super) struct Model {
    pub(super) name: ModelName,
    /// Its last good settings; `None` until there were some.
    pub(super) file: Option<Arc<ModelFile>>,
    pub(super) file_problem: Option<String>,
    pub(super) folder_problems: Vec<String>,
    /// Its folder is gone.
    pub(super) gone: bool,
    pub(super) entries: BTreeMap<VersionId, Entry>,
    pub(super) retired: VecDeque<VersionView>,
    pub(super) wanted: Option<Wanted>,
    /// What of `[start]` has not happened yet.
    pub(super) start: Option<Start>,
    pub(super) slot: Option<Arc<Slot>>,
    /// What the present plan was made from.
    pub(super) basis: Basis,
    pub(super) generation: u64,
    pub(super) counter: Arc<AtomicU64>,
    /// What the judge counts by, and for which split.
    pub(super) recorder: Option<(Split, Arc<Recorder>)>,
    /// The worst disagreements of each shadow with this champion.
    pub(super) worsts: BTreeMap<(VersionId, VersionId), Arc<Worst>>,
    /// Why the next publish is due, for the audit log.
    pub(super) causes: Vec<String>,
    /// What was carried out though it could not be recorded.
    pub(super) owed: VecDeque<Owed>,
    /// Versions that a former state needs which somebody waits for.
    pub(super) summoned: BTreeSet<VersionId>,
}

/// The most entries that wait for the store.
const OWED_MAX: usize = 256;

/// An entry that the store has not taken yet.
#[derive(Clone)]
pub(super) struct Owed {
    pub(super) entry: NewEntry,
    /// What was wanted from then on.
    pub(super) wanted: Wanted,
    /// It may have been taken after all.
    pub(super) unknown: bool,
}

impl Model {
    /// Has an entry wait for the store. The oldest is lost where there are too many: what
    /// is wanted comes with each.
    pub(super) fn owe(&mut self, owed: Owed) {
        self.owed.push_back(owed);
        if self.owed.len() > OWED_MAX {
            self.owed.pop_front();
        }
    }

    pub(super) fn new(name: ModelName, wanted: Option<Wanted>) -> Self {
        Self {
            name,
            file: None,
            file_problem: None,
            folder_problems: Vec::new(),
            gone: false,
            entries: BTreeMap::new(),
            retired: VecDeque::new(),
            wanted,
            start: None,
            slot: None,
            basis: Basis::default(),
            generation: 0,
            counter: Arc::default(),
            recorder: None,
            worsts: BTreeMap::new(),
            causes: Vec::new(),
            owed: VecDeque::new(),
            summoned: BTreeSet::new(),
        }
    }

    /// Every version and how far it is. Without good settings nothing is on
    /// its way.
    pub(super) fn trials(&self) -> Trials {
        self.trials_for(self.wanted.as_ref())
    }

    /// The same, if this were wanted.
    pub(super) fn trials_for(&self, wanted: Option<&Wanted>) -> Trials {
        let unloaded = |version| wanted.is_some_and(|wanted| wanted.unloaded.has(version));
        let trial = |(version, entry): (&VersionId, &Entry)| {
            let trial = if unloaded(*version) { Trial::Out } else { entry.trial() };
            (*version, trial)
        };
        self.entries.iter().map(trial).collect()
    }

    /// Whether it has a role in the present plan.
    pub(super) fn serves(&self, version: VersionId) -> bool {
        self.basis.resolved.versions().any(|serving| serving == version)
    }

    /// Whether it has versions, and nobody had it unloaded.
    pub(super) fn shall_serve(&self) -> bool {
        let unloaded = self.wanted.as_ref().is_some_and(|wanted| wanted.unloaded.all);
        !self.entries.is_empty() && !unloaded
    }

    /// How much a version is waited for: the champion most.
    pub(super) fn urgency(&self, version: VersionId) -> u8 {
        let (champion, canary) = match (&self.wanted, &self.start) {
            (Some(wanted), _) if self.start.is_none() => {
                (wanted.champion, wanted.canary.map(|(version, _)| version))
            }
            (_, Some(start)) => (Some(start.champion), start.canary.map(|(version, _)| version)),
            _ => (None, None),
        };
        match version {
            v if champion == Some(v) => 0,
            v if canary == Some(v) => 1,
            _ => 2,
        }
    }

    /// Remembers a version that retired, for people.
    pub(super) fn remember_retired(&mut self, view: VersionView) {
        self.retired.push_back(view);
        if self.retired.len() > RETIRED_MAX {
            self.retired.pop_front();
        }
    }

    pub(super) fn view(&self) -> ModelView {
        let file = self.file.clone().unwrap_or_default();
        let present = self.entries.iter().map(|(version, entry)| entry.view(*version));
        let mut versions: Vec<_> = self.retired.iter().cloned().chain(present).collect();
        versions.sort_by_key(|view| view.version);
        ModelView {
            name: self.name.to_string(),
            rollout: file.rollout.clone(),
            owner: file.owner.clone(),
            description: file.description.clone(),
            features: file.settings.features.clone(),
            routing_key: file.settings.routing_key.clone(),
            problems: self.problems(),
            not_taken: file.not_taken.clone(),
            plan: self.plan_view(),
            versions,
        }
    }

    fn plan_view(&self) -> PlanView {
        let resolved = &self.basis.resolved;
        let shadow = |&(version, sample): &(VersionId, _)| ShadowView { version, sample };
        let ready = wanted::ready(&self.trials());
        PlanView {
            generation: self.generation,
            champion: resolved.champion.map(|version| ArmView { version }),
            canary: resolved.canary.map(|(version, weight)| CanaryView {
                version,
                weight,
                holdback: resolved.holdback,
            }),
            shadows: resolved.shadows.iter().map(shadow).collect(),
            previous_champion: self
                .wanted
                .as_ref()
                .and_then(|wanted| wanted::rollback_target(wanted, &ready)),
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = self.file_problem.iter().cloned().collect();
        if self.gone {
            problems.push("its folder is gone; what serves keeps serving".to_owned());
        }
        problems.extend(self.folder_problems.iter().cloned());
        problems.extend(self.start_problems());
        let changed = self.entries.iter().filter(|(_, entry)| entry.changed);
        problems.extend(changed.map(|(version, _)| format!("version {version}: {CHANGED}")));
        problems.extend(self.champion_problem());
        problems.extend(self.champion_file_problems());
        problems.extend(self.intake_problem());
        if !self.owed.is_empty() {
            let n = self.owed.len();
            problems.push(format!("{n} changes were carried out and could not be recorded yet"));
        }
        problems
    }

    /// What `[start]` names and nobody can be.
    fn start_problems(&self) -> Vec<String> {
        let Some(start) = &self.start else { return Vec::new() };
        let trials = self.trials();
        let champion = self.wanted.is_none().then_some(start.champion);
        let canary = start.canary.map(|(version, _)| version);
        let shadows = start.shadows.iter().map(|(version, _)| *version);
        let named = champion.into_iter().chain(canary).chain(shadows);
        let problem = |version| match trials.get(&version) {
            Some(Trial::Out) => {
                Some(format!("[start] names version {version}, which is not ready"))
            }
            None => Some(format!("[start] names version {version}, which has no folder")),
            Some(_) => None,
        };
        named.filter_map(problem).collect()
    }

    /// What of the settings does not fit the champion.
    fn champion_file_problems(&self) -> Vec<String> {
        let champion = self.basis.resolved.champion;
        let loaded = champion.and_then(|champion| self.entries.get(&champion)?.loaded.as_ref());
        let (Some(loaded), Some(file)) = (loaded, &self.file) else { return Vec::new() };
        let features = file.features_problem(loaded.id(), loaded.signature());
        let labels = file.label_problems(loaded.id(), loaded.signature());
        features.into_iter().chain(labels).collect()
    }

    /// What is declared now and was not when a version was loaded.
    fn intake_problem(&self) -> Option<String> {
        let declared = self.file.as_ref()?.declared();
        let otherwise = |entry: &Entry| {
            let intake = entry.intake.as_ref().filter(|_| entry.state == State::Ready);
            intake.is_some_and(|intake| intake.declared.as_ref() != declared)
        };
        let versions = self.entries.iter().filter(|(_, entry)| otherwise(entry));
        let versions: Vec<_> = versions.map(|(version, _)| version.to_string()).collect();
        (!versions.is_empty()).then(|| {
            format!(
                "config.pbtxt declares tensors, labels or warm-up otherwise than when version {} \
                 was loaded; that holds for versions that are loaded from now on",
                versions.join(", ")
            )
        })
    }

    /// The wanted champion cannot serve.
    fn champion_problem(&self) -> Option<String> {
        let wanted = self.wanted.as_ref()?.champion.filter(|v| !self.is_unloaded(*v))?;
        let serving = self.basis.resolved.champion;
        let pending = self.trials().get(&wanted) == Some(&Trial::Pending);
        if serving == Some(wanted) || pending {
            return None;
        }
        let instead = serving.map_or_else(|| "nobody".to_owned(), |v| format!("version {v}"));
        Some(format!("champion {wanted} is not ready; {instead} serves in its place"))
    }
}

/// What is said of a version whose files were changed.
pub(super) const CHANGED: &str = "its files changed after they were pinned; the change is not \
                                  loaded: push it under a new number";
