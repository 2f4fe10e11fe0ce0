//! An engine for tests: the artifact is a line of text that says what the
//! version does. Every version takes `x` FP32 [-1, 1] and gives `y` alike; one that
//! doubles takes rows of any width, and one that echoes takes any datatype, [-1, 2].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use foreshadow::engine::{Engine, EngineError, EngineErrorKind, Model, Session};
use foreshadow::types::{Data, Datatype, Dim, Signature, Tensor, TensorSpec};

/// What a version does with a batch.
#[derive(Clone)]
enum Behaviour {
    /// Every row is this number.
    Answers(f32),
    /// Every row is 1, after so long.
    Slow(Duration),
    /// Every row is 1; each so manieth run fails.
    FailsEvery(usize, Arc<AtomicUsize>),
    /// Doubles; so many runs of a thousand fail, by chance.
    DoublesOrFails(u64, Arc<AtomicU64>),
    /// Every row is 1; of so many runs of a thousand, by chance, 2.
    Noisy(u64, Arc<AtomicU64>),
    /// Every row is 1; where `x` is above this, 2.
    WrongAbove(f32),
    /// Every row is 1, or 0 above this.
    RejectsAbove(f32),
    Errors,
    Panics,
    /// One row more than was asked for.
    OtherShape,
    /// Waits until the gate opens.
    Sleeps(Arc<Gate>),
    /// Doubles; 100 waits until the gate opens, 7 is no value that it takes. In
    /// warm-up a run takes this long.
    Doubles(Arc<Gate>, Duration),
    /// Gives `x` back as `y`.
    Echoes(Datatype),
}

/// Opens once, for all.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    open: bool,
    waiting: bool,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.open).unwrap());
    }
}

/// The engine. Its misbehaviour begins after warm-up: once [`Scripted::arm`]
/// was called.
#[derive(Default)]
pub(crate) struct Scripted {
    pub(crate) gate: Arc<Gate>,
    armed: Arc<std::sync::atomic::AtomicBool>,
}

impl Scripted {
    /// From now on versions do what their artifacts say.
    pub(crate) fn arm(&self) {
        self.armed.store(true, SeqCst);
    }

    /// Waits until a version stands at the gate.
    pub(crate) fn wait_until_run(&self) {
        let state = self.gate.state.lock().unwrap();
        drop(self.gate.changed.wait_while(state, |state| !state.waiting).unwrap());
    }
}

impl Engine for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn load(&self, artifact: &Path) -> Result<Arc<dyn Model>, EngineError> {
        let text = std::fs::read_to_string(artifact).unwrap();
        let mut words = text.split_whitespace();
        let behaviour = match words.next() {
            Some("answers") => Behaviour::Answers(words.next().unwrap().parse().unwrap()),
            Some("slow") => {
                Behaviour::Slow(Duration::from_millis(words.next().unwrap().parse().unwrap()))
            }
            Some("fails-every") => {
                Behaviour::FailsEvery(words.next().unwrap().parse().unwrap(), Arc::default())
            }
            Some("wrong-above") => Behaviour::WrongAbove(words.next().unwrap().parse().unwrap()),
            Some("rejects-above") => {
                Behaviour::RejectsAbove(words.next().unwrap().parse().unwrap())
            }
            Some("errors") => Behaviour::Errors,
            Some("panics") => Behaviour::Panics,
            Some("other-shape") => Behaviour::OtherShape,
            Some("sleeps") => Behaviour::Sleeps(Arc::clone(&self.gate)),
            Some("doubles-or-fails") => {
                Behaviour::DoublesOrFails(words.next().unwrap().parse().unwrap(), seed())
            }
            Some("noisy") => Behaviour::Noisy(words.next().unwrap().parse().unwrap(), seed()),
            Some("doubles") => {
                let millis = words.next().map_or(0, |word| word.parse().unwrap());
                Behaviour::Doubles(Arc::clone(&self.gate), Duration::from_millis(millis))
            }
            Some("echoes") => Behaviour::Echoes(words.next().unwrap().parse().unwrap()),
            _ => return Err(EngineError::new(EngineErrorKind::Unsupported, "no such script")),
        };
        let width = match behaviour {
            Behaviour::Doubles(..) | Behaviour::DoublesOrFails(..) => Dim::Any,
            Behaviour::Echoes(_) => Dim::Fixed(2),
            _ => Dim::Fixed(1),
        };
        let datatype = match behaviour {
            Behaviour::Echoes(datatype) => datatype,
            _ => Datatype::Fp32,
        };
        let spec = |name: &str| {
            TensorSpec::new(name, datatype, vec![Dim::Symbol("N".into()), width.clone()])
        };
        let signature = Signature::new(vec![spec("x")], vec![spec("y")]);
        Ok(Arc::new(Graph { signature, behaviour, armed: Arc::clone(&self.armed) }))
    }
}

