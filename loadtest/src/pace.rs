//! Waiting for the moment at which a request is due.
//!
//! The runtime's timers are a millisecond coarse, which is longer than the
//! latencies that are measured. Two ways around it, both on one thread:
//!
//! - spin: between due requests the runtime polls its sockets without ever
//!   sleeping. Requests leave within a microsecond or two of their time and
//!   replies are seen as they come. It takes a core to itself.
//! - sleep: a helper thread sleeps until each request is due (the kernel's
//!   timers are good to some 50 µs) and wakes the runtime. It leaves the core to
//!   whoever shares it, and the lag shows in the report.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::arrivals::Arrivals;
use crate::error::Error;
use crate::stop::Stop;

/// Spinning starts this long before a request is due: the runtime's timer may
/// be more than a millisecond late.
const SPIN: Duration = Duration::from_micros(2_500);
/// The longest sleep, so that Ctrl-C is noticed between rare requests.
const NAP: Duration = Duration::from_millis(50);

/// How to wait for the moment at which a request is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pace {
    /// Precise; takes a core to itself.
    Spin,
    /// Tens of microseconds late; shares its core.
    Sleep,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spin => "spin",
            Self::Sleep => "sleep",
        })
    }
}

/// Waits for one schedule's moments, in order.
#[derive(Debug)]
pub(crate) enum Pacer {
    Spin,
    Sleep(Alarm),
}

impl Pacer {
    pub(crate) fn build(pace: Pace, arrivals: Arrivals, start: Instant) -> Result<Self, Error> {
        Ok(match pace {
            Pace::Spin => Self::Spin,
            Pace::Sleep => Self::Sleep(Alarm::spawn(arrivals, start)?),
        })
    }

    /// Returns at `due`, or soon after `stop` was asked. Tasks of the runtime
    /// run meanwhile.
    pub(crate) async fn until(&self, due: Instant, stop: &Stop) {
        while !stop.is_asked() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match self {
                Self::Sleep(alarm) => alarm.rang.notified().await,
                Self::Spin if left > SPIN => tokio::time::sleep((left - SPIN).min(NAP)).await,
                // Comes back after the sockets were polled.
                Self::Spin => tokio::task::yield_now().await,
            }
        }
    }
}

/// The helper thread that sleeps through a copy of the schedule.
#[derive(Debug)]
pub(crate) struct Alarm {
    rang: Arc<Notify>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Alarm {
    fn spawn(arrivals: Arrivals, start: Instant) -> Result<Self, Error> {
        let rang = Arc::new(Notify::new());
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("alarm".to_owned()).spawn({
            let (rang, over) = (Arc::clone(&rang), Arc::clone(&over));
            move || ring(arrivals, start, &rang, &over)
        });
        let thread =
            thread.map_err(|error| Error::new(format!("cannot start a thread: {error}")))?;
        Ok(Self { rang, over, thread: Some(thread) })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It wakes within a nap, and has nothing that could panic.
            drop(thread.join());
        }
    }
}

fn ring(arrivals: Arrivals, start: Instant, rang: &Notify, over: &AtomicBool) {
    for offset in arrivals {
        loop {
            if over.load(Relaxed) {
                return;
            }
            let left = (start + offset).saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(NAP));
            // Also after a mere nap: the waiting side looks whether to stop.
            rang.notify_one();
        }
        rang.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrivals::Process;

    async fn walk(pace: Pace, stop: &Stop) -> Vec<bool> {
        let arrivals = Arrivals::new(Process::Fixed, 200.0, Duration::from_millis(50), 0);
        let start = Instant::now();
        let pacer = Pacer::build(pace, arrivals.clone(), start).unwrap();
        let mut early = Vec::new();
        for offset in arrivals {
            pacer.until(start + offset, stop).await;
            early.push(Instant::now() < start + offset);
        }
        early
    }

    #[tokio::test]
    async fn never_returns_early_and_never_hangs() {
        for pace in [Pace::Spin, Pace::Sleep] {
            assert_eq!(walk(pace, &Stop::default()).await, [false; 10], "{pace}");
        }
    }

    #[tokio::test]
    async fn stop_ends_the_wait() {
        let stop = Stop::default();
        stop.ask();
        for pace in [Pace::Spin, Pace::Sleep] {
            let arrivals = Arrivals::new(Process::Fixed, 0.001, Duration::from_secs(3600), 0);
            let start = Instant::now();
            let pacer = Pacer::build(pace, arrivals, start).unwrap();
            pacer.until(start + Duration::from_secs(3000), &stop).await;
            assert!(start.elapsed() < Duration::from_secs(1000));
        }
    }
}
