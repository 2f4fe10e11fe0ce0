//! Scenarios against a server that keeps a plan as Foreshadow does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Request};
use serde_json::{Value, json};

use loadtest::admin::Admin;
use loadtest::load::Load;
use loadtest::scenario::{Finished, Scenario, play};
use loadtest::stop::Stop;

use crate::server::{Reply, Running, answering, load_on, reply};

/// The plan: what a champion and a canary are, and every change so far.
#[derive(Debug)]
struct Plan {
    champion: u64,
    canary: Value,
    shadows: Vec<Value>,
    /// Copies that were dropped, as the metrics say; more at each look.
    dropped: u64,
    changes: Vec<String>,
}

fn gateway(canary: Value) -> (Running, Arc<Mutex<Plan>>) {
    let plan = Arc::new(Mutex::new(Plan {
        champion: 1,
        canary,
        shadows: vec![json!({ "version": 3, "sample": "100%" })],
        dropped: 0,
        changes: Vec::new(),
    }));
    let server = answering(true, {
        let plan = Arc::clone(&plan);
        move |request| std::future::ready(handle(&mut plan.lock().unwrap(), &request))
    });
    (server, plan)
}

fn handle(plan: &mut Plan, request: &Request<Bytes>) -> Reply {
    let path = request.uri().path();
    if path.starts_with("/predict/") {
        let mut answer = reply(200, "{}");
        let version = plan.champion.to_string().parse().unwrap();
        answer.headers_mut().insert("x-model-version", version);
        answer.headers_mut().insert("x-model-role", "champion".parse().unwrap());
        return answer;
    }
    if request.headers().get("authorization").is_none_or(|value| value != "Bearer secret") {
        return reply(401, r#"{"error":"token"}"#);
    }
    if path == "/metrics" {
        plan.dropped += 5;
        let series = |version, count| {
            format!(
                "foreshadow_shadow_dropped_total{{model=\"churn\",version=\"{version}\"}} {count}\n"
            )
        };
        return reply(200, series(2, plan.dropped) + &series(3, 7));
    }
    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    match (request.method(), path.strip_prefix("/v1/models/churn")) {
        (&Method::GET, Some("")) => {
            return reply(200, describe(plan).to_string());
        }
        (&Method::POST, Some("/promote")) => {
            if body["version"] == 9 {
                return reply(404, r#"{"error":"no version 9"}"#);
            }
            plan.champion = body["version"].as_u64().unwrap();
            // As a gateway would: the champion is nobody's canary.
            plan.canary = Value::Null;
        }
        (&Method::PUT, Some("/canary")) => plan.canary = body.clone(),
        (&Method::DELETE, Some("/canary")) => plan.canary = Value::Null,
        (&Method::POST, Some("/rollout")) => {
            let weight = &body["overrides"]["weights"][0];
            plan.canary = json!({ "version": body["version"], "weight": weight });
        }
        (&Method::POST, Some("/rollout/abort")) => plan.canary = Value::Null,
        (&Method::PUT, Some("/shadows/2")) => {
            plan.shadows.push(json!({ "version": 2, "sample": body["sample"] }));
        }
        (&Method::PUT, Some("/shadows/3")) => {
            plan.shadows.push(json!({ "version": 3, "sample": body["sample"] }));
        }
        (&Method::DELETE, Some(shadow)) => {
            plan.shadows.retain(|known| shadow != format!("/shadows/{}", known["version"]));
        }
        _ => return reply(404, "no such route"),
    }
    plan.changes.push(format!("{} {body}", request.method()));
    reply(200, "{}")
}

fn describe(plan: &Plan) -> Value {
    json!({
        "plan": {
            "champion": { "version": plan.champion },
            "canary": plan.canary,
            "shadows": plan.shadows,
        },
        "versions": [
            { "version": 1, "state": "ready" },
            { "version": 2, "state": "ready" },
            { "version": 3, "state": "ready" },
        ],
    })
}

fn play_on(server: &Running, scenario: &Scenario) -> Finished {
    let load =
        Load { window: Duration::from_millis(500), ..load_on(&server.url("/predict/churn")) };
    let mut admin = Admin::new(&server.url(""), "churn", Some("secret")).unwrap();
    play(scenario, 1, &load, &mut admin, &Stop::default(), &mut |_| {}).unwrap()
}

#[test]
fn swap_alternates_after_a_steady_run_and_puts_the_plan_back() {
    let canary = json!({ "version": 2, "weight": "10%" });
    let (server, plan) = gateway(canary.clone());
    let every = Duration::from_millis(50);
    let finished = play_on(&server, &Scenario::Swap { versions: None, every, heavy: None });
    finished.put_back.unwrap();

    let [steady, swap] = finished.reports.try_into().unwrap();
    assert_eq!((steady.label.as_str(), swap.label.as_str()), ("steady", "swap"));
    assert_eq!((steady.failed(), swap.failed()), (0, 0));
    assert_eq!(steady.answered_by.len(), 1);
    assert_eq!(swap.answered_by.len(), 2);
    let swaps = swap.swaps.unwrap();
    assert_eq!(swaps.versions, [1, 2]);
    assert!((2..=20).contains(&swaps.done), "{}", swaps.done);
    assert_eq!(swaps.failed, 0);
    // A promotion over a socket takes at least a microsecond.
    assert!(swaps.time.p50_us >= 1.0, "{:?}", swaps.time);

    let plan = plan.lock().unwrap();
    assert_eq!(plan.changes[0], r#"POST {"version":2}"#);
    assert_eq!(plan.changes[1], r#"POST {"version":1}"#);
    assert_eq!((plan.champion, &plan.canary), (1, &canary));
}

#[test]
fn canary_goes_up_in_steps_and_out_again() {
    let (server, plan) = gateway(Value::Null);
    let scenario = Scenario::Canary { version: None, weights: vec![5.0, 0.25] };
    let finished = play_on(&server, &scenario);
    finished.put_back.unwrap();
    let labels: Vec<_> = finished.reports.iter().map(|report| report.label.as_str()).collect();
    assert_eq!(labels, ["canary 5%", "canary 0.25%"]);
    // Each step has its part of the window: 25 requests of 50.
    assert!(finished.reports.iter().all(|report| report.scheduled == 25));
    assert_eq!(
        plan.lock().unwrap().changes,
        [
            r#"PUT {"version":2,"weight":"5%"}"#,
            r#"PUT {"version":2,"weight":"0.25%"}"#,
            "DELETE null"
        ]
    );
}

#[test]
fn stopped_scenario_skips_what_is_left_and_puts_the_plan_back() {
    let (server, plan) = gateway(Value::Null);
    let load = load_on(&server.url("/predict/churn"));
    let mut admin = Admin::new(&server.url(""), "churn", Some("secret")).unwrap();
    let scenario = Scenario::Canary { version: Some(2), weights: vec![5.0, 50.0] };
    let stop = Stop::default();
    let mut stop_in_first_step = |line: &str| {
        if line == "canary 5%" {
            stop.ask();
        }
    };
    let finished = play(&scenario, 1, &load, &mut admin, &stop, &mut stop_in_first_step).unwrap();
    finished.put_back.unwrap();
    assert_eq!(finished.reports.len(), 1);
    assert!(finished.reports[0].interrupted);
    let changes = &plan.lock().unwrap().changes;
    assert_eq!(*changes, [r#"PUT {"version":2,"weight":"5%"}"#, "DELETE null"]);
}

#[test]
fn failed_swaps_are_counted_with_their_reason_and_the_plan_is_put_back() {
    let (server, plan) = gateway(Value::Null);
    let every = Duration::from_millis(50);
    let finished = play_on(&server, &Scenario::Swap { versions: Some([1, 9]), every, heavy: None });
    finished.put_back.unwrap();
    let swaps = finished.reports[1].swaps.clone().unwrap();
    assert!(swaps.failed >= 1, "{swaps}");
    assert!(swaps.first_failure.unwrap().contains("no version 9"));
    assert_eq!(plan.lock().unwrap().champion, 1);
}

#[test]
fn refused_token_is_reported_before_any_load() {
    let (server, _plan) = gateway(Value::Null);
    let load = load_on(&server.url("/predict/churn"));
    let mut admin = Admin::new(&server.url(""), "churn", Some("wrong")).unwrap();
    let error = play(&Scenario::Steady, 1, &load, &mut admin, &Stop::default(), &mut |_| {});
    let error = error.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("token"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
}

#[test]
fn shadows_are_left_alone() {
    let (server, plan) = gateway(Value::Null);
    let load = load_on(&server.url("/predict/churn"));
    let mut admin = Admin::new(&server.url(""), "churn", Some("secret")).unwrap();
    for scenario in [
        Scenario::Swap { versions: Some([1, 3]), every: Duration::from_millis(50), heavy: None },
        Scenario::Canary { version: Some(3), weights: vec![5.0] },
    ] {
        let error =
            play(&scenario, 1, &load, &mut admin, &Stop::default(), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("version 3 is a shadow"), "{error}");
    }
    assert!(plan.lock().unwrap().changes.is_empty());
}

#[test]
fn shadow_takes_turns_with_none_and_the_found_one_comes_back() {
    let (server, plan) = gateway(Value::Null);
    let load =
        Load { window: Duration::from_millis(400), ..load_on(&server.url("/predict/churn")) };
    let mut admin = Admin::new(&server.url(""), "churn", Some("secret")).unwrap();
    let scenario = Scenario::Shadow { version: Some(2), sample: 100.0 };
    let finished = play(&scenario, 2, &load, &mut admin, &Stop::default(), &mut |_| {}).unwrap();
    finished.put_back.unwrap();
    let labels: Vec<_> = finished.reports.iter().map(|report| report.label.as_str()).collect();
    assert_eq!(labels, ["steady 1", "shadow 1", "steady 2", "shadow 2"]);
    assert_eq!(finished.comparison.unwrap().rounds, 2);
    // Of this version only, and of this phase only.
    let dropped = |at: usize| finished.reports[at].copies.map(|copies| copies.dropped);
    assert_eq!([dropped(0), dropped(1), dropped(3)], [None, Some(5), Some(5)]);
    let plan = plan.lock().unwrap();
    assert_eq!(plan.shadows, [json!({ "version": 3, "sample": "100%" })]);
    assert!(plan.changes.contains(&r#"PUT {"sample":"100%"}"#.to_owned()), "{:?}", plan.changes);
}

#[test]
fn a_judged_canary_takes_turns_with_the_same_one_without_a_judge() {
    let found = json!({ "version": 2, "weight": "1%" });
    let (server, plan) = gateway(found.clone());
    let finished = play_on(&server, &Scenario::Judged { version: None, weight: 10.0 });
    finished.put_back.unwrap();
    let labels: Vec<_> = finished.reports.iter().map(|report| report.label.as_str()).collect();
    assert_eq!(labels, ["steady", "judged"]);
    let plan = plan.lock().unwrap();
    assert_eq!(plan.canary, found);
    assert_eq!(plan.changes[0], r#"PUT {"version":2,"weight":"10%"}"#);
    assert!(plan.changes[2].starts_with(r#"POST {"overrides":{"min":"1h","#), "{:?}", plan.changes);
    assert_eq!(plan.changes.len(), 5, "{:?}", plan.changes);
}

#[test]
fn overload_is_a_multiple_of_the_capacity_and_tells_refusals_apart() {
    let count = std::sync::atomic::AtomicU64::new(0);
    let model = describe(&gateway(Value::Null).1.lock().unwrap()).to_string();
    let server = answering(true, move |request| {
        // Every other request is refused.
        let refused = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2 == 1;
        let mut answer = reply(200, "{}");
        if request.uri().path().starts_with("/v1/") {
            answer = reply(200, model.clone());
        } else if refused {
            answer = reply(503, "busy");
            answer.headers_mut().insert("retry-after", "2".parse().unwrap());
        }
        std::future::ready(answer)
    });
    let scenario =
        Scenario::Overload { capacity: Some(50.0), factors: vec![1.0, 4.0], deadline: None };
    let load = Load { window: Duration::from_secs(1), ..load_on(&server.url("/predict/churn")) };
    let mut admin = Admin::new(&server.url(""), "churn", None).unwrap();
    let finished = play(&scenario, 1, &load, &mut admin, &Stop::default(), &mut |_| {}).unwrap();
    let [one, four] = finished.reports.try_into().unwrap();
    assert_eq!((one.scheduled, four.scheduled), (50, 200));
    assert_eq!((four.refused.total, four.refused.with_retry_after), (100, 100));
    assert_eq!(four.refused.retry_after_s_max, 2);
    assert_eq!(four.latency.count, 100);
    assert!((four.goodput / one.goodput - 4.0).abs() < 0.5, "{four}");
    assert!(finished.notes[0].contains("capacity 50/s"), "{:?}", finished.notes);
}

#[test]
fn mixed_loads_run_side_by_side_with_figures_of_their_own() {
    let (server, _plan) = gateway(Value::Null);
    let other = Load { rate: 20.0, ..load_on(&server.url("/predict/image")) };
    let finished = play_on(&server, &Scenario::Mixed { lanes: vec![("image".to_owned(), other)] });
    let runs: Vec<_> =
        finished.reports.iter().map(|report| (report.label.as_str(), report.scheduled)).collect();
    assert_eq!(runs, [("steady", 50), ("mixed", 50), ("mixed: image", 10)]);
    assert!(finished.reports[2].url.ends_with("/predict/image"));
}