fn seed() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(0x9e37_79b9_7f4a_7c15))
}

/// True so many times of a thousand, by the numbers of SplitMix64: each run has its own.
/// Every row is 1, or another above a limit.
fn by_limit(
    inputs: &[Tensor],
    rows: usize,
    limit: f32,
    above: f32,
) -> Result<Vec<Tensor>, EngineError> {
    let Data::Fp32(x) = inputs[0].data() else { unreachable!("as declared") };
    let y = x.iter().map(|x| if *x > limit { above } else { 1.0 }).collect();
    Ok(vec![Tensor::new("y", vec![rows, 1], Data::Fp32(y)).unwrap()])
}

fn by_chance(seed: &AtomicU64, permille: u64) -> bool {
    let n = seed.fetch_add(0x9e37_79b9_7f4a_7c15, SeqCst);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (n ^ (n >> 31)) % 1000 < permille
}

struct Graph {
    signature: Signature,
    behaviour: Behaviour,
    armed: Arc<std::sync::atomic::AtomicBool>,
}

impl Model for Graph {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        let armed = Arc::clone(&self.armed);
        Ok(Box::new(Run { behaviour: self.behaviour.clone(), armed }))
    }
}

struct Run {
    behaviour: Behaviour,
    armed: Arc<std::sync::atomic::AtomicBool>,
}

impl Session for Run {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let rows = inputs[0].rows();
        if let Behaviour::Echoes(_) = self.behaviour {
            let (_, shape, data) = inputs[0].clone().into_parts();
            return Ok(vec![Tensor::new("y", shape, data).unwrap()]);
        }
        let answer = |rows: usize, y: f32| {
            Ok(vec![Tensor::new("y", vec![rows, 1], Data::Fp32(vec![y; rows])).unwrap()])
        };
        if !self.armed.load(SeqCst) {
            if let Behaviour::Doubles(_, time) = &self.behaviour {
                std::thread::sleep(*time);
            }
            return answer(rows, 0.0);
        }
        match &self.behaviour {
            Behaviour::Answers(y) => answer(rows, *y),
            Behaviour::Slow(time) => {
                std::thread::sleep(*time);
                answer(rows, 1.0)
            }
            Behaviour::FailsEvery(n, runs) if runs.fetch_add(1, SeqCst) % n == n - 1 => {
                Err(EngineError::new(EngineErrorKind::Internal, "it errors now and then"))
            }
            Behaviour::FailsEvery(..) => answer(rows, 1.0),
            Behaviour::WrongAbove(limit) => by_limit(inputs, rows, *limit, 2.0),
            Behaviour::RejectsAbove(limit) => by_limit(inputs, rows, *limit, 0.0),
            Behaviour::Noisy(permille, seed) => {
                answer(rows, if by_chance(seed, *permille) { 2.0 } else { 1.0 })
            }
            Behaviour::Errors => Err(EngineError::new(EngineErrorKind::Internal, "it errors")),
            // Without the hook, which prints a backtrace: in the idle class of
            // a busy machine that takes seconds.
            Behaviour::Panics => std::panic::resume_unwind(Box::new("it panics")),
            Behaviour::OtherShape => answer(rows + 1, 1.0),
            Behaviour::Echoes(_) => unreachable!("answered above"),
            Behaviour::Sleeps(gate) => {
                gate.wait();
                answer(rows, 1.0)
            }
            Behaviour::DoublesOrFails(permille, seed) => {
                if by_chance(seed, *permille) {
                    return Err(EngineError::new(EngineErrorKind::Internal, "by chance"));
                }
                let Data::Fp32(x) = inputs[0].data() else { unreachable!("as declared") };
                let y = Data::Fp32(x.iter().map(|x| x * 2.0).collect());
                Ok(vec![Tensor::new("y", inputs[0].shape().to_vec(), y).unwrap()])
            }
            Behaviour::Doubles(gate, _) => {
                let Data::Fp32(x) = inputs[0].data() else { unreachable!("as declared") };
                if x.contains(&100.0) {
                    gate.wait();
                }
                if x.contains(&7.0) {
                    return Err(EngineError::new(EngineErrorKind::BadValue, "x is 7"));
                }
                let y = Data::Fp32(x.iter().map(|x| x * 2.0).collect());
                Ok(vec![Tensor::new("y", inputs[0].shape().to_vec(), y).unwrap()])
            }
        }
    }
}
