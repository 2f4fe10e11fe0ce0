//! One version, loaded: its signature, its sessions and its measured cost.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::engine::{EngineError, EngineErrorKind, Model, Session};
use crate::serving::combine::Combiner;
use crate::serving::cost::{Cost, Pace};
use crate::telemetry::{Metrics, QueueStats, Watch};
use crate::types::{
    Data, Digest, Dim, ModelName, PlanFigures, Pool, Signature, Tensor, TensorSpec, VersionId,
};

/// Why a run failed.
#[derive(Clone, Debug)]
pub enum RunError {
    /// The engine said so.
    Engine(EngineError),
    /// The engine panicked, whether it was caught there or here; the message
    /// says so.
    Panic(String),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Panic(message) => f.write_str(message),
        }
    }
}

/// Free sessions kept per version: more than threads can run at once only
/// waste memory.
const SESSIONS_MAX: usize = 64;
/// Buffers of batches that are kept per version, each for the inputs of one.
const BUFFERS_MAX: usize = 8;
/// Runs per batch size at warm-up; the first pays for caches.
const WARM_UP_RUNS: usize = 5;
/// Batch sizes that warm-up tries, where the first dimension may vary.
const WARM_UP_ROWS: [usize; 4] = [1, 2, 8, 64];
/// Sizes of dimensions (other than the first) that may vary: the first that
/// the model takes. An image may have to be larger than a pixel.
const WARM_UP_DIMS: [usize; 4] = [1, 8, 64, 224];

/// A version that can run. Shared by plans; freed by a control thread.
pub struct LoadedVersion {
    model: ModelName,
    id: VersionId,
    digest: Digest,
    engine: &'static str,
    graph: Arc<dyn Model>,
    sessions: Pool<Box<dyn Session>>,
    cost: OnceLock<Cost>,
    /// What the dimensions that may vary were at warm-up, beside the rows.
    other_dims: OnceLock<usize>,
    rows_independent: bool,
    /// Only the rows may vary, and warm-up has varied them.
    cost_by_rows: bool,
    /// Inputs and outputs have one first dimension in common.
    shares_rows: bool,
    /// A batch came out that could not be taken apart, or failed although its
    /// requests did not.
    unfit: AtomicBool,
    pace: Pace,
    combiner: Combiner,
    buffers: Pool<Vec<Data>>,
    stats: OnceLock<Arc<QueueStats>>,
    watch: Arc<Watch>,
}

impl LoadedVersion {
    /// Wraps a loaded graph. Call [`Self::warm_up`] before it serves.
    #[must_use]
    pub fn new(
        model: ModelName,
        id: VersionId,
        digest: Digest,
        engine: &'static str,
        graph: Arc<dyn Model>,
    ) -> Self {
        let (sessions, cost) = (Pool::new(SESSIONS_MAX), OnceLock::new());
        let (other_dims, rows_independent) = (OnceLock::new(), false);
        let cost_by_rows = cost_by_rows(&*graph);
        let shares_rows = shares_rows(graph.signature());
        let watch = Watch::new(model.clone(), id, digest, graph.signature().clone());
        Self {
            model,
            id,
            digest,
            engine,
            graph,
            sessions,
            cost,
            other_dims,
            rows_independent,
            cost_by_rows,
            shares_rows,
            unfit: AtomicBool::new(false),
            pace: Pace::default(),
            combiner: Combiner::default(),
            buffers: Pool::new(BUFFERS_MAX),
            stats: OnceLock::new(),
            watch,
        }
    }

    /// What its answers are watched by.
    #[must_use]
    pub const fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Notes what preflight found out: each row's answer alone is its answer in
    /// any batch.
    #[must_use]
    pub fn with_rows_independent(self, rows_independent: bool) -> Self {
        Self { rows_independent, ..self }
    }

    /// Whether rows of several requests may be run as one batch. False where
    /// nobody found it out.
    #[must_use]
    pub const fn rows_independent(&self) -> bool {
        self.rows_independent
    }

    /// Whether requests may be run as one batch: their rows are independent,
    /// inputs and outputs share their first dimension, and no batch has shown
    /// the contrary.
    #[must_use]
    pub fn is_batched(&self) -> bool {
        self.rows_independent && self.shares_rows && !self.unfit.load(Relaxed)
    }

