//! The figures of a plan's versions, side by side.

use serde_json::Value;

use crate::error::{Error, ErrorCode, Result};
use crate::registry::{
    Comparison, ComparisonArm, ComparisonShadow, DisagreementView, ModelView, TensorView,
};
use crate::routing::{Arm, Disagreement, Plan};
use crate::types::{Data, Share, Tensor, VersionId};

/// What champion, canary and shadows did so far.
pub(super) fn compare(view: &ModelView, plan: &Plan) -> Comparison {
    let weight = plan.canary.as_ref().map_or(Share::ZERO, |canary| canary.weight);
    let rest = Share::from_basis_points(Share::ALL.basis_points() - weight.basis_points());
    let row = |arm: &Arm, share| ComparisonArm {
        version: arm.version.id(),
        share,
        figures: arm.stats.snapshot(),
    };
    let shadows = plan.shadows.iter().map(|shadow| ComparisonShadow {
        version: shadow.version.id(),
        sample: shadow.sample,
        figures: shadow.stats.snapshot(),
    });
    Comparison {
        model: plan.model.to_string(),
        plan: view.plan.clone(),
        champion: plan.champion.as_ref().map(|arm| row(arm, rest.unwrap_or(Share::ALL))),
        canary: plan.canary.as_ref().map(|canary| row(&canary.arm, canary.weight)),
        shadows: shadows.collect(),
    }
}

/// The worst disagreements of one shadow.
pub(super) fn disagreements(plan: &Plan, version: VersionId) -> Result<Vec<DisagreementView>> {
    let shadow = plan.shadows.iter().find(|shadow| shadow.version.id() == version);
    let shadow = shadow.ok_or_else(|| {
        let message = format!("model {} has no shadow {version} now", plan.model);
        Error::new(ErrorCode::NotFound, message)
    })?;
    let features = &plan.settings.features;
    Ok(shadow.worst.list().into_iter().map(|found| disagreement(found, features)).collect())
}

fn disagreement(found: Disagreement, features: &[String]) -> DisagreementView {
    let view = |tensors: Vec<Tensor>| tensors.into_iter().map(tensor).collect();
    DisagreementView {
        prediction_id: found.prediction_id,
        rows: found.agreement.rows,
        rows_disagreed: found.agreement.disagreed,
        difference_max: found.agreement.max,
        features: features.to_vec(),
        inputs: view(found.inputs),
        champion: view(found.champion),
        shadow: view(found.shadow),
    }
}

fn tensor(tensor: Tensor) -> TensorView {
    let datatype = tensor.datatype().as_str();
    let (name, shape, data) = tensor.into_parts();
    let element = |i: usize| match &data {
        Data::Bytes(v) => Value::from(String::from_utf8_lossy(&v[i]).into_owned()),
        Data::Bool(v) => Value::from(v[i]),
        Data::Int64(v) => Value::from(v[i]),
        Data::Uint64(v) => Value::from(v[i]),
        Data::Fp32(v) => float(v[i]),
        other => other.as_f64(i).map_or(Value::Null, Value::from),
    };
    let values = (0..data.len()).map(element).collect();
    TensorView { name, datatype, shape, data: values }
}

/// The shortest decimal that reads back as the same FP32; null if not finite.
fn float(x: f32) -> Value {
    let shortest = x.is_finite().then(|| x.to_string().parse::<f64>().ok()).flatten();
    shortest.map_or(Value::Null, Value::from)
}
