//! From the tap to a file, and from the file through a version.

use std::fs;
use std::path::Path;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;

use super::*;
use crate::engine::{EngineError, EngineErrorKind, Model, Session};
use crate::telemetry::{ArmRole, Offered, Tap, Watch};
use crate::types::{
    CaptureRule, Data, Datatype, Digest, Dim, ModelSettings, PredictionId, Share, Signature,
    Tensor, TensorSpec, VersionId,
};

/// Takes `x` and whatever else, and answers the sum of each row of `x`, and `plus`.
struct Sums {
    signature: Signature,
    plus: f32,
}

impl Model for Sums {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(Summing(self.plus)))
    }
}

struct Summing(f32);

impl Session for Summing {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let Data::Fp32(x) = inputs[0].data() else { unreachable!("checked") };
        if x.contains(&-1.0) {
            return Err(EngineError::new(EngineErrorKind::BadValue, "x is -1"));
        }
        let width = x.len() / inputs[0].rows();
        let y: Vec<_> = x.chunks(width).map(|row| row.iter().sum::<f32>() + self.0).collect();
        Ok(vec![Tensor::new("y", vec![y.len(), 1], Data::Fp32(y)).unwrap()])
    }
}

fn spec(name: &str, datatype: Datatype, dims: &[usize]) -> TensorSpec {
    let dims = dims.iter().map(|dim| Dim::Fixed(*dim));
    let shape = std::iter::once(Dim::Symbol("N".into())).chain(dims).collect();
    TensorSpec::new(name, datatype, shape)
}

/// `x` of two columns alone.
pub(super) fn table() -> Signature {
    let y = spec("y", Datatype::Fp32, &[1]);
    Signature::new(vec![spec("x", Datatype::Fp32, &[2])], vec![y])
}

/// With a picture and a text beside it.
pub(super) fn mixed() -> Signature {
    let [p, t] = [spec("p", Datatype::Uint8, &[2, 2]), spec("t", Datatype::Bytes, &[])];
    Signature { inputs: [table().inputs, vec![p, t]].concat(), ..table() }
}

/// What stores in a folder, a tap, and a version behind it.
pub(super) struct World {
    root: tempfile::TempDir,
    metrics: Arc<Metrics>,
    capture: Capture,
    capturing: Capturing,
    tap: Arc<Tap>,
    pub(super) version: Arc<Watch>,
    settings: ModelSettings,
}

pub(super) fn model() -> ModelName {
    ModelName::new("m").unwrap()
}

fn watch(signature: Signature, number: u64) -> Arc<Watch> {
    let digest = Digest::new([u8::try_from(number).unwrap(); 32]);
    Watch::new(model(), VersionId::new(number).unwrap(), digest, signature)
}

/// Offers a request of the champion to whoever stores it; the answer has the same id.
pub(super) fn offer(version: &Arc<Watch>, inputs: Vec<Tensor>, outputs: Vec<Tensor>, id: &str) {
    let drawn = version.draw(ArmRole::Champion, PredictionId([0; 16])).unwrap();
    let (inputs, outputs) = (inputs.into(), outputs.into());
    drawn.offer(Offered { inputs, outputs, request_id: id.as_bytes(), prediction_id: id });
}

impl World {
    pub(super) fn new(signature: Signature, rule: CaptureRule, features: &[&str]) -> Self {
        Self::with(signature, rule, features, |_| {})
    }

    fn with(
        signature: Signature,
        rule: CaptureRule,
        features: &[&str],
        change: impl Fn(&mut Settings),
    ) -> Self {
        let root = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let mut own = Settings {
            file_rows: 1000,
            file_bytes: 1 << 20,
            file_age: Duration::from_secs(600),
            keep_for: Duration::from_secs(600),
            keep_bytes: 1 << 20,
            queue_count_max: 10_000,
            queue_bytes_max: 1 << 20,
            folder: root.path().join("captures"),
            key: root.path().join("key"),
        };
        change(&mut own);
        let (capture, capturing) = spawn(own, Arc::clone(&metrics)).unwrap();
        let features = features.iter().map(|name| (*name).to_owned()).collect();
        let rule = CaptureRule { sample: Share::ALL, ..rule };
        let settings =
            ModelSettings { features, capture: Some(Arc::new(rule)), ..Default::default() };
        let tap = metrics.captures().tap(&model(), &settings).unwrap();
        let version = watch(signature, 1);
        version.capture_by(Some(Arc::clone(&tap)));
        Self { root, metrics, capture, capturing, tap, version, settings }
    }

