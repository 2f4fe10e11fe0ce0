//! What the child does with a candidate, stage by stage.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{Engine, EngineSet, declare};
use crate::registry::preflight::golden::Golden;
use crate::registry::preflight::memory::Own;
use crate::registry::preflight::report::{REPORT_BYTES_MAX, cut};
use crate::registry::preflight::{
    Candidate, DocsReport, End, Limits, Message, OperatorReport, Report, SignatureReport, Stage,
    costs, memory, rows,
};
use crate::serving::LoadedVersion;
use crate::types::Tensor;

/// Time for each of the two stages that may be cut short, rows and cost.
const BUDGET: Duration = Duration::from_millis(750);
/// Part of the time limit that it may be at most.
const BUDGET_PART: u32 = 16;

/// A trial that goes on. `tell` hears where it is and what was found out.
struct Trial<'a, T: FnMut(&Message)> {
    candidate: &'a Candidate,
    limits: Limits,
    message: Message,
    before: Own,
    tell: T,
}

/// Loads a candidate, warms it up, checks its golden cases, and measures.
/// `tell` hears of the start of each stage, and last of the end.
pub(super) fn attempt(
    candidate: &Candidate,
    limits: Limits,
    engines: &EngineSet,
    tell: impl FnMut(&Message),
) {
    let before = memory::own().unwrap_or_default();
    let message = Message::default();
    let mut trial = Trial { candidate, limits, message, before, tell };
    let end = match trial.run(engines).and_then(|()| trial.bound()) {
        Ok(()) => End::Passed,
        Err(why) => End::Failed(cut(&why)),
    };
    trial.message.end = Some(end);
    trial.speak();
}

