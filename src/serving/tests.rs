//! How requests run: inline, in batches, refused, late, cancelled.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::engine::{EngineError, EngineErrorKind, Model, Session};
use crate::error::{ErrorCode, Result};
use crate::serving::version::tests::{Doubler, input};
use crate::serving::{Completed, Cost, Executor, ExecutorSettings, LoadedVersion, Request};
use crate::telemetry::Metrics;
use crate::types::{
    Batching, Data, Datatype, Digest, Dim, ModelName, Signature, Tensor, TensorSpec, VersionId,
};

/// What the model below did, and the gate that it waits at.
#[derive(Default)]
struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    runs: Vec<usize>,
    standing: usize,
    open: bool,
    /// What runs on rows of this width take, where it is known.
    times: BTreeMap<usize, Duration>,
}

impl Log {
    fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.changed.notify_all();
    }

    fn stand(&self) {
        let mut state = self.state.lock().unwrap();
        state.standing += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.open).unwrap());
    }

    /// Waits until a run stands at the gate.
    fn wait_for_run(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| state.standing == 0).unwrap());
    }

    fn runs(&self) -> Vec<usize> {
        self.state.lock().unwrap().runs.clone()
    }
}

/// Doubles rows of any width, and writes down how many each run has. 100 waits
/// at the gate, 13 panics, 7 is a bad value; batches with 3 fail, those with
/// 9 for want of memory; 5 gives a row
/// too many.
struct Logging(Signature, Arc<Log>);
struct LoggingSession(Arc<Log>);

impl Model for Logging {
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn session(&self) -> std::result::Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(LoggingSession(Arc::clone(&self.1))))
    }
    fn run_time(&self, inputs: &[Tensor]) -> Option<Duration> {
        self.1.state.lock().unwrap().times.get(&inputs[0].shape()[1]).copied()
    }
}

impl Session for LoggingSession {
    fn run(&mut self, inputs: &[Tensor]) -> std::result::Result<Vec<Tensor>, EngineError> {
        let Data::Fp32(x) = inputs[0].data() else { unreachable!("checked") };
        let mut shape = inputs[0].shape().to_vec();
        self.0.state.lock().unwrap().runs.push(shape[0]);
        let has = |number: f32| x.contains(&number);
        let failed = |kind, message| Err(EngineError::new(kind, message));
        if has(100.0) {
            self.0.stand();
        }
        assert!(!has(13.0), "thirteen");
        if has(7.0) {
            return failed(EngineErrorKind::BadValue, "seven");
        }
        if has(9.0) && shape[0] > 1 {
            return failed(EngineErrorKind::OutOfMemory, "nine is a crowd");
        }
        if has(3.0) && shape[0] > 1 {
            return failed(EngineErrorKind::Internal, "three is company");
        }
        let mut y: Vec<f32> = x.iter().map(|x| x * 2.0).collect();
        if has(5.0) {
            y.extend_from_within(..y.len() / shape[0]);
            shape[0] += 1;
        }
        Ok(vec![Tensor::new("y", shape, Data::Fp32(y)).unwrap()])
    }
}

/// An executor over one version.
struct Bench {
    executor: Arc<Executor>,
    version: Arc<LoadedVersion>,
    log: Arc<Log>,
    metrics: Arc<Metrics>,
}

fn bench(settings: ExecutorSettings) -> Bench {
    bench_of(settings, Dim::Any)
}

/// The same for rows of this width.
fn bench_of(settings: ExecutorSettings, width: Dim) -> Bench {
    let spec = |name: &str| {
        TensorSpec::new(name, Datatype::Fp32, vec![Dim::Symbol("N".into()), width.clone()])
    };
    let log = Arc::<Log>::default();
    let signature = Signature::new(vec![spec("x")], vec![spec("y")]);
    let graph = Arc::new(Logging(signature, Arc::clone(&log)));
    let (name, id) = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
    let version = LoadedVersion::new(name, id, Digest::new([0; 32]), "test", graph);
    let version = Arc::new(version.with_rows_independent(true));
    // Nothing here runs long; a millisecond a row is what the queue believes.
    version.set_cost(Cost { fixed: Duration::ZERO, per_row: Duration::from_millis(1) });
    let metrics = Arc::new(Metrics::new());
    let executor = Arc::new(Executor::spawn(&settings, &metrics).unwrap());
    Bench { executor, version, log, metrics }
}

