//! Requests that are stored, and run again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Value, json};

use crate::gateway::{HANG, start_with};
use crate::http::Client;
use crate::program::{Program, command, serve};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/churn");

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The sample's three versions; everything that the first one answers is stored.
fn repository(root: &Path) -> Vec<Value> {
    for version in ["1", "2", "3"] {
        let folder = root.join("models/churn").join(version);
        fs::create_dir_all(&folder).unwrap();
        let source = Path::new(SAMPLES).join(version).join("model.onnx");
        fs::copy(source, folder.join("model.onnx")).unwrap();
    }
    let sample = fs::read(Path::new(SAMPLES).join("sample.json")).unwrap();
    let sample: Value = serde_json::from_slice(&sample).unwrap();
    let names: Vec<_> = sample["instances"][0].as_object().unwrap().keys().collect();
    let text = format!(
        "features = {names:?}\nallow_forced_role = true\n[capture]\nsample = \"100%\"\n[start]\n\
         champion = 1\n"
    );
    fs::write(root.join("models/churn/model.toml"), text).unwrap();
    sample["instances"].as_array().unwrap().clone()
}

fn start(root: &Path, settings: &[(&str, &str)]) -> Program {
    let mut program = serve(&root.join("models"), &root.join("state"), settings);
    program.line("  churn");
    program
}

/// Everything in the model's folder of captures.
fn entries(root: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(root.join("state/captures/churn")).into_iter().flatten();
    let mut found: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with('.')
}

fn replay(root: &Path, files: &[PathBuf], args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command(&["replay"]);
    let output = command.args(files).args(args).current_dir(root).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_was_answered_is_in_a_file_at_the_end_and_is_answered_again_so() {
    let root = tempfile::tempdir().unwrap();
    let rows = repository(root.path());
    let mut program = start(root.path(), &[]);
    let shown = runtime().block_on(async {
        let mut client = Client::connect(program.inference).await;
        for (i, row) in rows.iter().enumerate() {
            let id = format!("request-{i}");
            let body = json!({ "instances": [row] }).to_string();
            let headers = [("x-request-id", &*id)];
            let reply = client.send("POST", "/predict/churn", &headers, body).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        // Who asks for a version is no traffic of its.
        let body = json!({ "instances": [rows[0]] }).to_string();
        let role = [("x-foreshadow-role", "champion")];
        assert_eq!(client.send("POST", "/predict/churn", &role, body).await.status, 200);
        let mut admin = Client::connect(program.admin).await;
        assert_eq!(admin.get("/v1/models/nobody/capture").await.status, 404);
        admin.get("/v1/models/churn/capture").await.json()
    });
    assert_eq!((&shown["state"], &shown["sample"]), (&json!("on"), &json!("100%")), "{shown}");
    assert!(entries(root.path()).iter().all(|path| is_hidden(path)), "none is whole yet");
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));

    let files = entries(root.path());
    let [file] = &files[..] else { panic!("{files:?}") };
    let reader = SerializedFileReader::new(File::open(file).unwrap()).unwrap();
    let stored: Vec<_> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap()).collect();
    assert_eq!(stored.len(), rows.len());
    let field_of = |stored: &Row, name: &str| {
        let mut columns = stored.get_column_iter();
        columns.find(|(own, _)| *own == name).unwrap_or_else(|| panic!("{name}")).1.clone()
    };
    for (i, row) in rows.iter().enumerate() {
        // Copies of requests may overtake each other.
        let id = Field::Str(format!("request-{i}"));
        let stored = stored.iter().find(|stored| field_of(stored, "request_id") == id).unwrap();
        let field = |name: &str| field_of(stored, name);
        assert_eq!(
            (field("version"), field("role")),
            (Field::Long(1), Field::Str("champion".into()))
        );
        for (name, value) in row.as_object().unwrap() {
            #[expect(clippy::cast_possible_truncation, reason = "as the model takes it")]
            let value = value.as_f64().unwrap() as f32;
            assert_eq!(field(name), Field::Float(value), "{name}");
        }
        assert!(matches!(field("output.label"), Field::Long(0 | 1)));
    }

    let (code, said, problem) = replay(root.path(), &files, &["--against", "churn/1", "--json"]);
    assert_eq!(code, Some(0), "{problem}");
    let same: Value = serde_json::from_str(&said).unwrap();
    let version = &same["versions"][0];
    assert_eq!((&version["version"], &version["compared"]), (&json!(1), &json!(rows.len())));
    assert_eq!((&version["disagreed"], &version["difference_max"]), (&json!(0), &json!(0.0)));
    assert_eq!((&same["examples"], &same["failure"]), (&json!([]), &Value::Null));
    let (code, text, problem) = replay(root.path(), &files, &["--against", "churn/3"]);
    assert_eq!(code, Some(0), "{problem}");
    assert!(text.contains("Rows that differ:\n\n  request request-"), "{text}");
    assert!(text.contains("churn: 200 requests (200 rows) of 1 file, run on churn/3"), "{text}");
}

