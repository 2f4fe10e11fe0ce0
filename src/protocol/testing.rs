//! Models, plans and requests for tests of the protocols and the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};

use crate::engine::{EngineError, EngineErrorKind, Model, Session};
use crate::protocol::{Offload, OffloadSettings, RequestLimits, Service};
use crate::routing::{
    Arm, Canary, Catalog, Judge, Lane, LaneSettings, Plan, Router, Salt, Shadow, Slot, Worst,
};
use crate::serving::{Executor, ExecutorSettings, LoadedVersion};
use crate::telemetry::recorder::Recorder;
use crate::telemetry::{ArmRole, Metrics};
use crate::types::{
    Data, Datatype, Digest, Dim, ModelName, ModelSettings, Readiness, Share, Signature, Tensor,
    TensorSpec, VersionId,
};

/// What a fake model does with its inputs.
pub(crate) type Run = fn(&[Tensor]) -> Result<Vec<Tensor>, EngineError>;

struct Fake {
    signature: Signature,
    run: Run,
}

struct FakeSession(Run);

impl Model for Fake {
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(FakeSession(self.run)))
    }
}

impl Session for FakeSession {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        (self.0)(inputs)
    }
}

/// A spec from the protocol's shape: −1 is the batch, `N`, in front and any
/// size behind it.
pub(crate) fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    let dim = |(axis, size): (usize, &i64)| match usize::try_from(*size) {
        Ok(size) => Dim::Fixed(size),
        Err(_) if axis == 0 => Dim::Symbol("N".into()),
        Err(_) => Dim::Any,
    };
    let shape = shape.iter().enumerate().map(dim).collect();
    TensorSpec::new(name, datatype, shape)
}

/// Gives every input back, under the name with `_out` behind it.
pub(crate) fn echo(inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
    let back = |tensor: &Tensor| {
        let (name, shape, data) = tensor.clone().into_parts();
        Tensor::new(format!("{name}_out"), shape, data).unwrap()
    };
    Ok(inputs.iter().map(back).collect())
}

/// The signature of [`echo`].
pub(crate) fn echo_signature(inputs: &[TensorSpec]) -> Signature {
    let output =
        |spec: &TensorSpec| TensorSpec { name: format!("{}_out", spec.name), ..spec.clone() };
    Signature::new(inputs.to_vec(), inputs.iter().map(output).collect())
}

/// Sums each row of FP32 `X`; fails on a row that starts with 7, panics on 13,
/// and gives NaN for −1.
pub(crate) fn sums(inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
    let Data::Fp32(x) = inputs[0].data() else { unreachable!("checked") };
    let rows = inputs[0].rows();
    let sums: Vec<f32> = x.chunks(x.len() / rows).map(|row| row.iter().sum()).collect();
    assert!(x[0] != 13.0, "thirteen");
    if x[0] == 7.0 {
        return Err(EngineError::new(EngineErrorKind::Internal, "the secret of seven"));
    }
    let sums = sums.into_iter().map(|x| if x == -1.0 { f32::NAN } else { x }).collect();
    Ok(vec![Tensor::new("sum", vec![rows], Data::Fp32(sums)).unwrap()])
}

/// The signature of [`sums`] for rows of `width` numbers.
pub(crate) fn sums_signature(width: i64) -> Signature {
    Signature::new(
        vec![spec("X", Datatype::Fp32, &[-1, width])],
        vec![spec("sum", Datatype::Fp32, &[-1])],
    )
}

/// A label and named scores for each row of FP32 `X`: its first two numbers.
pub(crate) fn classifier(inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
    let Data::Fp32(x) = inputs[0].data() else { unreachable!("checked") };
    let rows = inputs[0].rows();
    let label = |row: &[f32]| if row[1] > row[0] { b"yes".to_vec() } else { b"no".to_vec() };
    let labels = Data::Bytes(x.chunks(2).map(label).collect());
    Ok(vec![
        Tensor::new("label", vec![rows], labels).unwrap(),
        Tensor::new("probability", vec![rows, 2], Data::Fp32(x.clone())).unwrap(),
    ])
}

/// The signature of [`classifier`], with documentation.
pub(crate) fn classifier_signature() -> Signature {
    let scores = TensorSpec {
        doc: "of leaving within 30 days".into(),
        classes: ["no".to_owned(), "yes".to_owned()].into(),
        ..spec("probability", Datatype::Fp32, &[-1, 2])
    };
    let mut signature = Signature::new(
        vec![spec("X", Datatype::Fp32, &[-1, 2])],
        vec![spec("label", Datatype::Bytes, &[-1]), scores],
    );
    signature.docs.description = "Who leaves".into();
    signature.docs.producer = "skl2onnx 1.20.0".into();
    signature
}

/// A version, warmed up.
pub(crate) fn version(
    model: &str,
    number: u64,
    signature: Signature,
    run: Run,
) -> Arc<LoadedVersion> {
    let name = ModelName::new(model).unwrap();
    let graph = Arc::new(Fake { signature, run });
    let id = VersionId::new(number).unwrap();
    let version = LoadedVersion::new(name, id, Digest::new([0; 32]), "fake", graph);
    version.warm_up().unwrap();
    Arc::new(version)
}