    /// Offers a request of rows `[a, 1]` for each `a`, answered with `a + 1`.
    pub(super) fn send(&self, version: &Arc<Watch>, id: &str, a: &[f32]) {
        let x = a.iter().flat_map(|a| [*a, 1.0]).collect();
        let mut inputs = vec![Tensor::new("x", vec![a.len(), 2], Data::Fp32(x)).unwrap()];
        if version.signature().inputs.len() > 1 {
            let p = Data::Uint8((0..a.len() * 4).map(|i| u8::try_from(i).unwrap()).collect());
            inputs.push(Tensor::new("p", vec![a.len(), 2, 2], p).unwrap());
            let t = Data::Bytes(vec!["größer".into(); a.len()]);
            inputs.push(Tensor::new("t", vec![a.len()], t).unwrap());
        }
        let y = Data::Fp32(a.iter().map(|a| a + 1.0).collect());
        let y = vec![Tensor::new("y", vec![a.len(), 1], y).unwrap()];
        offer(version, inputs, y, id);
    }

    /// Ends it; the files, and what is left of the world.
    pub(super) fn files(self) -> (Vec<PathBuf>, tempfile::TempDir, CaptureView, ModelSettings) {
        let folder = self.root.path().join("captures/m");
        self.capturing.stop();
        let entries = fs::read_dir(folder).into_iter().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        (files, self.root, self.capture.view(&model()), self.settings)
    }
}

/// The rows of a file: names and values.
pub(super) fn rows(path: &Path) -> Vec<Vec<(String, Field)>> {
    let file = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    let rows = file.get_row_iter(None).unwrap();
    rows.map(|row| row.unwrap().into_columns()).collect()
}

fn run(
    files: &[PathBuf],
    signature: Signature,
    plus: f32,
    settings: &ModelSettings,
) -> Result<Replay, String> {
    let graph = &Sums { signature, plus };
    replay(&Replaying { files, graph, settings, examples_max: 2 })
}

#[test]
fn what_was_asked_and_answered_is_stored_and_runs_again() {
    let world = World::new(mixed(), CaptureRule::default(), &[]);
    world.send(&world.version, "r-1", &[1.0, 2.0]);
    world.send(&world.version, "r-2", &[f32::NAN]);
    let (files, _root, view, settings) = world.files();
    assert_eq!((view.requests, view.rows, files.len()), (2, 3, 1));
    assert!(files[0].extension().unwrap() == "parquet");
    let rows = rows(&files[0]);
    let names: Vec<_> = rows[0].iter().map(|(name, _)| &**name).collect();
    let expected =
        "time request_id prediction_id row version digest role x[0] x[1] p p.shape t output.y";
    assert_eq!(names.join(" "), expected);
    let field = |row: usize, name: &str| {
        let found = rows[row].iter().find(|(own, _)| own == name);
        found.unwrap().1.clone()
    };
    assert!(matches!(field(0, "time"), Field::TimestampMicros(t) if t > 1_700_000_000_000_000));
    assert_eq!(
        (field(1, "request_id"), field(1, "row")),
        (Field::Str("r-1".into()), Field::Long(1))
    );
    assert_eq!(
        (field(2, "request_id"), field(2, "row")),
        (Field::Str("r-2".into()), Field::Long(0))
    );
    assert_eq!((field(1, "version"), field(1, "x[0]")), (Field::Long(1), Field::Float(2.0)));
    assert_eq!(field(1, "p"), Field::Bytes(vec![4, 5, 6, 7].into()));
    assert_eq!(
        (field(1, "p.shape"), field(1, "t")),
        (Field::Str("2,2".into()), Field::Str("größer".into()))
    );
    assert!(matches!(field(2, "x[0]"), Field::Float(x) if x.is_nan()));
    let same = run(&files, mixed(), 0.0, &settings).unwrap();
    let [version] = &same.versions[..] else { panic!("{same:#?}") };
    assert_eq!((same.requests, same.rows, &*same.model), (2, 3, "m"));
    assert_eq!((version.compared, version.disagreed, version.failed), (2, 0, 0), "{same:#?}");
    assert_eq!((version.rows, version.difference_max), (3, Some(0.0)));
    let other = run(&files, mixed(), 0.5, &settings).unwrap();
    let [version] = &other.versions[..] else { panic!("{other:#?}") };
    // NaN and a half is NaN.
    assert_eq!((version.disagreed, version.rows_disagreed), (1, 2), "{other:#?}");
    assert_eq!(version.difference_max, Some(0.5));
    assert!(version.disagreement_lower < 0.5 && version.disagreement_upper > 0.5);
    let example = &other.examples[1];
    assert_eq!((&*example.request_id, example.row), ("r-1", 1));
    assert_eq!(example.replayed[0].value, 3.5);
    assert_eq!(example.inputs[0], ReplayValue { name: "x[0]".into(), value: 2.0.into() });
}

