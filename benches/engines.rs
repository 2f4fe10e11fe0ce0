//! This gateway's engine against onnxruntime, side by side: one process, one
//! thread, blocks of runs taken in turns. Times are CPU times of that thread, so
//! that a busy machine does not enter into them.
//!
//! ```sh
//! python benches/engines.py    # makes the models, once
//! ORT_DYLIB_PATH=…/libonnxruntime.so cargo bench --bench engines -- [NAME …] [--json FILE]
//! ```
//!
//! onnxruntime runs through its C API with inputs and outputs bound
//! beforehand; on our side the copies from and to the gateway's tensors count,
//! since a request pays for them. Each run takes other rows than the one
//! before: branch predictors learn a single row by heart.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench may")]

use std::cell::RefCell;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use foreshadow::engine::{EngineSet, EngineSettings};
use foreshadow::types::thread::cpu_time;
use foreshadow::types::{Data, Dim, Tensor};
use ort::AsPointer;
use ort::environment::Environment;
use ort::memory::Allocator;
use ort::session::{IoBinding, Session};
use ort::value::{DynValue, Tensor as OrtTensor, TensorElementType, ValueType};

const ROWS: [usize; 4] = [1, 8, 64, 1024];

/// How long each model is timed with each number of rows.
const TIME: Duration = Duration::from_millis(600);

/// The least that one block of runs should take.
const BLOCK: Duration = Duration::from_micros(300);

struct Arguments {
    names: Vec<String>,
    json: Option<PathBuf>,
}

fn arguments() -> Arguments {
    let mut found = Arguments { names: vec![], json: None };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match &*argument {
            "--bench" => {} // cargo's
            "--json" => found.json = Some(given.next().expect("--json FILE").into()),
            _ => found.names.push(argument),
        }
    }
    found
}

/// The models on disk, tabular ones first.
fn models(arguments: &Arguments) -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/engines");
    let files = std::fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut models = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .filter(|(name, _)| arguments.names.is_empty() || arguments.names.contains(name))
        .collect::<Vec<_>>();
    assert!(!models.is_empty(), "no models in {}: run benches/engines.py", folder.display());
    models.sort_by_key(|(name, _)| (is_topology(name), name.clone()));
    models
}

/// Those are reported, and have no target.
fn is_topology(name: &str) -> bool {
    matches!(name, "cnn" | "transformer")
}

/// Roughly normal numbers, the same for each run of the program.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        let uniform = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 40) as f32 / (1_u64 << 24) as f32
        };
        let sum: f32 = std::iter::repeat_with(uniform).take(6).sum();
        (sum - 3.0) * 2.0
    }
}

/// Batches of `shape` whose first dimension is the rows.
fn batches(shape: &[usize]) -> Vec<Vec<f32>> {
    let count = (4096 / shape[0]).clamp(3, 512);
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let len = shape.iter().product();
    (0..count).map(|_| std::iter::repeat_with(|| noise.next()).take(len).collect()).collect()
}

struct Ours {
    session: Box<dyn foreshadow::engine::Session>,
    inputs: Vec<[Tensor; 1]>,
}

impl Ours {
    fn new(model: &dyn foreshadow::engine::Model, shape: &[usize], batches: &[Vec<f32>]) -> Self {
        let name = &model.signature().inputs[0].name;
        let input = |batch: &Vec<f32>| {
            [Tensor::new(name, shape.to_vec(), Data::Fp32(batch.clone())).unwrap()]
        };
        let inputs = batches.iter().map(input).collect();
        Self { session: model.session().unwrap(), inputs }
    }

    fn run(&mut self, i: usize) -> Vec<Tensor> {
        self.session.run(&self.inputs[i % self.inputs.len()]).unwrap()
    }

    /// The outputs of batch `i`, as numbers.
    fn answer(&mut self, i: usize) -> Vec<Vec<f64>> {
        let numbers = |tensor: &Tensor| {
            (0..tensor.data().len()).map(|i| tensor.data().as_f64(i).unwrap()).collect()
        };
        self.run(i).iter().map(numbers).collect()
    }
}

