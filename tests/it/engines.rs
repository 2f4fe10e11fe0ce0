//! The second engine, behind the real program. What needs ONNX Runtime's
//! library is skipped without ORT_DYLIB_PATH.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use prost::Message as _;
use serde_json::Value;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, attribute_proto::AttributeType};

use crate::hostile::{ROW, endless, greedy, repository, sample, watch};
use crate::http::Client;
use crate::program::{Program, serve};

/// Ends a test that hangs.
const HANG: Duration = Duration::from_secs(300);

fn library() -> Option<PathBuf> {
    let path = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    if path.is_none() {
        println!("skipped: set ORT_DYLIB_PATH to libonnxruntime.so");
    }
    path
}

/// A gateway over churn's first version whose library is this one.
fn start(folder: &Path, library: &Path, limit: &str) -> Program {
    let settings = [
        ("FORESHADOW_REPOSITORY_SETTLE", "50ms"),
        ("FORESHADOW_PREFLIGHT_TIME_MAX", limit),
        ("FORESHADOW_ENGINE_ONNXRUNTIME_LIBRARY", library.to_str().unwrap()),
    ];
    let mut program = serve(&folder.join("models"), &folder.join("state"), &settings);
    program.line("Try:");
    program
}

/// A version for ONNX Runtime, seen at once.
fn drop_version(churn: &Path, number: usize, bytes: &[u8]) {
    let hidden = churn.join(format!(".new-{number}"));
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("model.onnx"), bytes).unwrap();
    fs::write(hidden.join("version.toml"), "engine = \"onnxruntime\"\n").unwrap();
    fs::rename(hidden, churn.join(number.to_string())).unwrap();
}

fn artifact() -> Vec<u8> {
    fs::read(sample().join("model.onnx")).unwrap()
}

/// The newest version, once it is ready or has failed; the champion answers
/// all the while.
fn newest(program: &Program, number: usize) -> Value {
    let versions = watch(program, number - 1);
    versions.into_iter().find(|version| version["version"] == number).unwrap()
}

fn stop(mut program: Program) {
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
}

#[test]
fn one_engine_shadows_the_other() {
    let Some(library) = library() else { return };
    let (folder, churn) = repository();
    drop_version(&churn, 2, &artifact());
    let roles = "[start]\nchampion = 1\nshadows = [{ version = 2 }]\n";
    fs::write(churn.join("model.toml"), roles).unwrap();
    let program = start(folder.path(), &library, "10m");
    let version = newest(&program, 2);
    assert_eq!(version["state"], "ready", "{version:#}");
    assert_eq!(version["engine"], "onnxruntime");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut inference = Client::connect(program.inference).await;
        for (number, platform) in [(1, "onnx_tract"), (2, "onnx_onnxruntime")] {
            let path = format!("/v2/models/churn/versions/{number}");
            assert_eq!(inference.get(&path).await.json()["platform"], platform);
        }
        let mut admin = Client::connect(program.admin).await;
        let began = Instant::now();
        loop {
            assert_eq!(inference.post("/predict/churn", ROW).await.header("x-model-version"), "1");
            let compared = admin.get("/v1/models/churn/compare").await.json();
            let shadow = &compared["shadows"][0];
            if shadow["compared"].as_u64().unwrap_or(0) >= 20 {
                assert_eq!(shadow["version"], 2, "{compared:#}");
                assert_eq!(shadow["rows_disagreed"], 0, "{compared:#}");
                break;
            }
            assert!(began.elapsed() < HANG, "{compared:#}");
        }
    });
    stop(program);
}

/// Compiles a library that says it is ONNX Runtime, and puts it in the place
/// of the one before in one step.
fn build(code: &str, library: &Path) {
    let (source, fresh) = (library.with_extension("c"), library.with_extension("new"));
    let head = "#include <stdint.h>\n#include <stdlib.h>\n\
                typedef struct { const void *(*api)(uint32_t); const char *(*version)(void); } Base;\n";
    fs::write(&source, format!("{head}{code}\n")).unwrap();
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&fresh).arg(&source).status();
    assert!(cc.unwrap().success());
    fs::rename(fresh, library).unwrap();
}