#[test]
fn a_version_that_fails_on_some_is_compared_on_the_others() {
    let world = World::new(table(), CaptureRule::default(), &["a", "b"]);
    world.send(&world.version, "r-1", &[-1.0]);
    let canary = watch(table(), 2);
    canary.capture_by(Some(Arc::clone(&world.tap)));
    world.send(&canary, "r-2", &[1.0]);
    let (files, _root, _, settings) = world.files();
    assert_eq!(files.len(), 1, "equal columns share a file");
    let found = run(&files, table(), 0.0, &settings).unwrap();
    let by: Vec<_> = found.versions.iter().map(|v| (v.version, v.compared, v.failed)).collect();
    assert_eq!((by, found.failure.as_deref()), (vec![(1, 0, 1), (2, 1, 0)], Some("x is -1")));
}

#[test]
fn what_is_dropped_or_hashed_is_never_stored_and_its_lack_is_told() {
    let rule = CaptureRule { drop: vec!["a".into()], hash: vec!["b".into()], ..Default::default() };
    let world = World::new(table(), rule, &["a", "b"]);
    world.send(&world.version, "r-1", &[1.0, 2.0]);
    let (files, root, _, settings) = world.files();
    let stored = rows(&files[0]);
    let names: Vec<_> = stored[0].iter().map(|(name, _)| &**name).collect();
    assert!(names.contains(&"b") && !names.contains(&"a"), "{names:?}");
    let hash = |row: usize| stored[row].iter().find(|(name, _)| name == "b").unwrap().1.to_string();
    assert_eq!((hash(0).len(), hash(0)), (34, hash(1)), "both were 1");
    assert!(root.path().join("key").exists());
    let problem = run(&files, table(), 0.0, &settings).unwrap_err();
    let expected = ".parquet does not have all that was asked and answered as it came: \"a\" \
                    (dropped), \"b\" (hashed)";
    assert!(problem.contains(expected), "{problem}");
}

#[test]
fn ids_and_outputs_may_be_withheld_as_well() {
    let (drop, hash) = (vec!["request_id".into()], vec!["output.y".into()]);
    let world = World::new(table(), CaptureRule { drop, hash, ..Default::default() }, &[]);
    world.send(&world.version, "r-1", &[1.0]);
    let (files, _root, _, settings) = world.files();
    let stored = rows(&files[0]);
    let field = |name: &str| stored[0].iter().find(|(own, _)| own == name).unwrap().1.clone();
    assert_eq!(field("request_id"), Field::Str(String::new()));
    assert!(matches!(field("output.y"), Field::Str(hash) if hash.len() == 32));
    let problem = run(&files, table(), 0.0, &settings).unwrap_err();
    assert!(problem.contains("as it came: \"output.y\" (hashed)"), "{problem}");
}

