//! A Triton repository, served as it is: by the real program where the answers
//! count, and in this process where its files change.

use std::fs;
use std::path::Path;
use std::time::Instant;

use foreshadow::registry::{ModelView, State, VersionView};
use serde_json::{Value, json};

use crate::gateway::{Gateway, HANG, start, version, write_version};
use crate::http::{Client, Reply};
use crate::program::{Program, serve};

fn samples(model: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(model)
}

fn block_on<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

const CHURN: &str = r#"
name: "churn"
platform: "onnxruntime_onnx"
max_batch_size: 4
input [ { name: "input" data_type: TYPE_FP32 dims: [ 12 ] } ]
output [
  { name: "label" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } },
  { name: "probabilities" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }
]
dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 100 }
instance_group [ { count: 2 kind: KIND_CPU } ]
"#;

const DIGITS: &str = r#"
backend: "onnxruntime"
default_model_filename: "net.onnx"
version_policy { all { } }
output { name: "probabilities" data_type: TYPE_FP32 dims: [ -1, 10 ] }
input { name: "input" data_type: TYPE_FP32 dims: [ -1, 64 ] }
parameters { key: "owner" value: { string_value: "documents" } }
model_warmup {
  name: "one image"
  inputs { key: "input" value: { data_type: TYPE_FP32 dims: [ 1, 64 ] random_data: true } }
}
"#;

/// Writes a model: its configuration, and versions of a sample under this name.
fn write(root: &Path, model: &str, config: &str, sample: &str, versions: &[u64], artifact: &str) {
    let folder = root.join(model);
    for number in versions {
        let from = samples(sample).join(format!("{number}/model.onnx"));
        let to = folder.join(format!("{number}/{artifact}"));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.pbtxt"), config).unwrap();
}

fn repository() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "churn", CHURN, "churn", &[1, 2], "model.onnx");
    fs::write(root.path().join("churn/labels.txt"), "stays\nleaves\n").unwrap();
    write(root.path(), "digits", DIGITS, "digits", &[1, 2], "net.onnx");
    write(root.path(), "minimal", "", "digits", &[2], "model.onnx");
    // A folder in the artifact's place, as for large models.
    write(root.path(), "folded", "max_batch_size: 8", "digits", &[1], "model.onnx/model.onnx");
    write(root.path(), "python", "backend: \"python\"", "digits", &[1], "model.onnx");
    write(root.path(), "typo", "max_batchsize: 8", "digits", &[1], "model.onnx");
    let wrong = "input { name: 'input' data_type: TYPE_FP64 dims: [-1, 64] }";
    write(root.path(), "contrary", wrong, "digits", &[1], "model.onnx");
    root
}

/// A gateway over a repository, once it has tried all of it.
fn served(root: &tempfile::TempDir, state: &tempfile::TempDir) -> Program {
    let settings =
        [("FORESHADOW_REPOSITORY_SETTLE", "10ms"), ("FORESHADOW_ADMIN_TRITON_METRICS", "on")];
    let program = serve(root.path(), state.path(), &settings);
    block_on(async {
        let mut client = Client::connect(program.inference).await;
        let until = Instant::now() + HANG;
        while client.get("/v2/health/ready").await.status != 200 {
            assert!(Instant::now() < until, "it does not become ready");
        }
    });
    program
}

/// A golden case of a sample: the request's inputs, and the outputs.
fn case(sample: &str, version: u64) -> (Value, Value) {
    let text = fs::read_to_string(samples(sample).join(format!("{version}/golden.json"))).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let case = golden["cases"][1].clone();
    (case["inputs"].clone(), case["outputs"].clone())
}

async fn infer(client: &mut Client, model: &str, inputs: &Value) -> Reply {
    let body = json!({ "inputs": inputs }).to_string();
    client.post(&format!("/v2/models/{model}/infer"), body).await
}

