//! Checks versions as the gateway would before they may serve, without one:
//! the same rules for their files, the same trial in a child process, the same
//! gate.

mod steps;
mod target;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::engine::EngineSet;
use crate::error::{Error, Result};
use crate::registry::blobs::Blobs;
use crate::registry::check::target::{Model, Target};
use crate::registry::loader::{Digests, Intake, Job, Task, Tools};
use crate::registry::preflight::{Failure, Preflight, Report};
use crate::registry::scan::ARTIFACT;
use crate::registry::settings::{Gate, ModelFile};
use crate::types::{Signature, VersionId};

/// What a check may be told besides the folder.
#[derive(Clone, Debug, Default)]
pub struct CheckSettings {
    /// A version's folder whose signature must be kept; else that of the
    /// `[start]` champion, if it is another version.
    pub against: Option<PathBuf>,
    /// The engine, instead of the one that the files name.
    pub engine: Option<String>,
    /// The largest artifact, in bytes.
    pub artifact_bytes_max: u64,
}

/// A version that was checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// The model's name.
    pub model: String,
    /// The version's number; 1 for a folder that is no number.
    pub version: u64,
    /// Its folder.
    pub folder: String,
    /// Whether no step failed.
    pub passed: bool,
    /// Time that all of it took.
    pub seconds: f64,
    /// What was checked, in order.
    pub steps: Vec<CheckStep>,
    /// What the trial found out.
    pub report: Report,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckStep {
    /// What: `load`, `golden case 2`, ….
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// Why it failed or was left out; a remark where it passed.
    pub detail: Option<String>,
    /// Time that it took, where that is known.
    pub seconds: Option<f64>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it must be.
    Passed,
    /// Not as it must be: the gateway would refuse the version.
    Failed,
    /// Not tried, or without a meaning here; the detail tells.
    Skipped,
}

/// Checks the version, the model or the models in `folder`. `each` hears of
/// each version before it is tried. Blocking.
///
/// # Errors
/// There is nothing to check in the folder, or the settings do not fit.
pub fn check(
    folder: &Path,
    settings: &CheckSettings,
    engines: &EngineSet,
    preflight: Arc<dyn Preflight>,
    mut each: impl FnMut(&str),
) -> Result<Vec<Checked>> {
    if let Some(engine) = &settings.engine {
        engines.require(engine)?;
    }
    let names: Vec<_> = engines.names().collect();
    let models = target::find(folder, &names)?;
    let against = settings.against.as_deref().map(|path| target::version(path, &names));
    let against = against.transpose()?;
    let scratch = tempfile::tempdir().map_err(|e| cannot(&e))?;
    let blobs = Blobs::open(scratch.path()).map_err(|e| cannot(&e))?;
    let artifact_bytes_max = settings.artifact_bytes_max;
    let tools = Tools { blobs, engines: engines.clone(), preflight, artifact_bytes_max };
    let mut bench = Bench { tools, engine: settings.engine.as_deref(), trials: BTreeMap::new() };
    let mut checked = Vec::new();
    for model in &models {
        for target in &model.targets {
            each(&target.label());
            checked.push(bench.check(model, target, against.as_ref()));
        }
    }
    Ok(checked)
}

fn cannot(error: &std::io::Error) -> Error {
    Error::internal(format!("no temporary folder can be used: {error}"))
}

/// What a trial came to; remembered, as a champion is compared with many.
struct Trial {
    /// Why its files are not taken.
    files: std::result::Result<(), String>,
    outcome: Option<std::result::Result<Report, Failure>>,
    seconds: f64,
}

impl Trial {
    /// What it found out, as far as it came.
    fn report(&self) -> Option<&Report> {
        match self.outcome.as_ref()? {
            Ok(report) => Some(report),
            Err(failure) => Some(&failure.report),
        }
    }

    fn failure(&self) -> Option<&Failure> {
        self.outcome.as_ref()?.as_ref().err()
    }

    /// The signature, if it loads.
    fn signature(&self) -> Option<Signature> {
        let report = self.report().filter(|report| report.load_seconds.is_some())?;
        report.signature.signature()
    }
}

/// Where versions are tried.
struct Bench<'a> {
    tools: Tools,
    engine: Option<&'a str>,
    trials: BTreeMap<PathBuf, Trial>,
}