#[test]
fn a_text_that_is_none_is_not_stored_as_another() {
    let world = World::new(mixed(), CaptureRule::default(), &[]);
    world.send(&world.version, "r-1", &[1.0]);
    let x = Tensor::new("x", vec![1, 2], Data::Fp32(vec![1.0; 2])).unwrap();
    let p = Tensor::new("p", vec![1, 2, 2], Data::zeros(Datatype::Uint8, 4)).unwrap();
    let t = Tensor::new("t", vec![1], Data::Bytes(vec![b"a\xff".to_vec()])).unwrap();
    let y = Tensor::new("y", vec![1, 1], Data::Fp32(vec![1.0])).unwrap();
    offer(&world.version, vec![x, p, t], vec![y], "r-2");
    let (files, _root, view, _) = world.files();
    assert_eq!((files.len(), view.sampled, view.requests), (1, 2, 1));
    assert_eq!((view.dropped["text"], view.state), (1, "on"));
}

#[test]
fn the_files_of_a_model_that_is_captured_no_more_are_finished() {
    let world = World::new(table(), CaptureRule::default(), &[]);
    world.send(&world.version, "r-1", &[1.0]);
    let World { root, metrics, capturing, tap, version, .. } = world;
    version.capture_by(None);
    drop((tap, version));
    let began = Instant::now();
    let is_whole = |path: &Path| path.extension().is_some_and(|end| end == "parquet");
    let is_there = || {
        let entries = fs::read_dir(root.path().join("captures/m")).into_iter().flatten();
        entries.flatten().any(|entry| is_whole(&entry.path()))
    };
    while !is_there() || metrics.render().contains("foreshadow_capture_requests_total{") {
        assert!(began.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(5));
    }
    capturing.stop();
}

#[test]
fn the_end_does_not_wait_for_a_disk_that_hangs() {
    let (release, hang) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || hang.recv().unwrap_or_default());
    let capturing = Capturing { stop: Arc::default(), thread };
    capturing.stop_within(Duration::from_millis(20));
    // It was given up, not awaited.
    release.send(()).unwrap();
}

#[test]
fn times_that_have_no_words_are_told_all_the_same() {
    let second = Duration::from_secs(1);
    let epoch = SystemTime::UNIX_EPOCH;
    assert_eq!(rfc3339(epoch - second), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339(epoch + second), "1970-01-01T00:00:01Z");
    assert_eq!(rfc3339(epoch + Duration::from_secs(300_000_000_000)), "9999-12-31T23:59:59Z");
}

#[test]
fn a_misspelt_column_stores_nothing() {
    let rule = CaptureRule { hash: vec!["emial".into()], ..Default::default() };
    let world = World::new(table(), rule, &["email", "age"]);
    world.send(&world.version, "r-1", &[1.0]);
    // While the thread that stores holds it, the tap is no former one.
    let tap = Arc::clone(&world.tap);
    let (files, _root, view, _) = world.files();
    assert_eq!((files.len(), view.state, view.dropped["columns"]), (0, "failing", 1));
    let there = "got \"emial\"; there are email, age, output.y, request_id.";
    assert!(view.problem.unwrap().contains(there));
    drop(tap);
}

#[test]
fn outputs_alone_are_stored_where_that_is_all_that_is_wanted() {
    let rule = CaptureRule { outputs_only: true, ..Default::default() };
    let world = World::new(table(), rule, &["a", "b"]);
    world.send(&world.version, "r-1", &[1.0]);
    let (files, _root, _, settings) = world.files();
    assert_eq!(rows(&files[0])[0].last().unwrap(), &("output.y".into(), Field::Float(2.0)));
    assert_eq!(rows(&files[0])[0].len(), 8);
    let problem = run(&files, table(), 0.0, &settings).unwrap_err();
    assert!(problem.contains("only outputs were captured"), "{problem}");
}

