//! What a trial found out: plain values, kept as JSON and shown to people.
//!
//! Everything has a default, so that a report of another version of this
//! program can be read.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::Operator;
use crate::types::{Dim, Docs, Signature, TensorSpec};

/// The largest report, in bytes of JSON.
pub(super) const REPORT_BYTES_MAX: usize = 1 << 20;
/// The longest text that is taken from an artifact, in characters.
const TEXT_MAX: usize = 2048;
/// Properties of an artifact that are taken.
const PROPERTIES_MAX: usize = 64;
/// Operators that are listed.
const OPERATORS_MAX: usize = 512;

/// What a candidate has shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Report {
    /// The engine that ran it.
    pub engine: String,
    /// That engine's version; empty where it cannot tell.
    pub engine_version: String,
    /// What it takes and gives.
    pub signature: SignatureReport,
    /// What the artifact says of itself.
    pub docs: DocsReport,
    /// The operators of its graph; empty where the engine cannot tell.
    pub operators: Vec<OperatorReport>,
    /// Time that loading and optimising took.
    pub load_seconds: Option<f64>,
    /// Time that warming up took.
    pub warm_up_seconds: Option<f64>,
    /// What a run costs, by batch size.
    pub costs: Vec<BatchCost>,
    /// Why no larger batches were measured, if there is a reason.
    pub costs_note: Option<String>,
    /// What it needs in memory.
    pub memory: MemoryReport,
    /// Whether a row's answer depends on its batch.
    pub rows: RowsReport,
    /// What came of its `golden.json`, if it has one.
    pub golden: Option<GoldenReport>,
}

/// What a version takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SignatureReport {
    /// In words: `x FP32 [-1, 4] → label INT64 [-1]`.
    pub words: String,
    /// What must be sent.
    pub inputs: Vec<TensorReport>,
    /// What comes back.
    pub outputs: Vec<TensorReport>,
}

/// An input or output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its element type, as in the Open Inference Protocol.
    pub datatype: String,
    /// Its dimensions; −1 may vary.
    pub shape: Vec<i64>,
    /// The name of each dimension that may vary; empty for one without a name
    /// and for a fixed one.
    pub symbols: Vec<String>,
    /// What the author wrote about it.
    pub doc: String,
    /// The classes of a classifier's probabilities, in order.
    pub classes: Vec<String>,
}

/// What an artifact says of itself, cut to a bounded length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DocsReport {
    /// The author's description.
    pub description: String,
    /// The program that wrote the artifact, with its version.
    pub producer: String,
    /// Free properties.
    pub properties: Vec<PropertyReport>,
}

/// A free property of an artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PropertyReport {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// An operator and how often the graph uses it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct OperatorReport {
    /// The domain; empty for the standard's own operators.
    pub domain: String,
    /// The type, `Gemm` for instance.
    pub op_type: String,
    /// Nodes of this type.
    pub count: usize,
}

/// What a batch of one size costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BatchCost {
    /// Rows in the batch.
    pub rows: usize,
    /// Runs that were measured.
    pub runs: usize,
    /// The median time of a run.
    pub seconds: f64,
    /// That time by row.
    pub seconds_per_row: f64,
}

/// Memory of the process that tried it, beyond what it had before; 0 where
/// the system cannot tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct MemoryReport {
    /// Resident once it was loaded and warmed up.
    pub resident_bytes: u64,
    /// The most that was resident until then: what loading it takes.
    pub load_peak_bytes: u64,
    /// The most that was resident in the whole trial, large batches included.
    pub peak_bytes: u64,
}

/// Whether rows are independent of their batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RowsReport {
    /// The finding.
    pub verdict: RowsVerdict,
    /// The first difference, or why nothing was found out.
    pub detail: Option<String>,
    /// Rows that were run alone and in batches.
    pub rows: usize,
    /// The largest difference of a number between the two.
    pub difference_max: f64,
}

/// What was found out about the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowsVerdict {
    /// Each row's answer alone is its answer in every batch.
    Independent,
    /// Some row's answer is another one in a batch.
    Dependent,
    /// Its inputs or outputs have no rows.
    NotApplicable,
    /// It was not found out.
    #[default]
    Unknown,
}

/// What came of the golden cases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GoldenReport {
    /// Cases that were run.
    pub cases: usize,
    /// Rows in them.
    pub rows: usize,
    /// The largest difference of a number from what was expected.
    pub difference_max: f64,
    /// The cases that failed, the first of them if there are many.
    pub failures: Vec<GoldenFailure>,
    /// Cases that failed besides.
    pub failures_more: usize,
}

/// A golden case that failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GoldenFailure {
    /// Its place in the file, from 1.
    pub case: usize,
    /// Output, index, what was expected and what came.
    pub reason: String,
}

impl Report {
    /// Whether each row may be run in any batch.
    #[must_use]
    pub fn rows_independent(&self) -> bool {
        self.rows.verdict == RowsVerdict::Independent
    }

    /// The time of a request of one row, if it was measured.
    #[must_use]
    pub fn row_seconds(&self) -> Option<f64> {
        self.costs.first().filter(|cost| cost.rows == 1).map(|cost| cost.seconds)
    }
}

