//! Rollouts of the real program, which is killed in the middle of them.
//!
//! A few kills each time; `KILLS=200` for more.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::http::{Client, Reply};
use crate::program::{Program, run, serve};

/// A small generator: the moments are random, and the same each time.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

const MODEL: &str = "[start]
champion = 1
[rollout]
shadow = \"0%\"
weights = [\"20%\", \"50%\"]
min = \"1ms\"
max = \"1h\"
watch = \"1h\"
";

/// Two versions that are one and the same, of two models.
fn repository(root: &Path) {
    let sample = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/churn"));
    for (model, version) in [("churn", "1"), ("churn", "2"), ("other", "1"), ("other", "2")] {
        let folder = root.join("models").join(model).join(version);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(sample.join("1/model.onnx"), folder.join("model.onnx")).unwrap();
    }
    for model in ["churn", "other"] {
        fs::write(root.join("models").join(model).join("model.toml"), MODEL).unwrap();
    }
}

/// Changes the weight of `other`'s canary again and again until nobody answers any more;
/// the numbers of the changes that were acknowledged, and of the one that was not.
fn change_on(admin: SocketAddr, from: u64) -> JoinHandle<(Vec<u64>, u64)> {
    let change = move |number: u64| -> std::io::Result<bool> {
        let body = json!({
            "version": 2, "weight": weight(number), "reason": format!("change {number}"),
        });
        let body = body.to_string();
        let mut stream = TcpStream::connect(admin)?;
        write!(
            stream,
            "PUT /v1/models/other/canary HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 200 "), "{reply}");
        Ok(!reply.is_empty())
    };
    std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        let mut next = from;
        while change(next).unwrap_or(false) {
            acknowledged.push(next);
            next += 1;
        }
        (acknowledged, next)
    })
}

fn weight(number: u64) -> String {
    format!("{}%", 1 + number % 50)
}

/// Every change that was acknowledged is there, and at most the one in flight besides;
/// and what the newest of them wanted is in force.
fn must_have(program: &Program, acknowledged: &[u64], in_flight: u64) {
    let history = admin(program, "/v1/models/other/history?limit=1000", None).json();
    let entries = history["entries"].as_array().unwrap();
    let number = |entry: &Value| entry["reason"].as_str()?.strip_prefix("change ")?.parse().ok();
    let recorded: Vec<u64> = entries.iter().filter_map(number).collect();
    let lost = acknowledged.iter().find(|number| !recorded.contains(number));
    assert_eq!(lost, None, "of {acknowledged:?}: {recorded:?}");
    let newest = recorded.first().copied().unwrap_or_default();
    assert!(newest <= in_flight, "{newest} was never asked for: {in_flight}");
    if newest > 0 {
        let plan = admin(program, "/v1/models/other", None).json()["plan"].clone();
        assert_eq!(plan["canary"]["weight"], weight(newest), "{plan:#}");
    }
}

