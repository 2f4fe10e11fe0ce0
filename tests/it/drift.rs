//! Drift of live rows, from a profile that is learnt or given to the reply of the admin
//! API.

use std::fs;

use foreshadow::monitor::DriftView;
use foreshadow::types::ModelName;
use serde_json::{Value, json};

use crate::gateway::{Gateway, HANG, start_with};
use crate::http::Client;

/// A look each 10 ms, and windows by rows alone.
const QUICK: [(&str, &str); 4] = [
    ("monitor.tick", "10ms"),
    ("monitor.window", "0s"),
    ("monitor.window_rows", "320"),
    ("monitor.learn_rows", "640"),
];

/// What one request has at most that is counted whole.
const BATCH: u32 = 64;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends so many rows, spread evenly over `from` to `from + 100`.
fn send(gateway: &Gateway, rows: u32, from: u32) {
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        for batch in 0..rows / BATCH {
            let row = |i: u32| [from + (batch * BATCH + i) * 37 % 100];
            let instances: Vec<_> = (0..BATCH).map(row).collect();
            let body = json!({ "instances": instances }).to_string();
            let reply = client.post("/predict/m", body).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    });
}

/// Waits until the only version is as asked for.
fn wait(gateway: &Gateway, until: impl Fn(&DriftView) -> bool) -> DriftView {
    let (monitor, model) = (gateway.app.monitor(), ModelName::new("m").unwrap());
    let mut rounds = monitor.rounds();
    let waiting = async {
        loop {
            rounds.mark_unchanged();
            if let Some(view) = monitor.drift(&model).first()
                && until(view)
            {
                return DriftView::clone(view);
            }
            rounds.changed().await.unwrap();
        }
    };
    let waited = runtime().block_on(async { tokio::time::timeout(HANG, waiting).await });
    waited.unwrap_or_else(|_| panic!("{:#?}", monitor.drift(&model)))
}

fn state(view: &DriftView, kind: &str) -> &'static str {
    view.columns.iter().find(|column| column.kind == kind).unwrap().state
}

fn relearn(gateway: &Gateway, version: u64) -> (u16, Value) {
    let body = json!({"version": version, "actor": "eve", "reason": "a test"}).to_string();
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.admin_address()).await;
        let reply = client.post("/v1/models/m/drift/relearn", body).await;
        (reply.status, reply.json())
    })
}

fn get(gateway: &Gateway, path: &str) -> (u16, Value) {
    runtime().block_on(async {
        let reply = Client::connect(gateway.app.admin_address()).await.get(path).await;
        (reply.status, reply.json())
    })
}

#[test]
fn rows_that_move_away_from_what_was_learnt_drift_and_the_rest_does_not() {
    let gateway = start_with("", &["answers 1"], &QUICK);
    wait(&gateway, |view| view.standing == "learning");
    send(&gateway, 640, 0);
    let learnt = wait(&gateway, |view| view.standing == "counting");
    assert_eq!(learnt.reference.unwrap().source, "live traffic");
    assert!(learnt.last.is_none(), "{:?}", learnt.last);
    send(&gateway, 320, 0);
    let same = wait(&gateway, |view| view.last.is_some());
    assert_eq!((state(&same, "input"), same.last.unwrap().rows), ("steady", 320));
    for expected in ["moved", "moved", "drifting"] {
        let former = wait(&gateway, |_| true).last;
        send(&gateway, 320, 60);
        let view = wait(&gateway, |view| view.last != former);
        assert_eq!(state(&view, "input"), expected, "{view:#?}");
        // It answers the same as ever.
        assert_ne!(state(&view, "output"), "moved");
    }
    let (status, reply) = get(&gateway, "/v1/models/m/drift");
    assert_eq!(status, 200);
    let column = &reply["versions"][0]["columns"][0];
    assert_eq!((&column["kind"], &column["state"]), (&json!("input"), &json!("drifting")));
    assert!(column["psi"].as_f64().unwrap() > 0.5, "{reply:#}");
    assert!(column["window"]["out_of_range"].as_f64().unwrap() > 0.5, "{reply:#}");
    let metrics = runtime().block_on(async {
        Client::connect(gateway.app.admin_address()).await.get("/metrics").await.text()
    });
    let drifting = |line: &str| line.starts_with("foreshadow_drifting{") && line.ends_with(" 1");
    assert!(metrics.lines().any(drifting), "{metrics}");
    // Somebody is told, and of what.
    let alerts = get(&gateway, "/v1/alerts?state=firing").1;
    let alert = &alerts["alerts"][0];
    assert_eq!((&alert["alert"], &alert["version"]), (&json!("drift"), &json!(1)), "{alerts:#}");
    assert!(alert["says"].as_str().unwrap().starts_with("drifting: input "), "{alerts:#}");
    assert_eq!(get(&gateway, "/v1/models/nobody/drift").0, 404);
    gateway.app.stop();
}