fn numbers(data: &Value) -> Vec<f64> {
    data.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// The outputs of a reply are those of the golden case.
#[track_caller]
fn assert_answers(reply: &Reply, expected: &Value) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = reply.json();
    for output in reply["outputs"].as_array().unwrap() {
        let all = expected.as_array().unwrap();
        let expected = all.iter().find(|e| e["name"] == output["name"]).unwrap();
        let (got, expected) = (numbers(&output["data"]), numbers(&expected["data"]));
        assert_eq!(got.len(), expected.len());
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-4;
        assert!(got.iter().zip(&expected).all(close), "{output}: {expected:?}");
    }
}

#[test]
fn a_triton_repository_is_served_as_it_is() {
    let (root, state) = (repository(), tempfile::tempdir().unwrap());
    let mut program = served(&root, &state);
    block_on(async {
        let mut client = Client::connect(program.inference).await;
        // The highest version, in the shapes that are declared.
        let (inputs, outputs) = case("churn", 2);
        let reply = infer(&mut client, "churn", &inputs).await;
        assert_answers(&reply, &outputs);
        assert_eq!(reply.json()["model_version"], "2");
        let label = &reply.json()["outputs"][0];
        assert_eq!((&label["name"], &label["shape"]), (&json!("label"), &json!([3, 1])));
        let metadata = client.get("/v2/models/churn").await.json();
        assert_eq!(metadata["versions"], json!(["2"]), "latest 1");
        assert_eq!(metadata["outputs"][0]["shape"], json!([-1, 1]));
        assert_eq!(metadata["outputs"][1]["parameters"]["classes"], json!(["stays", "leaves"]));
        let config = client.get("/v2/models/churn/config").await.json();
        assert_eq!(config["max_batch_size"], 4);
        assert_eq!(config["input"][0]["dims"], json!([12]));
        assert_eq!(config["output"][0]["reshape"], json!({ "shape": [] }));
        assert_eq!(config["output"][1]["label_filename"], "labels.txt");
        assert_eq!(config["version_policy"], json!({ "latest": { "num_versions": 1 } }));
        let delay = &config["dynamic_batching"]["max_queue_delay_microseconds"];
        assert_eq!(*delay, 100, "{config:#}");
        let rows = json!([{
            "name": "input", "shape": [5, 12], "datatype": "FP32", "data": vec![0.5; 60],
        }]);
        let why = infer(&mut client, "churn", &rows).await.error(400);
        assert!(why.contains("at most 4 rows (max_batch_size), got 5"), "{why}");
        // Rows of V1 are named by the label file.
        let row: Value = json!({ "instances": [inputs[0]["data"].as_array().unwrap()[..12]] });
        let predicted = client.post("/predict/churn", row.to_string()).await.json();
        let scores = &predicted["predictions"][0]["probabilities"];
        assert!(scores["stays"].is_number() && scores["leaves"].is_number(), "{predicted}");

        // All versions, another artifact's name, and the declared output only.
        for number in [1, 2] {
            let (inputs, outputs) = case("digits", number);
            let model = format!("digits/versions/{number}");
            let reply = infer(&mut client, &model, &inputs).await;
            assert_answers(&reply, &outputs);
            assert_eq!(reply.json()["outputs"].as_array().unwrap().len(), 1);
        }
        let config = client.get("/v2/models/digits/config").await.json();
        assert_eq!(config["max_batch_size"], 0);
        assert_eq!(config["input"][0]["dims"], json!([-1, 64]));
        assert_eq!(config["default_model_filename"], "net.onnx");
        assert_eq!(config["parameters"]["owner"], json!({ "string_value": "documents" }));

        // What is not declared is found out: rows, and a number per row.
        for (model, number, rows) in [("minimal", 2, 1024), ("folded", 1, 8)] {
            let (inputs, outputs) = case("digits", number);
            let reply = infer(&mut client, model, &inputs).await;
            assert_answers(&reply, &outputs);
            assert_eq!(reply.json()["outputs"][0]["shape"], json!([3, 1]), "{model}");
            let config = client.get(&format!("/v2/models/{model}/config")).await.json();
            assert_eq!(config["max_batch_size"], rows, "{config:#}");
            assert_eq!(config["input"][0]["dims"], json!([64]));
            assert!(config["dynamic_batching"].is_object(), "{config:#}");
        }

        // The others say why they are not served.
        let mut admin = Client::connect(program.admin).await;
        for (model, expected) in [
            ("python", "backend: ONNX models are served here"),
            ("typo", "config.pbtxt, line 1, column 1: unknown field \"max_batchsize\""),
        ] {
            let view = admin.get(&format!("/v1/models/{model}")).await.json();
            assert!(view["problems"][0].as_str().unwrap().contains(expected), "{view:#}");
            let reason = view["versions"][0]["reason"].as_str().unwrap();
            assert!(reason.contains(expected), "{reason}");
        }
        let view = admin.get("/v1/models/contrary").await.json();
        assert_eq!(view["versions"][0]["state"], "failed");
        let reason = view["versions"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("declared as FP64, the model has FP32"), "{reason}");
        let view = admin.get("/v1/models/churn").await.json();
        let not_taken: Vec<_> = view["not_taken"].as_array().unwrap().iter().collect();
        assert_eq!(not_taken.len(), 2, "{not_taken:?}");
        assert!(not_taken[1].as_str().unwrap().starts_with("instance_group: "));
        let left_out = view["versions"][0]["reason"].as_str().unwrap();
        assert_eq!(left_out, "version_policy (latest 1) leaves it out");

        // What dashboards know is counted under its name.
        let metrics = admin.get("/metrics").await.text();
        for line in [
            "nv_inference_request_success{model=\"churn\",version=\"2\"} 2",
            "nv_inference_request_failure{model=\"churn\",reason=\"OTHER\",version=\"2\"} 1",
            "nv_inference_count{model=\"folded\",version=\"1\"} 3",
            "nv_inference_exec_count{model=\"folded\",version=\"1\"} 1",
        ] {
            assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
        }
    });
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
}