/// Rows of the same number.
fn rows(number: f32, rows: usize, width: usize) -> Vec<Tensor> {
    let data = Data::Fp32(vec![number; rows * width]);
    vec![Tensor::new("x", vec![rows, width], data).unwrap()]
}

fn request(inputs: Vec<Tensor>) -> Request {
    Request { inputs, deadline: None, measure_cpu: false, batching: Batching::default() }
}

type Answer = JoinHandle<Result<Completed>>;

impl Bench {
    fn send(&self, request: Request) -> Answer {
        let (executor, version) = (Arc::clone(&self.executor), Arc::clone(&self.version));
        tokio::spawn(async move { executor.run(&version, request).await })
    }

    /// A run that holds the only engine thread until the gate opens.
    async fn hold(&self) -> Answer {
        let held = self.send(request(rows(100.0, 1, 1)));
        tokio::task::yield_now().await;
        self.log.wait_for_run();
        held
    }

    /// Sends, and waits until it waits.
    async fn queued(&self, request: Request) -> Answer {
        let before = self.executor.waiting();
        let answer = self.send(request);
        self.until(|executor| executor.waiting() > before).await;
        answer
    }

    async fn until(&self, mut is: impl FnMut(&Executor) -> bool) {
        while !is(&self.executor) {
            tokio::task::yield_now().await;
        }
    }

    /// Whether the metrics have this line for the version.
    fn counted(&self, family: &str, reason: &str, count: usize) -> bool {
        let reason =
            if reason.is_empty() { String::new() } else { format!("reason=\"{reason}\",") };
        let line = format!("{family}{{model=\"m\",{reason}version=\"1\"}} {count}");
        self.metrics.render().lines().any(|l| l == line)
    }
}

async fn output(answer: Answer) -> Vec<f32> {
    let done = answer.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    let Data::Fp32(y) = done.outputs[0].data() else { unreachable!("as declared") };
    y.clone()
}

async fn failure(answer: Answer) -> ErrorCode {
    answer.await.unwrap().unwrap_err().code()
}

#[tokio::test]
async fn both_ways_give_the_same_answer() {
    let metrics = Arc::new(Metrics::new());
    let version = Arc::new(Doubler::version());
    version.warm_up().unwrap();
    for inline_limit in [Duration::MAX, Duration::ZERO] {
        let settings = ExecutorSettings { inline_limit, ..ExecutorSettings::default() };
        let executor = Executor::spawn(&settings, &metrics).unwrap();
        let measured = Request { measure_cpu: true, ..request(input(3.0)) };
        let done = executor.run(&version, measured).await.unwrap();
        assert_eq!(done.outputs[0].data(), &Data::Fp32(vec![6.0]));
        assert_eq!(done.inputs, input(3.0));
        assert!(done.cpu.is_some());
        let error = executor.run(&version, request(input(13.0))).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::Internal);
        assert!(error.detail().unwrap().contains("thirteen"));
    }
}

#[tokio::test]
async fn what_waits_runs_as_one_batch() {
    let bench = bench(ExecutorSettings::default());
    let held = bench.hold().await;
    let mut answers = Vec::new();
    for (number, count) in [(1.0, 1), (2.0, 3), (4.0, 2)] {
        let measured = Request { measure_cpu: true, ..request(rows(number, count, 1)) };
        answers.push((number, count, bench.queued(measured).await));
    }
    bench.log.open();
    assert_eq!(output(held).await, [200.0]);
    for (number, count, answer) in answers {
        let done = answer.await.unwrap().unwrap();
        assert_eq!(done.outputs[0].data(), &Data::Fp32(vec![number * 2.0; count]));
        // For the shadows.
        assert_eq!(done.inputs, rows(number, count, 1));
        assert!(done.cpu.is_some());
    }
    assert_eq!(bench.log.runs(), [1, 6]);
    assert!(bench.counted("foreshadow_batch_requests_sum", "", 4));
    assert!(bench.counted("foreshadow_batch_rows_sum", "", 7));
    assert!(bench.counted("foreshadow_queue_rows", "", 0));
}