    /// From now on no requests are run as one.
    pub(super) fn stop_batching(&self) {
        if !self.unfit.swap(true, Relaxed) {
            tracing::warn!(model = %self.model, version = %self.id, "is not batched any more");
        }
    }

    /// The model it belongs to.
    #[must_use]
    pub const fn model(&self) -> &ModelName {
        &self.model
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> VersionId {
        self.id
    }

    /// The digest of its artifact.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The engine that runs it.
    #[must_use]
    pub const fn engine(&self) -> &'static str {
        self.engine
    }

    /// What it takes and gives.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        self.graph.signature()
    }

    /// Its measured cost; zero before warm-up.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.cost.get().copied().unwrap_or_default()
    }

    /// The time that a run on `inputs` should take: from warm-up, where no more
    /// than the number of rows may vary and new shapes cost no more than known
    /// ones; else from earlier runs on the same shapes; `None` without any.
    #[must_use]
    pub fn expected_time(&self, inputs: &[Tensor]) -> Option<Duration> {
        if !self.cost_by_rows {
            return self.graph.run_time(inputs);
        }
        let batched = self.signature().inputs.iter().any(TensorSpec::is_batched);
        // Each input may have rows of its own.
        let rows = inputs.iter().filter(|_| batched).map(Tensor::rows).max();
        Some(self.cost.get()?.of(rows.unwrap_or(1)))
    }

    /// Takes the place of a warm-up.
    #[cfg(test)]
    pub(super) fn set_cost(&self, cost: Cost) {
        self.cost.set(cost).expect("there was no warm-up");
    }

    /// Whether warm-up tells the time of every request from its rows.
    pub(super) const fn cost_by_rows(&self) -> bool {
        self.cost_by_rows
    }

    /// What runs that are expected to take `expected` take lately.
    pub(super) fn recent(&self, expected: Duration) -> Duration {
        self.pace.of(expected)
    }

    /// Takes into account what a run took that was expected to take `expected`.
    pub(super) fn took(&self, expected: Duration, time: Duration) {
        self.pace.record(expected, time);
    }

    /// The time of earlier runs on the shapes of `inputs`, where it is the shapes
    /// that a run's time follows from.
    pub(super) fn time_by_shape(&self, inputs: &[Tensor]) -> Option<Duration> {
        if self.cost_by_rows { None } else { self.graph.run_time(inputs) }
    }

    /// The rows that a run like `inputs`, but of `rows` rows, computes; `None`
    /// where the engine had better not be given so many.
    pub(super) fn computed_rows(&self, inputs: &[Tensor], rows: usize) -> Option<usize> {
        self.graph.computed_rows(inputs, rows)
    }

    /// Where its requests meet that are run on the threads that read them.
    pub(super) const fn combiner(&self) -> &Combiner {
        &self.combiner
    }

    /// Where its runs are counted.
    pub(super) fn stats(&self, metrics: &Metrics) -> &Arc<QueueStats> {
        self.stats.get_or_init(|| {
            let stats = metrics.queue(&self.model, self.id);
            if !self.signature().inputs.first().is_some_and(TensorSpec::is_batched) {
                stats.rows_are_no_batch();
            }
            stats
        })
    }

    /// Buffers of an earlier batch, if some are free.
    pub(super) fn take_buffers(&self) -> Vec<Data> {
        self.buffers.take().map_or_else(Vec::new, |buffers| *buffers)
    }

    /// Gives a batch's buffers back.
    pub(super) fn put_buffers(&self, inputs: Vec<Tensor>) {
        let data = inputs.into_iter().map(|input| input.into_parts().2).collect();
        self.buffers.put(Box::new(data));
    }

    /// Runs zeros at several batch sizes, so that the first request finds
    /// warm caches and sessions, and measures the cost. A model for which
    /// zeros are no valid values (an unknown category, say) is measured up to
    /// where it says so.
    pub fn warm_up(&self) -> Result<Cost, RunError> {
        let batched = self.signature().inputs.iter().all(TensorSpec::is_batched);
        let sizes = if batched { &WARM_UP_ROWS[..] } else { &WARM_UP_ROWS[..1] };
        let dim = self.warm_up_dim()?;
        let dim = *self.other_dims.get_or_init(|| dim);
        let mut measured = Vec::with_capacity(sizes.len());
        for &rows in sizes {
            let inputs = self.zeros(rows, dim)?;
            let mut times = [Duration::ZERO; WARM_UP_RUNS];
            for time in &mut times {
                let started = Instant::now();
                match self.run(&inputs) {
                    Err(RunError::Engine(error)) if error.kind == EngineErrorKind::BadValue => {}
                    outcome => drop(outcome?),
                }
                *time = started.elapsed();
            }
            times.sort_unstable();
            measured.push((rows, times[WARM_UP_RUNS / 2]));
        }
        let cost = match measured[..] {
            [small, .., large] => Cost::through(small, large),
            _ => Cost { fixed: measured[0].1, per_row: Duration::ZERO },
        };
        Ok(*self.cost.get_or_init(|| cost))
    }

    /// The first of the sizes that the model takes for what varies beside the
    /// rows; an error if it takes none.
    fn warm_up_dim(&self) -> Result<usize, RunError> {
        let runs = |dim| match self.run(&self.zeros(1, dim)?) {
            // The shapes fit; it is the zeros that it does not take.
            Err(RunError::Engine(error)) if error.kind == EngineErrorKind::BadValue => Ok(dim),
            outcome => outcome.map(|_| dim),
        };
        let others = self.signature().inputs.iter().flat_map(|spec| spec.shape.iter().skip(1));
        if others.into_iter().all(|dim| matches!(dim, Dim::Fixed(_))) {
            return Ok(WARM_UP_DIMS[0]);
        }
        let [first, rest @ ..] = WARM_UP_DIMS;
        runs(first).or_else(|error| rest.into_iter().find_map(|dim| runs(dim).ok()).ok_or(error))
    }

    /// A size that it takes for dimensions that may vary, the rows apart: the
    /// one of warm-up.
    #[must_use]
    pub fn other_dims(&self) -> usize {
        self.other_dims.get().copied().unwrap_or(WARM_UP_DIMS[0])
    }

    /// Runs one batch on the calling thread. `inputs` are in the signature's
    /// order and checked against it ([`Signature::arrange`]).
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.with_session(|session| {
            let outputs = session.run(inputs)?;
            self.check_outputs(&outputs)?;
            Ok(outputs)
        })
    }

    /// The same, if the engine has nothing to make for these shapes first;
    /// else `None`, at once.
    pub fn run_known(&self, inputs: &[Tensor]) -> Result<Option<Vec<Tensor>>, RunError> {
        self.with_session(|session| {
            let outputs = session.run_known(inputs)?;
            outputs.iter().try_for_each(|outputs| self.check_outputs(outputs))?;
            Ok(outputs)
        })
    }

    fn with_session<T>(
        &self,
        work: impl FnOnce(&mut dyn Session) -> Result<T, EngineError>,
    ) -> Result<T, RunError> {
        let session = match self.sessions.take() {
            Some(session) => session,
            None => Box::new(guarded(|| self.graph.session())?),
        };
        // The session moves in: after a panic or an error it is dropped here.
        let (session, answer) = guarded(move || {
            let mut session = session;
            let answer = work(&mut **session)?;
            Ok((session, answer))
        })?;
        self.sessions.put(session);
        Ok(answer)
    }

    /// Frees what was made for a burst that is over: sessions that nobody
    /// needed since the last trim, and what the engine made for shapes that did
    /// not come for `idle`. Not for a request's thread.
    pub fn trim(&self, idle: Duration) {
        self.sessions.trim();
        self.buffers.clear();
        self.graph.trim(idle);
    }

    /// What its engine made for shapes.
    #[must_use]
    pub fn plans(&self) -> PlanFigures {
        self.graph.plans()
    }

    /// The outputs must be those that the signature promises.
    fn check_outputs(&self, outputs: &[Tensor]) -> Result<(), EngineError> {
        let specs = &self.signature().outputs;
        let same = specs.len() == outputs.len()
            && specs.iter().zip(outputs).all(|(spec, tensor)| {
                spec.name == tensor.name() && spec.datatype == tensor.datatype()
            });
        if same {
            return Ok(());
        }
        let wanted: Vec<_> = specs.iter().map(|s| (s.name.as_str(), s.datatype)).collect();
        let got: Vec<_> = outputs.iter().map(|t| (t.name(), t.datatype())).collect();
        Err(EngineError::new(
            EngineErrorKind::Internal,
            format!("expected outputs {wanted:?}, the engine returned {got:?}"),
        ))
    }

    /// Inputs full of zeros, with `rows` for the first dimension and `other` for
    /// the others that may vary.
    fn zeros(&self, rows: usize, other: usize) -> Result<Vec<Tensor>, RunError> {
        let tensor = |spec: &TensorSpec| {
            let size = |(axis, dim): (usize, &Dim)| match dim {
                Dim::Fixed(n) => *n,
                Dim::Symbol(_) | Dim::Any if axis == 0 => rows,
                Dim::Symbol(_) | Dim::Any => other,
            };
            let shape: Vec<usize> = spec.shape.iter().enumerate().map(size).collect();
            let len = crate::types::element_count(&shape).unwrap_or(usize::MAX);
            if len > ZEROS_MAX {
                return Err(RunError::Engine(EngineError::new(
                    EngineErrorKind::Unsupported,
                    format!("input {:?}: shape {shape:?} is too large to warm up with", spec.name),
                )));
            }
            Tensor::new(&spec.name, shape, Data::zeros(spec.datatype, len)).map_err(|error| {
                RunError::Engine(EngineError::new(EngineErrorKind::Internal, error.message()))
            })
        };
        self.signature().inputs.iter().map(tensor).collect()
    }
}

