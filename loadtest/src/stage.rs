//! Runs of a scenario, one after the other, with what happens beside them.

use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::load::{self, Load};
use crate::report::{Mark, Report};
use crate::stop::Stop;

/// What happened, and when.
pub(crate) type Events = Vec<(Instant, String)>;
/// Marks of one run.
const MARKS_MAX: usize = 10_000;

pub(crate) struct Stage<'a> {
    pub(crate) load: &'a Load,
    pub(crate) rounds: u32,
    pub(crate) stop: &'a Stop,
    pub(crate) progress: &'a mut dyn FnMut(&str),
    /// When the first run's window began.
    epoch: Option<Instant>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(
        load: &'a Load,
        rounds: u32,
        stop: &'a Stop,
        progress: &'a mut dyn FnMut(&str),
    ) -> Self {
        Self { load, rounds: rounds.max(1), stop, progress, epoch: None }
    }

    /// The load of one phase: its part of the window.
    pub(crate) fn phase(&self) -> Load {
        Load { window: self.load.window / self.rounds, ..self.load.clone() }
    }

    /// Steady and disturbed phases in turns.
    pub(crate) fn rounds(
        &mut self,
        disturbed: &str,
        mut play: impl FnMut(&mut Self, bool, &str) -> Result<Vec<Report>, Error>,
    ) -> Result<Vec<Vec<Report>>, Error> {
        let mut phases = Vec::new();
        for round in 1..=self.rounds {
            for (is_disturbed, name) in [(false, "steady"), (true, disturbed)] {
                if self.stop.is_asked() {
                    return Ok(phases);
                }
                let numbered = format!("{name} {round}");
                let label = if self.rounds == 1 { name } else { &numbered };
                phases.push(play(self, is_disturbed, label)?);
            }
        }
        Ok(phases)
    }

    pub(crate) fn run(&mut self, label: &str, load: &Load) -> Result<Report, Error> {
        let stop = self.stop.clone();
        self.run_until(label, load, &stop).map(|(report, _)| report)
    }

    fn run_until(
        &mut self,
        label: &str,
        load: &Load,
        stop: &Stop,
    ) -> Result<(Report, Instant), Error> {
        (self.progress)(label);
        let outcome = load::run(load, stop, self.progress)?;
        let mut report = Report::new(label, load, &outcome);
        let epoch = *self.epoch.get_or_insert(outcome.began);
        report.began_s = outcome.began.saturating_duration_since(epoch).as_secs_f64();
        Ok((report, outcome.began))
    }

    /// A run with work beside it, which ends when the other end of what it is
    /// given is dropped. A run that `ends_with_work` is over when that is.
    pub(crate) fn beside<T: Send>(
        &mut self,
        label: &str,
        load: &Load,
        ends_with_work: bool,
        work: impl FnOnce(&Receiver<()>) -> (T, Events) + Send,
    ) -> Result<(Report, T), Error> {
        let (running, over) = mpsc::channel::<()>();
        let stop = if ends_with_work { self.stop.part() } else { self.stop.clone() };
        let (result, worked) = std::thread::scope(|scope| {
            let own_stop = stop.clone();
            let worker = scope.spawn(move || {
                let done = work(&over);
                if ends_with_work {
                    own_stop.ask();
                }
                done
            });
            let result = self.run_until(label, load, &stop);
            drop(running);
            (result, worker.join())
        });
        let (mut report, began) = result?;
        if ends_with_work && !self.stop.is_asked() {
            report.ended_with_work();
        }
        let (value, events) = worked.map_err(|_| Error::new("the thread beside it panicked"))?;
        let at = |event: &(Instant, String)| Mark {
            at_s: signed_seconds(event.0, began),
            what: event.1.clone(),
        };
        report.marks = events.iter().take(MARKS_MAX).map(at).collect();
        Ok((report, value))
    }
}

/// From `from` to `at`; negative in the warm-up.
fn signed_seconds(at: Instant, from: Instant) -> f64 {
    match at.checked_duration_since(from) {
        Some(after) => after.as_secs_f64(),
        None => -from.saturating_duration_since(at).max(Duration::ZERO).as_secs_f64(),
    }
}