#[test]
fn a_triton_model_is_checked_by_the_command() {
    let root = repository();
    let check = |model: &str| {
        let folder = root.path().join(model);
        crate::program::run(&["check", folder.to_str().unwrap()])
    };
    let output = check("churn");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("config.pbtxt") && text.contains("not taken: dynamic_ba"), "{text}");
    let output = check("contrary");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && text.contains("declared as FP64"), "{text}");
}

fn model(gateway: &Gateway) -> std::sync::Arc<ModelView> {
    gateway.app.control().model(&"m".parse().unwrap()).unwrap()
}

fn find(gateway: &Gateway, number: u64) -> Option<VersionView> {
    model(gateway).versions.iter().find(|v| v.version == version(number)).cloned()
}

fn wait_for_state(gateway: &Gateway, number: u64, state: State) -> VersionView {
    gateway.wait(|g| find(g, number).is_some_and(|v| v.state == state));
    find(gateway, number).unwrap()
}

/// Writes a `config.pbtxt` for the model, whole.
fn configure(gateway: &Gateway, config: &str) {
    let new = gateway.model_folder().join(".config.pbtxt");
    fs::write(&new, config).unwrap();
    fs::rename(new, gateway.model_folder().join("config.pbtxt")).unwrap();
}

fn rows(gateway: &Gateway, rows: usize) -> Reply {
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let body = json!({ "instances": vec![[1]; rows] }).to_string();
        client.post("/predict/m", body).await
    })
}

fn champion(view: &ModelView) -> Option<u64> {
    view.plan.champion.as_ref().map(|arm| arm.version.get())
}

