//! Alerts, from requests that fail to those who are told.

use std::time::{Duration, Instant};

use foreshadow::monitor::AlertView;
use serde_json::{Value, json};

use crate::gateway::{Gateway, HANG, start_with};
use crate::http::Client;
use crate::webhooks::{SECRET, Told};

/// Version 1 answers, version 2 never does.
const VERSIONS: [&str; 2] = ["answers 1", "errors"];
const MODEL: &str = "[start]\nchampion = 1\n";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends so many requests, which are answered with this status.
fn send(gateway: &Gateway, requests: u32, status: u16) {
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        for _ in 0..requests {
            let body = json!({ "instances": [[1]] }).to_string();
            let reply = client.post("/predict/m", body).await;
            assert_eq!(reply.status, status, "{}", reply.text());
        }
    });
}

fn promote(gateway: &Gateway, version: u64) {
    let body = json!({ "version": version }).to_string();
    runtime().block_on(async {
        let mut admin = Client::connect(gateway.app.admin_address()).await;
        let reply = admin.post("/v1/models/m/promote", body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    });
}

/// Waits until there is an alert as asked for, doing something before each look.
fn wait(
    gateway: &Gateway,
    mut meanwhile: impl FnMut(),
    until: impl Fn(&AlertView) -> bool,
) -> AlertView {
    let monitor = gateway.app.monitor();
    let mut rounds = monitor.rounds();
    let deadline = Instant::now() + HANG;
    loop {
        rounds.mark_unchanged();
        if let Some(alert) = monitor.alerts().alerts.iter().find(|alert| until(alert)) {
            return alert.clone();
        }
        assert!(Instant::now() < deadline, "{:#?}", monitor.alerts());
        meanwhile();
        runtime().block_on(async { rounds.changed().await.unwrap() });
    }
}

fn is(alert: &AlertView, state: &str) -> bool {
    alert.alert == "errors" && alert.state == state
}

fn get(gateway: &Gateway, path: &str) -> (u16, String) {
    runtime().block_on(async {
        let reply = Client::connect(gateway.app.admin_address()).await.get(path).await;
        (reply.status, reply.text())
    })
}

fn get_json(gateway: &Gateway, path: &str) -> Value {
    let (status, text) = get(gateway, path);
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn series(gateway: &Gateway) -> Vec<String> {
    let (_, metrics) = get(gateway, "/metrics");
    let own = metrics.lines().filter(|line| line.starts_with("foreshadow_alerts{"));
    own.map(str::to_owned).collect()
}

#[test]
fn errors_that_last_fire_are_told_everywhere_and_are_resolved() {
    let root = tempfile::tempdir().unwrap();
    let told = Told::listen();
    let file = root.path().join("webhooks.toml");
    let url = format!("http://{}/hook", told.address);
    let webhook =
        format!("[[webhook]]\nname = \"ci\"\nurl = \"{url}\"\nsecret = \"whsec_{SECRET}\"\n");
    std::fs::write(&file, webhook).unwrap();
    let settings = [
        ("monitor.tick", "10ms"),
        ("alerts.pending", "20ms"),
        ("alerts.window", "1s"),
        ("alerts.requests_min", "5"),
        ("alerts.clear_after", "20ms"),
        // There is no champion before it is loaded.
        ("alerts.models", "off"),
        ("webhooks.file", file.to_str().unwrap()),
    ];
    let gateway = start_with(MODEL, &VERSIONS, &settings);
    send(&gateway, 30, 200);
    assert_eq!(get_json(&gateway, "/v1/alerts")["alerts"], json!([]));
    promote(&gateway, 2);
    let firing = wait(&gateway, || send(&gateway, 20, 500), |alert| is(alert, "firing"));
    assert!(firing.value.unwrap() > 0.05, "{firing:?}");
    assert!(firing.says.ends_with("it is too many above 5%"), "{firing:?}");

    let message = told.until("alert firing: errors");
    let sent = message.json();
    assert_eq!((&sent["type"], &sent["data"]["model"]), (&json!("alert.firing"), &json!("m")));
    assert_eq!(sent["data"]["actor"], "monitor");
    message.reply.send(204).unwrap();
    let (_, events) = get(&gateway, "/v1/events?after=0&follow=false&model=m");
    assert!(events.contains("\"action\":\"alert firing: errors\""), "{events}");

    // Nobody sends any more: there is nothing left that would fail.
    let resolved = wait(&gateway, || {}, |alert| is(alert, "resolved"));
    assert!(resolved.fired.is_some() && resolved.resolved.is_some(), "{resolved:?}");
    let message = told.until("alert resolved: errors");
    assert_eq!(message.json()["type"], "alert.resolved");
    message.reply.send(204).unwrap();
    let list = get_json(&gateway, "/v1/alerts?state=resolved");
    assert_eq!(list["alerts"][0]["alert"], "errors", "{list:#}");
    assert_eq!((&list["unrecorded"], &list["dropped"]), (&json!(0), &json!(0)));
    assert_eq!(get_json(&gateway, "/v1/alerts?state=firing")["alerts"], json!([]));
    assert_eq!(series(&gateway), Vec::<String>::new());
    // It stands in the model's history, and changed nothing.
    let history = get_json(&gateway, "/v1/models/m/history?limit=2");
    assert_eq!(history["entries"][0]["action"], "alert resolved: errors");
    let model = get_json(&gateway, "/v1/models/m");
    assert_eq!(model["plan"]["champion"]["version"], 2, "{model:#}");
    gateway.app.stop();
}

#[test]
fn errors_that_have_not_lasted_are_pending_and_told_to_nobody() {
    let settings = [("monitor.tick", "10ms"), ("alerts.pending", "1h"), ("alerts.window", "1h")];
    let gateway = start_with("[start]\nchampion = 2\n", &VERSIONS, &settings);
    send(&gateway, 25, 500);
    let pending = wait(&gateway, || {}, |alert| is(alert, "pending"));
    assert_eq!((pending.fired, pending.value), (None, Some(1.0)));
    let list = get_json(&gateway, "/v1/alerts?state=pending");
    assert_eq!(list["alerts"][0]["model"], "m", "{list:#}");
    let labels = "alert=\"errors\",model=\"m\",state=\"pending\",version=\"\"";
    assert_eq!(series(&gateway), [format!("foreshadow_alerts{{{labels}}} 1")]);
    let history = get_json(&gateway, "/v1/models/m/history?limit=1");
    let newest = history["entries"][0]["action"].as_str().unwrap();
    assert!(!newest.contains("alert"), "{newest}");
    let (status, text) = get(&gateway, "/v1/alerts?state=bad");
    assert_eq!(status, 400);
    assert!(text.contains("expected one of `pending`, `firing`, `resolved`"), "{text}");
    gateway.app.stop();
}

#[test]
fn a_version_that_cannot_serve_fires_until_it_is_gone() {
    let settings = [("monitor.tick", "10ms"), ("alerts.pending", "0s")];
    let gateway = start_with(MODEL, &["answers 1", "nonsense"], &settings);
    let failed = |state: &'static str| {
        move |alert: &AlertView| alert.alert == "version_failed" && alert.state == state
    };
    let firing = wait(&gateway, || {}, failed("firing"));
    assert_eq!(firing.version.map(|version| version.get()), Some(2));
    assert!(firing.says.contains("no such script"), "{firing:?}");
    std::fs::remove_dir_all(gateway.model_folder().join("2")).unwrap();
    wait(&gateway, || {}, failed("resolved"));
    gateway.app.stop();
}

#[test]
fn who_wants_no_alerts_gets_none() {
    let settings = [("monitor.tick", "10ms"), ("alerts.pending", "0s"), ("alerts.enabled", "off")];
    let gateway = start_with(MODEL, &["answers 1", "nonsense"], &settings);
    let mut rounds = gateway.app.monitor().rounds();
    // Two: the first may have begun before the version had failed.
    for _ in 0..2 {
        runtime().block_on(async { rounds.changed().await.unwrap() });
    }
    assert_eq!(get_json(&gateway, "/v1/alerts")["alerts"], json!([]));
    gateway.app.stop();
}

/// Looks are quick, and what is usual is known after 17 seconds: the change has two seconds to
/// be seen in, before it is part of that.
const QUICK_LEVELS: [(&str, &str); 7] = [
    ("alerts.tick", "20ms"),
    ("monitor.tick", "20ms"),
    ("alerts.usual", "20s"),
    ("alerts.errors_above", "0%"),
    ("monitor.window", "0s"),
    ("monitor.window_rows", "200"),
    ("monitor.learn_rows", "200"),
];
/// After so long 102 blocks of a 120th of `usual` are over.
const USUAL_KNOWN: Duration = Duration::from_millis(17_500);

/// Sends rows of this between looks, until what they are is usual.
fn make_usual(gateway: &Gateway, x: u32) {
    let mut rounds = gateway.app.monitor().rounds();
    let began = Instant::now();
    while began.elapsed() < USUAL_KNOWN {
        rounds.mark_unchanged();
        send_rows(gateway, x, 200);
        runtime().block_on(async { rounds.changed().await.unwrap() });
    }
}

/// Sends ten requests.
fn send_rows(gateway: &Gateway, x: u32, status: u16) {
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        for i in 0..10 {
            let body = json!({ "instances": [[x + i]] }).to_string();
            let reply = client.post("/predict/m", body).await;
            assert_eq!(reply.status, status, "{}", reply.text());
        }
    });
}

