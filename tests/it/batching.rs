//! What waits for an engine thread: run as one batch, refused, late, left.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::gateway::{Gateway, start_with};
use crate::http::{Client, Reply};

/// Everything goes to the one engine thread.
const QUEUED: [(&str, &str); 2] = [("execution.inline_max", "0s"), ("execution.threads", "1")];

/// A gateway whose version 1 doubles; it runs before it is asked.
fn doubler(model_toml: &str, script: &str, settings: &[(&'static str, &str)]) -> Gateway {
    let settings: Vec<_> = QUEUED.into_iter().chain(settings.iter().copied()).collect();
    start_with(model_toml, &[script], &settings)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Sends a row on a connection of its own.
async fn send(gateway: &Gateway, row: &str, headers: &[(&str, &str)]) -> JoinHandle<Reply> {
    let mut client = Client::connect(gateway.app.inference_address()).await;
    let body = format!("{{\"instances\":[{row}]}}");
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let headers: Vec<(String, String)> = headers.iter().map(own).collect();
    tokio::spawn(async move {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        client.send("POST", "/predict/m", &headers, body).await
    })
}

/// A run that holds the engine thread until the gate opens.
async fn hold(gateway: &Gateway) -> JoinHandle<Reply> {
    let held = send(gateway, "[100]", &[]).await;
    let engine = gateway.engine.clone();
    tokio::task::spawn_blocking(move || engine.wait_until_run()).await.unwrap();
    held
}

/// Waits until so many rows wait.
async fn until_waiting(gateway: &Gateway, rows: usize) {
    let line = format!("foreshadow_queue_rows{{model=\"m\",version=\"1\"}} {rows}");
    gateway.wait_for_metric(&line).await;
}

async fn until_counted(gateway: &Gateway, family: &str, reason: &str, count: usize) {
    let labels = format!("{{model=\"m\",reason=\"{reason}\",version=\"1\"}}");
    gateway.wait_for_metric(&format!("foreshadow_{family}{labels} {count}")).await;
}

async fn runs(gateway: &Gateway, count: usize) {
    let labels = "{model=\"m\",version=\"1\"}";
    gateway.wait_for_metric(&format!("foreshadow_batch_requests_count{labels} {count}")).await;
}

async fn doubled(reply: JoinHandle<Reply>, expected: f64) {
    let reply = reply.await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let first = &reply.json()["predictions"][0];
    assert_eq!(first.as_f64().or_else(|| first[0].as_f64()), Some(expected), "{}", reply.text());
}

#[test]
fn what_comes_while_a_thread_is_busy_runs_as_one_batch() {
    let gateway = doubler("", "doubles", &[]);
    runtime().block_on(async {
        let held = hold(&gateway).await;
        let mut replies = Vec::new();
        for i in 20..28 {
            replies.push(send(&gateway, &format!("[{i}]"), &[]).await);
        }
        // Of another width: another batch.
        let wide = send(&gateway, "[4, 5]", &[]).await;
        until_waiting(&gateway, 9).await;
        gateway.engine.gate.open();
        doubled(held, 200.0).await;
        for (i, reply) in (20..28).zip(replies) {
            doubled(reply, f64::from(i) * 2.0).await;
        }
        doubled(wide, 8.0).await;
        // The one that held, the eight, the wide one.
        runs(&gateway, 3).await;
        until_waiting(&gateway, 0).await;
    });
    gateway.app.stop();
}

#[test]
fn a_model_may_do_without_batches() {
    let gateway = doubler("[batching]\nenabled = false\n", "doubles", &[]);
    runtime().block_on(async {
        let held = hold(&gateway).await;
        let replies = [send(&gateway, "[1]", &[]).await, send(&gateway, "[1]", &[]).await];
        until_waiting(&gateway, 2).await;
        gateway.engine.gate.open();
        doubled(held, 200.0).await;
        for reply in replies {
            doubled(reply, 2.0).await;
        }
        runs(&gateway, 3).await;
    });
    gateway.app.stop();
}

#[test]
fn a_bad_row_fails_alone() {
    let gateway = doubler("", "doubles", &[]);
    runtime().block_on(async {
        let held = hold(&gateway).await;
        let good = send(&gateway, "[1]", &[]).await;
        let bad = send(&gateway, "[7]", &[]).await;
        let other = send(&gateway, "[2]", &[]).await;
        until_waiting(&gateway, 3).await;
        gateway.engine.gate.open();
        doubled(held, 200.0).await;
        doubled(good, 2.0).await;
        doubled(other, 4.0).await;
        assert!(bad.await.unwrap().error(400).contains("x is 7"));
        until_counted(&gateway, "batch_splits_total", "failed", 1).await;
    });
    gateway.app.stop();
}

#[test]
fn a_deadline_ends_the_wait_and_who_leaves_makes_place() {
    let gateway = doubler("", "doubles", &[]);
    runtime().block_on(async {
        let held = hold(&gateway).await;
        let late = send(&gateway, "[1]", &[("X-Foreshadow-Timeout", "30ms")]).await;
        // While the thread is still held.
        late.await.unwrap().error(504);
        until_counted(&gateway, "queue_left_total", "late", 1).await;
        until_waiting(&gateway, 0).await;
        let body = r#"{"instances":[[1]],"parameters":{"timeout":30000}}"#;
        let mut client = Client::connect(gateway.app.inference_address()).await;
        client.post("/predict/m", body).await.error(504);
        until_counted(&gateway, "queue_left_total", "late", 2).await;

        let mut leaver = TcpStream::connect(gateway.app.inference_address()).await.unwrap();
        let request = "POST /predict/m HTTP/1.1\r\nHost: x\r\nContent-Length: 19\r\n\r\n";
        leaver.write_all(format!("{request}{{\"instances\":[[1]]}}").as_bytes()).await.unwrap();
        until_waiting(&gateway, 1).await;
        drop(leaver);
        until_counted(&gateway, "queue_left_total", "cancelled", 1).await;
        until_waiting(&gateway, 0).await;
        gateway.engine.gate.open();
        doubled(held, 200.0).await;
        // Nothing else was run.
        runs(&gateway, 1).await;
    });
    gateway.app.stop();
}

#[test]
fn what_cannot_be_served_in_time_is_refused_at_once() {
    let settings = [("execution.queue_rows_max", "2")];
    // In warm-up a run takes 20 ms, and so it is expected to.
    let gateway = doubler("", "doubles 20", &settings);
    runtime().block_on(async {
        let held = hold(&gateway).await;
        let waits = send(&gateway, "[1]", &[]).await;
        until_waiting(&gateway, 1).await;
        let hasty = send(&gateway, "[1]", &[("X-Foreshadow-Timeout", "20ms")]).await.await.unwrap();
        assert!(hasty.error(503).contains("the deadline would pass"), "{}", hasty.text());
        assert_eq!(hasty.header("retry-after"), "1");
        until_counted(&gateway, "refused_total", "deadline", 1).await;
        let many = send(&gateway, "[1],[2]", &[]).await.await.unwrap();
        assert!(many.error(503).contains("1 rows wait"), "{}", many.text());
        assert_eq!(many.header("retry-after"), "1");
        until_counted(&gateway, "refused_total", "queue_full", 1).await;
        gateway.engine.gate.open();
        doubled(held, 200.0).await;
        doubled(waits, 2.0).await;
    });
    gateway.app.stop();
}
