//! What the histograms say about servers whose behaviour is known.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};

use loadtest::bare;
use loadtest::load::Load;
use loadtest::pace::Pace;
use loadtest::report::Report;
use loadtest::target::Target;

use crate::server::{answering, listen, load_on, reply, run};

const STALL: Duration = Duration::from_millis(300);

fn longer_than(limit: Duration, histogram: &Histogram<u64>) -> u64 {
    histogram.count_between(u64::try_from(limit.as_nanos()).unwrap(), u64::MAX)
}

#[test]
fn one_stall_is_charged_for_everyone_who_waited_in_it() {
    let count = AtomicU64::new(0);
    let server = answering(true, move |_| {
        let stalls = count.fetch_add(1, Relaxed) == 20;
        async move {
            if stalls {
                tokio::time::sleep(STALL).await;
            }
            reply(200, "{}")
        }
    });
    let measure = run(&load_on(&server.url("/"))).measure;
    assert_eq!(measure.statuses[1], 100);

    // One request was in flight during the stall: service time shows only it…
    assert_eq!(longer_than(STALL / 2, &measure.service), 1);
    assert!(measure.service.value_at_quantile(0.95) < 100_000_000);
    // …but 30 came due in it, and 20 of them waited 100 ms or longer.
    let waited = longer_than(STALL / 3, &measure.latency);
    assert!((18..=40).contains(&waited), "{waited}");
    assert!(measure.latency.value_at_quantile(0.95) > 200_000_000);
}

#[test]
fn bare_server_answers_everything_with_the_asked_size() {
    let server =
        listen(|listener| bare::serve(listener, bare::reply_of(200), std::future::pending()));
    for (pace, threads) in [(Pace::Spin, 1), (Pace::Sleep, 2)] {
        let load = Load {
            rate: 500.0,
            window: Duration::from_millis(400),
            warmup: Duration::from_millis(100),
            connections: 4,
            threads,
            pace,
            ..load_on(&server.url("/any"))
        };
        let report = Report::new("bare", &load, &run(&load));
        // 250 were sent; the warm-up's 50 are not counted.
        assert_eq!(report.scheduled, 200, "{report}");
        assert_eq!(report.statuses.success, 200, "{report}");
        assert_eq!(report.latency.count, 200);
        assert_eq!(report.failed(), 0);
        assert!((report.reply_bytes_mean - 200.0).abs() < 1e-9);
        assert!(report.latency.p50_us >= report.service.p50_us);
    }
}

#[test]
fn closed_loop_keeps_every_connection_busy() {
    let server = answering(true, |_| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        reply(200, "{}")
    });
    let window = Duration::from_millis(500);
    let load = Load { closed: true, connections: 4, window, ..load_on(&server.url("/")) };
    let report = Report::new("closed", &load, &run(&load));
    assert_eq!(report.arrivals, "closed loop");
    assert_eq!(report.failed(), 0, "{report}");
    // Four connections, at most 25 replies each: far more than one at a time.
    assert!((40..=104).contains(&report.statuses.success), "{report}");
}

#[test]
fn http2_is_spoken_without_asking() {
    let versions = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&versions);
    let server = listen(move |listener| async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            let service = service_fn(move |request: Request<Incoming>| {
                seen.lock().unwrap().push((request.version(), request.uri().to_string()));
                async { Ok::<_, Infallible>(reply(200, "{}")) }
            });
            let http = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    let mut load = load_on(&server.url("/predict/x"));
    let target = Target::clone(&load.target).over_http2().unwrap();
    load.target = Arc::new(target);
    let report = Report::new("http2", &load, &run(&load));
    assert_eq!((report.statuses.success, report.failed()), (100, 0), "{report}");
    assert!(report.http2);
    let versions = versions.lock().unwrap();
    let expected = (Version::HTTP_2, server.url("/predict/x"));
    assert!(versions.len() == 100 && versions.iter().all(|version| *version == expected));
}
