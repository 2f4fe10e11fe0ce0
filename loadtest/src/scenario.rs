//! Loads that are held while the admin API changes the plan.
//!
//! Whatever happens, also after Ctrl-C or an error, the champion, the canary and
//! the shadows that were found at the start are put back.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::admin::{Admin, ModelState};
use crate::compare::{Comparison, median};
use crate::error::Error;
use crate::heavy::{Heavy, Loads};
use crate::hostile::{self, Fates};
use crate::load::Load;
use crate::measure;
use crate::overload;
use crate::report::{Copies, Mark, Percentiles, Report, Swaps};
use crate::repository::Repository;
use crate::stage::{Events, Stage};
use crate::stop::Stop;

/// Longest run that waits for a load while the gateway is saturated.
const SATURATED_MAX: Duration = Duration::from_secs(60);

/// What happens during the load.
#[derive(Clone, Debug)]
pub enum Scenario {
    /// Nothing.
    Steady,
    /// Champion and another version change places, again and again.
    Swap {
        /// The two versions; by default the champion and one other.
        versions: Option<[u64; 2]>,
        /// Time from swap to swap.
        every: Duration,
        /// The models folder in which a graph of the size of ResNet-50 comes and
        /// goes meanwhile; none if it does not.
        heavy: Option<PathBuf>,
    },
    /// A version runs on copies of the requests; without any shadow otherwise.
    Shadow {
        /// Its version; by default the shadow's that is found, or one other.
        version: Option<u64>,
        /// Part of the requests, percent.
        sample: f64,
    },
    /// The canary's weight goes up in steps; each has its part of the window.
    Canary {
        /// The canary's version; by default the canary's or one other.
        version: Option<u64>,
        /// Weights, in percent.
        weights: Vec<f64>,
    },
    /// A rollout watches its canary; without a rollout the same canary otherwise.
    Judged {
        /// The canary's version; by default the canary's or one other.
        version: Option<u64>,
        /// Its weight, percent.
        weight: f64,
    },
    /// The rate is a multiple of the capacity.
    Overload {
        /// Requests a second; measured in a closed loop if not given.
        capacity: Option<f64>,
        /// The multiples.
        factors: Vec<f64>,
        /// What is later than this is no good; no limit if not given.
        deadline: Option<Duration>,
    },
    /// Other loads run beside this one.
    Mixed {
        /// Each with its name.
        lanes: Vec<(String, Load)>,
    },
    /// Hostile version files are dropped into the repository.
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
    /// Steady and disturbed phases side by side, for scenarios that have them.
    pub comparison: Option<Comparison>,
    /// Sentences that belong to no single run.
    pub notes: Vec<String>,
    /// Whether the plan is again as it was found.
    pub put_back: Result<(), Error>,
    /// What became of hostile versions.
    pub fates: Fates,
}

/// What a scenario leaves, but for the plan.
#[derive(Default)]
struct Played {
    reports: Vec<Report>,
    comparison: Option<Comparison>,
    notes: Vec<String>,
    fates: Fates,
}

impl Played {
    /// Of phases in turns, each with the report that counts first.
    fn turns(disturbed: &str, phases: Vec<Vec<Report>>) -> Self {
        let pairs: Vec<_> = phases
            .chunks_exact(2)
            .filter_map(|pair| Some((pair[0].first()?, pair[1].first()?)))
            .collect();
        let comparison = (!pairs.is_empty()).then(|| Comparison::of(disturbed, &pairs));
        Self { comparison, reports: phases.into_iter().flatten().collect(), ..Self::default() }
    }
}

/// Plays a scenario under this load. Scenarios with a steady side have as many
/// rounds of both sides as asked for, each with its part of the window.
///
/// # Errors
/// If the load or the admin API cannot start, or there is no second version.
pub fn play(
    scenario: &Scenario,
    rounds: u32,
    load: &Load,
    admin: &mut Admin,
    stop: &Stop,
    progress: &mut dyn FnMut(&str),
) -> Result<Finished, Error> {
    let found = admin.state()?;
    let mut stage = Stage::new(load, rounds, stop, progress);
    let played = act(scenario, &mut stage, admin, &found);
    // Before anything is returned: an error must not leave the plan changed.
    let put_back = admin.put_back(&found);
    match (played, put_back) {
        (Ok(Played { reports, comparison, notes, fates }), put_back) => {
            Ok(Finished { reports, comparison, notes, put_back, fates })
        }
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(left)) => Err(Error::new(format!("{error}; and then {left}"))),
    }
}