/// Of onnxruntime: one binding per batch.
struct Theirs {
    session: Session,
    bindings: Vec<IoBinding>,
}

impl Theirs {
    fn new(environment: &Environment, path: &Path, shape: &[usize], batches: &[Vec<f32>]) -> Self {
        let mut session = Session::builder(environment)
            .and_then(|builder| Ok(builder.with_intra_threads(1)?))
            .and_then(|builder| Ok(builder.with_inter_threads(1)?))
            .and_then(|builder| Ok(builder.with_parallel_execution(false)?))
            .and_then(|mut builder| builder.commit_from_file(path))
            .unwrap();
        let name = session.inputs()[0].name().to_owned();
        let input =
            |batch: &Vec<f32>| OrtTensor::from_array((shape.to_vec(), batch.clone())).unwrap();
        let outputs = session
            .run(ort::inputs![input(&batches[0])])
            .unwrap()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.dtype().clone()))
            .collect::<Vec<_>>();
        let bind = |batch| {
            let mut binding = session.create_binding().unwrap();
            binding.bind_input(&*name, &input(batch)).unwrap();
            for (name, kind) in &outputs {
                let ValueType::Tensor { ty, shape, .. } = kind else {
                    panic!("output {name:?} is no tensor")
                };
                let tensor = DynValue::from(
                    ort::value::DynTensor::new(&Allocator::default(), *ty, shape.clone()).unwrap(),
                );
                binding.bind_output(&**name, tensor).unwrap();
            }
            binding
        };
        let bindings = batches.iter().map(bind).collect();
        Self { session, bindings }
    }

    /// Without the crate's own handling of outputs, which would cost
    /// onnxruntime a little.
    fn run(&mut self, i: usize) {
        let binding = &self.bindings[i % self.bindings.len()];
        // SAFETY: both pointers are valid: session and binding live in `self`.
        let status = unsafe {
            (ort::api().RunWithBinding)(self.session.ptr_mut(), std::ptr::null(), binding.ptr())
        };
        assert!(status.0.is_null(), "onnxruntime failed");
    }

    fn answer(&mut self, i: usize) -> Vec<Vec<f64>> {
        let at = i % self.bindings.len();
        let outputs = self.session.run_binding(&self.bindings[at]).unwrap();
        let numbers = |value: &DynValue| {
            let ValueType::Tensor { ty, .. } = value.dtype() else { panic!("no tensor") };
            match ty {
                TensorElementType::Int64 => {
                    value.try_extract_tensor::<i64>().unwrap().1.iter().map(|&x| x as f64).collect()
                }
                _ => {
                    value.try_extract_tensor::<f32>().unwrap().1.iter().map(|&x| x.into()).collect()
                }
            }
        };
        outputs.values().map(|value| numbers(&value)).collect()
    }
}

/// The largest difference of any number, relative to the larger of it and 1.
/// A border case may flip a label; that shows as a difference of 1.
fn difference(ours: &mut Ours, theirs: &mut Theirs) -> f64 {
    let mut worst = 0.0_f64;
    for i in 0..ours.inputs.len().min(16) {
        let (a, b) = (ours.answer(i), theirs.answer(i));
        assert_eq!(a.len(), b.len(), "as many outputs");
        for (a, b) in a.iter().zip(&b) {
            assert_eq!(a.len(), b.len(), "outputs as long");
            let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
            worst = apart.fold(worst, f64::max);
        }
    }
    worst
}

struct Figure {
    model: String,
    rows: usize,
    ours_us: f64,
    theirs_us: f64,
    difference: f64,
}

impl Figure {
    fn ratio(&self) -> f64 {
        self.ours_us / self.theirs_us
    }
}

