//! Broken and hostile model files, dropped into the repository while the real
//! program serves: each gets a reason, and no request notices.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message as _;
use serde_json::Value;
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value as TypeValue};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
};

use crate::http::Client;
use crate::program::{Program, serve};

const MUTANTS: usize = 200;
/// Ends a test that hangs; 200 candidates, each in a process of its own.
const HANG: Duration = Duration::from_secs(600);
pub(crate) const ROW: &str =
    r#"{"instances": [[8, 39.25, 289.75, 24, 1, 1, 2.5, 3, 1, 4, 0, 29]]}"#;

/// A small generator of numbers that are the same on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // splitmix64 (Steele, Lea & Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}

/// Cuts it, or changes up to eight bytes, or both.
fn mutate(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let how = numbers.below(4);
    if how == 0 {
        bytes.truncate(numbers.below(bytes.len()));
        return bytes;
    }
    for _ in 0..=numbers.below(8) {
        let at = numbers.below(bytes.len());
        bytes[at] = numbers.next().to_le_bytes()[0];
    }
    if how == 1 {
        bytes.truncate(bytes.len() - numbers.below(bytes.len() / 2));
    }
    bytes
}

/// `models/churn` with version 1 only, in a folder of its own.
pub(crate) fn repository() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let churn = folder.path().join("models/churn");
    fs::create_dir_all(churn.join("1")).unwrap();
    // Rows, so that the line to paste is printed: it tells that all is loaded.
    fs::copy(sample().join("../sample.json"), churn.join("sample.json")).unwrap();
    for file in ["model.onnx", "version.toml", "golden.json"] {
        fs::copy(sample().join(file), churn.join("1").join(file)).unwrap();
    }
    (folder, churn)
}

pub(crate) fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/churn/1")
}

/// A whole version folder, seen at once. The golden answers are those of the
/// model as it was before it was broken.
fn drop_version(churn: &Path, number: usize, bytes: &[u8]) {
    let hidden = churn.join(format!(".new-{number}"));
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("model.onnx"), bytes).unwrap();
    fs::copy(sample().join("golden.json"), hidden.join("golden.json")).unwrap();
    fs::rename(hidden, churn.join(number.to_string())).unwrap();
}

fn start(folder: &Path, limit: &str) -> Program {
    let settings = [
        ("FORESHADOW_REPOSITORY_SETTLE", "50ms"),
        ("FORESHADOW_REPOSITORY_LOAD_THREADS", "2"),
        ("FORESHADOW_PREFLIGHT_TIME_MAX", limit),
        ("FORESHADOW_PREFLIGHT_MEMORY_MAX", "256MiB"),
    ];
    let mut program = serve(&folder.join("models"), &folder.join("state"), &settings);
    program.line("Try:");
    program
}

/// Asks all the while, until every version but the first is ready or failed;
/// these versions.
pub(crate) fn watch(program: &Program, expected: usize) -> Vec<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut inference = Client::connect(program.inference).await;
        let mut admin = Client::connect(program.admin).await;
        let began = Instant::now();
        loop {
            for _ in 0..20 {
                let reply = inference.post("/predict/churn", ROW).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                assert_eq!(reply.header("x-model-version"), "1");
            }
            let model = admin.get("/v1/models/churn").await.json();
            let versions = model["versions"].as_array().unwrap().clone();
            let done = |v: &&Value| ["ready", "failed"].contains(&v["state"].as_str().unwrap());
            if versions.iter().filter(done).count() == expected + 1 {
                return versions.into_iter().filter(|v| v["version"] != 1).collect();
            }
            assert!(began.elapsed() < HANG, "{model:#}");
        }
    })
}

#[test]
fn two_hundred_mutants_harm_nothing_and_each_has_its_reason() {
    let (folder, churn) = repository();
    let mut program = start(folder.path(), "20s");
    let original = fs::read(sample().join("model.onnx")).unwrap();
    let mut numbers = Numbers(20_261_123);
    for number in 2..2 + MUTANTS {
        drop_version(&churn, number, &mutate(&original, &mut numbers));
    }
    let versions = watch(&program, MUTANTS);
    let mut failed = 0;
    for version in &versions {
        if version["state"] == "failed" {
            failed += 1;
            let reason = version["reason"].as_str().unwrap_or_default();
            assert!(!reason.is_empty(), "{version:#}");
        }
    }
    assert!(failed > MUTANTS / 4, "only {failed} failed: the mutations do not bite");
    println!("{failed} of {MUTANTS} mutants failed, each with a reason");
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
}

