//! Loads that are held while the admin API changes the plan.
//!
//! Whatever happens, also after Ctrl-C or an error, the champion and canary
//! that were found at the start are put back.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::admin::{Admin, ModelState};
use crate::error::Error;
use crate::hostile::{self, Fates};
use crate::load::{self, Load};
use crate::measure;
use crate::report::{Percentiles, Report, Swaps};
use crate::repository::Repository;
use crate::stop::Stop;

/// What the admin API does during the load.
#[derive(Clone, Debug, PartialEq)]
pub enum Scenario {
    /// Nothing.
    Steady,
    /// Champion and another version change places, again and again; a steady
    /// run of the same length comes first, to compare with.
    Swap {
        /// The two versions; by default the champion and one other.
        versions: Option<[u64; 2]>,
        /// Time from swap to swap.
        every: Duration,
    },
    /// The canary's weight goes up in steps; each has its part of the window.
    Canary {
        /// The canary's version; by default the canary's or one other.
        version: Option<u64>,
        /// Weights, in percent.
        weights: Vec<f64>,
    },
    /// Hostile version files are dropped into the repository; a steady run of
    /// the same length comes first, to compare with.
    Hostile {
        /// The models folder that the gateway watches.
        models: PathBuf,
        /// Time from file to file, at least.
        every: Duration,
    },
}

/// What came of a scenario.
#[derive(Debug)]
pub struct Finished {
    /// One report for each run, in order.
    pub reports: Vec<Report>,
    /// Whether the plan is again as it was found.
    pub put_back: Result<(), Error>,
    /// What became of hostile versions.
    pub fates: Fates,
}

/// Plays a scenario under this load.
///
/// # Errors
/// If the load or the admin API cannot start, or there is no second version.
pub fn play(
    scenario: &Scenario,
    load: &Load,
    admin: &mut Admin,
    stop: &Stop,
    progress: &mut dyn FnMut(&str),
) -> Result<Finished, Error> {
    let found = admin.state()?;
    let mut stage = Stage { load, stop, progress };
    let mut fates = Fates::default();
    let reports = match scenario {
        Scenario::Steady => stage.run("steady", load.window).map(|report| vec![report]),
        Scenario::Swap { versions, every } => {
            let versions = match versions {
                Some(versions) => *versions,
                None => [found.champion, second_version(&found)?],
            };
            no_shadow(&found, &versions)?;
            stage.swap(admin, versions, *every)
        }
        Scenario::Canary { version, weights } => {
            let version = version.map_or_else(|| second_version(&found), Ok)?;
            no_shadow(&found, &[version])?;
            stage.canary(admin, version, weights)
        }
        Scenario::Hostile { models, every } => {
            let mut repository = Repository::open(models, admin.model())?;
            stage.hostile(admin, &mut repository, *every).map(|(reports, found)| {
                fates = found;
                reports
            })
        }
    };
    // Before anything is returned: an error must not leave the plan changed.
    let put_back = admin.put_back(&found);
    match (reports, put_back) {
        (Ok(reports), put_back) => Ok(Finished { reports, put_back, fates }),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(left)) => Err(Error::new(format!("{error}; and then {left}"))),
    }
}

fn second_version(found: &ModelState) -> Result<u64, Error> {
    found.other().ok_or_else(|| {
        Error::new(format!(
            "no version is ready beside champion {} and the shadows; push one first",
            found.champion
        ))
    })
}

/// A shadow that is promoted or made canary leaves the shadow role, and
/// shadows are not put back.
fn no_shadow(found: &ModelState, versions: &[u64]) -> Result<(), Error> {
    match versions.iter().find(|version| found.shadows.contains(version)) {
        None => Ok(()),
        Some(version) => Err(Error::new(format!(
            "version {version} is a shadow and would leave that role; take another version, or \
             remove the shadow first"
        ))),
    }
}

struct Stage<'a> {
    load: &'a Load,
    stop: &'a Stop,
    progress: &'a mut dyn FnMut(&str),
}

impl Stage<'_> {
    fn run(&mut self, label: &str, window: Duration) -> Result<Report, Error> {
        (self.progress)(label);
        let load = Load { window, ..self.load.clone() };
        let outcome = load::run(&load, self.stop, self.progress)?;
        Ok(Report::new(label, &load, &outcome))
    }

    fn swap(
        &mut self,
        admin: &mut Admin,
        versions: [u64; 2],
        every: Duration,
    ) -> Result<Vec<Report>, Error> {
        let steady = self.run("steady", self.load.window)?;
        if self.stop.is_asked() {
            return Ok(vec![steady]);
        }
        let (running, over) = mpsc::channel::<()>();
        let (report, swaps) = std::thread::scope(|scope| {
            let swapper = scope.spawn(move || keep_swapping(admin, versions, every, &over));
            let report = self.run("swap", self.load.window);
            drop(running);
            (report, swapper.join())
        });
        let mut report = report?;
        report.swaps = Some(swaps.map_err(|_| Error::new("the swapping thread panicked"))?);
        Ok(vec![steady, report])
    }

    fn hostile(
        &mut self,
        admin: &mut Admin,
        repository: &mut Repository,
        every: Duration,
    ) -> Result<(Vec<Report>, Fates), Error> {
        let steady = self.run("steady", self.load.window)?;
        if self.stop.is_asked() {
            return Ok((vec![steady], Fates::default()));
        }
        let (running, over) = mpsc::channel::<()>();
        let (report, fates) = std::thread::scope(|scope| {
            let adder = scope.spawn(move || hostile::keep_adding(repository, admin, every, &over));
            let report = self.run("hostile", self.load.window);
            drop(running);
            (report, adder.join())
        });
        let fates = fates.map_err(|_| Error::new("the adding thread panicked"))?;
        Ok((vec![steady, report?], fates))
    }

    fn canary(
        &mut self,
        admin: &mut Admin,
        version: u64,
        weights: &[f64],
    ) -> Result<Vec<Report>, Error> {
        let steps = u32::try_from(weights.len().max(1)).unwrap_or(u32::MAX);
        let mut reports = Vec::new();
        for weight in weights {
            if self.stop.is_asked() {
                break;
            }
            admin.set_canary(version, &json!(format!("{weight}%")))?;
            reports.push(self.run(&format!("canary {weight}%"), self.load.window / steps)?);
        }
        Ok(reports)
    }
}

/// Promotes the versions in turn until the other end of `over` is dropped.
fn keep_swapping(
    admin: &mut Admin,
    versions: [u64; 2],
    every: Duration,
    over: &Receiver<()>,
) -> Swaps {
    let mut swaps = Swaps { versions: versions.to_vec(), ..Swaps::default() };
    let mut times = measure::histogram();
    let mut due = Instant::now() + every;
    // The first is likely champion already.
    for version in versions.into_iter().cycle().skip(1) {
        let left = due.saturating_duration_since(Instant::now());
        if over.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
            break;
        }
        let asked = Instant::now();
        match admin.promote(version) {
            Ok(()) => {
                swaps.done += 1;
                let nanos = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
                times.saturating_record(nanos);
            }
            Err(error) => {
                swaps.failed += 1;
                swaps.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
        // What is late is skipped, not caught up with.
        due = (due + every).max(Instant::now());
    }
    swaps.time = Percentiles::of(&times);
    swaps
}
