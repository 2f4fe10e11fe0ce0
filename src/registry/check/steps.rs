//! From a trial to the steps that people read. Pure.

use crate::registry::check::{CheckStep, Reference, Status, Trial};
use crate::registry::gate;
use crate::registry::preflight::{Failure, Report, RowsVerdict, Stage};
use crate::registry::scan::TRITON_FILE;
use crate::registry::settings::ModelFile;
use crate::types::{Signature, VersionId};

/// What stands for something that the trial did not come to.
const NOT_REACHED: &str = "not reached";

impl CheckStep {
    fn new(name: impl Into<String>, status: Status, detail: Option<String>) -> Self {
        Self { name: name.into(), status, detail, seconds: None }
    }

    fn passed(name: &str, remark: Option<String>) -> Self {
        Self::new(name, Status::Passed, remark)
    }

    fn failed(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(name, Status::Failed, Some(why.into()))
    }

    fn skipped(name: &str, why: impl Into<String>) -> Self {
        Self::new(name, Status::Skipped, Some(why.into()))
    }
}

/// Everything that was checked, in the order of the trial.
pub(super) fn steps(
    file: &ModelFile,
    version: VersionId,
    trial: &Trial,
    reference: &Reference,
) -> Vec<CheckStep> {
    let files = match &trial.files {
        Ok(()) => CheckStep::passed("files", None),
        Err(why) => CheckStep::failed("files", why),
    };
    let (report, failure) = (trial.report().cloned().unwrap_or_default(), trial.failure());
    let signature = trial.signature();
    let load = stage("load", &[Stage::Start, Stage::Load], report.load_seconds, failure);
    let warm_up = stage("warm-up", &[Stage::WarmUp], report.warm_up_seconds, failure);
    let not_taken = Some(file.not_taken.join("; ")).filter(|text| !text.is_empty());
    let remark = not_taken.map(|text| format!("not taken: {text}"));
    let config = file.is_triton().then(|| CheckStep::passed(TRITON_FILE, remark));
    let mut steps: Vec<_> = config.into_iter().chain([files, load, warm_up]).collect();
    steps.push(signature_step(file, signature.as_ref(), reference));
    steps.extend(features_step(file, version, signature.as_ref()));
    steps.extend(golden_steps(&report, failure));
    steps.push(rows_step(&report, failure));
    steps.push(cost_step(file, &report, failure));
    steps.push(memory_step(&report, failure));
    steps
}

/// A stage that has passed if its time was measured.
fn stage(
    name: &str,
    stages: &[Stage],
    seconds: Option<f64>,
    failure: Option<&Failure>,
) -> CheckStep {
    let step = match (failed_at(stages, failure), seconds) {
        (Some(why), _) => CheckStep::failed(name, why),
        (None, Some(_)) => CheckStep::passed(name, None),
        (None, None) => CheckStep::skipped(name, NOT_REACHED),
    };
    CheckStep { seconds, ..step }
}

fn failed_at<'a>(stages: &[Stage], failure: Option<&'a Failure>) -> Option<&'a str> {
    failure.filter(|failure| stages.contains(&failure.stage)).map(|failure| &*failure.reason)
}

fn signature_step(
    file: &ModelFile,
    signature: Option<&Signature>,
    reference: &Reference,
) -> CheckStep {
    const NAME: &str = "signature";
    let Some(signature) = signature else { return CheckStep::skipped(NAME, NOT_REACHED) };
    let champion = match reference {
        Reference::Nobody => {
            let why = "no champion to compare with; --against names one";
            return CheckStep::skipped(NAME, why);
        }
        Reference::Broken(why) => {
            return CheckStep::failed(NAME, format!("the champion cannot be compared with: {why}"));
        }
        Reference::Version(version, signature) => gate::Champion { version: *version, signature },
    };
    match gate::signature(file.gate, Some(champion), signature) {
        Err(why) => {
            let why = why.strip_prefix("signature: ").unwrap_or(&why);
            CheckStep::failed(NAME, why)
        }
        Ok(()) => {
            let changes = gate::changes(champion, signature);
            let allowed = (!changes.is_empty())
                .then(|| format!("allowed by model.toml: {}", changes.join("; ")));
            let same = format!("that of champion {}", champion.version);
            CheckStep::passed(NAME, allowed.or(Some(same)))
        }
    }
}