impl<T: FnMut(&Message)> Trial<'_, T> {
    fn run(&mut self, engines: &EngineSet) -> Result<(), String> {
        self.begin(Stage::Load);
        let engine = engines.require(&self.candidate.engine).map_err(|e| e.to_string())?;
        let version = self.load(engine)?;
        self.begin(Stage::WarmUp);
        let started = Instant::now();
        let declared = self.candidate.declared.as_ref();
        let samples = declared.map(|declared| &declared.warm_up[..]).unwrap_or_default();
        let warmed_up = version.warm_up().and_then(|_| version.warm_up_with(samples));
        warmed_up.map_err(|error| format!("warm-up: {error}"))?;
        self.report().warm_up_seconds = Some(started.elapsed().as_secs_f64());
        self.weigh_loaded();
        self.begin(Stage::Golden);
        let samples = self.golden(&version)?;
        self.measure(&version, &samples);
        Ok(())
    }

    fn load(&mut self, engine: &Arc<dyn Engine>) -> Result<LoadedVersion, String> {
        let candidate = self.candidate;
        self.report().engine = engine.name().to_owned();
        let started = Instant::now();
        let graph = engine.load(&candidate.artifact);
        let graph = graph.and_then(|graph| declare(graph, candidate.declared.as_ref()));
        let graph = graph.map_err(|error| error.to_string())?;
        let report = self.report();
        // A library is loaded with the first model.
        report.engine_version = engine.version();
        report.load_seconds = Some(started.elapsed().as_secs_f64());
        report.signature = SignatureReport::of(graph.signature());
        report.docs = DocsReport::of(&graph.signature().docs);
        report.operators = OperatorReport::of(graph.operators());
        self.weigh();
        self.bound()?;
        let (model, digest) = (candidate.model.clone(), candidate.digest);
        Ok(LoadedVersion::new(model, candidate.version, digest, engine.name(), graph))
    }

    /// Checks the golden cases; their inputs, as samples of what will come.
    fn golden(&mut self, version: &LoadedVersion) -> Result<Vec<Vec<Tensor>>, String> {
        let Some((path, _)) = &self.candidate.golden else { return Ok(Vec::new()) };
        let text = fs::read_to_string(path).map_err(|e| format!("golden.json: {e}"))?;
        let golden = Golden::parse(&text).map_err(|why| format!("golden.json: {why}"))?;
        let report = golden.check(version);
        let verdict = report.verdict();
        self.report().golden = Some(report);
        verdict.map_or_else(|| Ok(golden.samples(version)), Err)
    }

    /// What is good to know; nothing of it fails a version that runs.
    fn measure(&mut self, version: &LoadedVersion, samples: &[Vec<Tensor>]) {
        let budget = BUDGET.min(self.limits.time_max / BUDGET_PART);
        self.begin(Stage::Rows);
        self.report().rows = rows::examine(version, samples, budget);
        self.begin(Stage::Cost);
        let (costs, note) = costs::measure(version, samples, budget, self.limits);
        let report = self.report();
        (report.costs, report.costs_note) = (costs, note);
        self.weigh();
    }

    const fn report(&mut self) -> &mut Report {
        &mut self.message.report
    }

    fn begin(&mut self, stage: Stage) {
        self.message.stage = stage;
        self.speak();
    }

    fn speak(&mut self) {
        (self.tell)(&self.message);
    }

    fn weigh(&mut self) {
        let peak = memory::own().unwrap_or_default().peak;
        self.message.report.memory.peak_bytes = peak.saturating_sub(self.before.resident);
    }

    fn weigh_loaded(&mut self) {
        self.weigh();
        let now = memory::own().unwrap_or_default();
        let (before, memory) = (self.before.resident, &mut self.message.report.memory);
        memory.resident_bytes = now.resident.saturating_sub(before);
        memory.load_peak_bytes = memory.peak_bytes;
    }

    /// A report has a largest size. What the artifact says of itself is given
    /// up for it; names and shapes are not.
    fn bound(&mut self) -> Result<(), String> {
        if size(self.report()) <= REPORT_BYTES_MAX {
            return Ok(());
        }
        self.report().docs = DocsReport::default();
        let signature = &mut self.report().signature;
        for spec in signature.inputs.iter_mut().chain(&mut signature.outputs) {
            spec.doc.clear();
        }
        let size = size(self.report());
        if size <= REPORT_BYTES_MAX {
            return Ok(());
        }
        let signature = std::mem::take(&mut self.report().signature);
        let (inputs, outputs) = (signature.inputs.len(), signature.outputs.len());
        Err(format!(
            "its signature ({inputs} inputs, {outputs} outputs) takes {size} bytes to write \
             down, more than {REPORT_BYTES_MAX}"
        ))
    }
}