/// Whether a run's time follows from its rows alone, as warm-up measures it.
fn cost_by_rows(graph: &dyn Model) -> bool {
    let specs = &graph.signature().inputs;
    let fixed_row =
        |spec: &TensorSpec| spec.shape.iter().skip(1).all(|dim| matches!(dim, Dim::Fixed(_)));
    let batched = specs.iter().filter(|spec| spec.is_batched()).count();
    let measured = batched == 0 || batched == specs.len() && graph.takes_new_shapes();
    measured && specs.iter().all(fixed_row)
}

/// Whether the first dimension of every input and output may vary, and those
/// that have a name have the same. What has none may be anything: preflight
/// shows that the outputs have the inputs' rows, and requests whose inputs
/// differ in rows are not batched.
fn shares_rows(signature: &Signature) -> bool {
    let mut names = signature.inputs.iter().chain(&signature.outputs).map(|spec| {
        match spec.shape.first() {
            Some(Dim::Symbol(name)) => Ok(Some(name)),
            Some(Dim::Any) => Ok(None),
            // Engines that cannot tell an output's shape leave it out.
            None | Some(Dim::Fixed(_)) => Err(()),
        }
    });
    let mut seen = None;
    !signature.inputs.is_empty()
        && names.all(|name| match name {
            Ok(Some(name)) => *seen.get_or_insert(name) == name,
            Ok(None) => true,
            Err(()) => false,
        })
}

