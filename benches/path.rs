//! What a request takes on its way through the gateway, without a socket: time,
//! and allocations, as a whole and by stage.
//!
//! `cargo bench --bench path [-- --quick] [requests] [stages] [images]`
//!
//! Counts are exact and the same everywhere; times are medians of several
//! rounds on one thread. The allocator is the server's.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench may")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foreshadow::engine::{EngineError, EngineSet, EngineSettings, Model, Session};
use foreshadow::protocol::{Offload, OffloadSettings, RequestLimits, Service, hops};
use foreshadow::routing::{
    Arm, Assignment, Canary, Catalog, Lane, LaneSettings, Plan, Router, Salt, Slot,
};
use foreshadow::serving::{Executor, ExecutorSettings, LoadedVersion};
use foreshadow::telemetry::recorder::Recorder;
use foreshadow::telemetry::{Answered, ArmRole, Metrics};
use foreshadow::types::{
    Data, Datatype, Digest, Dim, ModelName, ModelSettings, Readiness, Share, Signature, Tensor,
    TensorSpec, VersionId,
};
use http::Request;
use http_body_util::Full;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// Counts what the calling thread asks for.
struct Counting(mimalloc::MiMalloc);

impl Counting {
    fn note(bytes: usize) {
        COUNT.set(COUNT.get() + 1);
        BYTES.set(BYTES.get() + bytes as u64);
    }
}

// SAFETY: every call is handed on as it came; the counters are plain cells
// without a destructor, so they neither allocate nor end before their thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(size);
        // SAFETY: the caller's promise.
        unsafe { self.0.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(mimalloc::MiMalloc);

/// Rounds, of which the median counts.
const ROUNDS: usize = 11;

/// How much of everything is run.
#[derive(Clone, Copy)]
struct Effort(Duration);

/// Runs `work` for a while; prints the time, allocations and allocated bytes
/// of one run.
fn measure(effort: Effort, what: &str, bytes: usize, mut work: impl FnMut()) {
    for _ in 0..3 {
        work();
    }
    let started = Instant::now();
    work();
    let once = started.elapsed().max(Duration::from_nanos(50));
    let runs = (effort.0.as_nanos() / once.as_nanos()).clamp(3, 1_000_000);
    let (count, allocated) = (COUNT.get(), BYTES.get());
    let mut times = [0.0; ROUNDS];
    for time in &mut times {
        let started = Instant::now();
        for _ in 0..runs {
            work();
        }
        *time = started.elapsed().as_nanos() as f64 / runs as f64;
    }
    let all = (runs * ROUNDS as u128) as f64;
    let count = (COUNT.get() - count) as f64 / all;
    let allocated = (BYTES.get() - allocated) as f64 / all;
    times.sort_by(f64::total_cmp);
    let time = times[ROUNDS / 2];
    let rate = if bytes > 64 << 10 {
        format!("{:.0} MB/s", bytes as f64 * 1e3 / time)
    } else {
        String::new()
    };
    println!("| {what} | {time:.0} ns | {count:.1} | {allocated:.0} | {rate} |");
}

fn heading(title: &str) {
    println!("\n| {title} | time | allocations | bytes | |\n| --- | --- | --- | --- | --- |");
}

const FEATURES: [&str; 12] = [
    "tenure_months",
    "monthly_charges",
    "total_charges",
    "contract_months",
    "support_calls",
    "late_payments",
    "data_gb",
    "dropped_calls",
    "addons",
    "days_since_login",
    "autopay",
    "age",
];
const VALUES: &str = "8 39.25 289.75 24 1 1 2.5 3 1 4 0 29";

/// A side of an image; it has three colours.
const SIDE: usize = 224;

/// Answers with the first number of each row, and costs nothing.
struct First(Signature);

struct FirstSession;

impl Model for First {
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(FirstSession))
    }
}

impl Session for FirstSession {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let rows = inputs[0].rows();
        Ok(vec![Tensor::new("y", vec![rows, 1], Data::Fp32(vec![1.0; rows])).unwrap()])
    }
}

fn name(name: &str) -> ModelName {
    ModelName::new(name).unwrap()
}