#[test]
fn a_broken_library_fails_the_versions_that_want_it_and_nothing_else() {
    let base = |version: &str, api: &str| {
        format!(
            "static const void *api(uint32_t v) {{ (void)v; {api} }}\n\
             static const char *version(void) {{ return \"{version}\"; }}\n\
             static const Base base = {{ api, version }};\n\
             const Base *OrtGetApiBase(void) {{ return &base; }}"
        )
    };
    let crash = "volatile int *nowhere = 0; return (void *)(intptr_t)*nowhere;";
    let cases = [
        ("__attribute__((constructor)) static void f(void) { abort(); }", "signal 6 (SIGABRT)"),
        ("int nothing;", "does not export `OrtGetApiBase`"),
        ("const Base *OrtGetApiBase(void) { return 0; }", "is no ONNX Runtime"),
        (&base("1.2.0", "return 0;"), "expected version >= '1.17.x', but got '1.2.0'"),
        (&base("1.99.0", "return 0;"), "is no ONNX Runtime"),
        (&base("1.99.0", crash), "crashed with signal 11 (SIGSEGV)"),
    ];
    let (folder, churn) = repository();
    let library = folder.path().join("libonnxruntime.so");
    let program = start(folder.path(), &library, "10m");
    drop_version(&churn, 2, &artifact());
    let absent = newest(&program, 2)["reason"].as_str().unwrap().to_owned();
    assert!(absent.contains("libonnxruntime.so cannot be read"), "{absent}");
    assert!(absent.contains("FORESHADOW_ENGINE_ONNXRUNTIME_LIBRARY"), "{absent}");
    for (number, (code, expected)) in (3..).zip(&cases) {
        build(code, &library);
        drop_version(&churn, number, &artifact());
        let version = newest(&program, number);
        let reason = version["reason"].as_str().unwrap_or_default();
        println!("{reason}");
        assert!(version["state"] == "failed" && reason.contains(expected), "{version:#}");
    }
    // None of this is remembered once there is a good one.
    if let Some(good) = self::library() {
        fs::remove_file(&library).unwrap();
        std::os::unix::fs::symlink(good, &library).unwrap();
        let number = 3 + cases.len();
        drop_version(&churn, number, &artifact());
        let version = newest(&program, number);
        assert_eq!(version["state"], "ready", "{version:#}");
        // What is loaded stays, and nothing runs on what no child has tried.
        let loaded = fs::read(&library).unwrap();
        fs::remove_file(&library).unwrap();
        fs::write(&library, loaded).unwrap();
        drop_version(&churn, number + 1, &artifact());
        let version = newest(&program, number + 1);
        let reason = version["reason"].as_str().unwrap_or_default();
        assert!(
            reason.contains("the library changed") && reason.contains("restart"),
            "{version:#}"
        );
    }
    stop(program);
}

#[test]
fn a_library_that_loops_is_killed_with_the_child() {
    let (folder, churn) = repository();
    let library = folder.path().join("libonnxruntime.so");
    build("const Base *OrtGetApiBase(void) { for (;;); }", &library);
    let program = start(folder.path(), &library, "10s");
    drop_version(&churn, 2, &artifact());
    let version = newest(&program, 2);
    assert_eq!(
        version["reason"], "preflight: killed after 10s (time limit) while it was loaded",
        "{version:#}"
    );
    stop(program);
}