/// Elements of a warm-up input: 256 Mi, a GiB of FP32.
const ZEROS_MAX: usize = 1 << 28;

/// Runs `f`; a panic becomes an error.
fn guarded<T>(f: impl FnOnce() -> Result<T, EngineError>) -> Result<T, RunError> {
    // What `f` touched is dropped with the error, so no broken state is seen.
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|error| match error.kind {
            EngineErrorKind::Panic => RunError::Panic(error.message),
            _ => RunError::Engine(error),
        }),
        Err(panic) => {
            let message = panic_message(panic.as_ref());
            Err(RunError::Panic(format!("the engine panicked: {message}")))
        }
    }
}

/// The text that a panic carried.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::types::Datatype;

    /// Doubles its input; panics on 13, fails on 7, and has caught a panic
    /// itself on 17.
    pub(crate) struct Doubler(pub(crate) Signature);

    impl Doubler {
        pub(crate) fn graph() -> Arc<dyn Model> {
            let spec = |name: &str| {
                TensorSpec::new(name, Datatype::Fp32, vec![Dim::Symbol("N".into()), Dim::Fixed(1)])
            };
            Arc::new(Self(Signature::new(vec![spec("x")], vec![spec("y")])))
        }

        pub(crate) fn version() -> LoadedVersion {
            let name = ModelName::new("doubler").unwrap();
            let id = VersionId::new(1).unwrap();
            LoadedVersion::new(name, id, Digest::new([0; 32]), "test", Self::graph())
        }
    }

    struct DoublerSession;

    impl Model for Doubler {
        fn signature(&self) -> &Signature {
            &self.0
        }
        fn session(&self) -> Result<Box<dyn Session>, EngineError> {
            Ok(Box::new(DoublerSession))
        }
    }

    impl Session for DoublerSession {
        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
            let Data::Fp32(x) = inputs[0].data() else { unreachable!("checked") };
            assert!(!x.contains(&13.0), "thirteen");
            if x.contains(&17.0) {
                return Err(EngineError::new(EngineErrorKind::Panic, "caught"));
            }
            if x.contains(&7.0) {
                return Err(EngineError::new(EngineErrorKind::Internal, "seven"));
            }
            let data = Data::Fp32(x.iter().map(|v| v * 2.0).collect());
            Ok(vec![Tensor::new("y", inputs[0].shape().to_vec(), data).unwrap()])
        }
    }

    pub(crate) fn input(x: f32) -> Vec<Tensor> {
        vec![Tensor::new("x", vec![1, 1], Data::Fp32(vec![x])).unwrap()]
    }

    #[test]
    fn a_session_that_failed_is_not_used_again() {
        let version = Doubler::version();
        assert_eq!(version.run(&input(2.0)).unwrap()[0].data(), &Data::Fp32(vec![4.0]));
        assert_eq!(version.sessions.len(), 1);
        assert!(
            matches!(version.run(&input(13.0)), Err(RunError::Panic(m)) if m == "the engine panicked: thirteen")
        );
        assert_eq!(version.sessions.len(), 0);
        assert!(version.run(&input(7.0)).unwrap_err().to_string().contains("seven"));
        assert_eq!(version.sessions.len(), 0);
        assert!(matches!(version.run(&input(17.0)), Err(RunError::Panic(m)) if m == "caught"));
        assert_eq!(version.sessions.len(), 0);
        assert!(version.run(&input(1.0)).is_ok());
        assert_eq!(version.sessions.len(), 1);
    }

    #[test]
    fn sessions_that_nobody_needs_are_trimmed() {
        let version = Doubler::version();
        let sessions = || std::iter::repeat_with(|| version.graph.session().unwrap());
        sessions().take(5).for_each(|session| version.sessions.put(Box::new(session)));
        version.trim(Duration::ZERO);
        assert_eq!(version.sessions.len(), 5, "they are new");
        version.run(&input(1.0)).unwrap();
        version.trim(Duration::ZERO);
        assert_eq!(version.sessions.len(), 1, "one was needed");
    }

    #[test]
    fn warm_up_measures() {
        let version = Doubler::version();
        assert_eq!(version.cost(), Cost::default());
        let cost = version.warm_up().unwrap();
        assert_eq!(version.cost(), cost);
        assert!(cost.of(1) > Duration::ZERO);
    }

    /// Takes rows of eight or more, and in them no zeros.
    struct Picky(Signature);

    impl Model for Picky {
        fn signature(&self) -> &Signature {
            &self.0
        }
        fn session(&self) -> Result<Box<dyn Session>, EngineError> {
            Ok(Box::new(PickySession))
        }
    }

    struct PickySession;

    impl Session for PickySession {
        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
            let fits = inputs[0].shape()[1] >= 8;
            let kind = if fits { EngineErrorKind::BadValue } else { EngineErrorKind::BadInput };
            Err(EngineError::new(kind, "neither"))
        }
    }

    #[test]
    fn a_model_that_takes_no_zeros_is_warmed_up_whatever_else_may_vary() {
        let shape = vec![Dim::Symbol("N".into()), Dim::Any];
        let spec = TensorSpec::new("x", Datatype::Fp32, shape);
        let graph = Arc::new(Picky(Signature::new(vec![spec.clone()], vec![spec])));
        let (name, id) = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
        let version = LoadedVersion::new(name, id, Digest::new([0; 32]), "test", graph);
        version.warm_up().unwrap();
        assert_eq!(version.other_dims(), 8);
    }

    /// What a model of these inputs should take for 1 and for 100 rows.
    fn expected(shapes: &[&[Dim]], takes_new_shapes: bool) -> [Option<Duration>; 2] {
        struct Shapes(Signature, bool);
        impl Model for Shapes {
            fn signature(&self) -> &Signature {
                &self.0
            }
            fn takes_new_shapes(&self) -> bool {
                self.1
            }
            fn session(&self) -> Result<Box<dyn Session>, EngineError> {
                unreachable!("nothing runs")
            }
        }
        let spec = |(i, shape): (usize, &&[Dim])| {
            TensorSpec::new(i.to_string(), Datatype::Fp32, shape.to_vec())
        };
        let inputs = shapes.iter().enumerate().map(spec).collect();
        let graph = Arc::new(Shapes(Signature::new(inputs, vec![]), takes_new_shapes));
        let (name, id) = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
        let version = LoadedVersion::new(name, id, Digest::new([0; 32]), "test", graph);
        let second = Duration::from_secs(1);
        version.cost.set(Cost { fixed: second, per_row: second }).unwrap();
        // Only the last input has many rows, where it may.
        [1, 100].map(|rows| {
            let mut inputs = version.zeros(1, 1).unwrap();
            inputs.pop();
            inputs.extend(version.zeros(rows, 1).unwrap().pop());
            version.expected_time(&inputs)
        })
    }

    #[test]
    fn a_time_is_expected_only_where_warm_up_can_tell() {
        let (n, m) = (Dim::Symbol("N".into()), Dim::Symbol("M".into()));
        let (any, two) = (Dim::Any, Dim::Fixed(2));
        let seconds = |n| Some(Duration::from_secs(n));
        let rows = [seconds(2), seconds(101)];
        assert_eq!(expected(&[&[n.clone(), two.clone()]], true), rows);
        assert_eq!(expected(&[&[n.clone(), two.clone()], &[m]], true), rows);
        assert_eq!(expected(&[&[two.clone(), two.clone()]], false), [seconds(2); 2]);
        // A sequence of any length; a shape that must be optimised first; a
        // batch beside an input of one size, which warm-up has not varied.
        assert_eq!(expected(&[&[n.clone(), any]], true), [None; 2]);
        assert_eq!(expected(&[&[n.clone(), two.clone()]], false), [None; 2]);
        assert_eq!(expected(&[&[two], &[n]], true), [None; 2]);
    }

    #[test]
    fn what_shares_its_first_dimension_is_batched_until_it_shows_otherwise() {
        let (n, m) = (Dim::Symbol("N".into()), Dim::Symbol("M".into()));
        let (any, two) = (Dim::Any, Dim::Fixed(2));
        let shares = |inputs: &[&Dim], outputs: &[&Dim]| {
            let specs = |dims: &[&Dim]| {
                let spec = |dim: &&Dim| TensorSpec::new("t", Datatype::Fp32, vec![(*dim).clone()]);
                dims.iter().map(spec).collect()
            };
            shares_rows(&Signature::new(specs(inputs), specs(outputs)))
        };
        assert!(shares(&[&n], &[&n]) && shares(&[&n, &n], &[&n]) && shares(&[&any], &[&any]));
        assert!(shares(&[&n], &[&any]) && shares(&[&any, &n], &[&n]));
        assert!(!shares(&[&n, &m], &[&n]) && !shares(&[&n], &[&m]) && !shares(&[&n], &[&two]));
        assert!(!shares(&[&two], &[&n]) && !shares(&[], &[&n]));

        assert!(!Doubler::version().is_batched(), "nobody has found out");
        let version = Doubler::version().with_rows_independent(true);
        assert!(version.is_batched());
        version.stop_batching();
        assert!(!version.is_batched());
    }
}
