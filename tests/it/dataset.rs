//! A table to train on, of what was answered and what turned out to be true.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Value, json};

use crate::gateway::{Gateway, HANG, start_with};
use crate::http::Client;
use crate::program::command;

/// The scores that are sent are the answer; everything is kept and captured.
const MODEL: &str = "task = \"classification\"\nfeatures = [\"no\", \"yes\"]\n[labels]\n\
                     classes = [\"stays\", \"leaves\"]\n[groups.plan]\nheader = \"x-plan\"\n\
                     values = [\"basic\", \"pro\"]\n[capture]\nsample = \"100%\"\n";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn start() -> Gateway {
    start_with(MODEL, &["echoes FP32"], &[("capture.file_age", "10ms")])
}

async fn predict(client: &mut Client, rows: &Value) -> String {
    let body = json!({ "instances": rows }).to_string();
    let reply = client.send("POST", "/predict/m", &[("x-plan", "pro")], body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["prediction_id"].as_str().unwrap().to_owned()
}

/// Three requests of four rows, two of which have labels; the requests' ids.
fn labelled(gateway: &Gateway) -> Vec<String> {
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let mut ids = Vec::new();
        for rows in [json!([[0.25, 0.75]]), json!([[1, 0], [0.5, 0.5]]), json!([[0, 1]])] {
            ids.push(predict(&mut client, &rows).await);
        }
        let labels = json!({"feedback": [
            {"prediction_id": ids[0], "label": "leaves"},
            {"prediction_id": ids[1], "row": 1, "label": "leaves"},
        ]});
        let reply = client.post("/v1/feedback", labels.to_string()).await;
        assert_eq!(reply.json()["joined"], 2, "{}", reply.text());
        gateway.wait_for_metric("foreshadow_capture_rows_total{model=\"m\"} 4").await;
        ids
    })
}

fn captures(gateway: &Gateway) -> Vec<PathBuf> {
    let folder = gateway.model_folder().join("../../state/captures/m");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'))
        .collect();
    files.sort();
    files
}

/// Runs the command against a gateway.
fn dataset(gateway: &Gateway, model: &str, args: &[&Path]) -> (Option<i32>, String, String) {
    let admin = format!("http://{}", gateway.app.admin_address());
    let output = command(&["dataset", model, "--admin", &admin]).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn rows(path: &Path) -> Vec<Row> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(|row| row.unwrap()).collect()
}

fn field(row: &Row, name: &str) -> Field {
    let mut columns = row.get_column_iter();
    columns.find(|(own, _)| *own == name).unwrap_or_else(|| panic!("{name}: {row}")).1.clone()
}

fn text(text: &str) -> Field {
    Field::Str(text.to_owned())
}

