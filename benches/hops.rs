//! What each hop of a request costs, one at a time and without a network.
//!
//! `cargo bench --bench hops`

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use foreshadow::engine::{EngineError, EngineSet, EngineSettings, Model, Session};
use foreshadow::protocol::hops;
use foreshadow::routing::{Arm, Canary, Catalog, Judge, Plan, Salt, Shadow, Slot, Worst, split};
use foreshadow::serving::{Executor, ExecutorSettings, LoadedVersion, Request};
use foreshadow::telemetry::recorder::Recorder;
use foreshadow::telemetry::{Answered, ArmRole, Metrics};
use foreshadow::types::{
    Batching, Data, Datatype, Digest, Dim, ModelName, ModelSettings, Share, Signature, Tensor,
    TensorSpec, VersionId,
};

/// The sample churn model's version, loaded and warm.
fn load(number: u64) -> Arc<LoadedVersion> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let artifact = root.join(format!("models/churn/{number}/model.onnx"));
    let engines = EngineSet::standard(&EngineSettings::default());
    let graph = engines.get("tract").unwrap().load(&artifact).unwrap();
    let id = VersionId::new(number).unwrap();
    let version = LoadedVersion::new(name(), id, Digest::new([0; 32]), "tract", graph);
    version.warm_up().unwrap();
    Arc::new(version)
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

fn name() -> ModelName {
    ModelName::new("churn").unwrap()
}

/// As shipped: champion 1, canary 2 at 10 %, shadow 3.
fn plan(metrics: &Metrics) -> Arc<Plan> {
    let features = FEATURES.map(str::to_owned).to_vec();
    let settings = Arc::new(ModelSettings { features, ..ModelSettings::default() });
    let arm = |number: u64, role| {
        let version = load(number);
        let stats = metrics.arm(&name(), version.id(), role);
        Arm { version, stats, keeper: None }
    };
    let shadow = load(3);
    Arc::new(Plan {
        model: name(),
        generation: 1,
        salt: Salt::new([7; 16]),
        counter: Arc::new(AtomicU64::new(0)),
        champion: Some(arm(1, ArmRole::Champion)),
        canary: Some(Canary {
            arm: arm(2, ArmRole::Canary),
            weight: Share::from_percent(10.0).unwrap(),
            holdback: false,
            recorder: Arc::new(Recorder::new(Share::from_percent(10.0).unwrap(), Arc::default())),
        }),
        shadows: vec![Shadow {
            sample: Share::ALL,
            stats: metrics.shadow(&name(), shadow.id()),
            worst: Arc::new(Worst::default()),
            judge: Arc::new(Judge::new(shadow.signature(), &settings)),
            version: shadow,
        }],
        settings,
        ready: BTreeMap::new(),
    })
}

fn routing(c: &mut Criterion) {
    let metrics = Metrics::new();
    let plan = plan(&metrics);
    let catalog = Catalog::default();
    catalog.insert(&name(), &Arc::new(Slot::new(Arc::clone(&plan))));
    c.bench_function("slot: name to plan", |b| {
        b.iter(|| catalog.slot(black_box("churn")).unwrap().load());
    });
    c.bench_function("split: point of a 16-byte key", |b| {
        let key = split::Key::Given(b"customer-0012345");
        b.iter(|| split::point(plan.salt, split::Purpose::Canary, black_box(key)));
    });
    c.bench_function("split: assign with a key", |b| {
        b.iter(|| plan.assign(None, None, Some(black_box(b"customer-0012345"))).unwrap());
    });
    c.bench_function("split: assign without a key", |b| {
        b.iter(|| plan.assign(None, None, None).unwrap());
    });
}

/// `rows` rows of the sample's kind, as objects or as arrays.
fn body(rows: usize, named: bool) -> String {
    let values = "8 39.25 289.75 24 1 1 2.5 3 1 4 0 29".split(' ');
    let row = if named {
        let pairs = FEATURES.iter().zip(values).map(|(name, value)| format!("\"{name}\": {value}"));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
    } else {
        format!("[{}]", values.collect::<Vec<_>>().join(", "))
    };
    format!("{{\"instances\": [{}]}}", vec![row; rows].join(", "))
}

