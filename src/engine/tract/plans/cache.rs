//! Plans by shape: few enough, small enough, and the dearest kept longest.
//!
//! A known shape is found without a lock: threads of the kernel's idle class
//! look here too, and must not make a request wait. A new one is made once;
//! who comes meanwhile waits for it, but not for ever.
//!
//! Which plan goes when there are too many is GreedyDual-Size's rule (Cao &
//! Irani 1997): each has a credit, what it cost to make per byte on top of what
//! the last evicted one had left, renewed at each use; the least goes.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::runnable::{Runnable, State};
use crate::engine::{EngineError, EngineErrorKind};
use crate::types::{PlanFigures, Pool, thread};

/// Plans that a model may hold.
pub(in crate::engine::tract) const PLANS_MAX: usize = 64;
/// Memory that they may take together, all but the last made.
const PLAN_BYTES_MAX: usize = 256 << 20;
/// Shapes that are remembered as impossible.
const REFUSED_MAX: usize = 64;
/// How long a plan that another thread makes is waited for. That thread may be
/// of the idle class, on a busy machine; then making it twice is faster.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Unused states that a plan keeps.
const STATES_MAX: usize = 16;

/// What tells shapes apart: the sizes of the dimensions that vary.
pub(super) type Key = Vec<usize>;

/// A plan in the cache.
pub(super) struct Made {
    pub(super) runnable: Runnable,
    /// Seconds that it took to make, per byte.
    worth: f64,
    credit: AtomicU64,
    /// Milliseconds after the cache's start.
    used: AtomicU64,
    /// What a run takes: a moving average, in nanoseconds; 0 before the first.
    run_nanos: AtomicU64,
    states: Pool<Option<State>>,
}

impl Made {
    fn new(runnable: Runnable, cost: Duration) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a weight")]
        let worth = cost.as_secs_f64() / runnable.bytes().max(1) as f64;
        Self {
            runnable,
            worth,
            credit: AtomicU64::default(),
            used: AtomicU64::default(),
            run_nanos: AtomicU64::default(),
            states: Pool::new(STATES_MAX),
        }
    }

    fn credit(&self) -> f64 {
        f64::from_bits(self.credit.load(Relaxed))
    }

    /// A state for one run, if one is unused.
    pub(super) fn take_state(&self) -> Box<Option<State>> {
        self.states.take().unwrap_or_default()
    }

    /// Puts a state back after a run that took this long.
    pub(super) fn put_state(&self, state: Box<Option<State>>, took: Duration) {
        // The time of a copy, which gives way to everybody, is not that of a request.
        if !thread::is_idle() {
            let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
            let known = self.run_nanos.load(Relaxed);
            let average = if known == 0 { took } else { known - known / 8 + took / 8 };
            self.run_nanos.store(average, Relaxed);
        }
        if state.is_some() {
            self.states.put(state);
        }
    }
}

/// One making of a plan, and who waits for it.
#[derive(Default)]
struct Flight {
    outcome: Mutex<Option<Result<Arc<Made>, EngineError>>>,
    landed: Condvar,
}

impl Flight {
    fn land(&self, outcome: Result<Arc<Made>, EngineError>) {
        *lock(&self.outcome) = Some(outcome);
        self.landed.notify_all();
    }

    fn wait(&self) -> Option<Result<Arc<Made>, EngineError>> {
        let outcome = lock(&self.outcome);
        let waiting = self.landed.wait_timeout_while(outcome, WAIT_MAX, |o| o.is_none());
        waiting.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

/// What only those who make plans touch.
#[derive(Default)]
struct Making {
    flights: HashMap<Key, Arc<Flight>>,
    refused: VecDeque<(Key, EngineError)>,
    made: u64,
    evicted: u64,
}

type Map = HashMap<Key, Arc<Made>>;

/// The plans of one model.
pub(super) struct Cache {
    known: ArcSwap<Map>,
    making: Mutex<Making>,
    /// The credit of the plan that was evicted last.
    inflation: AtomicU64,
    started: Instant,
    plans_max: usize,
    bytes_max: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(PLANS_MAX, PLAN_BYTES_MAX)
    }
}

impl Cache {
    fn new(plans_max: usize, bytes_max: usize) -> Self {
        Self {
            known: ArcSwap::default(),
            making: Mutex::default(),
            inflation: AtomicU64::default(),
            started: Instant::now(),
            plans_max,
            bytes_max,
        }
    }

