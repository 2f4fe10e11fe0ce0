//! A canary's rows against its champion's, from the split over real sockets to the reply
//! of the admin API.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

use foreshadow::monitor::{AgainstView, DriftView};
use foreshadow::registry::Change;
use foreshadow::types::ModelName;
use serde_json::{Value, json};

use crate::gateway::{Gateway, HANG, start_with, version};
use crate::http::Client;

/// A look each 10 ms, and windows by rows alone.
const QUICK: [(&str, &str); 4] = [
    ("monitor.tick", "10ms"),
    ("monitor.window", "0s"),
    ("monitor.window_rows", "320"),
    ("monitor.learn_rows", "640"),
];
const START: &str = "[start]\nchampion = 1\n";
/// What one request has at most that is counted whole.
const BATCH: u32 = 64;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Clients that ask the same again and again until they are told to stop: 0 to 63.
/// Whoever answers how many of them has all values alike, so that no luck is in it.
struct Traffic {
    stop: Arc<AtomicBool>,
    client: JoinHandle<()>,
}

impl Traffic {
    fn begin(gateway: &Gateway) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (stopped, address) = (Arc::clone(&stop), gateway.app.inference_address());
        let instances: Vec<_> = (0..BATCH).map(|x| [x]).collect();
        let body = json!({ "instances": instances }).to_string();
        let client = std::thread::spawn(move || {
            runtime().block_on(async {
                let mut client = Client::connect(address).await;
                while !stopped.load(SeqCst) {
                    let reply = client.post("/predict/m", body.clone()).await;
                    assert_eq!(reply.status, 200, "{}", reply.text());
                }
            });
        });
        Self { stop, client }
    }

    fn end(self) {
        self.stop.store(true, SeqCst);
        self.client.join().unwrap();
    }
}

/// Waits until what is shown of all versions is as asked for.
fn wait<T>(gateway: &Gateway, until: impl Fn(&[Arc<DriftView>]) -> Option<T>) -> T {
    let (monitor, model) = (gateway.app.monitor(), ModelName::new("m").unwrap());
    let mut rounds = monitor.rounds();
    let waiting = async {
        loop {
            rounds.mark_unchanged();
            if let Some(found) = until(&monitor.drift(&model)) {
                return found;
            }
            rounds.changed().await.unwrap();
        }
    };
    let waited = runtime().block_on(async { tokio::time::timeout(HANG, waiting).await });
    waited.unwrap_or_else(|_| panic!("{:#?}", monitor.drift(&model)))
}

/// What is shown of the canary against its champion.
fn against(views: &[Arc<DriftView>]) -> Option<AgainstView> {
    views.iter().find(|view| view.version == version(2))?.against_champion.clone()
}

fn change(gateway: &Gateway, change: Change) {
    runtime().block_on(gateway.change(change));
}

fn get(gateway: &Gateway, path: &str) -> crate::http::Reply {
    runtime().block_on(async { Client::connect(gateway.app.admin_address()).await.get(path).await })
}

/// Two versions under traffic, the second as the canary that half of it falls on.
fn with_canary(canary: &str) -> (Gateway, Traffic) {
    let gateway = start_with(START, &["wrong-above 31", canary], &QUICK);
    let half = "50%".parse().unwrap();
    change(&gateway, Change::SetCanary { version: version(2), weight: half });
    // Nobody has asked yet, so nobody has bins.
    let learns = "the champion is still learning its profile, which has the bins";
    wait(&gateway, |views| (against(views)?.problem.as_deref() == Some(learns)).then_some(()));
    let traffic = Traffic::begin(&gateway);
    wait(&gateway, |views| against(views)?.problem.is_none().then_some(()));
    (gateway, traffic)
}

/// What is shown of the next window of both after that which began so.
fn next(gateway: &Gateway, former: Option<&AgainstView>) -> AgainstView {
    let last = |view: &AgainstView| view.last.clone();
    let former = former.and_then(last);
    wait(gateway, |views| {
        against(views).filter(|view| last(view).is_some() && last(view) != former)
    })
}

fn state(view: &AgainstView, kind: &str) -> &'static str {
    view.columns.iter().find(|column| column.kind == kind).unwrap().state
}

#[test]
fn a_canary_that_answers_otherwise_is_different_in_its_outputs_only() {
    let (gateway, traffic) = with_canary("wrong-above 50");
    let different = wait(&gateway, |views| {
        against(views).filter(|view| view.columns.iter().any(|c| c.state == "different"))
    });
    assert_eq!((state(&different, "input"), state(&different, "output")), ("alike", "different"));
    let last = different.last.as_ref().unwrap();
    assert!(last.rows >= 320 && last.champion_rows >= 320, "{different:#?}");
    let output = different.columns.iter().find(|column| column.kind == "output").unwrap();
    assert!(output.psi.unwrap() > output.bound.unwrap(), "{different:#?}");
    assert!(output.js.unwrap() > 0.0 && output.p_value.unwrap() < 0.01, "{different:#?}");

    let reply = get(&gateway, "/v1/models/m/drift").json();
    let shown = &reply["versions"][1]["against_champion"];
    assert_eq!((&shown["version"], &shown["problem"]), (&json!(1), &Value::Null), "{reply:#}");
    assert_eq!(shown["columns"][1]["state"], "different", "{reply:#}");
    assert_eq!(reply["versions"][0]["against_champion"], Value::Null, "{reply:#}");
    let metrics = get(&gateway, "/metrics").text();
    let of = |kind: &str, value: &str| {
        let kind = format!("kind=\"{kind}\"");
        let lines = metrics.lines().filter(|line| line.contains(&kind));
        lines.filter(|line| line.ends_with(value)).any(|line| {
            line.starts_with("foreshadow_canary_different{") && line.contains("version=\"2\"")
        })
    };
    assert!(of("input", "} 0") && of("output", "} 1"), "{metrics}");
    // It is shown, and nobody is alarmed: that is what a canary is for.
    let alerts = get(&gateway, "/v1/alerts").json();
    assert!(!alerts.to_string().contains("champion's"), "{alerts:#}");

    // The rollout is over while the traffic goes on.
    change(&gateway, Change::RemoveCanary);
    wait(&gateway, |views| against(views).is_none().then_some(()));
    assert!(!get(&gateway, "/metrics").text().contains("foreshadow_canary_different{"));
    traffic.end();
    gateway.app.stop();
}

#[test]
fn a_canary_that_answers_the_same_is_alike_window_after_window() {
    let (gateway, traffic) = with_canary("wrong-above 31");
    let mut view = None;
    for _ in 0..4 {
        let newest = next(&gateway, view.as_ref());
        assert_eq!((state(&newest, "input"), state(&newest, "output")), ("alike", "alike"));
        view = Some(newest);
    }
    traffic.end();
    gateway.app.stop();
}
