//! Latency over time: a histogram for each interval of the measured window.
//!
//! Bounded: when a window is longer than the intervals reach, two neighbours
//! become one, and an interval twice as long.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::measure::nanos;

/// Intervals, at most; an even number.
const INTERVALS_MAX: usize = 120;
/// The first length of an interval.
const SHORTEST: Duration = Duration::from_millis(100);
/// Longest latency that is told apart here.
const LONGEST_NS: u64 = 600_000_000_000;

/// What happened to the requests that came due in one interval.
#[derive(Clone, Debug)]
struct Interval {
    latency: Histogram<u32>,
    answered: u64,
    failed: u64,
}

impl Interval {
    fn empty() -> Self {
        // Two digits: a plot shows no more, and 120 of them stay small.
        let latency = Histogram::new_with_bounds(1, LONGEST_NS, 2).expect("constants in order");
        Self { latency, answered: 0, failed: 0 }
    }

    fn add(&mut self, other: &Self) {
        self.latency += &other.latency;
        self.answered += other.answered;
        self.failed += other.failed;
    }
}

/// The intervals of one run.
#[derive(Clone, Debug)]
pub struct Timeline {
    length: Duration,
    intervals: Vec<Interval>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { length: SHORTEST, intervals: Vec::new() }
    }
}

/// One interval's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Its start, seconds from the start of the measured window.
    pub at_s: f64,
    /// Its length, seconds.
    pub length_s: f64,
    /// 2xx replies to what came due in it.
    pub answered: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Largest.
    pub max_us: f64,
}

impl Timeline {
    /// A request that was due at this time ended; with a latency if it counts.
    pub fn finished(&mut self, at: Duration, latency: Option<Duration>, ok: bool) {
        let interval = self.interval(at);
        if let Some(latency) = latency {
            interval.latency.saturating_record(nanos(latency));
        }
        *(if ok { &mut interval.answered } else { &mut interval.failed }) += 1;
    }

    /// Adds another thread's intervals.
    pub fn merge(&mut self, other: &Self) {
        for (number, interval) in (0_u32..).zip(&other.intervals) {
            self.interval(other.length * number).add(interval);
        }
    }

    /// The figures of each interval.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        let us = |nanos: u64| nanos as f64 / 1e3;
        let point = |(number, interval): (u32, &Interval)| Point {
            at_s: (self.length * number).as_secs_f64(),
            length_s: self.length.as_secs_f64(),
            answered: interval.answered,
            failed: interval.failed,
            p50_us: us(interval.latency.value_at_quantile(0.5)),
            p99_us: us(interval.latency.value_at_quantile(0.99)),
            max_us: us(interval.latency.max()),
        };
        (0..).zip(&self.intervals).map(point).collect()
    }

    fn interval(&mut self, at: Duration) -> &mut Interval {
        let index = loop {
            let index = usize::try_from(at.as_nanos() / self.length.as_nanos());
            match index.unwrap_or(usize::MAX) {
                index if index < INTERVALS_MAX => break index,
                _ => self.halve(),
            }
        };
        while self.intervals.len() <= index {
            self.intervals.push(Interval::empty());
        }
        &mut self.intervals[index]
    }

    fn halve(&mut self) {
        self.length *= 2;
        let pairs = self.intervals.chunks(2).map(|pair| {
            let mut both = pair[0].clone();
            pair[1..].iter().for_each(|second| both.add(second));
            both
        });
        self.intervals = pairs.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn each_interval_has_its_own_figures() {
        let mut timeline = Timeline::default();
        timeline.finished(50 * MS, Some(2 * MS), true);
        timeline.finished(250 * MS, Some(9 * MS), true);
        timeline.finished(260 * MS, None, false);
        let points = timeline.points();
        let counts: Vec<_> = points.iter().map(|point| (point.answered, point.failed)).collect();
        assert_eq!(counts, [(1, 0), (0, 0), (1, 1)]);
        assert!((points[2].p99_us / 9_000.0 - 1.0).abs() < 0.02, "{:?}", points[2]);
        assert!((points[2].at_s - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_long_window_stays_bounded_and_loses_nothing() {
        let mut timeline = Timeline::default();
        for second in 0..3600 {
            timeline.finished(Duration::from_secs(second), Some(MS), true);
        }
        let points = timeline.points();
        assert!(points.len() <= INTERVALS_MAX);
        assert_eq!(points.iter().map(|point| point.answered).sum::<u64>(), 3600);
        let mut both = Timeline::default();
        both.finished(Duration::ZERO, Some(MS), true);
        both.merge(&timeline);
        assert_eq!(both.points().iter().map(|point| point.answered).sum::<u64>(), 3601);
    }
}