#[test]
fn what_cannot_be_replayed_is_told() {
    let root = tempfile::tempdir().unwrap();
    let rows = repository(root.path());
    let names: Vec<_> = rows[0].as_object().unwrap().keys().cloned().collect();
    let settings = root.path().join("models/churn/model.toml");
    let rule = format!("[capture]\nhash = [{:?}]\ndrop = [{:?}]", names[0], names[1]);
    let text = fs::read_to_string(&settings).unwrap().replace("[capture]", &rule);
    fs::write(&settings, text).unwrap();
    let mut program = start(root.path(), &[]);
    runtime().block_on(async {
        let mut client = Client::connect(program.inference).await;
        let body = json!({ "instances": rows }).to_string();
        assert_eq!(client.post("/predict/churn", body).await.status, 200);
    });
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
    let files = entries(root.path());
    let against = ["--against", "churn/1"];
    let (code, _, problem) = replay(root.path(), &files, &against);
    let lack = format!("{:?} (hashed), {:?} (dropped)", names[0], names[1]);
    assert!(code == Some(1) && problem.contains(&lack), "{problem}");
    let bytes = fs::read(&files[0]).unwrap();
    let half = root.path().join("half.parquet");
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    let (code, _, problem) = replay(root.path(), &[half], &against);
    assert!(code == Some(1) && problem.contains("half.parquet is no whole Parquet"), "{problem}");
    let (code, _, problem) = replay(root.path(), &files, &["--against", "churn/9"]);
    assert!(code == Some(2) && problem.contains("no version 9"), "{problem}");
}

#[test]
fn a_kill_leaves_no_half_file() {
    let root = tempfile::tempdir().unwrap();
    let rows = repository(root.path());
    let large: Vec<_> = rows.iter().cycle().take(2000).collect();
    let body = json!({ "instances": large }).to_string();
    let mut program = start(root.path(), &[("FORESHADOW_CAPTURE_FILE_ROWS", "60000")]);
    // Until one file is whole, and the next one under way.
    let began = Instant::now();
    loop {
        let there = entries(root.path());
        if there.iter().any(|path| is_hidden(path)) && there.iter().any(|path| !is_hidden(path)) {
            break;
        }
        assert!(began.elapsed() < HANG, "{there:?}");
        runtime().block_on(async {
            let mut client = Client::connect(program.inference).await;
            assert_eq!(client.post("/predict/churn", body.clone()).await.status, 200);
        });
    }
    program.signal("KILL");
    program.wait();
    let left = entries(root.path());
    assert!(left.iter().any(|path| is_hidden(path)), "{left:?}");
    let whole: Vec<_> = left.into_iter().filter(|path| !is_hidden(path)).collect();
    let (code, _, problem) = replay(root.path(), &whole, &["--against", "churn/1"]);
    assert_eq!(code, Some(0), "{problem}");
    let mut program = start(root.path(), &[]);
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
    assert_eq!(entries(root.path()), whole);
}

#[test]
fn what_has_no_room_is_counted_and_answered_all_the_same() {
    let text = "[capture]\nsample = \"100%\"\n";
    let gateway = start_with(text, &["answers 1"], &[("capture.queue_bytes_max", "1B")]);
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        for _ in 0..20 {
            let reply = client.post("/predict/m", "{\"instances\": [[1]]}").await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        let line = "foreshadow_capture_dropped_total{model=\"m\",reason=\"queue_bytes\"} 20";
        gateway.wait_for_metric(line).await;
        let mut admin = Client::connect(gateway.app.admin_address()).await;
        let shown = admin.get("/v1/models/m/capture").await.json();
        assert_eq!(shown["dropped"], json!({ "queue_bytes": 20 }), "{shown}");
        assert_eq!(shown["sampled"], json!(20), "{shown}");
    });
    gateway.app.stop();
}

#[test]
fn files_end_by_age_and_their_series_with_the_model() {
    let text = "[capture]\nsample = \"100%\"\n";
    let settings = [("capture.file_age", "10ms"), ("repository.load_unload", "on")];
    let gateway = start_with(text, &["answers 1"], &settings);
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        assert_eq!(client.post("/predict/m", "{\"instances\": [[1], [2]]}").await.status, 200);
        gateway.wait_for_metric("foreshadow_capture_rows_total{model=\"m\"} 2").await;
        gateway.wait_for_metric("foreshadow_capture_files_total{model=\"m\"} 1").await;
        let reply = client.post("/v2/repository/models/m/unload", "{}").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let began = Instant::now();
        let mut admin = Client::connect(gateway.app.admin_address()).await;
        while admin.get("/metrics").await.text().contains("foreshadow_capture_rows_total{") {
            assert!(began.elapsed() < HANG);
        }
    });
    gateway.app.stop();
}
