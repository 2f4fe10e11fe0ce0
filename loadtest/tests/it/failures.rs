//! Every request that came due is accounted for, whatever the server does.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use loadtest::load::{self, Load};
use loadtest::stop::Stop;

use crate::server::{answering, listen, load_on, reply, run};

#[test]
fn full_queue_refuses_and_counts() {
    let server = answering(true, |_| std::future::pending());
    let load = Load {
        rate: 200.0,
        window: Duration::from_millis(100),
        queue: 3,
        timeout: Duration::from_millis(300),
        ..load_on(&server.url("/"))
    };
    let measure = run(&load).measure;
    // 20 came due: one in flight, three waiting, no room for the others.
    assert_eq!(measure.scheduled, 20);
    assert!(measure.not_sent >= 16, "{}", measure.not_sent);
    assert!(measure.errors.timeout >= 1);
    assert_eq!(measure.not_sent + measure.errors.timeout + measure.unfinished, 20);
    // Who was given up has a latency, and it is no shorter than the wait.
    assert_eq!(measure.latency.len(), measure.errors.timeout + measure.unfinished);
    assert!(measure.latency.min() >= 299_000_000);
}

#[test]
fn server_that_closes_after_each_reply_costs_no_request() {
    let server = answering(false, |_| async { reply(200, "") });
    let measure = run(&load_on(&server.url("/"))).measure;
    assert_eq!(measure.statuses[1], 100);
    assert_eq!(measure.errors.total(), 0);
}

#[test]
fn server_that_hangs_up_is_counted_as_closed() {
    let server = listen(|listener| async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Reading first: a close with unread bytes would be a reset.
            stream.readable().await.unwrap();
            drop(stream);
        }
    });
    let measure = run(&load_on(&server.url("/"))).measure;
    assert_eq!(measure.errors.closed, 100);
    assert_eq!(measure.latency.len(), 0);
}

#[test]
fn refusals_are_counted_by_class_and_kept_out_of_the_latencies() {
    let server = answering(true, |_| async { reply(503, "busy") });
    let measure = run(&load_on(&server.url("/"))).measure;
    assert_eq!(measure.statuses, [0, 0, 0, 0, 100]);
    assert_eq!(measure.errors.status, 100);
    assert_eq!(measure.latency.len(), 0);
}

#[test]
fn nobody_listening_is_said_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let load = load_on(&format!("http://{free}/"));
    let error = load::run(&load, &Stop::default(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("is the server running"), "{error}");
}

#[test]
fn stop_ends_a_run_early_with_a_report() {
    let server = answering(true, |_| async { reply(200, "") });
    let hour = Duration::from_secs(3600);
    let load = Load { window: hour, ..load_on(&server.url("/")) };
    let stop = Stop::default();
    let start = Instant::now();
    // The first progress line comes after a second.
    let outcome = load::run(&load, &stop, &mut |_| stop.ask()).unwrap();
    assert!(outcome.interrupted);
    assert!(start.elapsed() < hour / 10);
    assert!(outcome.measure.scheduled > 0);
    assert_eq!(outcome.measure.statuses[1], outcome.measure.scheduled);
}
