//! Rollouts that are stopped by labels, which come a stage later than their answers, and by
//! how differently groups are selected, which takes none.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use foreshadow::rollout::RolloutView;
use foreshadow::types::ModelName;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::gateway::{Gateway, HANG, start_with};
use crate::http::{Client, Reply};

/// Two weights that need little traffic, and a watch that nobody sees the end of. Rows
/// from 50 on are asked for by `pro`.
const MODEL: &str = "task = \"regression\"
[start]
champion = 1
[labels]
wrong_beyond = 0.5
[groups.plan]
header = \"x-plan\"
values = [\"basic\", \"pro\"]
[rollout]
shadow = \"0%\"
weights = [\"10%\", \"50%\"]
min = \"100ms\"
watch = \"1h\"
[rollout.guards]
latency_p50 = { enabled = false }
latency_p99 = { enabled = false }
errors = { objective = 0.05 }
refusals = { objective = 0.05 }
nonfinite = { objective = 0.05 }
";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// An answer's id, and what was asked.
type Asked = (String, usize);

/// A client that asks until it is told to stop.
struct Traffic {
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Asked>>>,
    client: JoinHandle<()>,
}

impl Traffic {
    fn begin(gateway: &Gateway) -> Self {
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Asked>>>::default());
        let (address, until, to) =
            (gateway.app.inference_address(), Arc::clone(&stop), Arc::clone(&asked));
        let client = std::thread::spawn(move || {
            runtime().block_on(async {
                let mut client = Client::connect(address).await;
                let mut pace = tokio::time::interval(Duration::from_millis(1));
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                for i in (0..).take_while(|_| !until.load(SeqCst)) {
                    pace.tick().await;
                    let x: usize = i % 100;
                    let plan = if x < 50 { "basic" } else { "pro" };
                    let body = json!({"instances": [[x]]}).to_string();
                    let reply = client.send("POST", "/predict/m", &[("x-plan", plan)], body).await;
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    let id = reply.json()["prediction_id"].as_str().unwrap().to_owned();
                    to.lock().unwrap().push((id, x));
                }
            });
        });
        Self { stop, asked, client }
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn end(self) {
        self.stop.store(true, SeqCst);
        self.client.join().unwrap();
    }
}

/// Waits until the rollout is as asked for.
fn wait(gateway: &Gateway, until: impl Fn(&RolloutView) -> bool) -> RolloutView {
    let (rollouts, model) = (gateway.app.rollouts(), ModelName::new("m").unwrap());
    let mut steps = rollouts.changed();
    let waiting = async {
        loop {
            steps.mark_unchanged();
            if let Ok(view) = rollouts.status(&model).await
                && until(&view)
            {
                return view;
            }
            steps.changed().await.unwrap();
        }
    };
    let waited = runtime().block_on(async { tokio::time::timeout(HANG, waiting).await });
    waited.unwrap_or_else(|_| panic!("{:#?}", runtime().block_on(rollouts.status(&model))))
}

fn admin(gateway: &Gateway, path: &str, body: Option<Value>) -> Reply {
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.admin_address()).await;
        match body {
            Some(body) => client.post(path, body.to_string()).await,
            None => client.get(path).await,
        }
    })
}

/// Reports what was true of each answer.
fn report(gateway: &Gateway, asked: &[Asked], truth: fn(usize) -> f64) {
    let mut lines = String::new();
    for (id, x) in asked {
        let label = json!({"prediction_id": id, "label": truth(*x)});
        writeln!(lines, "{label}").unwrap();
    }
    let reply = runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        client.post("/v1/feedback", lines).await
    });
    assert_eq!(reply.json()["joined"], asked.len(), "{}", reply.text());
}

/// Brings in a version, and reports labels once its second weight has begun: how it ended.
fn stopped_by(guards: &str, version: &str, truth: fn(usize) -> f64) -> RolloutView {
    let model = format!("{MODEL}{guards}");
    let gateway = start_with(&model, &["answers 1", version], &[("rollout.tick", "20ms")]);
    let traffic = Traffic::begin(&gateway);
    let begun = admin(&gateway, "/v1/models/m/rollout", Some(json!({"version": 2})));
    assert_eq!(begun.status, 200, "{}", begun.text());
    let view = wait(&gateway, |view| view.stage >= 1);
    assert_eq!(view.phase, "running", "{view:#?}");
    report(&gateway, &traffic.asked(), truth);
    let view = wait(&gateway, |view| view.phase != "running");
    traffic.end();
    let replayed = admin(&gateway, &format!("/v1/rollouts/{}/replay", view.id), None).json();
    assert_eq!(replayed["same"], true, "{replayed:#}");
    let plan = &admin(&gateway, "/v1/models/m", None).json()["plan"];
    assert_eq!((&plan["champion"]["version"], &plan["canary"]), (&json!(1), &Value::Null));
    gateway.app.stop();
    view
}