/// Whom a version is compared with.
enum Reference {
    /// Nobody.
    Nobody,
    /// This version.
    Version(VersionId, Signature),
    /// One that has no signature to compare with; why.
    Broken(String),
}

impl Bench<'_> {
    fn check(
        &mut self,
        model: &Model,
        target: &Target,
        against: Option<&(Model, Target)>,
    ) -> Checked {
        let reference = match &model.file {
            Ok(file) => self.reference(file, model, target, against),
            Err(_) => Reference::Nobody,
        };
        let file = model.file.clone();
        let trial = match &file {
            Ok(file) => self.trial(file, target),
            Err(why) => &Trial { files: Err(why.clone()), outcome: None, seconds: 0.0 },
        };
        let file = file.unwrap_or_default();
        let steps = steps::steps(&file, target.version, trial, &reference);
        Checked {
            model: target.model.to_string(),
            version: target.version.get(),
            folder: target.folder.display().to_string(),
            passed: steps.iter().all(|step| step.status != Status::Failed),
            seconds: trial.seconds,
            report: trial.report().cloned().unwrap_or_default(),
            steps,
        }
    }

    fn reference(
        &mut self,
        file: &ModelFile,
        model: &Model,
        target: &Target,
        against: Option<&(Model, Target)>,
    ) -> Reference {
        if let Some((model, champion)) = against {
            return match &model.file {
                Ok(file) => self.as_reference(file, champion),
                Err(why) => Reference::Broken(why.clone()),
            };
        }
        let start = file.start.as_ref().map(|start| start.champion);
        let Some(version) = start.filter(|version| *version != target.version) else {
            return Reference::Nobody;
        };
        let reference = match model.sibling(version) {
            Some(champion) => self.as_reference(file, &champion),
            None => Reference::Broken("it has no folder".to_owned()),
        };
        match reference {
            // Nobody asked for it by name, and whatever it has may change.
            Reference::Broken(_) if file.gate.allow_signature_change => Reference::Nobody,
            other => other,
        }
    }

    fn as_reference(&mut self, file: &ModelFile, champion: &Target) -> Reference {
        let trial = self.trial(file, champion);
        if let Some(signature) = trial.signature() {
            return Reference::Version(champion.version, signature);
        }
        let files = trial.files.as_ref().err().cloned();
        let failure = trial.failure().map(|failure| failure.reason.clone());
        let why = files.or(failure).unwrap_or_default();
        Reference::Broken(format!("{} does not load: {why}", champion.folder.display()))
    }

    /// Pins and tries a version, once.
    fn trial(&mut self, file: &ModelFile, target: &Target) -> &Trial {
        let engine = self.engine.unwrap_or(&file.engine).to_owned();
        let intake = Intake { engine, declared: file.declared().cloned() };
        let (tools, artifact) = (&self.tools, file.artifact());
        let trial = || try_it(tools, intake, artifact, target);
        self.trials.entry(target.folder.clone()).or_insert_with(trial)
    }
}

fn try_it(tools: &Tools, intake: Intake, artifact: &str, target: &Target) -> Trial {
    let started = Instant::now();
    let inner = target.folder.join(artifact).is_dir().then(|| format!("{artifact}/{ARTIFACT}"));
    let job = Job {
        place: (target.model.clone(), target.version),
        ticket: 0,
        folder: target.folder.clone(),
        artifact: inner.unwrap_or_else(|| artifact.to_owned()),
        task: Task::Load {
            intake: intake.clone(),
            gate: Gate::default(),
            kept: None,
            expected: None,
        },
    };
    let pinned = tools.pin(&job, &intake);
    let (files, outcome) = match pinned {
        Ok((candidate, whole, _)) => {
            let outcome = tools.preflight.try_candidate(&candidate);
            // There may be many, and not much room for temporary files.
            let golden = candidate.golden.map(|(_, digest)| digest);
            Digests { whole, golden }.each().for_each(|digest| tools.blobs.remove(digest));
            (Ok(()), Some(outcome))
        }
        // Here nothing is waited for.
        Err(error) => {
            let why = error.why();
            (Err(why.strip_prefix("waits: ").unwrap_or(&why).to_owned()), None)
        }
    };
    Trial { files, outcome, seconds: started.elapsed().as_secs_f64() }
}

#[cfg(test)]
mod tests;