#[tokio::test]
async fn what_its_owner_or_its_rows_forbid_is_not_batched() {
    let off = Batching { enabled: false, ..Batching::default() };
    let one = Batching { rows_max: Some(1), ..Batching::default() };
    for (batching, runs) in [(off, [1, 1, 1, 1]), (one, [1, 1, 1, 1])] {
        let bench = bench(ExecutorSettings::default());
        let held = bench.hold().await;
        let mut answers = vec![held];
        for _ in 0..3 {
            answers.push(bench.queued(Request { batching, ..request(rows(1.0, 1, 1)) }).await);
        }
        bench.log.open();
        for answer in answers {
            output(answer).await;
        }
        assert_eq!(bench.log.runs(), runs);
    }
}

#[tokio::test]
async fn other_shapes_and_larger_batches_do_not_mix() {
    let batching = Batching { rows_max: Some(4), ..Batching::default() };
    let bench = bench(ExecutorSettings::default());
    let held = bench.hold().await;
    let mut answers = Vec::new();
    for (count, width) in [(1, 2), (2, 3), (2, 2), (2, 2), (1, 3), (9, 2)] {
        let of = Request { batching, ..request(rows(1.0, count, width)) };
        answers.push((count * width, bench.queued(of).await));
    }
    bench.log.open();
    output(held).await;
    for (elements, answer) in answers {
        assert_eq!(output(answer).await, vec![2.0; elements]);
    }
    // 1 + 2 wide 2, 2 + 1 wide 3, 2 wide 2, and the nine that fit nowhere.
    assert_eq!(bench.log.runs(), [1, 3, 3, 2, 9]);
}

#[tokio::test]
async fn one_bad_request_fails_alone() {
    let bench = bench(ExecutorSettings::default());
    let held = bench.hold().await;
    let mut answers = Vec::new();
    for number in [1.0, 7.0, 2.0, 13.0] {
        answers.push(bench.queued(request(rows(number, 1, 1))).await);
    }
    bench.log.open();
    output(held).await;
    let [one, seven, two, thirteen] = <[Answer; 4]>::try_from(answers).unwrap();
    assert_eq!((output(one).await, output(two).await), (vec![2.0], vec![4.0]));
    assert_eq!(failure(seven).await, ErrorCode::InvalidArgument);
    assert_eq!(failure(thirteen).await, ErrorCode::Internal);
    assert_eq!(bench.log.runs(), [1, 4, 1, 1, 1, 1]);
    assert!(bench.counted("foreshadow_batch_splits_total", "failed", 1));
    assert!(bench.version.is_batched(), "it was the requests' fault");
}

#[tokio::test]
async fn a_version_that_batches_do_not_suit_is_batched_no_more() {
    // The batch fails and its requests do not; a row too many comes out.
    for (odd, reason) in [(3.0, "failed"), (5.0, "rows")] {
        let bench = bench(ExecutorSettings::default());
        let held = bench.hold().await;
        let one = bench.queued(request(rows(1.0, 1, 1))).await;
        let other = bench.queued(request(rows(odd, 1, 1))).await;
        bench.log.open();
        output(held).await;
        assert_eq!(output(one).await, [2.0]);
        output(other).await;
        assert_eq!(bench.log.runs(), [1, 2, 1, 1]);
        assert!(bench.counted("foreshadow_batch_splits_total", reason, 1));
        // Known once the last of them has been answered.
        bench.until(|_| !bench.version.is_batched()).await;
    }
}

/// Memory that others held is no fault of batches.
#[tokio::test]
async fn a_version_short_of_memory_is_batched_again() {
    let bench = bench(ExecutorSettings::default());
    let held = bench.hold().await;
    let one = bench.queued(request(rows(1.0, 1, 1))).await;
    let nine = bench.queued(request(rows(9.0, 1, 1))).await;
    bench.log.open();
    for answer in [held, one, nine] {
        output(answer).await;
    }
    assert!(bench.counted("foreshadow_batch_splits_total", "failed", 1));
    // The only engine thread is done with them once it answers another one.
    output(bench.send(request(rows(1.0, 1, 1)))).await;
    assert!(bench.version.is_batched());
}

