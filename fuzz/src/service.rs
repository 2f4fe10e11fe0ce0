//! A gateway without sockets and without an engine: models that give back what
//! they get, so that every answer can be checked against its request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use foreshadow::engine::{EngineError, Model, Session};
use foreshadow::protocol::{Grpc, GrpcSettings, Offload, OffloadSettings, RequestLimits, Service};
use foreshadow::routing::{Arm, Catalog, Lane, LaneSettings, Plan, Router, Salt, Slot};
use foreshadow::serving::{Executor, ExecutorSettings, LoadedVersion};
use foreshadow::telemetry::{ArmRole, Metrics};
use foreshadow::types::{
    Datatype, Digest, Dim, ModelName, ModelSettings, Readiness, Signature, Tensor, TensorSpec,
    VersionId,
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};

/// The largest body, as sent and as unpacked: small, so that a bomb is one soon.
pub const BODY_BYTES_MAX: usize = 1 << 20;

struct Echo(Signature);

struct EchoSession;

impl Model for Echo {
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(EchoSession))
    }
}

impl Session for EchoSession {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let back = |tensor: &Tensor| {
            let (name, shape, data) = tensor.clone().into_parts();
            Tensor::new(format!("{name}_out"), shape, data).expect("as it came")
        };
        Ok(inputs.iter().map(back).collect())
    }
}

/// A model of each datatype, `x` [N, 3] to `x_out`; `pair`, with inputs `a`
/// FP32 [N, 2] and `b` BYTES [N, 1]; `rows`, with named features.
fn models() -> Vec<(String, Vec<TensorSpec>, ModelSettings)> {
    let spec = |name: &str, datatype, width| {
        TensorSpec::new(name, datatype, vec![Dim::Symbol("N".into()), Dim::Fixed(width)])
    };
    let mut models: Vec<_> = Datatype::ALL
        .iter()
        .map(|datatype| {
            let name = datatype.to_string().to_lowercase();
            (name, vec![spec("x", *datatype, 3)], ModelSettings::default())
        })
        .collect();
    let pair = vec![spec("a", Datatype::Fp32, 2), spec("b", Datatype::Bytes, 1)];
    models.push(("pair".into(), pair, ModelSettings::default()));
    let features = ["age", "plan", "grüße"].map(str::to_owned).to_vec();
    let routing_key = Some("age".to_owned());
    let settings =
        ModelSettings { features, routing_key, allow_forced_role: true, ..Default::default() };
    models.push(("rows".into(), vec![spec("x", Datatype::Fp32, 3)], settings));
    models
}

fn plan(metrics: &Metrics, name: &str, inputs: Vec<TensorSpec>, settings: ModelSettings) -> Plan {
    let outputs = inputs
        .iter()
        .map(|spec| TensorSpec { name: format!("{}_out", spec.name), ..spec.clone() })
        .collect();
    let model = ModelName::new(name).expect("a good name");
    let id = VersionId::new(1).expect("from 1");
    let graph = Arc::new(Echo(Signature::new(inputs, outputs)));
    let version = LoadedVersion::new(model.clone(), id, Digest::new([0; 32]), "echo", graph);
    version.warm_up().expect("it answers everything");
    let version = Arc::new(version);
    let arm = |role| Arm {
        version: Arc::clone(&version),
        stats: metrics.arm(&model, id, role),
    };
    Plan {
        generation: 1,
        settings: Arc::new(settings),
        salt: Salt::new([7; 16]),
        counter: Arc::new(AtomicU64::new(0)),
        champion: Some(arm(ArmRole::Champion)),
        canary: None,
        shadows: Vec::new(),
        ready: BTreeMap::from([(id, arm(ArmRole::Pinned))]),
        model: model.clone(),
    }
}

/// The service, and what runs it.
pub struct Gateway {
    runtime: tokio::runtime::Runtime,
    service: Arc<Service>,
    grpc: Arc<Grpc>,
}

/// A reply.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as sent.
    pub body: Bytes,
}

impl Default for Gateway {
    fn default() -> Self {
        Self::new()
    }
}

impl Gateway {
    /// Starts one. Runs stay on the caller's thread.
    #[must_use]
    pub fn new() -> Self {
        let (metrics, catalog) = (Arc::new(Metrics::new()), Arc::new(Catalog::default()));
        for (name, inputs, settings) in models() {
            let plan = Arc::new(plan(&metrics, &name, inputs, settings));
            catalog.insert(&plan.model.clone(), &Arc::new(Slot::new(plan)));
        }
        let executor = ExecutorSettings { inline_limit: Duration::MAX, ..Default::default() };
        let executor = Executor::spawn(&executor, &metrics).expect("threads");
        let lane = LaneSettings {
            threads: 1,
            queue_count_max: 1,
            queue_bytes_max: 1 << 20,
            timeout: Duration::from_secs(5),
        };
        let lane = Lane::spawn(&lane).expect("threads");
        let router = Arc::new(Router::new(catalog, executor, lane));
        let offload = Offload::spawn(&OffloadSettings::default()).expect("threads");
        let limits = RequestLimits { body_bytes_max: BODY_BYTES_MAX, ..Default::default() };
        let service = Service::new(router, metrics, Readiness::default(), limits, offload);
        let service = Arc::new(service);
        let settings = GrpcSettings { message_bytes_max: BODY_BYTES_MAX, ..Default::default() };
        let grpc = Arc::new(Grpc::new(Arc::clone(&service), settings));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Self { runtime: runtime.expect("a runtime"), service, grpc }
    }

    /// Sends a request, and checks what holds for every reply: a whole one,
    /// that is not the gateway's own fault.
    pub fn send(&self, request: http::request::Builder, body: Vec<u8>) -> Option<Reply> {
        let request: Request<_> = request.body(Full::new(Bytes::from(body))).ok()?;
        let reply = self.runtime.block_on(async {
            let (parts, body) = self.service.handle(request).await.into_parts();
            let body = body.collect().await.expect("it is written already").to_bytes();
            Reply { status: parts.status, headers: parts.headers, body }
        });
        reply.check();
        Some(reply)
    }

    /// Makes a call of gRPC; its status.
    pub fn call(&self, request: http::request::Builder, body: Vec<u8>) -> Option<i32> {
        let request: Request<_> = request.body(Full::new(Bytes::from(body))).ok()?;
        self.runtime.block_on(async {
            let (head, body) = self.grpc.handle(request).await.into_parts();
            assert_eq!(head.status, StatusCode::OK);
            let body = body.collect().await.expect("the gateway's bodies do not break off");
            let trailers = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
            let status = head.headers.get("grpc-status").or(trailers);
            let status = status.expect("every call has a status").to_str().expect("ASCII");
            Some(status.parse().expect("a number"))
        })
    }
}

impl Reply {
    fn check(&self) {
        let text = || String::from_utf8_lossy(&self.body).into_owned();
        assert_ne!(self.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", text());
        if !self.status.is_success() {
            let error: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
            assert!(error["error"].as_str().is_some_and(|error| !error.is_empty()), "{}", text());
        }
    }
}