fn start(root: &Path, unclean_exits_max: &str) -> Program {
    let settings = [
        ("FORESHADOW_REPOSITORY_SETTLE", "50ms"),
        ("FORESHADOW_ROLLOUT_TICK", "20ms"),
        ("FORESHADOW_ROLLOUT_UNCLEAN_EXITS_MAX", unclean_exits_max),
        ("FORESHADOW_LOG_LEVEL", "error"),
    ];
    let mut program = serve(&root.join("models"), &root.join("state"), &settings);
    program.line("  churn");
    program
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn admin(program: &Program, path: &str, body: Option<Value>) -> Reply {
    runtime().block_on(async {
        let mut client = Client::connect(program.admin).await;
        match body {
            Some(body) => client.post(path, body.to_string()).await,
            None => client.get(path).await,
        }
    })
}

fn status(program: &Program) -> Value {
    let reply = admin(program, "/v1/models/churn/rollout", None);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// Sends requests; each must be answered.
fn traffic(program: &Program, requests: u64) {
    let row = r#"{"instances":[[8,39.25,289.75,24,1,1,2.5,3,1,4,0,29]]}"#;
    runtime().block_on(async {
        let mut client = Client::connect(program.inference).await;
        for _ in 0..requests {
            let reply = client.post("/predict/churn", row).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    });
}

fn verify(state: &Path) {
    let output = run(&["audit", "verify", "--state", state.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_rollout_outlives_kills_at_any_moment() {
    let kills = std::env::var("KILLS").map_or(4, |kills| kills.parse().unwrap());
    let root = tempfile::tempdir().unwrap();
    repository(root.path());
    let state = root.path().join("state");
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut program = start(root.path(), "1000000");
    let mut acknowledged: Vec<String> = Vec::new();
    let (mut changed, mut next) = (0, 1);
    for kill in 0..kills {
        let changes = change_on(program.admin, next);
        // One after the other, each from its beginning to its end.
        if acknowledged.is_empty() {
            let begun = json!({"version": 2, "actor": "eve"});
            let begun = admin(&program, "/v1/models/churn/rollout", Some(begun));
            assert_eq!(begun.status, 200, "{}", begun.text());
        }
        traffic(&program, rng.below(200));
        let remark = format!("kill {kill}");
        let comment = json!({"text": remark, "actor": "eve"});
        let reply = admin(&program, "/v1/models/churn/rollout/comments", Some(comment));
        assert_eq!(reply.status, 200, "{}", reply.text());
        acknowledged.push(remark);
        let before = status(&program);
        traffic(&program, rng.below(400));
        program.signal("KILL");
        assert_eq!(program.wait().0, None);
        verify(&state);
        let (done, in_flight) = changes.join().unwrap();
        (changed, next) = (changed + done.len(), in_flight + 1);

        program = start(root.path(), "1000000");
        must_have(&program, &done, in_flight);
        let after = status(&program);
        assert_eq!(after["id"], before["id"]);
        assert!(after["stage"].as_u64() >= before["stage"].as_u64(), "{before:#} {after:#}");
        let log = after["log"].as_array().unwrap();
        let texts: Vec<_> = log.iter().filter_map(|line| line["text"].as_str()).collect();
        for remark in &acknowledged {
            assert!(texts.contains(&remark.as_str()), "{remark} is lost: {texts:#?}");
        }
        assert_eq!(after["gaps"], acknowledged.len(), "{after:#}");
        assert!(texts.iter().any(|text| text.contains("counts since 20")), "{texts:#?}");
        // It goes on from where it was.
        let stage = usize::try_from(after["stage"].as_u64().unwrap()).unwrap();
        let plan = admin(&program, "/v1/models/churn", None).json()["plan"].clone();
        let wanted = match stage {
            0 => json!([1, 2, "20%"]),
            1 => json!([1, 2, "50%"]),
            _ => json!([2, 1, "5%"]),
        };
        let canary = &plan["canary"];
        let got = json!([plan["champion"]["version"], canary["version"], canary["weight"]]);
        assert_eq!(got, wanted, "{plan:#}");
        if stage == 2 || acknowledged.len() == 50 {
            let abort = admin(&program, "/v1/models/churn/rollout/abort", Some(json!({})));
            assert_eq!(abort.status, 200, "{}", abort.text());
            let id = &after["id"];
            let replay = admin(&program, &format!("/v1/rollouts/{id}/replay"), None).json();
            assert_eq!(replay["same"], true, "{replay:#}");
            acknowledged.clear();
        }
    }
    assert!(changed > 0, "none was acknowledged");
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
    verify(&state);
}

#[test]
fn a_version_that_seems_to_end_the_process_is_taken_out_at_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    repository(root.path());
    let mut program = start(root.path(), "2");
    let begun = admin(&program, "/v1/models/churn/rollout", Some(json!({"version": 2})));
    assert_eq!(begun.status, 200, "{}", begun.text());
    for _ in 0..2 {
        assert_eq!(status(&program)["phase"], "running");
        program.signal("KILL");
        assert_eq!(program.wait().0, None);
        program = start(root.path(), "2");
    }
    let paused = status(&program);
    assert_eq!(paused["phase"], "paused", "{paused:#}");
    assert!(paused["why"].as_str().unwrap().starts_with("2 unclean exits in stage canary 20%"));
    let plan = admin(&program, "/v1/models/churn", None).json()["plan"].clone();
    assert_eq!((&plan["champion"]["version"], &plan["canary"]), (&json!(1), &Value::Null));
    // It was something else, somebody finds.
    let resumed = admin(&program, "/v1/models/churn/rollout/resume", Some(json!({})));
    assert_eq!(resumed.json()["phase"], "running", "{}", resumed.text());
    let plan = admin(&program, "/v1/models/churn", None).json()["plan"].clone();
    assert_eq!(plan["canary"]["version"], 2, "{plan:#}");
    // An end as it should be costs nothing.
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
    program = start(root.path(), "2");
    assert_eq!(
        (&status(&program)["unclean_exits"], &status(&program)["gaps"]),
        (&json!(0), &json!(2))
    );
}