impl SignatureReport {
    /// Writes a signature down.
    #[must_use]
    pub fn of(signature: &Signature) -> Self {
        Self {
            words: in_words(signature),
            inputs: signature.inputs.iter().map(TensorReport::of).collect(),
            outputs: signature.outputs.iter().map(TensorReport::of).collect(),
        }
    }

    /// The signature again, without the artifact's words about itself; `None`
    /// if it names a datatype that we do not know.
    #[must_use]
    pub fn signature(&self) -> Option<Signature> {
        let specs = |reports: &[TensorReport]| {
            reports.iter().map(TensorReport::spec).collect::<Option<Vec<_>>>()
        };
        Some(Signature::new(specs(&self.inputs)?, specs(&self.outputs)?))
    }
}

impl TensorReport {
    fn of(spec: &TensorSpec) -> Self {
        let symbol = |dim: &Dim| match dim {
            Dim::Symbol(name) => name.clone(),
            Dim::Fixed(_) | Dim::Any => String::new(),
        };
        Self {
            name: spec.name.clone(),
            datatype: spec.datatype.to_string(),
            shape: spec.wire_shape(),
            symbols: spec.shape.iter().map(symbol).collect(),
            doc: cut(&spec.doc),
            classes: spec.classes.to_vec(),
        }
    }

    fn spec(&self) -> Option<TensorSpec> {
        let symbols = self.symbols.iter().map(String::as_str).chain(std::iter::repeat(""));
        let dim = |(&size, symbol): (&i64, &str)| match usize::try_from(size) {
            Ok(size) => Dim::Fixed(size),
            Err(_) if symbol.is_empty() => Dim::Any,
            Err(_) => Dim::Symbol(symbol.to_owned()),
        };
        let shape = self.shape.iter().zip(symbols).map(dim).collect();
        let mut spec = TensorSpec::new(&self.name, self.datatype.parse().ok()?, shape);
        spec.classes = self.classes.iter().cloned().collect();
        Some(spec)
    }
}

impl DocsReport {
    /// Writes them down, cut where they are long.
    #[must_use]
    pub fn of(docs: &Docs) -> Self {
        let property = |(name, value): &(String, String)| PropertyReport {
            name: cut(name),
            value: cut(value),
        };
        Self {
            description: cut(&docs.description),
            producer: cut(&docs.producer),
            properties: docs.properties.iter().take(PROPERTIES_MAX).map(property).collect(),
        }
    }
}

impl OperatorReport {
    /// Writes the operators down.
    #[must_use]
    pub fn of(operators: &[Operator]) -> Vec<Self> {
        let one = |operator: &Operator| Self {
            domain: operator.domain.clone(),
            op_type: operator.op_type.clone(),
            count: operator.count,
        };
        operators.iter().take(OPERATORS_MAX).map(one).collect()
    }
}

/// `x FP32 [-1, 4] → label INT64 [-1]`.
fn in_words(signature: &Signature) -> String {
    let list = |specs: &[TensorSpec]| {
        let one = |s: &TensorSpec| format!("{} {} {:?}", s.name, s.datatype, s.wire_shape());
        specs.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    format!("{} → {}", list(&signature.inputs), list(&signature.outputs))
}

/// The first characters of a text.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Datatype;

    fn signature() -> Signature {
        let n = Dim::Symbol("N".into());
        let mut probabilities =
            TensorSpec::new("p", Datatype::Fp32, vec![n.clone(), Dim::Fixed(2), Dim::Any]);
        probabilities.classes = ["no".to_owned(), "yes".to_owned()].into();
        let input = TensorSpec::new("x", Datatype::Bytes, vec![n, Dim::Fixed(12)]);
        Signature::new(vec![input], vec![probabilities])
    }

    #[test]
    fn a_signature_survives_being_written_down() {
        let report = SignatureReport::of(&signature());
        assert_eq!(report.words, "x BYTES [-1, 12] → p FP32 [-1, 2, -1]");
        assert_eq!(report.outputs[0].symbols, ["N", "", ""]);
        let text = serde_json::to_string(&report).unwrap();
        let read: SignatureReport = serde_json::from_str(&text).unwrap();
        assert_eq!(read.signature(), Some(signature()));
        let mut unknown = report;
        unknown.inputs[0].datatype = "FP8".into();
        assert_eq!(unknown.signature(), None);
    }

    #[test]
    fn a_report_with_other_fields_is_read() {
        let read: Report = serde_json::from_str(r#"{"engine": "tract", "news": 1}"#).unwrap();
        assert_eq!(read, Report { engine: "tract".into(), ..Report::default() });
    }

    #[test]
    fn what_the_artifact_says_is_cut() {
        let docs = Docs {
            description: "ä".repeat(TEXT_MAX + 1),
            properties: vec![(String::new(), String::new()); PROPERTIES_MAX + 1],
            ..Docs::default()
        };
        let report = DocsReport::of(&docs);
        assert_eq!(report.description, format!("{}…", "ä".repeat(TEXT_MAX)));
        assert_eq!(report.properties.len(), PROPERTIES_MAX);
    }
}