fn protocol(c: &mut Criterion) {
    let metrics = Metrics::new();
    let plan = plan(&metrics);
    let assignment = plan.assign(None, None, Some(b"customer-0")).unwrap();
    for (rows, named) in [(1, true), (1, false), (64, false)] {
        let what = if named { "objects" } else { "arrays" };
        let body = body(rows, named);
        c.bench_function(&format!("decode: {rows} rows as {what}, {} bytes", body.len()), |b| {
            b.iter(|| hops::decode_rows(black_box(body.as_bytes()), &assignment).unwrap());
        });
        let inputs = hops::decode_rows(body.as_bytes(), &assignment).unwrap();
        let outputs = assignment.version().run(&inputs).unwrap();
        if !named {
            c.bench_function(&format!("encode: {rows} rows of label and probabilities"), |b| {
                b.iter(|| hops::encode_rows(&assignment, black_box(&outputs), rows).unwrap());
            });
        }
    }
}

fn metrics(c: &mut Criterion) {
    let metrics = Metrics::new();
    let one = VersionId::new(1).unwrap();
    let arm = metrics.arm(&name(), one, ArmRole::Champion);
    let queue = metrics.queue(&name(), one);
    let answered = Answered::within(Duration::from_micros(12));
    c.bench_function("metrics: one request", |b| {
        b.iter(|| {
            queue.ran(black_box(1), 1);
            arm.ran(Duration::ZERO, black_box(Duration::from_micros(4)));
            arm.answered(black_box(answered));
        });
    });
    c.bench_function("metrics: render", |b| b.iter(|| metrics.render()));
}

fn engine(c: &mut Criterion) {
    for (number, what) in [(1, "logistic regression"), (2, "140 trees")] {
        let version = load(number);
        for rows in [1, 64] {
            let data = Data::Fp32((0..rows * 12_u16).map(|i| f32::from(i % 50)).collect());
            let input = [Tensor::new("input", vec![rows.into(), 12], data).unwrap()];
            c.bench_function(&format!("engine: churn {number} ({what}), {rows} rows"), |b| {
                b.iter(|| version.run(black_box(&input)).unwrap());
            });
        }
    }
}

/// Runs until the process ends.
/// Never comes back from a one, and says when it has begun.
struct Stuck(Signature, Sender<()>);
struct StuckSession(Sender<()>);

impl Model for Stuck {
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(StuckSession(self.1.clone())))
    }
}

impl Session for StuckSession {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        // Warm-up sends zeros.
        if inputs[0].data().as_f64(0) == Some(1.0) {
            let _ = self.0.send(());
        }
        while inputs[0].data().as_f64(0) == Some(1.0) {
            std::thread::park();
        }
        let y = Data::zeros(Datatype::Fp32, inputs[0].rows());
        Ok(vec![Tensor::new("y", vec![inputs[0].rows()], y).unwrap()])
    }
}

/// What a refusal costs in the gateway itself, beside the HTTP around it.
fn overload(c: &mut Criterion) {
    let metrics = Arc::new(Metrics::new());
    let spec = |name: &str| TensorSpec::new(name, Datatype::Fp32, vec![Dim::Symbol("N".into())]);
    let (sender, began) = channel();
    let graph = Arc::new(Stuck(Signature::new(vec![spec("x")], vec![spec("y")]), sender));
    let one = VersionId::new(1).unwrap();
    let version = LoadedVersion::new(name(), one, Digest::new([0; 32]), "stuck", graph);
    version.warm_up().unwrap();
    let version = Arc::new(version);
    let settings = ExecutorSettings {
        inline_limit: Duration::ZERO,
        queue_rows_max: 1,
        ..ExecutorSettings::default()
    };
    let executor = Arc::new(Executor::spawn(&settings, &metrics).unwrap());
    c.bench_function("overload: a look at an idle queue", |b| {
        b.iter(|| executor.check(&version, black_box(None)).unwrap());
    });
    let request = || {
        let inputs = vec![Tensor::new("x", vec![1], Data::Fp32(vec![1.0])).unwrap()];
        Request { inputs, deadline: None, measure_cpu: false, batching: Batching::default() }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let spawn = || {
        let (executor, version, request) = (Arc::clone(&executor), Arc::clone(&version), request());
        runtime.spawn(async move { executor.run(&version, request).await });
    };
    // One runs for ever, and one waits behind it.
    spawn();
    began.recv().unwrap();
    spawn();
    while executor.check(&version, None).is_ok() {
        std::thread::yield_now();
    }
    c.bench_function("overload: refused before decoding", |b| {
        b.iter(|| executor.check(&version, black_box(None)).unwrap_err());
    });
    c.bench_function("overload: refused at the queue", |b| {
        b.iter(|| runtime.block_on(executor.run(&version, request())).unwrap_err());
    });
    runtime.shutdown_background();
}

criterion_group!(each_hop, routing, protocol, metrics, engine, overload);
criterion_main!(each_hop);
