//! What the histograms say about servers whose behaviour is known.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;

use loadtest::bare;
use loadtest::load::Load;
use loadtest::pace::Pace;
use loadtest::report::Report;

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
