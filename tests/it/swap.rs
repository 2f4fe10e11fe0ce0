//! Versions are promoted and rolled back under load, and nobody notices.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use foreshadow::registry::Change;
use foreshadow::types::Share;
use tokio::sync::Notify;

use crate::gateway::{Gateway, start, version};
use crate::http::Client;

const SWAPS: usize = 500;
const CLIENTS: usize = 4;
const ROWS: usize = 3;

/// From when to when (at the outside) a set of versions could answer.
struct Reign {
    from: Instant,
    until: Option<Instant>,
    versions: BTreeSet<u64>,
}

/// One request: when it began and ended, and who answered.
struct Seen {
    began: Instant,
    ended: Instant,
    version: u64,
}

#[test]
fn five_hundred_swaps_under_load_fail_no_request_and_mix_no_versions() {
    let gateway = start("[start]\nchampion = 1\n", &["answers 1", "answers 2", "answers 3"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(Notify::new());
    let address = gateway.app.inference_address();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            runtime.spawn(async move {
                let mut client = Client::connect(address).await;
                let mut seen = Vec::new();
                while !stop.load(SeqCst) {
                    seen.push(ask(&mut client).await);
                    answered.notify_one();
                }
                seen
            })
        })
        .collect();
    let reigns = runtime.block_on(swap(&gateway, &answered));
    stop.store(true, SeqCst);
    let mut requests = 0;
    for client in clients {
        for seen in runtime.block_on(client).unwrap() {
            requests += 1;
            let allowed = reigns.iter().any(|reign| {
                let overlaps =
                    reign.from <= seen.ended && reign.until.is_none_or(|u| u >= seen.began);
                overlaps && reign.versions.contains(&seen.version)
            });
            assert!(allowed, "version {} answered outside its reign", seen.version);
        }
    }
    assert!(requests > SWAPS, "only {requests} requests");
    println!("{requests} requests over {} publishes", reigns.len() - 1);
    gateway.app.stop();
}

/// One request of three rows; every row must be the answer of the version
/// that the reply names.
async fn ask(client: &mut Client) -> Seen {
    let began = Instant::now();
    let reply = client.post("/predict/m", r#"{"instances":[[0],[0],[0]]}"#).await;
    let ended = Instant::now();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json();
    let version = body["version"].as_u64().unwrap();
    assert_eq!(reply.header("x-model-version"), version.to_string());
    let rows = body["predictions"].as_array().unwrap();
    assert_eq!(rows.len(), ROWS);
    for row in rows {
        let answer = row.as_f64().or_else(|| row[0].as_f64()).unwrap();
        #[expect(clippy::cast_precision_loss)]
        let expected = version as f64;
        assert!((answer - expected).abs() < 1e-6, "version {version} answered {body}");
    }
    Seen { began, ended, version }
}

/// Promotes and rolls back in turn, with a canary now and then, each time after
/// somebody was answered: without, a busy machine may swap and hardly answer.
/// Returns who could answer when.
async fn swap(gateway: &Gateway, answered: &Notify) -> Vec<Reign> {
    let first = Reign { from: Instant::now(), until: None, versions: BTreeSet::from([1]) };
    let reigns = Mutex::new(vec![first]);
    let half = Share::from_percent(50.0).unwrap();
    let publish = async |change: Change, versions: &[u64]| {
        answered.notified().await;
        let from = Instant::now();
        gateway.change(change).await;
        let mut reigns = reigns.lock().unwrap();
        reigns.last_mut().unwrap().until = Some(Instant::now());
        reigns.push(Reign { from, until: None, versions: versions.iter().copied().collect() });
    };
    for _ in 0..SWAPS / 4 {
        publish(Change::SetCanary { version: version(2), weight: half }, &[1, 2]).await;
        publish(Change::Promote { version: version(2) }, &[2]).await;
        publish(Change::Promote { version: version(3) }, &[3]).await;
        publish(Change::Rollback, &[2]).await;
        publish(Change::Rollback, &[1]).await;
    }
    reigns.into_inner().unwrap()
}