/// A version of a sample model, warm.
fn churn(number: u64) -> Arc<LoadedVersion> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let artifact = root.join(format!("models/churn/{number}/model.onnx"));
    let engines = EngineSet::standard(&EngineSettings::default());
    let graph = engines.get("tract").unwrap().load(&artifact).unwrap();
    loaded("churn", number, graph)
}

fn image() -> Arc<LoadedVersion> {
    let spec = |name: &str, shape: &[usize]| {
        let dims = shape.iter().map(|n| Dim::Fixed(*n));
        let shape = std::iter::once(Dim::Symbol("N".into())).chain(dims).collect();
        TensorSpec::new(name, Datatype::Fp32, shape)
    };
    let signature = Signature::new(vec![spec("x", &[SIDE, SIDE, 3])], vec![spec("y", &[1])]);
    loaded("image", 1, Arc::new(First(signature)))
}

fn loaded(model: &str, number: u64, graph: Arc<dyn Model>) -> Arc<LoadedVersion> {
    let id = VersionId::new(number).unwrap();
    let version = LoadedVersion::new(name(model), id, Digest::new([0; 32]), "bench", graph);
    version.warm_up().unwrap();
    Arc::new(version)
}

/// A champion, and a canary that answers nothing but takes part in the split.
fn plan(metrics: &Metrics, versions: &[Arc<LoadedVersion>], features: &[&str]) -> Arc<Plan> {
    let features = features.iter().map(|feature| (*feature).to_owned()).collect();
    let model = versions[0].model().clone();
    let arm = |version: &Arc<LoadedVersion>, role| {
        let stats = metrics.arm(&model, version.id(), role);
        Arm { version: Arc::clone(version), stats, keeper: None }
    };
    Arc::new(Plan {
        generation: 1,
        salt: Salt::new([7; 16]),
        counter: Arc::new(AtomicU64::new(0)),
        champion: Some(arm(&versions[0], ArmRole::Champion)),
        canary: versions.get(1).map(|version| Canary {
            arm: arm(version, ArmRole::Canary),
            weight: Share::from_percent(0.01).unwrap(),
            holdback: false,
            recorder: Arc::new(Recorder::new(Share::from_percent(0.01).unwrap(), Arc::default())),
        }),
        shadows: vec![],
        settings: Arc::new(ModelSettings { features, ..ModelSettings::default() }),
        ready: BTreeMap::new(),
        model,
    })
}

fn service(metrics: &Arc<Metrics>, plans: &[Arc<Plan>]) -> Service {
    let catalog = Arc::new(Catalog::default());
    for plan in plans {
        catalog.insert(&plan.model, &Arc::new(Slot::new(Arc::clone(plan))));
    }
    let executor = ExecutorSettings { inline_limit: Duration::MAX, ..ExecutorSettings::default() };
    let lane = LaneSettings {
        threads: 1,
        queue_count_max: 64,
        queue_bytes_max: 1 << 20,
        timeout: Duration::from_secs(5),
    };
    let executor = Executor::spawn(&executor, metrics).unwrap();
    let router = Router::new(catalog, executor, Lane::spawn(&lane).unwrap());
    let offload = Offload::spawn(&OffloadSettings::default()).unwrap();
    let (readiness, limits) = (Readiness::default(), RequestLimits::default());
    Service::new(Arc::new(router), Arc::clone(metrics), readiness, limits, offload)
}

/// A request of one row in one of its forms.
struct Case {
    what: &'static str,
    path: &'static str,
    /// Length of the JSON part, if raw bytes follow.
    json: Option<usize>,
    body: Bytes,
}

