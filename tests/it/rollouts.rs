//! Rollouts under traffic, from their beginning to their end by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use foreshadow::rollout::RolloutView;
use foreshadow::types::ModelName;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::gateway::{Gateway, HANG, start_with, write_version};
use crate::http::{Client, Reply};

/// Short stages, and two weights that need little traffic.
const MODEL: &str = "on_new_version = \"rollout\"
[start]
champion = 1
[rollout]
weights = [\"10%\", \"50%\"]
min = \"100ms\"
max = \"1h\"
watch = \"300ms\"
holdback = \"10%\"
";

/// A look each 20 ms, and copies enough of a version that sleeps.
const QUICK: [(&str, &str); 2] = [("rollout.tick", "20ms"), ("shadow.threads", "8")];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Clients that ask until they are told to stop, some thousand times a second. Without
/// a pause they would leave the shadows nothing, which run on what is left over.
struct Traffic {
    stop: Arc<AtomicBool>,
    failed: Arc<[AtomicU64; 2]>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn begin(gateway: &Gateway) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let failed = Arc::<[AtomicU64; 2]>::default();
        let address = gateway.app.inference_address();
        let client = |n: usize| {
            let (stop, failed) = (Arc::clone(&stop), Arc::clone(&failed));
            std::thread::spawn(move || {
                runtime().block_on(async {
                    let mut client = Client::connect(address).await;
                    let mut pace = tokio::time::interval(Duration::from_millis(1));
                    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    for i in (n..).take_while(|_| !stop.load(SeqCst)) {
                        pace.tick().await;
                        let body = format!(r#"{{"instances":[[{}]]}}"#, i % 100);
                        let reply = client.post("/predict/m", body).await;
                        let newer = usize::from(reply.header("x-model-version") == "2");
                        failed[newer].fetch_add(u64::from(reply.status != 200), SeqCst);
                    }
                });
            })
        };
        let clients = (0..4).map(client).collect();
        Self { stop, failed, clients }
    }

    /// Failed requests of versions 1 and 2.
    fn end(self) -> [u64; 2] {
        self.stop.store(true, SeqCst);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        [self.failed[0].load(SeqCst), self.failed[1].load(SeqCst)]
    }
}

fn model() -> ModelName {
    ModelName::new("m").unwrap()
}

/// Waits until the newest rollout is as asked for.
fn wait(gateway: &Gateway, until: impl Fn(&RolloutView) -> bool) -> RolloutView {
    let rollouts = gateway.app.rollouts();
    let mut steps = rollouts.changed();
    let waiting = async {
        loop {
            steps.mark_unchanged();
            if let Ok(view) = rollouts.status(&model()).await
                && until(&view)
            {
                return view;
            }
            steps.changed().await.unwrap();
        }
    };
    let waited = runtime().block_on(async { tokio::time::timeout(HANG, waiting).await });
    waited.unwrap_or_else(|_| {
        panic!("{:#?}", runtime().block_on(rollouts.status(&model())));
    })
}

fn ended(view: &RolloutView) -> bool {
    !["running", "paused", "stopped", "awaiting_approval"].contains(&view.phase)
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

/// A version comes, and its rollout goes to its end under traffic: how it ended,
/// and how many requests failed on either version. Its record comes out the same.
fn whole(champion: &str, version: &str) -> (RolloutView, [u64; 2], u64) {
    whole_by("", champion, version)
}

/// The same with guards of one's own.
fn whole_by(guards: &str, champion: &str, version: &str) -> (RolloutView, [u64; 2], u64) {
    // One that fails in its warm-up is never ready: it comes before it may fail.
    let comes_late = !version.starts_with("fails");
    let scripts = [champion, version];
    let model = format!("{MODEL}{guards}");
    let gateway = start_with(&model, &scripts[..2 - usize::from(comes_late)], &QUICK);
    let traffic = Traffic::begin(&gateway);
    if comes_late {
        write_version(&gateway.model_folder(), 2, version);
    } else {
        let begun = admin(&gateway, "/v1/models/m/rollout", Some(json!({"version": 2})));
        assert_eq!(begun.status, 200, "{}", begun.text());
    }
    let view = wait(&gateway, ended);
    let failed = traffic.end();
    let replayed = admin(&gateway, &format!("/v1/rollouts/{}/replay", view.id), None).json();
    assert_eq!(replayed["same"], true, "{replayed:#}");
    let steps = replayed["steps"].as_array().unwrap();
    assert!(steps.len() >= 2, "{replayed:#}");
    let history = admin(&gateway, "/v1/models/m/history", None).json();
    let newest = &history["entries"][0];
    assert_eq!(newest["actor"], format!("rollout {}", view.id), "{newest:#}");
    assert!(newest["evidence"].is_string() && newest["reason"].is_string(), "{newest:#}");
    let plan = &admin(&gateway, "/v1/models/m", None).json()["plan"];
    assert!(plan["canary"].is_null() && plan["shadows"] == json!([]), "{plan:#}");
    let champion = plan["champion"]["version"].as_u64().unwrap();
    gateway.app.stop();
    (view, failed, champion)
}

#[test]
fn an_equal_version_becomes_champion_by_itself_and_nobody_notices() {
    let (view, failed, champion) = whole("answers 1", "answers 1");
    assert_eq!((view.phase, champion, failed), ("promoted", 2, [0, 0]), "{view:#?}");
    assert_eq!(view.stages, ["shadow 100%", "canary 10%", "canary 50%", "watch, control 10%"]);
    assert_eq!(view.stage, 3);
}

#[test]
fn a_better_version_becomes_champion_by_itself() {
    let (view, failed, champion) = whole("fails-every 50", "answers 1");
    assert_eq!((view.phase, champion, failed[1]), ("promoted", 2, 0), "{view:#?}");
}

#[test]
fn an_erring_version_goes_back_and_only_its_own_share_fails() {
    let (view, failed, champion) = whole("answers 1", "fails-every 10");
    // Whether its copies or its answers tell first is chance.
    assert_eq!((view.phase, champion, failed[0]), ("rolled_back", 1, 0), "{view:#?}");
    assert!(view.why.starts_with("worse: shadow_failures: "), "{}", view.why);
    assert_eq!(failed[1], 0, "a shadow is not seen");
}

#[test]
fn a_slower_version_goes_back() {
    // Slower than anything takes on a busy machine.
    let (view, failed, champion) = whole("answers 1", "slow 30");
    assert_eq!((view.phase, champion, failed), ("rolled_back", 1, [0, 0]), "{view:#?}");
    assert!(view.why.contains("latency_p"), "{}", view.why);
}

#[test]
fn a_subtly_wrong_version_is_found_out_as_a_shadow() {
    // Wrong on 40 of 100 inputs.
    let (view, failed, champion) = whole("answers 1", "wrong-above 59");
    assert_eq!((view.phase, champion, failed), ("rolled_back", 1, [0, 0]), "{view:#?}");
    assert!(view.why.starts_with("worse: disagreement: "), "{}", view.why);
    assert_eq!(view.stage, 0);
}

/// Disagreement alone would call both worse: a third of the answers differ.
const NOISE: &str = "[rollout.guards]
disagreement = { enabled = false }
noise = { enabled = true }
";

#[test]
fn a_version_as_noisy_as_the_champion_is_not_worse() {
    let (view, failed, champion) = whole_by(NOISE, "noisy 200", "noisy 200");
    assert_eq!((view.phase, champion, failed), ("promoted", 2, [0, 0]), "{view:#?}");
}

#[test]
fn a_version_that_differs_by_more_than_noise_goes_back() {
    let (view, failed, champion) = whole_by(NOISE, "noisy 50", "noisy 500");
    assert_eq!((view.phase, champion, failed), ("rolled_back", 1, [0, 0]), "{view:#?}");
    assert!(view.why.starts_with("worse: noise: "), "{}", view.why);
    assert_eq!(view.stage, 0);
}

#[test]
fn a_canary_that_errs_goes_back_before_long() {
    let gateway = start_with(MODEL, &["answers 1", "fails-every 5"], &QUICK);
    let traffic = Traffic::begin(&gateway);
    let start = json!({"version": 2, "overrides": {"shadow": "0%"}, "actor": "eve"});
    let reply = admin(&gateway, "/v1/models/m/rollout", Some(start));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let view = wait(&gateway, ended);
    let [champion, canary] = traffic.end();
    assert_eq!((view.phase, view.actor.as_str(), champion), ("rolled_back", "eve", 0));
    assert!(view.why.starts_with("worse: errors: "), "{}", view.why);
    let failed = view.guards.iter().find(|guard| guard.guard == "errors").unwrap();
    assert!(failed.stages[0].canary <= canary && canary < 1_000, "{canary}: {failed:#?}");
    gateway.app.stop();
}

#[test]
fn people_steer_a_rollout_and_everything_is_in_its_log() {
    let gateway = start_with(MODEL, &["answers 1", "answers 1"], &QUICK);
    let ask = |what: &str, body: Value| {
        let reply = admin(&gateway, &format!("/v1/models/m/rollout{what}"), Some(body));
        (reply.status, reply.json())
    };
    let said = |(status, body): (u16, Value), expected: u16| {
        assert_eq!(status, expected, "{body:#}");
        body["error"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(admin(&gateway, "/v1/models/m/rollout", None).status, 404);
    let wrong = json!({"version": 2, "overrides": {"weights": ["5%", "1%"]}});
    assert!(said(ask("", wrong), 400).contains("weights: expected them ascending"));
    assert!(said(ask("", json!({"version": 1})), 409).contains("is the champion already"));
    assert!(said(ask("", json!({"version": 9})), 404).contains("no version 9"));
    let begun = ask("", json!({"version": 2, "actor": "eve", "overrides": {"approval": true}}));
    said(begun, 200);
    assert!(said(ask("", json!({"version": 2})), 409).contains("abort it first"));
    said(ask("/pause", json!({"actor": "eve", "reason": "lunch"})), 200);
    assert!(said(ask("/pause", json!({})), 409).contains("paused already"));
    said(ask("/resume", json!({"actor": "eve"})), 200);
    said(ask("/comments", json!({"actor": "ann", "text": "looks fine"})), 200);
    assert!(said(ask("/skip", json!({"actor": "eve"})), 400).contains("reason: expected why"));
    let skip = json!({"actor": "eve", "reason": "no traffic here"});
    said(ask("/skip", skip.clone()), 200);
    let early = said(ask("/approve", json!({"actor": "ann"})), 409);
    assert!(early.contains("in the last stage before the promotion"), "{early}");
    said(ask("/skip", skip.clone()), 200);
    assert!(said(ask("/promote", skip.clone()), 409).contains("second person"));
    assert!(said(ask("/approve", json!({"actor": "eve"})), 403).contains("another person"));
    said(ask("/approve", json!({"actor": "ann"})), 200);
    said(ask("/promote", skip), 200);
    let view = wait(&gateway, |view| view.phase == "promoted");
    let log: Vec<_> =
        view.log.iter().map(|line| format!("{}: {}", line.actor, line.text)).collect();
    for expected in [
        "eve: begun: version 2 against 1",
        "eve: paused",
        "ann: looks fine",
        "eve: stage canary 10% (no traffic here)",
        "ann: approved",
        "eve: stage watch, control 10% (no traffic here)",
    ] {
        assert!(log.iter().any(|line| line == expected), "{expected}: {log:#?}");
    }
    assert!(said(ask("/abort", json!({})), 404).contains("no rollout under way"));
    gateway.app.stop();
}

#[test]
fn a_change_by_hand_ends_a_rollout_and_an_abort_takes_the_version_out() {
    let gateway = start_with(MODEL, &["answers 1", "answers 1"], &QUICK);
    let ask = |what: &str, body: Value| {
        let reply = admin(&gateway, &format!("/v1/models/m/{what}"), Some(body));
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    };
    ask("rollout", json!({"version": 2}));
    ask("promote", json!({"version": 2}));
    let view = wait(&gateway, ended);
    assert_eq!(view.phase, "overtaken");
    ask("rollback", json!({}));
    let again = ask("rollout", json!({"version": 2, "overrides": {"shadow": "0%"}}));
    assert_eq!((again["id"].as_u64(), again["stage"].as_u64()), (Some(view.id + 1), Some(0)));
    ask("rollout/abort", json!({"reason": "wrong features"}));
    let plan = &admin(&gateway, "/v1/models/m", None).json()["plan"];
    assert!(plan["canary"].is_null(), "{plan:#}");
    let list = admin(&gateway, "/v1/models/m/rollouts", None).json();
    let phases: Vec<_> = list["rollouts"].as_array().unwrap().iter().map(|r| &r["phase"]).collect();
    assert_eq!(phases, ["aborted", "overtaken"]);
    gateway.app.stop();
}

#[test]
fn a_stage_without_evidence_stops_and_never_promotes() {
    let gateway = start_with(MODEL, &["answers 1", "answers 1"], &QUICK);
    let start = json!({"version": 2, "overrides": {"max": "150ms", "shadow": "0%"}});
    assert_eq!(admin(&gateway, "/v1/models/m/rollout", Some(start)).status, 200);
    let view = wait(&gateway, |view| view.phase == "stopped");
    assert!(view.why.starts_with("the stage's longest time is over; not enough"), "{}", view.why);
    let plan = &admin(&gateway, "/v1/models/m", None).json()["plan"];
    assert_eq!(plan["canary"]["weight"], "10%");
    // Whoever gives it more time gets it again.
    let reply = admin(&gateway, "/v1/models/m/rollout/resume", Some(json!({})));
    assert_eq!(reply.json()["phase"], "running", "{}", reply.text());
    wait(&gateway, |view| view.phase == "stopped");
    gateway.app.stop();
}

#[test]
fn a_newer_version_takes_the_place_of_the_one_under_way() {
    let gateway = start_with(MODEL, &["answers 1"], &QUICK);
    write_version(&gateway.model_folder(), 2, "answers 1");
    wait(&gateway, |view| view.version.get() == 2);
    write_version(&gateway.model_folder(), 3, "answers 1");
    let view = wait(&gateway, |view| view.version.get() == 3);
    assert_eq!((view.phase, view.base.get()), ("running", 1));
    let list = admin(&gateway, "/v1/models/m/rollouts", None).json();
    assert_eq!(list["rollouts"][1]["phase"], "superseded", "{list:#}");
    gateway.app.stop();
}

/// A few rollouts each time; `ROLLOUTS=200` for more, and `--release` for speed.
#[test]
fn of_identical_versions_hardly_one_is_taken_out() {
    let rollouts: u64 = std::env::var("ROLLOUTS").map_or(3, |n| n.parse().unwrap());
    let script = "doubles-or-fails 20";
    let gateway = start_with(MODEL, &[script, script], &[("rollout.tick", "10ms")]);
    let traffic = Traffic::begin(&gateway);
    let (mut champion, mut taken_out) = (1, 0);
    for id in 1..=rollouts {
        let version = 3 - champion;
        // A failed run of a batch fails nobody: it is run again one by one.
        let overrides = json!({
            "alpha": 0.05, "shadow": "0%", "min": "1ms", "watch": "1ms", "holdback": "0%",
        });
        let start = json!({"version": version, "overrides": overrides});
        let reply = admin(&gateway, "/v1/models/m/rollout", Some(start));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let view = wait(&gateway, |view| view.id == id && ended(view));
        match view.phase {
            "promoted" => champion = version,
            "rolled_back" => {
                println!("rollout {id}: {}", view.why);
                taken_out += 1;
            }
            _ => panic!("{view:#?}"),
        }
    }
    traffic.end();
    gateway.app.stop();
    println!("{taken_out} of {rollouts} rollouts of identical versions took the version out");
    assert!(taken_out <= 1 + rollouts * 3 / 40, "{taken_out} of {rollouts}");
}