fn act(
    scenario: &Scenario,
    stage: &mut Stage<'_>,
    admin: &mut Admin,
    found: &ModelState,
) -> Result<Played, Error> {
    match scenario {
        Scenario::Steady => {
            let reports = vec![stage.run("steady", stage.load)?];
            Ok(Played { reports, ..Played::default() })
        }
        Scenario::Swap { versions, every, heavy } => {
            let other = || second_version(found).map(|other| [found.champion, other]);
            let versions = versions.map_or_else(other, Ok)?;
            no_shadow(found, &versions)?;
            let heavy = heavy.as_ref().map(|models| Heavy::build(models, admin)).transpose()?;
            swap(stage, admin, versions, *every, heavy)
        }
        Scenario::Shadow { version, sample } => {
            let found_one = found.shadows.first().copied();
            let version = version.or(found_one).map_or_else(|| second_version(found), Ok)?;
            shadow(stage, admin, version, &json!(format!("{sample}%")))
        }
        Scenario::Canary { version, weights } => {
            let version = version.map_or_else(|| second_version(found), Ok)?;
            no_shadow(found, &[version])?;
            canary(stage, admin, version, weights)
        }
        Scenario::Judged { version, weight } => {
            let version = version.map_or_else(|| second_version(found), Ok)?;
            no_shadow(found, &[version])?;
            judged(stage, admin, version, &format!("{weight}%"))
        }
        Scenario::Overload { capacity, factors, deadline } => {
            let (reports, notes) = overload::play(stage, *capacity, factors, *deadline)?;
            Ok(Played { reports, notes, ..Played::default() })
        }
        Scenario::Mixed { lanes } => mixed(stage, lanes),
        Scenario::Hostile { models, every } => {
            let mut repository = Repository::open(models, admin.model())?;
            hostile_versions(stage, admin, &mut repository, *every)
        }
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

fn swap(
    stage: &mut Stage<'_>,
    admin: &mut Admin,
    versions: [u64; 2],
    every: Duration,
    heavy: Option<(Heavy, Duration)>,
) -> Result<Played, Error> {
    let (mut heavy, alone) = heavy.unzip();
    let mut all = Loads::default();
    let load = stage.phase();
    let phases = stage.rounds("swap", |stage, disturbed, label| {
        if !disturbed {
            return Ok(vec![stage.run(label, &load)?]);
        }
        let work = |over: &Receiver<()>| swap_and_load(admin, versions, every, &mut heavy, over);
        let (mut report, (swaps, loads)) = stage.beside(label, &load, false, work)?;
        report.swaps = Some(swaps);
        all.times.extend(loads.times);
        all.failure = all.failure.take().or(loads.failure);
        Ok(vec![report])
    })?;
    let mut played = Played::turns("swap", phases);
    if let (Some(heavy), Some(alone)) = (&mut heavy, alone) {
        played.notes.push(format!("a load before any traffic took {:.1} s", alone.as_secs_f64()));
        played.notes.push(told("beside the swaps", &all));
        if !stage.stop.is_asked() {
            let load = Load { closed: true, window: SATURATED_MAX, ..stage.load.clone() };
            let work = |over: &Receiver<()>| {
                let loads = heavy.keep_loading(1, over);
                let events = loads.events.clone();
                (loads, events)
            };
            let (report, loads) = stage.beside("saturated", &load, true, work)?;
            played.notes.push(told("while the data path was saturated", &loads));
            played.reports.push(report);
        }
    }
    Ok(played)
}

/// How loads went, in words.
fn told(when: &str, loads: &Loads) -> String {
    let seconds: Vec<f64> = loads.times.iter().map(Duration::as_secs_f64).collect();
    let times = match (seconds.iter().copied().reduce(f64::max), median(seconds)) {
        (Some(most), Some(middle)) => format!(", {middle:.1} s at the median, {most:.1} at most"),
        _ => String::new(),
    };
    let failure = loads.failure.as_ref().map_or(String::new(), |why| format!("; failed: {why}"));
    format!("{} loads finished {when}{times}{failure}", loads.times.len())
}

/// Both at once, until the run is over.
fn swap_and_load(
    admin: &mut Admin,
    versions: [u64; 2],
    every: Duration,
    heavy: &mut Option<Heavy>,
    over: &Receiver<()>,
) -> ((Swaps, Loads), Events) {
    let (loading, loads_over) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let loader = heavy
            .as_mut()
            .map(|heavy| scope.spawn(move || heavy.keep_loading(usize::MAX, &loads_over)));
        let (swaps, mut events) = keep_swapping(admin, versions, every, over);
        drop(loading);
        let panicked = |_| Loads { failure: Some("it panicked".to_owned()), ..Loads::default() };
        let loads = loader.map(|loader| loader.join().unwrap_or_else(panicked));
        let loads = loads.unwrap_or_default();
        events.extend(loads.events.clone());
        ((swaps, loads), events)
    })
}