/// Median microseconds of CPU per run of both, in turns.
fn time(mut ours: impl FnMut(usize), mut theirs: impl FnMut(usize)) -> (f64, f64) {
    let block = |run: &mut dyn FnMut(usize), from: usize, runs: usize| {
        let start = cpu_time();
        (from..from + runs).for_each(&mut *run);
        cpu_time() - start
    };
    let warm = |run: &mut dyn FnMut(usize)| {
        block(run, 0, 5);
        let each = block(run, 5, 5) / 5;
        (BLOCK.as_nanos() / each.as_nanos().max(1)).clamp(1, 200) as usize
    };
    let runs = (warm(&mut ours), warm(&mut theirs));
    let mut times = (Vec::new(), Vec::new());
    let (start, mut at) = (Instant::now(), 0);
    while start.elapsed() < TIME || times.0.len() < 5 {
        times.0.push(block(&mut ours, at, runs.0).as_secs_f64() * 1e6 / runs.0 as f64);
        times.1.push(block(&mut theirs, at, runs.1).as_secs_f64() * 1e6 / runs.1 as f64);
        at += runs.0.max(runs.1);
    }
    (median(times.0), median(times.1))
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn measure(engines: &EngineSet, ort: &Environment, name: &str, path: &Path) -> Vec<Figure> {
    let model = match engines.get("tract").unwrap().load(path) {
        Ok(model) => model,
        Err(error) => {
            println!("{name:<24}   not loaded: {error}");
            return vec![];
        }
    };
    let figure = |rows: usize| {
        let dims = &model.signature().inputs[0].shape;
        let size = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { rows };
        let shape = dims.iter().map(size).collect::<Vec<_>>();
        let batches = batches(&shape);
        let ours = RefCell::new(Ours::new(&*model, &shape, &batches));
        let theirs = RefCell::new(Theirs::new(ort, path, &shape, &batches));
        let difference = difference(&mut ours.borrow_mut(), &mut theirs.borrow_mut());
        let (ours_us, theirs_us) =
            time(|i| drop(black_box(ours.borrow_mut().run(i))), |i| theirs.borrow_mut().run(i));
        let figure = Figure { model: name.to_owned(), rows, ours_us, theirs_us, difference };
        println!(
            "{name:<24} {rows:>5} {ours_us:>12.2} {theirs_us:>12.2} {:>7.2}   {difference:.1e}",
            figure.ratio()
        );
        figure
    };
    ROWS.map(figure).into()
}

fn summary(figures: &[Figure]) {
    let tabular = || figures.iter().filter(|figure| !is_topology(&figure.model));
    if tabular().next().is_none() {
        return;
    }
    println!();
    for rows in ROWS {
        let ratios = tabular().filter(|figure| figure.rows == rows).map(Figure::ratio);
        println!(
            "median ratio of the tabular models, {rows} rows: {:.2}",
            median(ratios.collect())
        );
    }
    let worst = tabular().max_by(|a, b| a.ratio().total_cmp(&b.ratio())).unwrap();
    println!("median of all: {:.2}", median(tabular().map(Figure::ratio).collect()));
    println!("worst: {:.2} ({}, {} rows)", worst.ratio(), worst.model, worst.rows);
}

fn json(figures: &[Figure]) -> serde_json::Value {
    let figure = |figure: &Figure| {
        serde_json::json!({
            "model": figure.model, "rows": figure.rows, "foreshadow_us": figure.ours_us,
            "onnxruntime_us": figure.theirs_us, "ratio": figure.ratio(),
            "difference_max": figure.difference,
        })
    };
    figures.iter().map(figure).collect()
}

fn main() {
    let arguments = arguments();
    let library = std::env::var("ORT_DYLIB_PATH").expect("ORT_DYLIB_PATH names libonnxruntime.so");
    let ort = ort::init_from(library).unwrap().with_telemetry(false).build().unwrap();
    let engines = EngineSet::standard(&EngineSettings::default());
    println!(
        "{:<24} {:>5} {:>12} {:>12} {:>7}   difference",
        "model", "rows", "ours, µs", "theirs, µs", "ratio"
    );
    let figures = models(&arguments)
        .iter()
        .flat_map(|(name, path)| measure(&engines, &ort, name, path))
        .collect::<Vec<_>>();
    summary(&figures);
    if let Some(file) = arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&json(&figures)).unwrap()).unwrap();
    }
}