fn cases() -> Vec<Case> {
    let values: Vec<_> = VALUES.split(' ').collect();
    let pairs = FEATURES.iter().zip(&values).map(|(name, value)| format!("\"{name}\": {value}"));
    let object = format!("{{\"instances\": [{{{}}}]}}", pairs.collect::<Vec<_>>().join(", "));
    let array = format!("{{\"instances\": [[{}]]}}", values.join(", "));
    let head = "{\"inputs\": [{\"name\": \"input\", \"shape\": [1, 12], \"datatype\": \"FP32\", ";
    let flat = format!("{head}\"data\": [{}]}}]}}", values.join(", "));
    let header = format!(
        "{head}\"parameters\": {{\"binary_data_size\": 48}}}}], \
         \"parameters\": {{\"binary_data_output\": true}}}}"
    );
    let json = header.len();
    let raw = values.iter().flat_map(|value| value.parse::<f32>().unwrap().to_le_bytes());
    let binary: Vec<u8> = header.into_bytes().into_iter().chain(raw).collect();
    let (predict, infer) = ("/predict/churn", "/v2/models/churn/infer");
    let case = |what, path, json, body: Vec<u8>| Case { what, path, json, body: body.into() };
    vec![
        case("/predict, a row as an object", predict, None, object.into_bytes()),
        case("/predict, a row as an array", predict, None, array.into_bytes()),
        case("/v2, a row as JSON", infer, None, flat.into_bytes()),
        case("/v2, a row as a binary tensor", infer, Some(json), binary),
    ]
}

impl Case {
    fn request(&self) -> Request<Full<Bytes>> {
        let request = Request::post(self.path)
            .header("host", "localhost:8000")
            .header("content-type", "application/json");
        let request = match self.json {
            Some(length) => request.header("inference-header-content-length", length),
            None => request,
        };
        request.body(Full::new(self.body.clone())).unwrap()
    }
}

/// Whole requests, from a parsed head to a reply.
fn requests(effort: Effort, service: &Service) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    heading("whole request");
    runtime.block_on(async {
        for case in cases() {
            // What it takes to make one is not the gateway's, and is taken off below.
            let mut prepared: Vec<_> = Vec::new();
            let reply = service.handle(case.request()).await;
            assert_eq!(reply.status(), 200, "{}: {:?}", case.what, reply.body());
            measure_prepared(
                effort,
                case.what,
                &mut prepared,
                || case.request(),
                |request| {
                    let mut reply = std::pin::pin!(service.handle(request));
                    let waker = std::task::Waker::noop();
                    match reply.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
                        std::task::Poll::Ready(reply) => drop(black_box(reply)),
                        std::task::Poll::Pending => panic!("it runs inline"),
                    }
                },
            );
        }
    });
}

/// Like `measure`, with what each run takes made before.
fn measure_prepared<T>(
    effort: Effort,
    what: &str,
    prepared: &mut Vec<T>,
    make: impl Fn() -> T,
    work: impl Fn(T),
) {
    const BATCH: usize = 256;
    let batches = (effort.0.as_nanos() / (BATCH as u128 * 5_000)).max(1);
    let mut times = [0.0; ROUNDS];
    let (mut count, mut allocated, mut runs) = (0, 0, 0_u64);
    for time in &mut times {
        let mut spent = Duration::ZERO;
        for _ in 0..batches {
            prepared.extend((0..BATCH).map(|_| make()));
            let before = (COUNT.get(), BYTES.get());
            let started = Instant::now();
            prepared.drain(..).for_each(&work);
            spent += started.elapsed();
            count += COUNT.get() - before.0;
            allocated += BYTES.get() - before.1;
        }
        runs += batches as u64 * BATCH as u64;
        *time = spent.as_nanos() as f64 / (batches as f64 * BATCH as f64);
    }
    times.sort_by(f64::total_cmp);
    let (count, allocated) = (count as f64 / runs as f64, allocated as f64 / runs as f64);
    println!("| {what} | {:.0} ns | {count:.1} | {allocated:.0} | |", times[ROUNDS / 2]);
}

fn assignment(plan: &Arc<Plan>) -> Assignment {
    plan.assign(None, None, Some(b"customer-0")).unwrap()
}