#[tokio::test]
async fn a_deadline_that_passed_runs_nothing() {
    let bench = bench(ExecutorSettings::default());
    let past = Request { deadline: Some(Instant::now()), ..request(rows(13.0, 1, 1)) };
    assert_eq!(failure(bench.send(past)).await, ErrorCode::DeadlineExceeded);
    assert!(bench.log.runs().is_empty());
    assert!(bench.counted("foreshadow_queue_left_total", "late", 1));
}

#[tokio::test]
async fn what_cannot_be_in_time_is_refused_at_once() {
    let bench = bench_of(ExecutorSettings::default(), Dim::Fixed(1));
    let held = bench.hold().await;
    // Forty rows, so forty milliseconds.
    let waiting = bench.queued(request(rows(1.0, 40, 1))).await;
    let due = |after| Request {
        deadline: Some(Instant::now() + Duration::from_millis(after)),
        ..request(rows(1.0, 1, 1))
    };
    assert_eq!(failure(bench.send(due(45))).await, ErrorCode::Unavailable);
    let in_time = bench.queued(due(3_600_000)).await;
    // The same without a look at the inputs.
    let soon = Some(Instant::now() + Duration::from_millis(45));
    let error = bench.executor.check(&bench.version, soon).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.retry_after().unwrap() >= Duration::from_millis(40), "{error:?}");
    assert!(bench.executor.check(&bench.version, None).is_ok());
    assert!(bench.counted("foreshadow_refused_total", "deadline", 2));
    bench.log.open();
    output(held).await;
    output(waiting).await;
    output(in_time).await;
    // The thread is free a moment after the last answer.
    bench.until(|executor| executor.check(&bench.version, soon).is_ok()).await;
}

/// Where a run's time follows from its shapes, long rows make others wait for
/// longer than short ones.
#[tokio::test]
async fn shapes_tell_how_long_others_wait() {
    let bench = bench(ExecutorSettings::default());
    let times = [(1, 1), (9, 60_000)].map(|(width, ms)| (width, Duration::from_millis(ms)));
    bench.log.state.lock().unwrap().times.extend(times);
    let held = bench.hold().await;
    let minute = |inputs| Request {
        deadline: Some(Instant::now() + Duration::from_secs(60)),
        ..request(inputs)
    };
    let short = bench.queued(minute(rows(1.0, 1, 1))).await;
    let long = bench.queued(request(rows(1.0, 1, 9))).await;
    assert_eq!(failure(bench.send(minute(rows(1.0, 1, 1)))).await, ErrorCode::Unavailable);
    long.abort();
    assert!(long.await.is_err());
    let again = bench.queued(minute(rows(1.0, 1, 1))).await;
    bench.log.open();
    for answer in [held, short, again] {
        output(answer).await;
    }
}

#[tokio::test]
async fn a_full_queue_refuses_by_rows_and_by_time() {
    let settings = ExecutorSettings {
        queue_rows_max: 3,
        queue_time_max: Duration::from_millis(1),
        ..ExecutorSettings::default()
    };
    for (settings, first, reason) in [
        (ExecutorSettings { queue_time_max: Duration::MAX, ..settings.clone() }, 3, "queue_full"),
        (settings, 2, "queue_time"),
    ] {
        let bench = bench(settings);
        let held = bench.hold().await;
        let waiting = bench.queued(request(rows(1.0, first, 1))).await;
        let refused = bench.send(request(rows(1.0, 1, 1)));
        assert_eq!(failure(refused).await, ErrorCode::Unavailable);
        assert!(bench.counted("foreshadow_refused_total", reason, 1), "{}", bench.metrics.render());
        bench.log.open();
        output(held).await;
        output(waiting).await;
    }
}

#[tokio::test]
async fn who_leaves_makes_place_and_runs_nothing() {
    let settings = ExecutorSettings { queue_rows_max: 1, ..ExecutorSettings::default() };
    let bench = bench(settings);
    let held = bench.hold().await;
    let first = bench.queued(request(rows(13.0, 1, 1))).await;
    assert_eq!(failure(bench.send(request(rows(1.0, 1, 1)))).await, ErrorCode::Unavailable);
    first.abort();
    assert!(first.await.is_err());
    assert_eq!(bench.executor.waiting(), 0);
    assert!(bench.counted("foreshadow_queue_left_total", "cancelled", 1));
    assert!(bench.counted("foreshadow_queue_rows", "", 0));
    let second = bench.queued(request(rows(1.0, 1, 1))).await;
    bench.log.open();
    output(held).await;
    output(second).await;
    assert_eq!(bench.log.runs(), [1, 1]);
}