fn size(report: &Report) -> usize {
    serde_json::to_vec(report).map_or(usize::MAX, |text| text.len())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::{EngineError, EngineSettings, Model, Session};
    use crate::registry::preflight::RowsVerdict;
    use crate::types::{Datatype, Digest, Dim, ModelName, Signature, TensorSpec, VersionId};

    const LIMITS: Limits = Limits { memory_bytes_max: 1 << 40, time_max: Duration::from_secs(600) };

    fn standard() -> EngineSet {
        EngineSet::standard(&EngineSettings::default())
    }

    /// A sample of this repository, with these golden cases.
    fn candidate(golden: &Path) -> Candidate {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/churn/1");
        let digest = Digest::new([0; 32]);
        Candidate {
            model: ModelName::new("churn").unwrap(),
            version: VersionId::new(1).unwrap(),
            artifact: sample.join("model.onnx"),
            digest,
            golden: Some((sample.join(golden), digest)),
            engine: "tract".into(),
            declared: None,
        }
    }

    /// The stages, and the last message.
    fn attempted(candidate: &Candidate, engines: &EngineSet) -> (Vec<Stage>, Message) {
        let (mut stages, mut last) = (Vec::new(), None);
        attempt(candidate, LIMITS, engines, |message| {
            stages.push(message.stage);
            let text = serde_json::to_string(message).unwrap();
            last = Some(serde_json::from_str(&text).unwrap());
        });
        (stages, last.unwrap())
    }

    #[test]
    fn a_sample_passes_with_its_own_answers() {
        let candidate = candidate(Path::new("golden.json"));
        let (stages, last) = attempted(&candidate, &standard());
        assert_eq!(last.end, Some(End::Passed));
        assert!(stages.is_sorted() && stages.len() == 6, "{stages:?}");
        let report = last.report;
        let signature = "input FP32 [-1, 12] → label INT64 [-1], probabilities FP32 [-1, 2]";
        assert_eq!(report.signature.words, signature);
        assert_eq!((report.engine.as_str(), report.engine_version.is_empty()), ("tract", false));
        assert!(!report.operators.is_empty() && report.load_seconds.is_some(), "{report:?}");
        let golden = report.golden.as_ref().unwrap();
        assert_eq!((golden.cases, golden.rows, golden.failures.len()), (2, 4, 0));
        assert_eq!(report.rows.verdict, RowsVerdict::Independent, "{report:?}");
        let sizes: Vec<_> = report.costs.iter().map(|cost| cost.rows).collect();
        assert!(sizes.starts_with(&[1, 8]) && report.row_seconds().unwrap() > 0.0, "{report:?}");
        #[cfg(target_os = "linux")]
        assert!(report.memory.peak_bytes >= report.memory.load_peak_bytes, "{report:?}");
    }

    #[test]
    fn and_not_with_those_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("golden.json");
        let two = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/churn/2/golden.json");
        fs::copy(two, &other).unwrap();
        let (stages, last) = attempted(&candidate(&other), &standard());
        assert_eq!(stages.last(), Some(&Stage::Golden));
        let Some(End::Failed(why)) = last.end else { panic!("{last:?}") };
        assert!(why.starts_with("golden.json case 1: output \""), "{why}");
        assert!(why.contains("expected") && why.contains("tolerance"), "{why}");
        assert!(!last.report.golden.unwrap().failures.is_empty());
        assert!(!last.report.signature.inputs.is_empty(), "what was found out is told");
    }

    #[test]
    fn an_unknown_engine_is_named() {
        let candidate = candidate(Path::new("golden.json"));
        let (stages, last) = attempted(&candidate, &EngineSet::default());
        assert_eq!(stages, [Stage::Load, Stage::Load]);
        assert!(matches!(last.end, Some(End::Failed(why)) if why.contains("\"tract\"")));
    }

    /// A model of so many inputs, each with so long a description.
    struct Wide(usize, usize);
    struct WideModel(Signature);

    impl Engine for Wide {
        fn name(&self) -> &'static str {
            "wide"
        }
        fn load(&self, _: &Path) -> Result<Arc<dyn Model>, EngineError> {
            let spec = |i: usize| TensorSpec {
                doc: "d".repeat(self.1),
                ..TensorSpec::new(format!("input_{i}"), Datatype::Fp32, vec![Dim::Any])
            };
            Ok(Arc::new(WideModel(Signature::new((0..self.0).map(spec).collect(), vec![]))))
        }
    }

    impl Model for WideModel {
        fn signature(&self) -> &Signature {
            &self.0
        }
        fn session(&self) -> Result<Box<dyn Session>, EngineError> {
            Ok(Box::new(Silent))
        }
    }

    struct Silent;

    impl Session for Silent {
        fn run(&mut self, _: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
            Ok(vec![])
        }
    }

    #[test]
    fn a_report_gives_up_descriptions_before_it_grows_too_large() {
        let mut candidate = candidate(Path::new("golden.json"));
        (candidate.engine, candidate.golden) = ("wide".into(), None);
        let with = |inputs, doc| EngineSet::default().with(Arc::new(Wide(inputs, doc)));
        let (_, last) = attempted(&candidate, &with(1000, 2000));
        assert_eq!(last.end, Some(End::Passed));
        assert!(size(&last.report) <= REPORT_BYTES_MAX);
        assert_eq!(last.report.signature.inputs.len(), 1000);
        let (_, last) = attempted(&candidate, &with(20_000, 0));
        assert!(size(&last.report) <= REPORT_BYTES_MAX);
        assert!(
            matches!(&last.end, Some(End::Failed(why)) if why.contains("20000 inputs")),
            "{:?}",
            last.end
        );
    }
}