/// A model with these nodes; `input` FP32 [N, 12] goes in, `y` comes out.
fn model(nodes: Vec<NodeProto>, constants: Vec<TensorProto>, output: &str) -> Vec<u8> {
    let float = 1;
    let dim = |value| Dimension { value: Some(value), ..Dimension::default() };
    let value = |name: &str, shape: Option<TensorShapeProto>| ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(TypeValue::TensorType(TensorType { elem_type: float, shape })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    };
    let rows = dim(dimension::Value::DimParam("N".into()));
    let columns = dim(dimension::Value::DimValue(12));
    let graph = GraphProto {
        name: "hostile".into(),
        node: nodes,
        initializer: constants,
        input: vec![value("input", Some(TensorShapeProto { dim: vec![rows, columns] }))],
        output: vec![value(output, None)],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![opset],
        graph: Some(graph),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: format!("make_{output}"),
        input: inputs.iter().map(|s| (*s).to_owned()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

fn shape(name: &str, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![i64::try_from(dims.len()).unwrap()],
        data_type: 7,
        int64_data: dims.to_vec(),
        ..TensorProto::default()
    }
}

/// 200 GB of ones.
pub(crate) fn greedy() -> Vec<u8> {
    let one = TensorProto {
        dims: vec![1],
        data_type: 1,
        float_data: vec![1.0],
        ..TensorProto::default()
    };
    let value = AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Tensor.into(),
        t: Some(one),
        ..AttributeProto::default()
    };
    let nodes = vec![
        node("ConstantOfShape", &["size"], "ones", vec![value]),
        node("ReduceSum", &["ones"], "sum", vec![]),
        node("Add", &["input", "sum"], "y", vec![]),
    ];
    model(nodes, vec![shape("size", &[50_000_000_000])], "y")
}

/// Tensors of 196 MB, each small enough to pass for honest; together they are
/// over the limit of 256 MiB.
fn greedy_in_parts() -> Vec<u8> {
    let nodes = vec![
        node("ReduceSum", &["input"], "s", vec![]),
        node("Expand", &["s", "size"], "wide", vec![]),
        node("Sqrt", &["wide"], "root", vec![]),
        node("Add", &["wide", "root"], "both", vec![]),
        node("ReduceSum", &["both"], "y", vec![]),
    ];
    model(nodes, vec![shape("size", &[7_000, 7_000])], "y")
}

/// Thousands of products of large matrices: a small file that computes for hours.
pub(crate) fn endless() -> Vec<u8> {
    let mut nodes = vec![
        node("ReduceSum", &["input"], "s", vec![]),
        node("Expand", &["s", "size"], "m0", vec![]),
    ];
    for i in 0..3000 {
        let (from, to) = (format!("m{i}"), format!("m{}", i + 1));
        nodes.push(node("MatMul", &[&from, &from], &to, vec![]));
    }
    nodes.push(node("ReduceSum", &["m3000"], "y", vec![]));
    model(nodes, vec![shape("size", &[2000, 2000])], "y")
}

/// One divided by the sum of the inputs, in integers: zeros make it panic.
fn panicking() -> Vec<u8> {
    let to = |datatype| AttributeProto {
        name: "to".into(),
        r#type: AttributeType::Int.into(),
        i: datatype,
        ..AttributeProto::default()
    };
    let nodes = vec![
        node("ReduceSum", &["input"], "s", vec![]),
        node("Cast", &["s"], "whole", vec![to(7)]),
        node("Div", &["one", "whole"], "quotient", vec![]),
        node("Cast", &["quotient"], "y", vec![to(1)]),
    ];
    model(nodes, vec![shape("one", &[1])], "y")
}

/// An output that no node makes.
fn dangling() -> Vec<u8> {
    model(vec![node("Identity", &["input"], "z", vec![])], vec![], "y")
}

/// Drops files in, from version 2 on, and looks for a word of each one's reason.
fn fail(limit: &str, files: &[(Vec<u8>, &[&str])]) {
    let (folder, churn) = repository();
    let mut program = start(folder.path(), limit);
    for (i, (bytes, _)) in files.iter().enumerate() {
        drop_version(&churn, i + 2, bytes);
    }
    for version in watch(&program, files.len()) {
        let reason = version["reason"].as_str().unwrap_or_default();
        println!("version {}: {reason}", version["version"]);
        assert_eq!(version["state"], "failed", "{version:#}");
        let number = usize::try_from(version["version"].as_u64().unwrap()).unwrap();
        let (_, expected) = &files[number - 2];
        assert!(expected.iter().any(|word| reason.contains(word)), "{expected:?}: {version:#}");
    }
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
}

#[test]
fn files_that_panic_or_ask_for_200_gb_fail_with_their_reason() {
    let files: [(Vec<u8>, &[&str]); 5] = [
        (greedy(), &["50000000000 elements"]),
        (panicking(), &["tract panicked: attempt to divide by zero"]),
        (dangling(), &["nothing produces the output \"y\""]),
        (b"this is no protobuf".to_vec(), &["no ONNX file"]),
        // Found by the watch, or by the allocator that the kernel refused.
        (greedy_in_parts(), &["memory limit", "SIGABRT"]),
    ];
    fail("10m", &files);
}

#[test]
fn a_file_that_loops_fails_at_the_time_limit() {
    fail("5s", &[(endless(), &["killed after 5s (time limit)"])]);
}

/// Whether a process runs: one that ended and was not waited for does not.
pub(crate) fn runs(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn no_child_outlives_a_gateway_that_ends_while_it_tries_one() {
    for (signal, code) in [("KILL", None), ("TERM", Some(0))] {
        let (folder, churn) = repository();
        let mut program = start(folder.path(), "10m");
        drop_version(&churn, 2, &endless());
        let began = Instant::now();
        let child = loop {
            assert!(began.elapsed() < HANG, "no child came");
            if let [child] = program.children()[..] {
                break child;
            }
        };
        program.signal(signal);
        assert_eq!(program.wait().0, code);
        while runs(child) {
            assert!(began.elapsed() < HANG, "the child lives on after SIG{signal}");
        }
    }
}
