//! A version's signature, as TensorFlow Serving describes one.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Result;
use crate::protocol::reply::{self, Reply};
use crate::protocol::route::Which;
use crate::protocol::v1::SIGNATURE;
use crate::protocol::v1::status::versions;
use crate::protocol::v2::metadata::no_champion;
use crate::routing::Plan;
use crate::types::{Datatype, TensorSpec};

/// The method of every signature.
const METHOD: &str = "tensorflow/serving/predict";

/// TensorFlow Serving's `GetModelMetadataResponse`.
#[derive(Serialize, ToSchema)]
#[schema(as = V1Metadata)]
pub(in crate::protocol) struct Metadata<'a> {
    model_spec: Spec<'a>,
    metadata: Signatures<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V1ModelSpec)]
struct Spec<'a> {
    name: &'a str,
    signature_name: &'static str,
    version: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V1Signatures)]
struct Signatures<'a> {
    signature_def: SignatureMap<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V1SignatureMap)]
struct SignatureMap<'a> {
    signature_def: BTreeMap<&'static str, Signature<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V1Signature)]
struct Signature<'a> {
    inputs: BTreeMap<&'a str, Tensor<'a>>,
    outputs: BTreeMap<&'a str, Tensor<'a>>,
    method_name: &'static str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V1Tensor)]
struct Tensor<'a> {
    dtype: &'static str,
    tensor_shape: Shape,
    name: &'a str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V1Shape)]
struct Shape {
    dim: Vec<Dim>,
    unknown_rank: bool,
}

/// A size; −1 where it varies.
#[derive(Serialize, ToSchema)]
#[schema(as = V1Dim)]
struct Dim {
    size: String,
    name: &'static str,
}

/// `GET …/metadata`: of the version that the path names, else of the champion.
pub(in crate::protocol) fn metadata(plan: &Plan, which: Which<'_>) -> Result<Reply> {
    let arm = match which {
        Which::Any => plan.champion.as_ref(),
        _ => versions(plan, which)?.first().and_then(|version| plan.ready.get(version)),
    };
    let arm = arm.ok_or_else(|| no_champion(plan))?;
    let signature = arm.version.signature();
    let signature = Signature {
        inputs: tensors(&signature.inputs),
        outputs: tensors(&signature.outputs),
        method_name: METHOD,
    };
    let version = arm.version.id().to_string();
    let signature_def = SignatureMap { signature_def: BTreeMap::from([(SIGNATURE, signature)]) };
    Ok(reply::value(&Metadata {
        model_spec: Spec { name: plan.model.as_str(), signature_name: "", version },
        metadata: Signatures { signature_def },
    }))
}

fn tensors(specs: &[TensorSpec]) -> BTreeMap<&str, Tensor<'_>> {
    specs.iter().map(|spec| (spec.name.as_str(), tensor(spec))).collect()
}

fn tensor(spec: &TensorSpec) -> Tensor<'_> {
    let dim = |size: i64| Dim { size: size.to_string(), name: "" };
    let dim = spec.wire_shape().into_iter().map(dim).collect();
    let tensor_shape = Shape { dim, unknown_rank: false };
    Tensor { dtype: dtype(spec.datatype), tensor_shape, name: &spec.name }
}

/// TensorFlow's name of a datatype.
const fn dtype(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "DT_BOOL",
        Datatype::Uint8 => "DT_UINT8",
        Datatype::Uint16 => "DT_UINT16",
        Datatype::Uint32 => "DT_UINT32",
        Datatype::Uint64 => "DT_UINT64",
        Datatype::Int8 => "DT_INT8",
        Datatype::Int16 => "DT_INT16",
        Datatype::Int32 => "DT_INT32",
        Datatype::Int64 => "DT_INT64",
        Datatype::Fp16 => "DT_HALF",
        Datatype::Fp32 => "DT_FLOAT",
        Datatype::Fp64 => "DT_DOUBLE",
        Datatype::Bytes => "DT_STRING",
    }
}
