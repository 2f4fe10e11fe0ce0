//! `model.toml`: parsed raw (unknown keys refused), then checked; together with
//! what a `config.pbtxt` says. Pure.

mod capture;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::registry::labels::{self, RawGrouping, RawLabels};
use crate::registry::scan::ARTIFACT;
use crate::registry::settings::capture::RawCapture;
use crate::registry::triton::{TritonBatching, TritonFile};
use crate::types::{
    Batching, Declared, DeclaredTensor, Dim, ModelSettings, RolloutOverrides, RolloutPolicy, Share,
    Signature, Task, VersionId, VersionPolicy,
};

/// The largest `model.toml` or `version.toml` that is read, in bytes.
pub(super) const TOML_BYTES_MAX: u64 = 1024 * 1024;

/// The longest that a request may be made to wait for others.
pub(super) const BATCH_DELAY_MAX: Duration = Duration::from_secs(1);

/// The engine of a model that names none.
const ENGINE: &str = "tract";

/// What becomes of a version that appears while the model serves already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnNewVersion {
    /// It waits until somebody gives it a role.
    #[default]
    Hold,
    /// It becomes a shadow of the whole traffic.
    Shadow,
    /// It becomes champion, if its number is above the champion's.
    Promote,
    /// It is brought in by a rollout, if its number is above the champion's.
    Rollout,
}

/// Who has which role when the model is seen for the first time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Start {
    pub(super) champion: VersionId,
    pub(super) canary: Option<(VersionId, Share)>,
    pub(super) shadows: Vec<(VersionId, Share)>,
}

/// What a version must fulfil beside the champion before it may be ready.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Gate {
    /// Another signature than the champion's is taken.
    pub(super) allow_signature_change: bool,
    /// The most time that one row may take.
    pub(super) cost_max: Option<Duration>,
}

/// A checked `model.toml`, or `config.pbtxt`, or both.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelFile {
    pub(super) owner: Option<String>,
    pub(super) description: Option<String>,
    pub(super) settings: Arc<ModelSettings>,
    pub(super) on_new_version: OnNewVersion,
    /// Runs what is loaded from now on; what is loaded stays where it is.
    pub(super) engine: String,
    pub(super) gate: Gate,
    pub(super) start: Option<Start>,
    /// How a rollout brings in a version.
    pub(super) rollout: Arc<RolloutPolicy>,
    /// What of a `config.pbtxt` is not taken, for people.
    pub(super) not_taken: Vec<String>,
}

