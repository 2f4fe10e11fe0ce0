//! A model whose weights lie in a file of their own, from the moment that its
//! folder is half there to the moment that it is gone.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message as _;
use serde_json::Value;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};

use crate::http::Client;
use crate::program::serve;

/// Ends a test that hangs.
const HANG: Duration = Duration::from_secs(300);
const WIDTH: i64 = 20_000;

/// `y = x · w`, with `w` of [2, WIDTH] in `weights/w.bin`.
fn model() -> Vec<u8> {
    let value = |name: &str, width| {
        let dim = |value| tensor_shape_proto::Dimension {
            value: Some(value),
            ..tensor_shape_proto::Dimension::default()
        };
        let rows = dim(tensor_shape_proto::dimension::Value::DimParam("N".into()));
        let columns = dim(tensor_shape_proto::dimension::Value::DimValue(width));
        let shape = Some(TensorShapeProto { dim: vec![rows, columns] });
        let tensor = type_proto::Tensor { elem_type: 1, shape };
        let value = Some(type_proto::Value::TensorType(tensor));
        let r#type = Some(TypeProto { value, ..TypeProto::default() });
        ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
    };
    let entry =
        |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let weights = TensorProto {
        name: "w".into(),
        dims: vec![2, WIDTH],
        data_type: 1,
        data_location: Some(1),
        external_data: vec![
            entry("location", "weights/w.bin"),
            entry("offset", "4"),
            entry("length", &(2 * WIDTH * 4).to_string()),
        ],
        ..TensorProto::default()
    };
    let graph = GraphProto {
        name: "g".into(),
        node: vec![NodeProto {
            op_type: "MatMul".into(),
            input: vec!["x".into(), "w".into()],
            output: vec!["y".into()],
            ..NodeProto::default()
        }],
        initializer: vec![weights],
        input: vec![value("x", 2)],
        output: vec![value("y", WIDTH)],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(graph),
        ..ModelProto::default()
    }
    .encode_to_vec()
}

/// Four bytes of something else, then all weights alike.
fn weights(of: f32) -> Vec<u8> {
    std::iter::repeat_n(of, 1 + 2 * usize::try_from(WIDTH).unwrap())
        .flat_map(f32::to_le_bytes)
        .collect()
}

/// Asks until version 1 is as `is` wants it.
async fn version(admin: &mut Client, mut is: impl FnMut(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let model = admin.get("/v1/models/m").await.json();
        let version = model["versions"][0].clone();
        if is(&version) {
            return version;
        }
        assert!(began.elapsed() < HANG, "{model:#}");
    }
}

fn says(version: &Value, words: &str) -> bool {
    version["reason"].as_str().is_some_and(|reason| reason.contains(words))
}

fn serves_from_its_own_copy(engine: &str) {
    let root = tempfile::tempdir().unwrap();
    let (models, state) = (root.path().join("models"), root.path().join("state"));
    let folder = models.join("m/1");
    fs::create_dir_all(folder.join("weights")).unwrap();
    fs::write(folder.join("model.onnx"), model()).unwrap();
    fs::write(folder.join("version.toml"), format!("engine = \"{engine}\"\n")).unwrap();
    let settings =
        [("FORESHADOW_REPOSITORY_SETTLE", "20ms"), ("FORESHADOW_REPOSITORY_RESCAN", "100ms")];
    let mut program = serve(&models, &state, &settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut admin = Client::connect(program.admin).await;
        let answer = async || {
            // An idle connection would end while a busy machine loads.
            let mut inference = Client::connect(program.inference).await;
            let reply = inference.post("/predict/m", r#"{"instances": [[1, 2]]}"#).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            reply.json()["predictions"][0][0].clone()
        };
        let waits = |v: &Value| says(v, "waits for weights/w.bin, in which model.onnx keeps");
        version(&mut admin, waits).await;
        fs::write(folder.join("weights/w.bin"), &weights(0.5)[4..]).unwrap();
        version(&mut admin, |v| says(v, "160004 bytes") && says(v, "now it has 160000")).await;
        fs::write(folder.join("weights/w.bin"), weights(0.5)).unwrap();
        let ready = version(&mut admin, |v| v["state"] == "ready" || v["state"] == "failed").await;
        assert_eq!((&ready["state"], &ready["engine"]), (&"ready".into(), &engine.into()));
        assert_eq!(ready["digest"].as_str().unwrap(), format!("sha256:{}", sha256sum(&folder)));
        assert_eq!(answer().await, 1.5);
        // Nothing that happens in the watched folder reaches what serves.
        fs::write(folder.join("weights/w.bin"), weights(7.0)).unwrap();
        version(&mut admin, |v| says(v, "its files changed")).await;
        fs::File::create(folder.join("weights/w.bin")).unwrap();
        assert_eq!(answer().await, 1.5);
        let pinned = fs::read_dir(state.join("versions")).unwrap().count();
        assert_eq!(pinned, 1);
    });
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
    // What nobody needs any more goes with the next start, where nothing is kept for a
    // rollback.
    fs::remove_dir_all(models.join("m")).unwrap();
    copy_sample(&models);
    let nothing = ("FORESHADOW_REPOSITORY_KEEP_VERSIONS", "0");
    let mut program = serve(&models, &state, &[&settings[..], &[nothing]].concat());
    program.line("  churn");
    let began = Instant::now();
    while fs::read_dir(state.join("versions")).unwrap().count() > 0 {
        assert!(began.elapsed() < HANG);
    }
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
}

/// What a person would call the version.
fn sha256sum(folder: &Path) -> String {
    let script = "sha256sum model.onnx weights/w.bin | sha256sum | cut -d' ' -f1";
    let output =
        std::process::Command::new("sh").arg("-c").arg(script).current_dir(folder).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

fn copy_sample(models: &Path) {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/churn");
    fs::create_dir_all(models.join("churn/1")).unwrap();
    fs::copy(sample.join("1/model.onnx"), models.join("churn/1/model.onnx")).unwrap();
}

#[test]
fn tract_serves_from_its_own_copy() {
    serves_from_its_own_copy("tract");
}

#[test]
fn onnxruntime_serves_from_its_own_copy() {
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        println!("skipped: set ORT_DYLIB_PATH to libonnxruntime.so");
        return;
    }
    serves_from_its_own_copy("onnxruntime");
}