/// Nothing for a model that names no features.
fn features_step(
    file: &ModelFile,
    version: VersionId,
    signature: Option<&Signature>,
) -> Option<CheckStep> {
    let signature = signature.filter(|_| !file.settings.features.is_empty())?;
    Some(match file.features_problem(version, signature) {
        Some(problem) => CheckStep::failed("features", problem),
        None => CheckStep::passed("features", None),
    })
}

/// A step for each golden case.
fn golden_steps(report: &Report, failure: Option<&Failure>) -> Vec<CheckStep> {
    const NAME: &str = "golden";
    let Some(golden) = &report.golden else {
        // The file itself was wrong, or the child ended there.
        return vec![match (failed_at(&[Stage::Golden], failure), failure) {
            (Some(why), _) => CheckStep::failed(NAME, why),
            (None, Some(_)) => CheckStep::skipped(NAME, NOT_REACHED),
            (None, None) if report.load_seconds.is_some() => {
                CheckStep::skipped(NAME, "there is no golden.json")
            }
            (None, None) => CheckStep::skipped(NAME, NOT_REACHED),
        }];
    };
    // Of the cases after the last that is told it is not known which failed.
    let last = golden.failures.last().map_or(0, |failure| failure.case);
    let known = if golden.failures_more > 0 { last } else { golden.cases };
    let mut steps: Vec<_> = (1..=known)
        .map(|case| {
            let name = format!("golden case {case}");
            let failed = golden.failures.iter().find(|failure| failure.case == case);
            match failed {
                Some(failed) => CheckStep::failed(name, &failed.reason),
                None => CheckStep::passed(&name, None),
            }
        })
        .collect();
    if golden.failures_more > 0 {
        let (more, rest) = (golden.failures_more, golden.cases - known);
        let why = format!("{more} more of the other {rest} cases failed");
        steps.push(CheckStep::failed("golden cases after these", why));
    }
    steps
}

fn rows_step(report: &Report, failure: Option<&Failure>) -> CheckStep {
    const NAME: &str = "rows-independent";
    if let Some(why) = failed_at(&[Stage::Rows], failure) {
        return CheckStep::failed(NAME, why);
    }
    let rows = &report.rows;
    let detail = rows.detail.clone();
    match rows.verdict {
        RowsVerdict::Independent => CheckStep::passed(NAME, detail),
        // Such a model serves: its requests are not run together.
        RowsVerdict::Dependent => {
            let detail = detail.unwrap_or_default();
            CheckStep::skipped(NAME, format!("they depend on their batch: {detail}"))
        }
        RowsVerdict::NotApplicable => {
            let detail = detail.unwrap_or_default();
            CheckStep::skipped(NAME, format!("not applicable: {detail}"))
        }
        RowsVerdict::Unknown => {
            CheckStep::skipped(NAME, detail.unwrap_or_else(|| NOT_REACHED.to_owned()))
        }
    }
}

fn cost_step(file: &ModelFile, report: &Report, failure: Option<&Failure>) -> CheckStep {
    const NAME: &str = "cost";
    if let Some(why) = failed_at(&[Stage::Cost], failure) {
        return CheckStep::failed(NAME, why);
    }
    if report.costs.is_empty() {
        let why = report.costs_note.as_deref().unwrap_or(NOT_REACHED);
        return CheckStep::skipped(NAME, why);
    }
    match gate::cost(file.gate, report.row_seconds()) {
        Ok(()) => CheckStep::passed(NAME, report.costs_note.clone()),
        Err(why) => CheckStep::failed(NAME, why.strip_prefix("cost: ").unwrap_or(&why)),
    }
}

fn memory_step(report: &Report, failure: Option<&Failure>) -> CheckStep {
    const NAME: &str = "memory";
    match failed_at(&[Stage::Memory], failure) {
        Some(why) => CheckStep::failed(NAME, why),
        None if report.warm_up_seconds.is_some() => CheckStep::passed(NAME, None),
        None => CheckStep::skipped(NAME, NOT_REACHED),
    }
}