fn shadow(
    stage: &mut Stage<'_>,
    admin: &mut Admin,
    version: u64,
    sample: &Value,
) -> Result<Played, Error> {
    let load = stage.phase();
    let phases = stage.rounds("shadow", |stage, disturbed, label| {
        for shadow in admin.state()?.shadows {
            admin.remove_shadow(shadow)?;
        }
        if !disturbed {
            return Ok(vec![stage.run(label, &load)?]);
        }
        let before = admin.copies(version)?;
        admin.set_shadow(version, sample)?;
        let mut report = stage.run(label, &load)?;
        let after = admin.copies(version)?;
        report.copies = Some(Copies {
            compared: after.compared.saturating_sub(before.compared),
            dropped: after.dropped.saturating_sub(before.dropped),
            failed: after.failed.saturating_sub(before.failed),
            cpu_s: (after.cpu_s - before.cpu_s).max(0.0),
        });
        report.marks.push(Mark { at_s: 0.0, what: format!("shadow {version} since the warm-up") });
        Ok(vec![report])
    })?;
    Ok(Played::turns("shadow", phases))
}

fn judged(
    stage: &mut Stage<'_>,
    admin: &mut Admin,
    version: u64,
    weight: &str,
) -> Result<Played, Error> {
    let load = stage.phase();
    let phases = stage.rounds("judged", |stage, disturbed, label| {
        if !disturbed {
            admin.set_canary(version, &json!(weight))?;
            return Ok(vec![stage.run(label, &load)?]);
        }
        admin.remove_canary()?;
        admin.start_rollout(version, weight)?;
        let report = stage.run(label, &load);
        let stood = admin.state().map(|state| state.canary.map(|canary| canary.version));
        // Whatever came of it.
        admin.abort_rollout()?;
        if stood? != Some(version) {
            return Err(Error::new("the rollout did not keep its canary for the phase"));
        }
        Ok(vec![report?])
    })?;
    Ok(Played::turns("judged", phases))
}

fn canary(
    stage: &mut Stage<'_>,
    admin: &mut Admin,
    version: u64,
    weights: &[f64],
) -> Result<Played, Error> {
    let steps = u32::try_from(weights.len().max(1)).unwrap_or(u32::MAX);
    let load = Load { window: stage.load.window / steps, ..stage.load.clone() };
    let mut played = Played::default();
    for weight in weights {
        if stage.stop.is_asked() {
            break;
        }
        admin.set_canary(version, &json!(format!("{weight}%")))?;
        let mut report = stage.run(&format!("canary {weight}%"), &load)?;
        report.marks.push(Mark { at_s: 0.0, what: format!("weight {weight}%") });
        played.reports.push(report);
    }
    Ok(played)
}

/// The first load alone, then beside the others.
fn mixed(stage: &mut Stage<'_>, lanes: &[(String, Load)]) -> Result<Played, Error> {
    let load = stage.phase();
    let phases = stage.rounds("mixed", |stage, disturbed, label| {
        if !disturbed {
            return Ok(vec![stage.run(label, &load)?]);
        }
        let stop = stage.stop.clone();
        let (mut report, others) = stage.beside(label, &load, false, |_| {
            let others = std::thread::scope(|scope| {
                let run = |(name, other): &(String, Load)| {
                    let other = Load { window: load.window, warmup: load.warmup, ..other.clone() };
                    let outcome = crate::load::run(&other, &stop, &mut |_| {})?;
                    Ok(Report::new(&format!("{label}: {name}"), &other, &outcome))
                };
                let threads: Vec<_> =
                    lanes.iter().map(|lane| scope.spawn(move || run(lane))).collect();
                threads.into_iter().map(join).collect::<Result<Vec<Report>, Error>>()
            });
            (others, Events::new())
        })?;
        // The server's time went to all of them.
        report.server = None;
        let began_s = report.began_s;
        let others = others?.into_iter().map(|other| Report { began_s, ..other });
        Ok(std::iter::once(report).chain(others).collect())
    })?;
    Ok(Played::turns("mixed", phases))
}

fn join(thread: std::thread::ScopedJoinHandle<'_, Result<Report, Error>>) -> Result<Report, Error> {
    thread.join().unwrap_or_else(|_| Err(Error::new("a sending thread panicked")))
}

fn hostile_versions(
    stage: &mut Stage<'_>,
    admin: &mut Admin,
    repository: &mut Repository,
    every: Duration,
) -> Result<Played, Error> {
    let mut fates = Fates::default();
    let load = stage.phase();
    let phases = stage.rounds("hostile", |stage, disturbed, label| {
        if !disturbed {
            return Ok(vec![stage.run(label, &load)?]);
        }
        let (report, found) = stage.beside(label, &load, false, |over| {
            (hostile::keep_adding(repository, admin, every, over), Events::new())
        })?;
        fates.failed.extend(found.failed);
        fates.odd.extend(found.odd);
        Ok(vec![report])
    })?;
    Ok(Played { fates, ..Played::turns("hostile", phases) })
}

/// Promotes the versions in turn until the other end of `over` is dropped.
fn keep_swapping(
    admin: &mut Admin,
    versions: [u64; 2],
    every: Duration,
    over: &Receiver<()>,
) -> (Swaps, Events) {
    let mut events = Events::new();
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
                events.push((asked, format!("swap to {version}")));
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
    (swaps, events)
}
