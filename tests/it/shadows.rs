//! A shadow may sleep, panic, err or answer nonsense: clients see nothing,
//! and every case is counted under its name.

use std::time::Instant;

use crate::gateway::{Gateway, HANG, start_with};
use crate::http::{Client, Reply};

const START: &str = "[start]\nchampion = 1\nshadows = [{ version = 2, sample = \"100%\" }]\n";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends requests and checks that every reply is the champion's.
async fn ask(gateway: &Gateway, requests: usize) -> Vec<Reply> {
    let mut client = Client::connect(gateway.app.inference_address()).await;
    let mut replies = Vec::new();
    for _ in 0..requests {
        let reply = client.post("/predict/m", r#"{"instances":[[0]]}"#).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let body = reply.json();
        assert_eq!((body["model"].as_str(), body["version"].as_u64()), (Some("m"), Some(1)));
        assert_eq!(
            (reply.header("x-model-role"), reply.header("x-model-version")),
            ("champion", "1")
        );
        assert!(!reply.text().contains("shadow"), "{}", reply.text());
        replies.push(reply);
    }
    replies
}

#[test]
fn every_misbehaviour_is_counted_and_none_is_seen() {
    for (script, reason) in
        [("errors", "error"), ("panics", "panic"), ("other-shape", "output_mismatch")]
    {
        // On a busy machine even these may be slow, which is another reason.
        let timeout = [("shadow.timeout", "10m")];
        let gateway = start_with(START, &["answers 1", script], &timeout);
        runtime().block_on(async {
            ask(&gateway, 20).await;
            let labels = format!("{{model=\"m\",reason=\"{reason}\",version=\"2\"}}");
            gateway.wait_for_metric(&format!("foreshadow_shadow_failed_total{labels} 20")).await;
        });
        gateway.app.stop();
    }
}

#[test]
fn a_shadow_that_sleeps_fills_its_queue_and_the_rest_is_dropped() {
    // One copy runs (and sleeps), 1,024 wait, the others are dropped. On a busy
    // machine the copy may sleep for longer than a copy has by default.
    let timeout = [("shadow.timeout", "10m")];
    let gateway = start_with(START, &["answers 1", "sleeps"], &timeout);
    const REQUESTS: usize = 1_100;
    runtime().block_on(async {
        ask(&gateway, REQUESTS).await;
        let mut client = Client::connect(gateway.app.admin_address()).await;
        let mut counted = async |family: &str| -> usize {
            let text = client.get("/metrics").await.text();
            let value = text.lines().find_map(|line| line.strip_prefix(family));
            value.map_or(0, |value| value.trim().parse().unwrap())
        };
        let dropped =
            r#"foreshadow_shadow_dropped_total{model="m",reason="queue_count",version="2"}"#;
        let compared = r#"foreshadow_shadow_compared_total{model="m",version="2"}"#;
        // The last copy is offered after the last reply.
        let began = Instant::now();
        while counted(dropped).await < REQUESTS - 1_025 {
            assert!(began.elapsed() < HANG);
        }
        gateway.engine.gate.open();
        while counted(dropped).await + counted(compared).await < REQUESTS {
            assert!(began.elapsed() < HANG);
        }
        let (dropped, compared) = (counted(dropped).await, counted(compared).await);
        assert_eq!(dropped + compared, REQUESTS);
        assert!((REQUESTS - 1_025..=REQUESTS - 1_024).contains(&dropped), "{dropped}");
    });
    gateway.app.stop();
}