#[test]
fn labels_come_with_the_answers_and_with_what_was_captured() {
    let gateway = start();
    let ids = labelled(&gateway);
    let folder = tempfile::tempdir().unwrap();
    let [csv, all, train] =
        ["a.csv", "all.parquet", "train.parquet"].map(|name| folder.path().join(name));
    let (code, said, problem) = dataset(&gateway, "m", &["--out".as_ref(), &csv]);
    assert_eq!(code, Some(0), "{problem}");
    assert!(said.ends_with("a.csv: 2 rows, 2 with a label, in 10 columns\n"), "{said}");
    let lines = fs::read_to_string(&csv).unwrap();
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(
        lines[0],
        "prediction_id,row,time,version,role,answer,scores.0,scores.1,group.plan,label"
    );
    let ends = [",1,champion,leaves,0.25,0.75,pro,leaves", ",1,champion,stays,0.5,0.5,pro,leaves"];
    for ((line, end), start) in lines[1..].iter().zip(ends).zip([(0, 0), (1, 1)]) {
        let start = format!("{},{},20", ids[start.0], start.1);
        assert!(line.starts_with(&start) && line.ends_with(end), "{line}");
    }

    let (code, said, problem) =
        dataset(&gateway, "m", &["--out".as_ref(), &all, "--all".as_ref(), "--json".as_ref()]);
    assert_eq!(code, Some(0), "{problem}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said, json!({"rows": 4, "labelled": 2, "columns": 10, "label": "label"}));
    let read = rows(&all);
    let known: Vec<_> = read.iter().map(|row| field(row, "label")).collect();
    assert_eq!(known, [text("leaves"), Field::Null, text("leaves"), Field::Null]);

    let mut args: Vec<&Path> = vec!["--out".as_ref(), &train, "--captures".as_ref()];
    let files = captures(&gateway);
    args.extend(files.iter().map(PathBuf::as_path));
    let (code, said, problem) = dataset(&gateway, "m", &args);
    assert_eq!(code, Some(0), "{problem}");
    let expected = "train.parquet: 2 rows, 2 with a label, in 12 columns\n  0 labelled rows in none \
                    of the captures\n  2 captured rows without a label: left out\n";
    assert!(said.ends_with(expected), "{said}");
    let mut read = rows(&train);
    read.sort_by_key(|row| field(row, "row").to_string());
    let inputs = |row: &Row| ["no", "yes"].map(|name| field(row, name));
    assert_eq!(inputs(&read[0]), [Field::Float(0.25), Field::Float(0.75)]);
    assert_eq!(inputs(&read[1]), [Field::Float(0.5), Field::Float(0.5)]);
    let places = |row: &Row| ["prediction_id", "row", "label"].map(|name| field(row, name));
    assert_eq!(places(&read[0]), [text(&ids[0]), Field::Long(0), text("leaves")]);
    assert_eq!(places(&read[1]), [text(&ids[1]), Field::Long(1), text("leaves")]);

    // What goes wrong leaves the former table, and nothing beside it.
    let before = fs::read(&train).unwrap();
    let half = folder.path().join("half.parquet");
    let bytes = fs::read(&files[0]).unwrap();
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    args.push(&half);
    let (code, _, problem) = dataset(&gateway, "m", &args);
    assert!(code == Some(1) && problem.contains("half.parquet is no whole Parquet"), "{problem}");
    let (code, _, problem) = dataset(&gateway, "fraud", &["--out".as_ref(), &csv]);
    assert!(code == Some(1) && problem.contains("unknown model \"fraud\""), "{problem}");
    assert_eq!(fs::read(&train).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    gateway.app.stop();
}

#[test]
fn answers_are_read_page_by_page() {
    let gateway = start();
    let ids = labelled(&gateway);
    runtime().block_on(async {
        let mut admin = Client::connect(gateway.app.admin_address()).await;
        let mut after = 0;
        let mut read = Vec::new();
        loop {
            let path = format!("/v1/models/m/answers?labelled=false&limit=1&after={after}");
            let page = admin.get(&path).await.json();
            read.extend(page["answers"].as_array().unwrap().iter().map(|answer| {
                let id = answer["prediction_id"].as_str().unwrap().to_owned();
                (id, answer["row"].as_u64().unwrap(), answer["label"].clone())
            }));
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => break,
            }
        }
        let leaves = json!("leaves");
        let expected = [
            (ids[0].clone(), 0, leaves.clone()),
            (ids[1].clone(), 0, Value::Null),
            (ids[1].clone(), 1, leaves),
            (ids[2].clone(), 0, Value::Null),
        ];
        assert_eq!(read, expected);
        let beyond = admin.get("/v1/models/m/answers?after=9007199254740991").await;
        let none = json!({"answers": [], "next": null, "end": 9_007_199_254_740_991_u64});
        assert_eq!(beyond.json(), none);
        let reply = admin.get("/v1/models/m/answers?after=9007199254740992").await;
        let expected = "after: expected the next of a page, at most 9007199254740991, got \
                        9007199254740992";
        assert_eq!(reply.error(400), expected);
        for limit in ["0", "10001"] {
            let reply = admin.get(&format!("/v1/models/m/answers?limit={limit}")).await;
            let expected = format!("limit: expected 1 to 10000, got {limit}");
            assert_eq!(reply.error(400), expected);
        }
        for wrong in ["limit=many", "after=-1", "labelled=perhaps", "from=1"] {
            let reply = admin.get(&format!("/v1/models/m/answers?{wrong}")).await;
            assert_eq!(reply.status, 400, "{wrong}: {}", reply.text());
        }
        assert_eq!(admin.get("/v1/models/fraud/answers").await.status, 404);
    });
    gateway.app.stop();
}

#[test]
fn who_keeps_no_answers_is_told_so() {
    let gateway = start_with("", &["echoes FP32"], &[]);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.csv");
    let (code, _, problem) = dataset(&gateway, "m", &["--out".as_ref(), &out]);
    assert!(code == Some(1) && problem.contains("no model keeps its answers"), "{problem}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    gateway.app.stop();
}

#[test]
fn a_signal_leaves_nothing_behind() {
    // It takes what it is asked, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.parquet");
    let admin = format!("http://{}", silent.local_addr().unwrap());
    let mut command = command(&["dataset", "m", "--admin", &admin, "--out"]);
    let mut child = command.arg(&out).stderr(Stdio::null()).spawn().unwrap();
    let names = || fs::read_dir(folder.path()).unwrap().count();
    let began = Instant::now();
    while names() == 0 {
        assert!(began.elapsed() < HANG);
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(), 0);
}
