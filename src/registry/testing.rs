//! What this component's tests share: an engine whose artifacts are words,
//! and a preflight that believes everything.

use std::path::Path;
use std::sync::Arc;

use crate::engine::{Engine, EngineError, EngineErrorKind, Model, Session};
use crate::registry::preflight::{BatchCost, Candidate, Failure, Preflight, Report, Stage};
use crate::serving::LoadedVersion;
use crate::types::{
    Data, Datatype, Digest, Dim, ModelName, Signature, Tensor, TensorSpec, VersionId,
};

/// Loads any file as a model that doubles its input `x` into `y`; a file that
/// begins with `broken` does not load. `columns 3` makes its rows so wide.
pub(super) struct FakeEngine;

struct Doubler(Signature);

struct DoublerSession;

impl Engine for FakeEngine {
    /// That of the engine that models have by default.
    fn name(&self) -> &'static str {
        "tract"
    }

    fn load(&self, artifact: &Path) -> Result<Arc<dyn Model>, EngineError> {
        let text = std::fs::read_to_string(artifact).unwrap();
        if text.starts_with("broken") {
            return Err(EngineError::new(EngineErrorKind::Unsupported, text));
        }
        Ok(doubler(number(&text, "columns").unwrap_or(1)))
    }
}

/// The number after a word.
fn number(text: &str, word: &str) -> Option<u32> {
    let mut words = text.split_whitespace();
    words.find(|w| *w == word)?;
    words.next()?.parse().ok()
}

fn doubler(columns: u32) -> Arc<dyn Model> {
    let columns = Dim::Fixed(usize::try_from(columns).unwrap());
    let spec = |name: &str| {
        TensorSpec::new(name, Datatype::Fp32, vec![Dim::Symbol("N".into()), columns.clone()])
    };
    Arc::new(Doubler(Signature::new(vec![spec("x")], vec![spec("y")])))
}

impl Model for Doubler {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(DoublerSession))
    }
}

impl Session for DoublerSession {
    /// Panics on 13.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let Data::Fp32(x) = inputs[0].data() else { unreachable!("checked") };
        assert!(!x.contains(&13.0), "thirteen");
        let data = Data::Fp32(x.iter().map(|v| v * 2.0).collect());
        Ok(vec![Tensor::new("y", inputs[0].shape().to_vec(), data).unwrap()])
    }
}

/// A version that doubles.
pub(super) fn version() -> LoadedVersion {
    let (name, id) = (ModelName::new("doubler").unwrap(), VersionId::new(1).unwrap());
    LoadedVersion::new(name, id, Digest::new([0; 32]), "fake", doubler(1))
}

/// Passes everything but artifacts that begin with `hostile`; `cost 100` says
/// how many microseconds a row took.
pub(super) struct FakePreflight;

impl Preflight for FakePreflight {
    fn try_candidate(&self, candidate: &Candidate) -> Result<Report, Failure> {
        let text = std::fs::read_to_string(&candidate.artifact).unwrap();
        if text.starts_with("hostile") {
            return Err(Failure::new(Stage::Load, text));
        }
        let costs = number(&text, "cost").map(|micros| BatchCost {
            rows: 1,
            seconds: f64::from(micros) * 1e-6,
            ..BatchCost::default()
        });
        Ok(Report { costs: costs.into_iter().collect(), ..Report::default() })
    }
}

/// An ONNX file that keeps one tensor in each of these files, and how many
/// bytes it needs of each.
pub(super) fn onnx_with_files(files: &[(&str, u64)]) -> Vec<u8> {
    use prost::Message as _;
    use tract_onnx::pb::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};

    let entry =
        |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let tensor = |(location, bytes): &(&str, u64)| TensorProto {
        name: (*location).into(),
        data_location: Some(1),
        external_data: vec![entry("location", location), entry("length", &bytes.to_string())],
        ..TensorProto::default()
    };
    let initializer = files.iter().map(tensor).collect();
    let graph = Some(GraphProto { initializer, ..GraphProto::default() });
    ModelProto { ir_version: 8, graph, ..ModelProto::default() }.encode_to_vec()
}