#[tokio::test]
async fn a_delay_waits_for_a_full_batch() {
    let bench = bench(ExecutorSettings::default());
    let hour = Batching {
        rows_max: Some(3),
        delay_max: Some(Duration::from_secs(3600)),
        ..Batching::default()
    };
    let of = |count| Request { batching: hour, ..request(rows(1.0, count, 1)) };
    let one = bench.queued(of(1)).await;
    let two = bench.queued(of(1)).await;
    // Another shape does not wait for them.
    assert_eq!(output(bench.send(request(rows(1.0, 1, 2)))).await, [2.0, 2.0]);
    let three = bench.send(of(1));
    for answer in [one, two, three] {
        assert_eq!(output(answer).await, [2.0]);
    }
    assert_eq!(bench.log.runs(), [1, 3]);
}

/// A version that is run inline, in a crowd.
fn crowded() -> Bench {
    let mut bench = bench(ExecutorSettings::default());
    let (fixed, per_row) = (Duration::from_micros(20), Duration::from_micros(20));
    let version = Doubler::version().with_rows_independent(true);
    version.set_cost(Cost { fixed, per_row });
    bench.version = Arc::new(version);
    for _ in 0..8 {
        bench.version.combiner().shard().1.crowd.came(8);
    }
    bench
}

/// Polls once.
async fn poll<F: Future>(mut future: Pin<&mut F>) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await
}

#[tokio::test]
async fn a_crowd_of_cheap_requests_runs_as_one_on_this_thread() {
    let bench = crowded();
    let version = &bench.version;
    let answers: Vec<_> =
        (0..12_u8).map(|i| (i, bench.send(request(input(f32::from(i)))))).collect();
    for (i, answer) in answers {
        let done = answer.await.unwrap();
        match i {
            7 => assert_eq!(done.err().unwrap().code(), ErrorCode::Internal),
            i => {
                let done = done.unwrap();
                assert_eq!(done.outputs[0].data(), &Data::Fp32(vec![f32::from(i) * 2.0]));
                assert_eq!(done.inputs, input(f32::from(i)));
            }
        }
    }
    // Nine rows fit into the 200 µs of the inline limit: nine, with the seven
    // among them, one by one; then three.
    let text = bench.metrics.render();
    let line = |name: &str| {
        let prefix = format!("{name}{{model=\"doubler\",version=\"1\"}} ");
        let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
        found.unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
    };
    assert_eq!(line("foreshadow_batch_requests_count"), "9");
    assert_eq!(line("foreshadow_batch_requests_sum"), "11");
    assert!(version.is_batched());
}

#[tokio::test]
async fn a_leader_that_leaves_hands_the_lead_on() {
    let bench = crowded();
    let run = |x| bench.executor.run(&bench.version, request(input(x)));
    let mut followers = [Box::pin(run(2.0)), Box::pin(run(3.0))];
    {
        let mut leader = pin!(run(1.0));
        assert!(poll(leader.as_mut()).await.is_pending());
        for follower in &mut followers {
            assert!(poll(follower.as_mut()).await.is_pending());
        }
    }
    let [first, second] = followers;
    // The lead waits for the first of them, who leaves without having heard of it.
    drop(first);
    assert_eq!(second.await.unwrap().outputs[0].data(), &Data::Fp32(vec![6.0]));
    // Nobody is left behind: the next leads again.
    assert!(run(4.0).await.is_ok());
}

#[tokio::test]
async fn one_at_a_time_runs_inline_and_looks_now_and_then() {
    let bench = crowded();
    for i in 0..200_u8 {
        let x = f32::from(i) + 0.5;
        assert!(bench.executor.run(&bench.version, request(input(x))).await.is_ok());
    }
    let way = bench.version.combiner().shard().1.crowd.arrive();
    assert_ne!(way, crate::serving::crowd::Way::Gather);
}