#[test]
fn files_end_by_rows_and_are_read_one_after_the_other() {
    let few = |settings: &mut Settings| settings.file_rows = 2;
    let world = World::with(table(), CaptureRule::default(), &[], few);
    (0..3).for_each(|i| world.send(&world.version, &format!("r-{i}"), &[1.0, 2.0]));
    world.send(&world.version, "last", &[1.0]);
    let (files, _root, view, settings) = world.files();
    assert_eq!((files.len(), view.files.count, view.rows), (4, 4, 7));
    let found = run(&files, table(), 0.0, &settings).unwrap();
    assert_eq!((found.requests, found.rows), (4, 7));
}

#[test]
fn outputs_that_have_no_row_for_each_are_stored_by_request() {
    let mut signature = mixed();
    signature.outputs[0].shape = vec![Dim::Fixed(2)];
    let world = World::new(signature.clone(), CaptureRule::default(), &[]);
    let x = Tensor::new("x", vec![3, 2], Data::Fp32(vec![1.0; 6])).unwrap();
    let p = Tensor::new("p", vec![3, 2, 2], Data::zeros(Datatype::Uint8, 12)).unwrap();
    let t = Tensor::new("t", vec![3], Data::Bytes(vec![b"a\xff".to_vec(); 3])).unwrap();
    let y = vec![Tensor::new("y", vec![2], Data::Fp32(vec![1.0, 2.0])).unwrap()];
    offer(&world.version, vec![x, p, t], y, "r");
    let (files, _root, view, settings) = world.files();
    assert_eq!((view.requests, view.rows), (1, 1));
    let shape = rows(&files[0])[0].iter().find(|(name, _)| name == "x.shape").unwrap().1.clone();
    assert_eq!(shape, Field::Str("3,2".into()));
    // It gives another form than it says, which cannot be compared.
    let found = run(&files, signature, 0.0, &settings).unwrap();
    assert_eq!(found.versions[0].failed, 1);
    let expected = "captured was y FP32 [2]; the version answers y FP32 [3, 1]";
    assert_eq!(found.failure.unwrap(), expected);
}

#[test]
fn a_disk_that_cannot_be_written_is_told_and_counted() {
    let nowhere = |settings: &mut Settings| {
        fs::write(&settings.folder, "a file, where a folder should be").unwrap();
    };
    let world = World::with(table(), CaptureRule::default(), &[], nowhere);
    world.send(&world.version, "r-1", &[1.0]);
    world.send(&world.version, "r-2", &[1.0]);
    let metrics = Arc::clone(&world.metrics);
    let tap = Arc::clone(&world.tap);
    let (files, _root, _, _) = world.files();
    assert!(files.is_empty());
    assert_eq!(tap.stats().snapshot().dropped["disk"], 2);
    let line = "foreshadow_capture_dropped_total{model=\"m\",reason=\"disk\"} 2";
    assert!(metrics.render().contains(line), "{}", metrics.render());
}

#[test]
fn what_is_no_capture_is_told() {
    let world = World::new(table(), CaptureRule::default(), &[]);
    world.send(&world.version, "r-1", &[1.0]);
    let (files, root, _, settings) = world.files();
    let whole = fs::read(&files[0]).unwrap();
    let half = root.path().join("half.parquet");
    fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    let problem =
        |file: &Path, signature| run(&[file.to_owned()], signature, 0.0, &settings).unwrap_err();
    assert!(problem(&half, table()).contains("half.parquet is no whole Parquet file"));
    assert!(problem(&root.path().join("nowhere"), table()).contains("nowhere cannot be read"));
    let wide = Signature { inputs: vec![spec("x", Datatype::Fp32, &[3])], ..table() };
    let other = problem(&files[0], wide);
    let expected = "is of another signature: the version takes the inputs \"x\" FP32 [-1, 3]; \
                    captured were \"x\" FP32 [-1, 2]";
    assert!(other.contains(expected), "{other}");
    let renamed = Signature { outputs: vec![spec("z", Datatype::Fp32, &[1])], ..table() };
    assert!(problem(&files[0], renamed).contains("gives the outputs \"z\""));
}