#[test]
fn a_version_that_is_wrong_more_often_goes_back_when_its_labels_come() {
    let guards = "wrong = { enabled = true }\n";
    let view = stopped_by(guards, "wrong-above 59", |_| 1.0);
    assert_eq!(view.phase, "rolled_back", "{view:#?}");
    assert!(view.why.starts_with("worse: wrong: "), "{}", view.why);
    let guard = view.guards.iter().find(|guard| guard.guard == "wrong").unwrap();
    // The labels are of the stage in which their answers were given.
    let first = guard.stages.iter().find(|stage| stage.share == 0.1).unwrap();
    assert!(first.canary > 5 && first.champion == 0, "{guard:#?}");
}

#[test]
fn a_version_that_is_wrong_more_often_for_one_group_goes_back() {
    // Both are wrong on each fifth row of `basic`; the new one also on most of `pro`.
    let truth = |x: usize| if x < 50 && x.is_multiple_of(5) { 2.0 } else { 1.0 };
    let view = stopped_by("fairness = { enabled = true }\n", "wrong-above 69", truth);
    assert_eq!(view.phase, "rolled_back", "{view:#?}");
    assert!(view.why.starts_with("worse: fairness: plan=pro: "), "{}", view.why);
    let guard = view.guards.iter().find(|guard| guard.guard == "fairness").unwrap();
    assert_eq!(guard.group.as_deref(), Some("plan=pro"));
}

#[test]
fn a_version_that_selects_one_group_less_goes_back_without_a_label() {
    let model = MODEL
        .replace("regression", "classification")
        .replace("wrong_beyond = 0.5", "classes = [\"no\", \"yes\"]")
        + "parity = { enabled = true }\n";
    let versions = ["answers 1", "rejects-above 69"];
    let gateway = start_with(&model, &versions, &[("rollout.tick", "20ms")]);
    let traffic = Traffic::begin(&gateway);
    let begun = admin(&gateway, "/v1/models/m/rollout", Some(json!({"version": 2})));
    assert_eq!(begun.status, 200, "{}", begun.text());
    let view = wait(&gateway, |view| view.phase != "running");
    traffic.end();
    assert_eq!(view.phase, "rolled_back", "{view:#?}");
    assert!(view.why.starts_with("worse: parity: plan: pro is selected 0."), "{}", view.why);
    let guard = view.guards.iter().find(|guard| guard.guard == "parity").unwrap();
    assert_eq!(guard.group.as_deref(), Some("plan=pro"));
    assert!(guard.effect.is_some_and(|times| times > 2.0), "{guard:#?}");
    let replayed = admin(&gateway, &format!("/v1/rollouts/{}/replay", view.id), None).json();
    assert_eq!(replayed["same"], true, "{replayed:#}");
    gateway.app.stop();
}

#[test]
fn an_equal_version_is_not_stopped_by_labels_and_nobody_waits_for_them() {
    let guards = "wrong = { enabled = true }\nfairness = { enabled = true }\n";
    let model = format!("{MODEL}{guards}");
    let gateway = start_with(&model, &["answers 1", "answers 1"], &[("rollout.tick", "20ms")]);
    let traffic = Traffic::begin(&gateway);
    let begun = admin(&gateway, "/v1/models/m/rollout", Some(json!({"version": 2})));
    assert_eq!(begun.status, 200, "{}", begun.text());
    // Without a label it goes to its watch.
    let view = wait(&gateway, |view| view.stage == 2);
    assert_eq!(view.phase, "running", "{view:#?}");
    let truth = |x: usize| if x.is_multiple_of(5) { 2.0 } else { 1.0 };
    report(&gateway, &traffic.asked(), truth);
    let of_labels = |view: &RolloutView| {
        let guards = view.guards.iter().filter(|own| ["wrong", "fairness"].contains(&own.guard));
        guards.map(|own| own.stages.iter().map(|stage| stage.canary).sum()).collect::<Vec<u64>>()
    };
    let view = wait(&gateway, |view| {
        let counts = of_labels(view);
        counts.len() == 2 && counts.iter().all(|count| *count > 0)
    });
    traffic.end();
    assert_eq!((view.phase, view.stage), ("running", 2), "{view:#?}");
    let wrong = view.guards.iter().find(|guard| guard.guard == "wrong").unwrap();
    assert_ne!(wrong.verdict, "worse", "{wrong:#?}");
    let gone = admin(&gateway, "/v1/models/m/rollout/abort", Some(json!({"reason": "enough"})));
    assert_eq!(gone.status, 200, "{}", gone.text());
    gateway.app.stop();
}

#[test]
fn labels_are_judged_by_where_there_are_any() {
    let gateway = start_with("", &["answers 1", "answers 1"], &[]);
    let own = json!({"version": 2, "overrides": {"guards": {"wrong": {"enabled": true}}}});
    let refused = admin(&gateway, "/v1/models/m/rollout", Some(own));
    let expected = "guards.wrong.enabled: switch it on in model.toml, beside the labels that it \
                    judges by";
    assert_eq!(refused.error(400), expected);
    gateway.app.stop();
}
