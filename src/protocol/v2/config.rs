//! `GET …/config`: a model's configuration in the form that Triton gives it,
//! for its clients. Made from what serves, and what the `config.pbtxt` says.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Result;
use crate::protocol::reply::Reply;
use crate::protocol::v2::metadata;
use crate::routing::{Arm, Plan};
use crate::types::{Batching, DeclaredTensor, TensorSpec, TritonSettings, VersionPolicy};

/// A model's configuration; the names are those of `inference.ModelConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = V2ModelConfig)]
pub(in crate::protocol) struct ModelConfig {
    /// The model's name.
    pub(in crate::protocol) name: String,
    /// The same word as in the metadata.
    pub(in crate::protocol) platform: String,
    /// The engine.
    pub(in crate::protocol) backend: String,
    /// Which versions are loaded.
    pub(in crate::protocol) version_policy: Policy,
    /// The most rows of a request; 0 where the first dimension is no row. Where
    /// nobody limits them, the most rows that are ever run as one.
    pub(in crate::protocol) max_batch_size: usize,
    /// What it takes.
    pub(in crate::protocol) input: Vec<Input>,
    /// What it gives.
    pub(in crate::protocol) output: Vec<Output>,
    /// If requests are put together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol) dynamic_batching: Option<DynamicBatching>,
    /// The artifact's name in a version's folder.
    pub(in crate::protocol) default_model_filename: String,
    /// Free parameters of the `config.pbtxt`.
    pub(in crate::protocol) parameters: BTreeMap<String, Parameter>,
}

/// `ModelVersionPolicy`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = V2VersionPolicy)]
#[serde(rename_all = "lowercase")]
pub(in crate::protocol) enum Policy {
    /// So many of the highest numbers.
    Latest {
        /// How many.
        num_versions: usize,
    },
    /// All of them.
    All {},
    /// These.
    Specific {
        /// Which.
        versions: Vec<u64>,
    },
}

/// `ModelInput`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = V2ModelInput)]
pub(in crate::protocol) struct Input {
    /// Its name.
    pub(in crate::protocol) name: String,
    /// `TYPE_FP32`.
    pub(in crate::protocol) data_type: &'static str,
    /// Always none.
    pub(in crate::protocol) format: &'static str,
    /// Without the rows, where there are some; −1 may vary.
    pub(in crate::protocol) dims: Vec<i64>,
    /// The shape that the graph has instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol) reshape: Option<Reshape>,
    /// Never.
    pub(in crate::protocol) is_shape_tensor: bool,
    /// Never.
    pub(in crate::protocol) allow_ragged_batch: bool,
    /// Never.
    pub(in crate::protocol) optional: bool,
}

/// `ModelOutput`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = V2ModelOutput)]
pub(in crate::protocol) struct Output {
    /// Its name.
    pub(in crate::protocol) name: String,
    /// `TYPE_FP32`.
    pub(in crate::protocol) data_type: &'static str,
    /// Without the rows, where there are some; −1 may vary.
    pub(in crate::protocol) dims: Vec<i64>,
    /// The shape that the graph has instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol) reshape: Option<Reshape>,
    /// The file that names the classes; empty without one.
    pub(in crate::protocol) label_filename: String,
    /// Never.
    pub(in crate::protocol) is_shape_tensor: bool,
}

/// `ModelTensorReshape`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = V2TensorReshape)]
pub(in crate::protocol) struct Reshape {
    /// Without the rows, where there are some.
    pub(in crate::protocol) shape: Vec<usize>,
}

/// `ModelDynamicBatching`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = V2DynamicBatching)]
pub(in crate::protocol) struct DynamicBatching {
    /// None: whatever waits is run.
    #[schema(value_type = Vec<u64>)]
    pub(in crate::protocol) preferred_batch_size: [usize; 0],
    /// How long a request may wait for others, where the model says so.
    pub(in crate::protocol) max_queue_delay_microseconds: u64,
}

/// `ModelParameter`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = V2ModelParameter)]
pub(in crate::protocol) struct Parameter {
    /// Its value.
    pub(in crate::protocol) string_value: String,
}

/// `GET /v2/models/{m}[/versions/{v}]/config`.
pub(in crate::protocol) fn reply(plan: &Plan, version: Option<&str>) -> Result<Reply> {
    Ok(metadata::json(&ModelConfig::of(plan, version)?))
}