impl Default for ModelFile {
    /// A model without a `model.toml`.
    fn default() -> Self {
        Self {
            owner: None,
            description: None,
            settings: Arc::default(),
            on_new_version: OnNewVersion::Hold,
            engine: ENGINE.to_owned(),
            gate: Gate::default(),
            start: None,
            rollout: Arc::default(),
            not_taken: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    owner: Option<String>,
    description: Option<String>,
    #[serde(default)]
    features: Vec<String>,
    routing_key: Option<String>,
    task: Option<Task>,
    tolerance: Option<f64>,
    #[serde(default)]
    allow_forced_role: bool,
    #[serde(default)]
    nonfinite: Nonfinite,
    on_new_version: Option<OnNewVersion>,
    engine: Option<String>,
    #[serde(default)]
    allow_signature_change: bool,
    cost_max: Option<String>,
    #[serde(default)]
    batching: RawBatching,
    #[serde(default)]
    monitor: RawMonitor,
    labels: Option<RawLabels>,
    #[serde(default)]
    groups: BTreeMap<String, RawGrouping>,
    capture: Option<RawCapture>,
    start: Option<RawStart>,
    #[serde(default)]
    rollout: RolloutOverrides,
}

/// What is watched of its answers.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMonitor {
    /// Whether their rows are compared with the version's profile.
    drift: Option<bool>,
    /// The share of rows like its profile's that may be called odd.
    anomalies: Option<Share>,
    /// Whether a reply tells of them, where it is asked for.
    anomaly_header: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatching {
    enabled: Option<bool>,
    rows_max: Option<usize>,
    delay_max: Option<String>,
}

#[derive(Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Nonfinite {
    #[default]
    Error,
    Null,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStart {
    champion: u64,
    canary: Option<RawCanary>,
    #[serde(default)]
    shadows: Vec<RawShadow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCanary {
    version: u64,
    weight: Share,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawShadow {
    version: u64,
    #[serde(default = "everything")]
    sample: Share,
}

const fn everything() -> Share {
    Share::ALL
}

impl ModelFile {
    /// Parses and checks the text of a `model.toml`. `engines` are the names
    /// that this process knows. The error says where and what.
    pub(super) fn parse(text: &str, engines: &[&str]) -> Result<Self, String> {
        Self::parse_with(text, None, engines)
    }

    /// The same, with what the `config.pbtxt` beside it says; where both say
    /// something, the `model.toml` is taken.
    pub(super) fn parse_with(
        text: &str,
        triton: Option<TritonFile>,
        engines: &[&str],
    ) -> Result<Self, String> {
        let raw: Raw = toml::from_str(text).map_err(|e| located("model.toml", text, &e))?;
        check(raw, triton, engines).map_err(|problem| format!("model.toml: {problem}"))
    }

    /// Which versions are loaded.
    pub(super) fn version_policy(&self) -> &VersionPolicy {
        self.settings.triton.as_ref().map_or(&VersionPolicy::All, |triton| &triton.version_policy)
    }

    /// What is declared of the tensors.
    pub(super) fn declared(&self) -> Option<&Arc<Declared>> {
        self.settings.triton.as_ref().map(|triton| &triton.declared)
    }

    /// The artifact's name in a version's folder.
    pub(super) fn artifact(&self) -> &str {
        let triton = self.settings.triton.as_ref();
        triton.and_then(|triton| triton.default_model_filename.as_deref()).unwrap_or(ARTIFACT)
    }

    /// Whether its roles and versions are those of a Triton repository.
    pub(super) fn is_triton(&self) -> bool {
        self.settings.triton.is_some()
    }

    /// Label files that do not name every entry of an output.
    pub(super) fn label_problems(&self, version: VersionId, signature: &Signature) -> Vec<String> {
        let outputs = self.declared().map(|declared| &declared.outputs[..]).unwrap_or_default();
        let problem = |tensor: &DeclaredTensor| {
            let file = tensor.label_file.as_ref()?;
            let spec = signature.outputs.iter().find(|spec| spec.name == tensor.name)?;
            if !spec.classes.is_empty() {
                return None;
            }
            let (names, shape) = (tensor.classes.len(), spec.wire_shape());
            Some(format!(
                "{file} names {names} classes, which are not those of output {:?} {shape:?} of \
                 version {version}; they are not taken",
                spec.name
            ))
        };
        outputs.iter().filter_map(problem).collect()
    }

    /// `features` does not name every column that a version takes.
    pub(super) fn features_problem(
        &self,
        version: VersionId,
        signature: &Signature,
    ) -> Option<String> {
        let named = self.settings.features.len();
        let [input] = &signature.inputs[..] else { return None };
        match input.shape.last() {
            Some(Dim::Fixed(columns)) if named > 0 && named != *columns => Some(format!(
                "model.toml: features names {named} columns, version {version} takes {columns}"
            )),
            _ => None,
        }
    }
}

/// A TOML error with its place: `model.toml, line 3, column 1: unknown field …`.
pub(super) fn located(file: &str, text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim();
    let Some(span) = error.span() else { return format!("{file}: {message}") };
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    format!("{file}, line {line}, column {column}: {message}")
}

fn check(raw: Raw, triton: Option<TritonFile>, engines: &[&str]) -> Result<ModelFile, String> {
    let engine = raw.engine.unwrap_or_else(|| ENGINE.to_owned());
    if !engines.contains(&engine.as_str()) {
        let known = engines.join(", ");
        return Err(format!("engine: {engine:?} is unknown; this gateway has {known}"));
    }
    check_features(&raw.features)?;
    if let Some(tolerance) = raw.tolerance
        && !(tolerance.is_finite() && tolerance >= 0.0)
    {
        return Err(format!("tolerance: expected a number from 0, got {tolerance}"));
    }
    if raw.routing_key.as_deref() == Some("") {
        return Err("routing_key: expected the name of a request field, got \"\"".to_owned());
    }
    let theirs = triton.as_ref().map(|triton| triton.batching.clone()).unwrap_or_default();
    let on_new_version = raw.on_new_version.unwrap_or(match triton {
        // The highest version answers there.
        Some(_) => OnNewVersion::Promote,
        None => OnNewVersion::Hold,
    });
    let (triton, mut not_taken) = triton.map(|file| (file.settings, file.not_taken)).unzip();
    let not_taken: &mut Vec<String> = not_taken.get_or_insert_default();
    let rollout = raw
        .rollout
        .apply(&RolloutPolicy::default())
        .map_err(|problem| format!("rollout.{problem}"))?;
    let labels = labels::check(raw.labels, raw.groups)?;
    labels::check_task(labels.as_ref(), raw.task)?;
    labels::check_guards(&rollout.guards, labels.as_ref(), raw.task)?;
    let settings = ModelSettings {
        features: raw.features,
        routing_key: raw.routing_key,
        task: raw.task,
        tolerance: raw.tolerance,
        shadow_noise: rollout.guards.noise.enabled,
        drift_off: raw.monitor.drift == Some(false),
        odd_rows: raw.monitor.anomalies,
        odd_untold: raw.monitor.anomaly_header == Some(false),
        labels: labels.map(Arc::new),
        capture: raw.capture.map(RawCapture::check).transpose()?.flatten(),
        allow_forced_role: raw.allow_forced_role,
        nonfinite_as_null: raw.nonfinite == Nonfinite::Null,
        batching: join(check_batching(&raw.batching)?, &raw.batching, &theirs, not_taken),
        rows_max: triton.as_ref().and_then(|triton| triton.max_batch_size),
        triton: triton.map(Arc::new),
    };
    Ok(ModelFile {
        owner: raw.owner,
        description: raw.description,
        settings: Arc::new(settings),
        on_new_version,
        engine,
        gate: Gate {
            allow_signature_change: raw.allow_signature_change,
            cost_max: raw.cost_max.as_deref().map(check_cost).transpose()?,
        },
        start: raw.start.map(check_start).transpose()?,
        rollout: Arc::new(rollout),
        not_taken: std::mem::take(not_taken),
    })
}

/// What `model.toml` says of batches, and else the `config.pbtxt`.
fn join(
    own: Batching,
    raw: &RawBatching,
    theirs: &TritonBatching,
    not_taken: &mut Vec<String>,
) -> Batching {
    let mut differs = |key: &str, differs: bool, name: &str| {
        if differs {
            not_taken.push(format!("{name}: model.toml says batching.{key}, which is taken"));
        }
    };
    let both = raw.enabled.zip(theirs.enabled);
    differs("enabled", both.is_some_and(|(a, b)| a != b), "max_batch_size: 0 for batches");
    let both = own.rows_max.zip(theirs.rows_max);
    differs("rows_max", both.is_some_and(|(a, b)| a != b), "max_batch_size for batches");
    let both = own.delay_max.zip(theirs.delay_max);
    let name = "dynamic_batching.max_queue_delay_microseconds";
    differs("delay_max", both.is_some_and(|(a, b)| a != b), name);
    Batching {
        enabled: raw.enabled.or(theirs.enabled).unwrap_or(true),
        rows_max: own.rows_max.or(theirs.rows_max),
        delay_max: own.delay_max.or(theirs.delay_max),
    }
}

fn check_batching(raw: &RawBatching) -> Result<Batching, String> {
    if let Some(rows) = raw.rows_max
        && !(1..=Batching::ROWS_LIMIT).contains(&rows)
    {
        let most = Batching::ROWS_LIMIT;
        return Err(format!("batching.rows_max: expected 1 to {most}, got {rows}"));
    }
    let delay = |text: &String| {
        let delay = humantime::parse_duration(text).ok().filter(|delay| *delay <= BATCH_DELAY_MAX);
        delay.ok_or_else(|| {
            let most = humantime::format_duration(BATCH_DELAY_MAX);
            format!(
                "batching.delay_max: expected at most \"{most}\", such as \"2ms\", got {text:?}"
            )
        })
    };
    Ok(Batching {
        enabled: raw.enabled.unwrap_or(true),
        rows_max: raw.rows_max,
        delay_max: raw.delay_max.as_ref().map(delay).transpose()?,
    })
}

fn check_cost(text: &str) -> Result<Duration, String> {
    let cost = humantime::parse_duration(text).ok().filter(|cost| !cost.is_zero());
    cost.ok_or_else(|| {
        format!("cost_max: expected a duration above zero, such as \"2ms\", got {text:?}")
    })
}

fn check_features(features: &[String]) -> Result<(), String> {
    let mut seen = std::collections::HashSet::new();
    for (i, feature) in features.iter().enumerate() {
        if feature.is_empty() {
            return Err(format!("features[{i}]: expected a name, got \"\""));
        }
        if !seen.insert(feature) {
            return Err(format!("features[{i}]: {feature:?} is named twice"));
        }
    }
    Ok(())
}

fn check_start(raw: RawStart) -> Result<Start, String> {
    let id = |key: &str, number: u64| {
        VersionId::new(number).ok_or_else(|| format!("{key}: expected a version from 1, got 0"))
    };
    let champion = id("start.champion", raw.champion)?;
    let canary = match raw.canary {
        Some(canary) => Some((id("start.canary.version", canary.version)?, canary.weight)),
        None => None,
    };
    let mut shadows = Vec::with_capacity(raw.shadows.len());
    for (i, shadow) in raw.shadows.into_iter().enumerate() {
        shadows.push((id(&format!("start.shadows[{i}].version"), shadow.version)?, shadow.sample));
    }
    let mut roles: Vec<_> = std::iter::once(champion)
        .chain(canary.map(|(version, _)| version))
        .chain(shadows.iter().map(|(version, _)| *version))
        .collect();
    roles.sort_unstable();
    if let Some(twice) = roles.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("start: version {} has two roles; expected one each", twice[0]));
    }
    if shadows.len() > crate::routing::SHADOWS_MAX {
        let max = crate::routing::SHADOWS_MAX;
        return Err(format!("start.shadows: expected at most {max}, got {}", shadows.len()));
    }
    Ok(Start { champion, canary, shadows })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelFile, String> {
        ModelFile::parse(text, &["tract", "other"])
    }

    #[test]
    fn everything_has_a_default() {
        assert_eq!(parse("").unwrap(), ModelFile::default());
    }

    #[test]
    fn every_key_arrives() {
        let file = parse(
            r#"
            owner = "growth"
            description = "who leaves"
            features = ["age", "plan"]
            routing_key = "customer"
            task = "regression"
            tolerance = 0.5
            allow_forced_role = true
            nonfinite = "null"
            on_new_version = "shadow"
            engine = "other"
            allow_signature_change = true
            cost_max = "2ms"
            [monitor]
            drift = false
            anomalies = "0.5%"
            anomaly_header = false
            [labels]
            classes = ["stays", "leaves"]
            [batching]
            enabled = false
            rows_max = 16
            delay_max = "3ms"
            [start]
            champion = 1
            canary = { version = 2, weight = "10%" }
            shadows = [{ version = 3, sample = "50%" }, { version = 4 }]
            "#,
        )
        .unwrap();
        let id = |n| VersionId::new(n).unwrap();
        let share = |text: &str| text.parse::<Share>().unwrap();
        assert_eq!(file.owner.as_deref(), Some("growth"));
        assert_eq!(file.settings.features, ["age", "plan"]);
        assert_eq!(file.settings.task, Some(Task::Regression));
        assert!(file.settings.allow_forced_role && file.settings.nonfinite_as_null);
        assert!(file.settings.drift_off && file.settings.odd_untold);
        assert_eq!(file.settings.odd_rows(), share("0.5%"));
        assert_eq!(file.settings.labels.as_ref().unwrap().classes, ["stays", "leaves"]);
        assert_eq!(file.on_new_version, OnNewVersion::Shadow);
        assert_eq!(file.engine, "other");
        let cost_max = Some(Duration::from_millis(2));
        assert_eq!(file.gate, Gate { allow_signature_change: true, cost_max });
        let delay_max = Some(Duration::from_millis(3));
        let batching = Batching { enabled: false, rows_max: Some(16), delay_max };
        assert_eq!(file.settings.batching, batching);
        let start = file.start.unwrap();
        assert_eq!(start.champion, id(1));
        assert_eq!(start.canary, Some((id(2), share("10%"))));
        assert_eq!(start.shadows, [(id(3), share("50%")), (id(4), Share::ALL)]);
    }

    #[test]
    fn a_config_pbtxt_fills_what_model_toml_leaves_out() {
        let model = crate::types::ModelName::new("m").unwrap();
        let config = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 500 }";
        let with = |toml: &str, config: &str| {
            let triton = TritonFile::parse(config, &model).unwrap();
            ModelFile::parse_with(toml, Some(triton), &["tract"])
        };
        let file = with("owner = \"growth\"", config).unwrap();
        let delay_max = Some(Duration::from_micros(500));
        let batching = Batching { enabled: true, rows_max: Some(8), delay_max };
        assert_eq!(file.settings.batching, batching);
        assert_eq!(file.settings.rows_max, Some(8));
        assert_eq!(file.on_new_version, OnNewVersion::Promote);
        assert_eq!((file.artifact(), file.version_policy()), (ARTIFACT, &VersionPolicy::Latest(1)));
        assert_eq!(file.not_taken, [""; 0]);
        let toml = "on_new_version = \"shadow\"\n[batching]\nrows_max = 4\ndelay_max = \"2ms\"";
        let file = with(toml, config).unwrap();
        let delay_max = Some(Duration::from_millis(2));
        let batching = Batching { enabled: true, rows_max: Some(4), delay_max };
        assert_eq!(file.settings.batching, batching);
        assert_eq!(file.settings.rows_max, Some(8), "requests are as large as clients know");
        assert_eq!(file.on_new_version, OnNewVersion::Shadow);
        assert_eq!(file.not_taken.len(), 2, "{:?}", file.not_taken);
        assert!(file.not_taken[1].contains("batching.delay_max"), "{:?}", file.not_taken);
        let alone = "input { name: 'x' data_type: TYPE_FP32 dims: 1 }";
        assert!(!with("", alone).unwrap().settings.batching.enabled);
        assert!(with("[batching]\nenabled = true", alone).unwrap().settings.batching.enabled);
        assert!(with("ownr = 1", config).unwrap_err().contains("ownr"));
    }

    #[test]
    fn labels_that_are_not_those_of_an_output_are_told() {
        let model = crate::types::ModelName::new("m").unwrap();
        let config = "output { name: 'y' data_type: TYPE_FP32 dims: 3 label_filename: 'l.txt' }";
        let mut triton = TritonFile::parse(config, &model).unwrap();
        triton.label(|_| Ok("a\nb\n".to_owned())).unwrap();
        let file = ModelFile::parse_with("", Some(triton), &["tract"]).unwrap();
        let one = VersionId::new(1).unwrap();
        let spec = |classes: &[&str]| crate::types::TensorSpec {
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            ..crate::types::TensorSpec::new("y", crate::types::Datatype::Fp32, vec![Dim::Fixed(3)])
        };
        let problems = |spec| file.label_problems(one, &Signature::new(vec![], vec![spec]));
        let told = problems(spec(&[]));
        assert!(told[0].contains("l.txt names 2 classes, which are not those of output \"y\" [3]"));
        // The artifact's own names are better.
        assert_eq!(problems(spec(&["a", "b", "c"])), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let cases: [(&str, &[&str]); 20] = [
            ("owner = \"a\"\nownr = \"b\"", &["model.toml, line 2, column 1", "`ownr`"]),
            ("features = 3", &["line 1, column 12", "sequence"]),
            ("task = \"ranking\"", &["line 1, column 8", "ranking"]),
            ("on_new_version = \"deploy\"", &["line 1", "deploy", "hold"]),
            ("owner = ", &["line 1"]),
            ("features = [\"a\", \"a\"]", &["features[1]", "twice"]),
            ("tolerance = nan", &["tolerance", "NaN"]),
            ("cost_max = \"fast\"", &["cost_max", "\"2ms\"", "fast"]),
            ("cost_max = \"0s\"", &["cost_max", "above zero"]),
            ("allow_signature_change = 1", &["line 1", "boolean"]),
            ("engine = \"magic\"", &["engine", "magic", "tract, other"]),
            ("[batching]\nrows_max = 0", &["batching.rows_max", "1 to 1024", "0"]),
            ("[batching]\nrows_max = 1025", &["batching.rows_max", "1025"]),
            ("[batching]\ndelay_max = \"1min\"", &["batching.delay_max", "\"1s\"", "1min"]),
            ("[batching]\nrows = 3", &["line 2", "`rows`"]),
            ("[start]\nchampion = 0", &["start.champion", "0"]),
            ("[start]\nchampion = 1\ncanary = { version = 1, weight = \"5%\" }", &["two roles"]),
            ("[start]\nchampion = 1\ncanary = { version = 2, weight = \"500%\" }", &["500"]),
            ("[start]\nchampion = 1\nextra = 2", &["line 3", "extra"]),
            ("[rollout]\nweights = [\"5%\", \"1%\"]", &["rollout.weights", "ascending"]),
        ];
        for (text, expected) in cases {
            let problem = parse(text).unwrap_err();
            for word in expected {
                assert!(problem.contains(word), "{text:?}: {problem:?} lacks {word:?}");
            }
        }
    }
}