#[test]
fn failures_that_begin_all_at_once_fire_without_waiting() {
    let gateway = start_with(MODEL, &VERSIONS, &QUICK_LEVELS);
    make_usual(&gateway, 0);
    promote(&gateway, 2);
    let firing = |alert: &AlertView| alert.alert == "error_level" && alert.state == "firing";
    let alert = wait(&gateway, || send_rows(&gateway, 0, 500), firing);
    assert!(alert.says.starts_with("failures rose to "), "{alert:?}");
    assert!(alert.says.ends_with(" requests; 0.0% usually"), "{alert:?}");
    assert!(alert.value > alert.limit, "{alert:?}");
    gateway.app.stop();
}

#[test]
fn answers_that_change_all_at_once_fire_by_their_version() {
    let gateway = start_with(MODEL, &["rejects-above 40"], &QUICK_LEVELS);
    // The profile is learnt from the first of them, and the rest counted by it.
    for _ in 0..20 {
        send_rows(&gateway, 10, 200);
    }
    make_usual(&gateway, 10);
    let firing = |alert: &AlertView| alert.alert == "score_level" && alert.state == "firing";
    let alert = wait(&gateway, || send_rows(&gateway, 50, 200), firing);
    assert_eq!(alert.version.map(|version| version.get()), Some(1));
    assert!(alert.says.contains(": rose to "), "{alert:?}");
    gateway.app.stop();
}
