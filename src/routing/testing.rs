//! Versions and plans for this layer's tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::engine::{EngineError, EngineErrorKind, Model, Session};
use crate::routing::{Arm, Canary, Judge, Plan, Salt, Shadow, Worst};
use crate::serving::LoadedVersion;
use crate::telemetry::recorder::Recorder;
use crate::telemetry::{ArmRole, Metrics};
use crate::types::{
    Data, Datatype, Digest, Dim, ModelName, ModelSettings, Share, Signature, Tensor, TensorSpec,
    VersionId,
};

/// What a test model does with its input.
pub(super) type Behaviour =
    Arc<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, EngineError> + Send + Sync>;

struct Graph(Signature, Behaviour);
struct Run(Behaviour);

impl Model for Graph {
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(Run(Arc::clone(&self.1))))
    }
}

impl Session for Run {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        (self.0)(inputs)
    }
}

pub(super) fn name() -> ModelName {
    ModelName::new("m").unwrap()
}

pub(super) fn number(n: u64) -> VersionId {
    VersionId::new(n).unwrap()
}

pub(super) fn row(x: f32) -> Tensor {
    Tensor::new("x", vec![1, 1], Data::Fp32(vec![x])).unwrap()
}

/// Answers `y = x + offset`.
pub(super) fn adds(offset: f32) -> Behaviour {
    Arc::new(move |inputs| {
        let Data::Fp32(x) = inputs[0].data() else { unreachable!("checked") };
        let y = Data::Fp32(x.iter().map(|v| v + offset).collect());
        Ok(vec![Tensor::new("y", inputs[0].shape().to_vec(), y).unwrap()])
    })
}

pub(super) fn fails() -> Behaviour {
    Arc::new(|_| Err(EngineError::new(EngineErrorKind::Internal, "no")))
}

/// Takes and gives `width` FP32 per row.
pub(super) fn version(n: u64, width: usize, behaviour: Behaviour) -> Arc<LoadedVersion> {
    let spec = |name: &str| {
        TensorSpec::new(name, Datatype::Fp32, vec![Dim::Symbol("N".into()), Dim::Fixed(width)])
    };
    version_of(n, Signature::new(vec![spec("x")], vec![spec("y")]), behaviour)
}

/// A version of any signature.
pub(super) fn version_of(n: u64, signature: Signature, behaviour: Behaviour) -> Arc<LoadedVersion> {
    let graph = Arc::new(Graph(signature, behaviour));
    let digest = Digest::new([u8::try_from(n).unwrap(); 32]);
    Arc::new(LoadedVersion::new(name(), number(n), digest, "test", graph))
}

pub(super) fn shadow(metrics: &Metrics, version: &Arc<LoadedVersion>, sample: Share) -> Shadow {
    Shadow {
        version: Arc::clone(version),
        sample,
        stats: metrics.shadow(&name(), version.id()),
        worst: Arc::new(Worst::default()),
        judge: Arc::new(Judge::new(version.signature(), &ModelSettings::default())),
    }
}

/// Champion 1, maybe canary 2, and shadows.
pub(super) fn plan(
    metrics: &Metrics,
    settings: ModelSettings,
    canary: Option<Share>,
    shadows: Vec<Shadow>,
) -> Arc<Plan> {
    let arm = |n: u64, role| Arm {
        version: version(n, 1, adds(0.0)),
        stats: metrics.arm(&name(), number(n), role),
        keeper: None,
    };
    let ready = |n: u64| (number(n), arm(n, ArmRole::Pinned));
    Arc::new(Plan {
        model: name(),
        settings: Arc::new(settings),
        generation: 1,
        salt: Salt::new([9; 16]),
        counter: Arc::new(AtomicU64::new(0)),
        champion: Some(arm(1, ArmRole::Champion)),
        canary: canary.map(|weight| Canary {
            arm: arm(2, ArmRole::Canary),
            weight,
            holdback: false,
            recorder: Arc::new(Recorder::new(weight, Arc::default())),
        }),
        shadows,
        ready: BTreeMap::from([ready(1), ready(2)]),
    })
}