#[test]
fn a_changed_config_is_taken_and_a_broken_one_changes_nothing() {
    let gateway = start("[batching]\nrows_max = 4\n", &["answers 1"]);
    assert_eq!(rows(&gateway, 3).status, 200);
    configure(&gateway, "max_batch_size: 2");
    // Said, as both files speak of batches.
    gateway.wait(|g| !model(g).not_taken.is_empty());
    let view = model(&gateway);
    assert!(view.not_taken[0].contains("model.toml says batching.rows_max"), "{view:#?}");
    assert!(rows(&gateway, 3).error(400).contains("at most 2 rows"));
    configure(&gateway, "max_batch_size: 'two'");
    gateway.wait(|g| model(g).problems.iter().any(|p| p.contains("line 1, column 1")));
    assert_eq!(rows(&gateway, 2).status, 200);
    assert!(rows(&gateway, 3).error(400).contains("at most 2 rows"));
    fs::remove_file(gateway.model_folder().join("config.pbtxt")).unwrap();
    gateway.wait(|g| model(g).not_taken.is_empty() && model(g).problems.is_empty());
    assert_eq!(rows(&gateway, 3).status, 200);
    gateway.app.stop();
}

#[test]
fn the_highest_version_answers_and_the_policy_lets_go_of_what_no_rollback_needs() {
    let gateway = start("", &["answers 1"]);
    configure(&gateway, "response_cache { enable: true }");
    gateway.wait(|g| !model(g).not_taken.is_empty());
    for number in [2, 3] {
        write_version(&gateway.model_folder(), number, &format!("answers {number}"));
        let number = u64::try_from(number).unwrap();
        gateway.wait(|g| champion(&model(g)) == Some(number));
    }
    // Version 2 is what a rollback would go back to.
    let left_out = |v: &VersionView| {
        v.reason.as_ref().is_some_and(|r| r.contains("version_policy (latest 1) leaves it out"))
    };
    gateway.wait(|g| find(g, 1).is_some_and(|v| v.state == State::Discovered && left_out(&v)));
    assert_eq!(find(&gateway, 2).unwrap().state, State::Ready);
    configure(&gateway, "version_policy { all { } }");
    wait_for_state(&gateway, 1, State::Ready);
    assert_eq!(champion(&model(&gateway)), Some(3));
    gateway.app.stop();
}

#[test]
fn a_version_that_cannot_be_has_the_one_below_it_in_its_place() {
    let gateway = start("", &["answers 1"]);
    configure(&gateway, "response_cache { enable: true }");
    gateway.wait(|g| !model(g).not_taken.is_empty());
    write_version(&gateway.model_folder(), 2, "nonsense");
    wait_for_state(&gateway, 2, State::Failed);
    assert_eq!(rows(&gateway, 1).header("x-model-version"), "1");
    gateway.app.stop();
}

#[test]
fn a_version_that_the_config_refused_is_tried_again_when_it_changed() {
    let sample = |dims: &str| {
        format!(
            "max_batch_size: 8 model_warmup {{ name: 'w' batch_size: 2 inputs {{ key: 'x' value \
             {{ data_type: TYPE_FP32 dims: {dims} zero_data: true }} }} }}"
        )
    };
    let gateway = start("", &["answers 1"]);
    configure(&gateway, &sample("3"));
    let otherwise = "config.pbtxt declares tensors, labels or warm-up otherwise";
    gateway.wait(|g| model(g).problems.iter().any(|p| p.starts_with(otherwise)));
    write_version(&gateway.model_folder(), 2, "answers 2");
    let failed = wait_for_state(&gateway, 2, State::Failed);
    let reason = failed.reason.unwrap();
    assert!(reason.contains("warm-up: model_warmup \"w\": input \"x\": expected"), "{reason}");
    configure(&gateway, &sample("1"));
    gateway.wait(|g| champion(&model(g)) == Some(2));
    assert_eq!(rows(&gateway, 2).header("x-model-version"), "2");
    gateway.app.stop();
}