#[test]
fn a_profile_that_comes_later_is_taken_up_and_a_broken_one_is_told() {
    let gateway = start_with("", &["answers 1"], &QUICK);
    wait(&gateway, |view| view.standing == "learning");
    send(&gateway, 640, 0);
    wait(&gateway, |view| view.standing == "counting");
    let file = gateway.model_folder().join("1/profile.json");
    fs::write(&file, "{\"schema\": 1").unwrap();
    let broken = wait(&gateway, |view| view.problem.is_some());
    assert!(broken.problem.unwrap().starts_with("profile.json: "));
    assert_eq!(broken.standing, "resting");
    // What was learnt is kept, and goes on when the broken one is gone.
    fs::remove_file(&file).unwrap();
    let again = wait(&gateway, |view| view.standing == "counting");
    assert_eq!((again.problem, again.reference.unwrap().rows), (None, 640));
    let served = get(&gateway, "/v1/models/m").1;
    assert_eq!(served["plan"]["champion"]["version"], 1, "{served:#}");
    gateway.app.stop();
}

#[test]
fn what_was_learnt_is_learnt_anew_when_an_operator_says_so() {
    let gateway = start_with("", &["answers 1"], &QUICK);
    wait(&gateway, |view| view.standing == "learning");
    send(&gateway, 640, 0);
    wait(&gateway, |view| view.standing == "counting");
    let (status, reply) = relearn(&gateway, 1);
    assert_eq!((status, &reply["versions"][0]["standing"]), (200, &json!("learning")), "{reply:#}");
    let newest = &get(&gateway, "/v1/models/m/history").1["entries"][0];
    assert_eq!(newest["action"], "learn the profile of 1 anew", "{newest:#}");
    assert_eq!((&newest["actor"], &newest["reason"]), (&json!("eve"), &json!("a test")));
    send(&gateway, 640, 60);
    wait(&gateway, |view| view.standing == "counting");
    send(&gateway, 320, 60);
    let view = wait(&gateway, |view| view.last.is_some());
    assert_eq!(state(&view, "input"), "steady", "{view:#?}");
    assert_eq!(relearn(&gateway, 2).0, 404);
    // What its folder has is not learnt.
    fs::write(gateway.model_folder().join("1/profile.json"), "{").unwrap();
    wait(&gateway, |view| view.problem.is_some());
    let (status, reply) = relearn(&gateway, 1);
    assert!(status == 409 && reply.to_string().contains("profile.json"), "{status} {reply:#}");
    gateway.app.stop();
}

#[test]
fn nobody_is_watched_whose_owner_does_not_want_it() {
    let gateway = start_with("[monitor]\ndrift = false\n", &["answers 1"], &QUICK);
    let mut rounds = gateway.app.monitor().rounds();
    runtime().block_on(async { rounds.changed().await.unwrap() });
    send(&gateway, 640, 0);
    let view = wait(&gateway, |_| true);
    assert_eq!((view.standing, view.columns.len()), ("off", 0), "{view:#?}");
    gateway.app.stop();
}

/// Sends one row, and returns what the reply says of how odd it is.
fn oddness(gateway: &Gateway, row: &Value) -> (String, String) {
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let body = json!({ "instances": [[row]] }).to_string();
        let headers = [("x-foreshadow-anomaly", "1")];
        let reply = client.send("POST", "/predict/m", &headers, body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let id = reply.header("x-prediction-id").to_owned();
        (reply.header("x-foreshadow-anomaly").to_owned(), id)
    })
}

#[test]
fn a_row_unlike_what_was_learnt_is_told_counted_and_kept() {
    let gateway = start_with("", &["answers 1"], &QUICK);
    wait(&gateway, |view| view.standing == "learning");
    assert_eq!(oddness(&gateway, &json!(5)).0, "unknown");
    send(&gateway, 640, 0);
    wait(&gateway, |view| view.standing == "counting");
    let usual = oddness(&gateway, &json!(50)).0;
    assert!(usual.starts_with("usual;score=") && usual.ends_with(";rows=1;odd=0"), "{usual}");
    let (odd, id) = oddness(&gateway, &json!(5000));
    assert!(odd.starts_with("odd;score=") && odd.contains(";row=0;why=above;input="), "{odd}");
    // The next look has it, and only it.
    let (monitor, model) = (gateway.app.monitor(), ModelName::new("m").unwrap());
    let mut rounds = monitor.rounds();
    let counted = async {
        while monitor.anomalies(&model)[0].odd == 0 {
            rounds.changed().await.unwrap();
        }
    };
    runtime().block_on(async { tokio::time::timeout(HANG, counted).await }).unwrap();
    let (status, reply) = get(&gateway, "/v1/models/m/anomalies");
    assert_eq!(status, 200);
    let version = &reply["versions"][0];
    let tally = (&version["level"], &version["odd"], &version["reasons"]);
    let expected = (&json!(0.01), &json!(1), &json!([{"why": "above", "rows": 1}]));
    assert_eq!(tally, expected, "{reply:#}");
    let newest = &version["newest"][0];
    assert_eq!((&newest["prediction_id"], &newest["row"]), (&json!(id), &json!(0)), "{reply:#}");
    let metrics = runtime().block_on(async {
        Client::connect(gateway.app.admin_address()).await.get("/metrics").await.text()
    });
    let line = "foreshadow_anomalies_total{model=\"m\",version=\"1\",why=\"above\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    assert_eq!(get(&gateway, "/v1/models/nobody/anomalies").0, 404);
    gateway.app.stop();
}