impl ModelConfig {
    /// That of the version, without one of the champion.
    pub(in crate::protocol) fn of(plan: &Plan, version: Option<&str>) -> Result<Self> {
        let arm = metadata::arm(plan, version)?;
        let (settings, signature) = (&plan.settings, arm.version.signature());
        let none = TritonSettings::default();
        let triton = settings.triton.as_deref();
        let declared = &triton.unwrap_or(&none).declared;
        let (inputs, outputs) = (by_name(&declared.inputs), by_name(&declared.outputs));
        let rows = rows(arm, triton);
        let skip = usize::from(rows > 0);
        let batched = arm.version.is_batched() && settings.batching.enabled;
        let delay = settings.batching.delay_max.unwrap_or_default();
        let dynamic_batching = (batched && rows > 1).then(|| DynamicBatching {
            preferred_batch_size: [],
            max_queue_delay_microseconds: u64::try_from(delay.as_micros()).unwrap_or(u64::MAX),
        });
        let filename = triton.and_then(|triton| triton.default_model_filename.clone());
        let parameters = triton.into_iter().flat_map(|triton| &triton.parameters);
        let parameter = |(key, value): (&String, &String)| {
            (key.clone(), Parameter { string_value: value.clone() })
        };
        let input = |spec: &TensorSpec| input(spec, inputs.get(&*spec.name).copied(), skip);
        let output = |spec: &TensorSpec| output(spec, outputs.get(&*spec.name).copied(), skip);
        Ok(Self {
            name: plan.model.to_string(),
            platform: metadata::platform(arm),
            backend: arm.version.engine().to_owned(),
            version_policy: policy(triton.map_or(&VersionPolicy::All, |t| &t.version_policy)),
            max_batch_size: rows,
            input: signature.inputs.iter().map(input).collect(),
            output: signature.outputs.iter().map(output).collect(),
            dynamic_batching,
            default_model_filename: filename.unwrap_or_else(|| "model.onnx".to_owned()),
            parameters: parameters.map(parameter).collect(),
        })
    }
}

/// The most rows of a request; 0 where the first dimension is no row.
fn rows(arm: &Arm, triton: Option<&TritonSettings>) -> usize {
    match triton {
        Some(TritonSettings { max_batch_size: Some(rows), .. }) => *rows,
        Some(triton) if triton.declared.batched == Some(false) => 0,
        _ if arm.version.is_batched() => Batching::ROWS_LIMIT,
        _ => 0,
    }
}

fn policy(policy: &VersionPolicy) -> Policy {
    match policy {
        VersionPolicy::All => Policy::All {},
        VersionPolicy::Latest(count) => Policy::Latest { num_versions: *count },
        VersionPolicy::Specific(versions) => {
            Policy::Specific { versions: versions.iter().map(|version| version.get()).collect() }
        }
    }
}

fn by_name(declared: &[DeclaredTensor]) -> HashMap<&str, &DeclaredTensor> {
    declared.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect()
}

fn dims(spec: &TensorSpec, skip: usize) -> Vec<i64> {
    spec.wire_shape().into_iter().skip(skip).collect()
}

fn reshape(tensor: Option<&DeclaredTensor>) -> Option<Reshape> {
    tensor.and_then(|tensor| tensor.reshape.clone()).map(|shape| Reshape { shape })
}

fn input(spec: &TensorSpec, tensor: Option<&DeclaredTensor>, skip: usize) -> Input {
    Input {
        name: spec.name.clone(),
        data_type: spec.datatype.config_name(),
        format: "FORMAT_NONE",
        dims: dims(spec, skip),
        reshape: reshape(tensor),
        is_shape_tensor: false,
        allow_ragged_batch: false,
        optional: false,
    }
}

fn output(spec: &TensorSpec, tensor: Option<&DeclaredTensor>, skip: usize) -> Output {
    Output {
        name: spec.name.clone(),
        data_type: spec.datatype.config_name(),
        dims: dims(spec, skip),
        reshape: reshape(tensor),
        label_filename: tensor.and_then(|tensor| tensor.label_file.clone()).unwrap_or_default(),
        is_shape_tensor: false,
    }
}