/// Parts of it, one at a time.
fn stages(effort: Effort, metrics: &Metrics, plan: &Arc<Plan>) {
    heading("stage");
    let catalog = Catalog::default();
    catalog.insert(&plan.model, &Arc::new(Slot::new(Arc::clone(plan))));
    measure(effort, "slot: name to plan", 0, || {
        drop(black_box(catalog.slot(black_box("churn")).unwrap().load()));
    });
    measure(effort, "split: assign without a key", 0, || {
        drop(black_box(plan.assign(None, None, None).unwrap()));
    });
    let assignment = assignment(plan);
    for case in cases().iter().take(2) {
        measure(effort, &format!("decode: {}", case.what), case.body.len(), || {
            drop(black_box(hops::decode_rows(black_box(&case.body), &assignment).unwrap()));
        });
    }
    let inputs = hops::decode_rows(&cases()[1].body, &assignment).unwrap();
    measure(effort, "engine: one row", 0, || {
        drop(black_box(assignment.version().run(black_box(&inputs)).unwrap()));
    });
    let outputs = assignment.version().run(&inputs).unwrap();
    measure(effort, "encode: one row", 0, || {
        drop(black_box(hops::encode_rows(&assignment, black_box(&outputs), 1).unwrap()));
    });
    let arm = metrics.arm(&plan.model, VersionId::new(1).unwrap(), ArmRole::Champion);
    let answered = Answered::within(Duration::from_micros(12));
    measure(effort, "metrics: one request", 0, || {
        arm.ran(Duration::ZERO, black_box(Duration::from_micros(4)));
        arm.answered(black_box(answered));
    });
}

/// Numbers from 0 to 1, the same ones each time.
fn numbers(count: usize) -> impl Iterator<Item = f32> {
    let mut state = 1_u64;
    (0..count).map(move |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    })
}

/// An image as nested arrays, as Python's `json.dumps` writes it.
fn nested(numbers: &[String]) -> String {
    let pixels: Vec<_> = numbers.chunks(3).map(|pixel| format!("[{}]", pixel.join(", "))).collect();
    let lines: Vec<_> = pixels.chunks(SIDE).map(|line| format!("[{}]", line.join(", "))).collect();
    format!("[{}]", lines.join(", "))
}

/// Bodies of 150,528 numbers.
fn images(effort: Effort, plan: &Arc<Plan>) {
    heading("decode: an image of 224 × 224 × 3");
    let assignment = assignment(plan);
    let count = SIDE * SIDE * 3;
    // `float32` with its own digits, and turned into a double by `tolist`; and
    // bytes, as an image has them.
    let texts: [(&str, Vec<String>); 3] = [
        ("9 digits", numbers(count).map(|x| x.to_string()).collect()),
        ("17 digits", numbers(count).map(|x| f64::from(x / 0.99).to_string()).collect()),
        ("0 to 255", numbers(count).map(|x| ((x * 255.0) as u8).to_string()).collect()),
    ];
    for (digits, texts) in &texts {
        let mut body = String::new();
        let _ = write!(body, "{{\"instances\": [{}]}}", nested(texts));
        let kilobytes = body.len() / 1000;
        measure(effort, &format!("/predict, {digits}, {kilobytes} kB"), body.len(), || {
            drop(black_box(hops::decode_rows(black_box(body.as_bytes()), &assignment).unwrap()));
        });
        for (form, data) in [
            ("flat", format!("[{}]", texts.join(", "))),
            ("nested", format!("[{}]", nested(texts))),
        ] {
            let body = format!(
                "{{\"inputs\": [{{\"name\": \"x\", \"shape\": [1, {SIDE}, {SIDE}, 3], \
                 \"datatype\": \"FP32\", \"data\": {data}}}]}}"
            );
            measure(effort, &format!("/v2, {form}, {digits}"), body.len(), || {
                drop(black_box(
                    hops::decode_infer(black_box(body.as_bytes()), &assignment).unwrap(),
                ));
            });
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let quick = args.iter().any(|arg| arg == "--quick" || arg == "--test");
    let effort = Effort(Duration::from_millis(if quick { 2 } else { 100 }));
    let mut parts = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
    let all = parts.peek().is_none();
    let parts: Vec<_> = parts.collect();
    let wanted = |part: &str| all || parts.iter().any(|wanted| *wanted == part);
    let metrics = Arc::new(Metrics::new());
    let plans = [plan(&metrics, &[churn(1), churn(2)], &FEATURES), plan(&metrics, &[image()], &[])];
    if wanted("requests") {
        requests(effort, &service(&metrics, &plans));
    }
    if wanted("stages") {
        stages(effort, &metrics, &plans[0]);
    }
    if wanted("images") {
        images(effort, &plans[1]);
    }
}