/// A tree that is a chain of this many nodes: the library walks it by calling
/// itself.
fn chain(length: usize) -> Vec<u8> {
    let ints = |name: &str, ints: Vec<i64>| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints.into(),
        ints,
        ..AttributeProto::default()
    };
    let floats = |name: &str, floats: Vec<f32>| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Floats.into(),
        floats,
        ..AttributeProto::default()
    };
    let total = i64::try_from(2 * length + 1).unwrap();
    // Branches are 0 … length − 1, their leaves follow, and the last leaf.
    let branches = i64::try_from(length).unwrap();
    let branch = |id: i64| id < branches;
    let modes = (0..total).map(|id| if branch(id) { "BRANCH_LEQ" } else { "LEAF" });
    let pick = |of: &dyn Fn(i64) -> i64| {
        (0..total).map(|id| if branch(id) { of(id) } else { 0 }).collect::<Vec<_>>()
    };
    let next = |id: i64| if id + 1 < branches { id + 1 } else { 2 * branches };
    let leaves: Vec<_> = (branches..total).collect();
    let mut tree = NodeProto {
        op_type: "TreeEnsembleRegressor".into(),
        domain: "ai.onnx.ml".into(),
        input: vec!["input".into()],
        output: vec!["y".into()],
        ..NodeProto::default()
    };
    tree.attribute = vec![
        ints("nodes_treeids", vec![0; 2 * length + 1]),
        ints("nodes_nodeids", (0..total).collect()),
        ints("nodes_featureids", vec![0; 2 * length + 1]),
        AttributeProto {
            name: "nodes_modes".into(),
            r#type: AttributeType::Strings.into(),
            strings: modes.map(|mode| mode.as_bytes().to_vec()).collect(),
            ..AttributeProto::default()
        },
        floats("nodes_values", vec![0.5; 2 * length + 1]),
        ints("nodes_truenodeids", pick(&next)),
        ints("nodes_falsenodeids", pick(&|id| branches + id)),
        ints("target_ids", vec![0; leaves.len()]),
        ints("target_nodeids", leaves.clone()),
        ints("target_treeids", vec![0; leaves.len()]),
        floats("target_weights", vec![1.0; leaves.len()]),
        AttributeProto {
            name: "n_targets".into(),
            r#type: AttributeType::Int.into(),
            i: 1,
            ..AttributeProto::default()
        },
    ];
    // The sample's input and operator sets.
    let mut proto = ModelProto::decode(&*artifact()).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    graph.node = vec![tree];
    graph.initializer.clear();
    graph.output.truncate(1);
    graph.output[0] = tract_onnx::pb::ValueInfoProto {
        name: "y".into(),
        r#type: graph.input[0].r#type.clone().map(|mut float| {
            if let Some(tract_onnx::pb::type_proto::Value::TensorType(tensor)) = &mut float.value {
                tensor.shape = None;
            }
            float
        }),
        ..tract_onnx::pb::ValueInfoProto::default()
    };
    proto.encode_to_vec()
}

#[test]
fn a_model_that_crashes_the_library_crashes_a_child() {
    let Some(library) = library() else { return };
    let (folder, churn) = repository();
    // The chain's output is not the sample's.
    fs::write(churn.join("model.toml"), "allow_signature_change = true\n").unwrap();
    let program = start(folder.path(), &library, "10m");
    // From what fits every stack to what fits none: at no length may the child
    // pass what the gateway's own threads would not survive.
    let lengths = [3, 4_000, 8_000, 100_000];
    let mut states = Vec::new();
    for (number, length) in (2..).zip(lengths) {
        drop_version(&churn, number, &chain(length));
        let version = newest(&program, number);
        let reason = version["reason"].as_str().unwrap_or_default();
        println!("{length}: {} {reason}", version["state"]);
        let overflowed = reason.contains("overflowed its stack") || reason.contains("SIGSEGV");
        assert!(version["state"] == "ready" || overflowed, "{version:#}");
        states.push(version["state"] == "ready");
    }
    assert_eq!((states.first(), states.last()), (Some(&true), Some(&false)), "{states:?}");
    let number = 2 + lengths.len();
    drop_version(&churn, number, b"this is no protobuf");
    let version = newest(&program, number);
    assert!(version["reason"].as_str().unwrap().contains("no ONNX file"), "{version:#}");
    stop(program);
}

#[test]
fn a_model_that_is_too_much_for_the_library_fails_with_its_reason() {
    let Some(library) = library() else { return };
    // What takes memory may take its time on a busy machine.
    let cases = [
        (greedy(), "120s", &["out of memory", "memory limit"][..]),
        (endless(), "10s", &["killed after 10s"][..]),
    ];
    for (bytes, time_max, expected) in &cases {
        let (folder, churn) = repository();
        let program = start(folder.path(), &library, time_max);
        drop_version(&churn, 2, bytes);
        let version = newest(&program, 2);
        let reason = version["reason"].as_str().unwrap_or_default();
        println!("{reason}");
        assert_eq!(version["state"], "failed", "{version:#}");
        assert!(expected.iter().any(|words| reason.contains(words)), "{expected:?}: {version:#}");
        stop(program);
    }
}