    /// The plan for these sizes, if there is one.
    pub(super) fn known(&self, key: &[usize]) -> Option<Arc<Made>> {
        let made = self.known.load().get(key).cloned()?;
        self.touch(&made);
        Some(made)
    }

    /// What a run at these sizes takes, if there was one lately.
    pub(super) fn run_time(&self, key: &[usize]) -> Option<Duration> {
        let nanos = self.known.load().get(key)?.run_nanos.load(Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// The plan for these sizes; made if need be, which takes long.
    pub(super) fn get(
        &self,
        key: &Key,
        make: impl FnOnce() -> Result<Runnable, EngineError>,
    ) -> Result<Arc<Made>, EngineError> {
        if let Some(made) = self.known(key) {
            return Ok(made);
        }
        let (flight, leads) = {
            let mut making = lock(&self.making);
            // It may have landed between the look and the lock.
            if let Some(made) = self.known(key) {
                return Ok(made);
            }
            if let Some((_, error)) = making.refused.iter().find(|(known, _)| known == key) {
                return Err(error.clone());
            }
            let leads = !making.flights.contains_key(key);
            (Arc::clone(making.flights.entry(key.clone()).or_default()), leads)
        };
        if !leads && let Some(outcome) = flight.wait() {
            return outcome;
        }
        let started = Instant::now();
        let outcome = make().map(|runnable| Arc::new(Made::new(runnable, started.elapsed())));
        let evicted = self.enter(key, outcome.as_ref());
        flight.land(outcome.clone());
        drop(evicted);
        outcome
    }

    /// Makes what was made known. Returns what had to go, to be freed without
    /// the lock.
    fn enter(&self, key: &Key, outcome: Result<&Arc<Made>, &EngineError>) -> Vec<Arc<Made>> {
        let mut making = lock(&self.making);
        making.flights.remove(key);
        match outcome {
            Err(error) => {
                if error.kind == EngineErrorKind::BadInput {
                    making.refused.truncate(REFUSED_MAX - 1);
                    making.refused.push_front((key.clone(), error.clone()));
                }
                Vec::new()
            }
            Ok(made) => {
                self.touch(made);
                making.made += 1;
                let mut known = Map::clone(&self.known.load());
                known.insert(key.clone(), Arc::clone(made));
                let evicted = self.evict(&mut known, key);
                making.evicted += evicted.len() as u64;
                self.known.store(Arc::new(known));
                evicted
            }
        }
    }

    fn touch(&self, made: &Made) {
        let inflation = f64::from_bits(self.inflation.load(Relaxed));
        made.credit.store((inflation + made.worth).to_bits(), Relaxed);
        made.used.store(self.now(), Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes out what is too much; never what was just made.
    fn evict(&self, known: &mut Map, just_made: &Key) -> Vec<Arc<Made>> {
        let mut evicted = Vec::new();
        while known.len() > self.plans_max || total_bytes(known) > self.bytes_max {
            let others = known.iter().filter(|(key, _)| *key != just_made);
            let least = others.min_by(|a, b| a.1.credit().total_cmp(&b.1.credit()));
            let Some(key) = least.map(|(key, _)| key.clone()) else { break };
            let Some(made) = known.remove(&key) else { break };
            self.inflation.store(made.credit().to_bits(), Relaxed);
            evicted.push(made);
        }
        evicted
    }

    /// Frees plans that nobody used for `idle`, and states that nobody needed.
    pub(super) fn trim(&self, idle: Duration) {
        let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let fresh = |made: &Made, now: u64| now.saturating_sub(made.used.load(Relaxed)) < idle;
        let evicted = {
            let mut making = lock(&self.making);
            let (now, known) = (self.now(), self.known.load_full());
            let (kept, evicted): (Map, Map) =
                known.iter().map(|(k, m)| (k.clone(), m.clone())).partition(|(_, m)| fresh(m, now));
            if evicted.is_empty() {
                Map::new()
            } else {
                making.evicted += evicted.len() as u64;
                self.known.store(Arc::new(kept));
                evicted
            }
        };
        drop(evicted);
        self.known.load().values().for_each(|made| made.states.trim());
    }

    pub(super) fn figures(&self) -> PlanFigures {
        let making = lock(&self.making);
        let (made, evicted) = (making.made, making.evicted);
        let known = self.known.load();
        PlanFigures { held: known.len(), bytes: total_bytes(&known), made, evicted }
    }
}

fn total_bytes(known: &Map) -> usize {
    known.values().map(|made| made.runnable.bytes()).sum()
}

/// What these locks guard is whole even after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