/// A service over models that are built by hand.
pub(crate) struct Bench {
    /// What is tested.
    pub(crate) service: Arc<Service>,
    /// Its readiness.
    pub(crate) readiness: Readiness,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
}

impl Bench {
    /// No models yet; runs stay on the caller's thread.
    pub(crate) fn new() -> Self {
        Self::with(RequestLimits::default(), Duration::MAX)
    }

    /// Runs that take longer than `inline_limit` go to an engine thread.
    pub(crate) fn with(limits: RequestLimits, inline_limit: Duration) -> Self {
        let catalog = Arc::new(Catalog::default());
        let (metrics, readiness) = (Arc::new(Metrics::new()), Readiness::default());
        let settings = ExecutorSettings { inline_limit, ..ExecutorSettings::default() };
        let executor = Executor::spawn(&settings, &metrics).unwrap();
        let lane = LaneSettings {
            threads: 1,
            queue_count_max: 64,
            queue_bytes_max: 1 << 20,
            timeout: Duration::from_secs(5),
        };
        let lane = Lane::spawn(&lane).unwrap();
        let router = Arc::new(Router::new(Arc::clone(&catalog), executor, lane));
        let offload = Offload::spawn(&OffloadSettings::default()).unwrap();
        let service =
            Service::new(router, Arc::clone(&metrics), readiness.clone(), limits, offload);
        Self { service: Arc::new(service), readiness, catalog, metrics }
    }

    /// Adds a model whose champion is its first version; all are ready, and
    /// the second is a canary of `weight`.
    pub(crate) fn add(
        &self,
        settings: &ModelSettings,
        versions: &[Arc<LoadedVersion>],
        weight: Option<f64>,
    ) -> Arc<Plan> {
        self.publish(settings, versions, weight, None)
    }

    /// Adds a model with a champion and a shadow that gets every request.
    pub(crate) fn add_shadowed(
        &self,
        champion: &Arc<LoadedVersion>,
        shadow: &Arc<LoadedVersion>,
    ) -> Arc<Plan> {
        let versions = [Arc::clone(champion)];
        self.publish(&ModelSettings::default(), &versions, None, Some(shadow))
    }

    fn publish(
        &self,
        settings: &ModelSettings,
        versions: &[Arc<LoadedVersion>],
        weight: Option<f64>,
        shadowed: Option<&Arc<LoadedVersion>>,
    ) -> Arc<Plan> {
        let model = versions[0].model().clone();
        let arm = |version: &Arc<LoadedVersion>, role| Arm {
            version: Arc::clone(version),
            stats: self.metrics.arm(&model, version.id(), role),
            keeper: None,
        };
        let pinned = |version: &Arc<LoadedVersion>| (version.id(), arm(version, ArmRole::Pinned));
        let ready: BTreeMap<_, _> = versions.iter().map(pinned).collect();
        let canary = weight.map(|weight| Canary {
            arm: arm(&versions[1], ArmRole::Canary),
            weight: Share::from_percent(weight).unwrap(),
            holdback: false,
            recorder: Arc::new(Recorder::new(Share::from_percent(weight).unwrap(), Arc::default())),
        });
        let shadow = |version: &Arc<LoadedVersion>| Shadow {
            version: Arc::clone(version),
            sample: Share::ALL,
            stats: self.metrics.shadow(&model, version.id()),
            worst: Arc::new(Worst::default()),
            judge: Arc::new(Judge::new(version.signature(), settings)),
        };
        let shadows = shadowed.map(shadow).into_iter().collect();
        let plan = Arc::new(Plan {
            model: model.clone(),
            settings: Arc::new(settings.clone()),
            generation: 1,
            salt: Salt::new([7; 16]),
            counter: Arc::new(AtomicU64::new(0)),
            champion: Some(arm(&versions[0], ArmRole::Champion)),
            canary,
            shadows,
            ready,
        });
        self.catalog.insert(&model, &Arc::new(Slot::new(Arc::clone(&plan))));
        plan
    }
    /// Sends a request and reads its reply.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let (parts, body) = self.service.handle(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Got { status: parts.status, headers: parts.headers, body }
    }

    /// Posts JSON.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Got {
        self.send("POST", path, &[], body.to_owned()).await
    }

    /// What the metrics say.
    pub(crate) fn metrics(&self) -> String {
        self.metrics.render()
    }
}

/// A reply.
pub(crate) struct Got {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Got {
    /// The body as text, with the prediction id replaced by `ID`.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8(self.body.to_vec()).unwrap();
        match self.headers.get("x-prediction-id") {
            Some(id) => text.replace(id.to_str().unwrap(), "ID"),
            None => text,
        }
    }

    /// A header's text; empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The status and the message of an error.
    pub(crate) fn error(&self) -> (u16, String) {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        (self.status.as_u16(), body["error"].as_str().unwrap().to_owned())
    }
}

/// Compares with the file of that name in `tests/golden/http/`; with
/// `UPDATE_GOLDEN` in the environment, writes it instead.
pub(crate) fn golden(name: &str, got: &str) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/http");
    let path = std::path::Path::new(folder).join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{got}\n")).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap();
    assert_eq!(got, wanted.trim_end_matches('\n'), "{name}");
}
