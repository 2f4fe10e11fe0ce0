//! What the server and its models are, and whether they are ready.

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::reply::Reply;
pub(super) use crate::protocol::reply::value as json;
use crate::routing::{Arm, Plan};
use crate::types::{Readiness, TensorSpec, VersionId};

/// What the server is called.
pub(in crate::protocol) const NAME: &str = "foreshadow";

/// The extensions that are implemented; clients rely on what is listed.
pub(in crate::protocol) const EXTENSIONS: &[&str] = &[
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
];

#[derive(Serialize, ToSchema)]
#[schema(as = V2Server)]
pub(in crate::protocol) struct Server {
    name: &'static str,
    version: &'static str,
    extensions: &'static [&'static str],
}

#[derive(Serialize, ToSchema)]
#[schema(as = V2Live)]
pub(in crate::protocol) struct Live {
    live: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V2Ready)]
pub(in crate::protocol) struct Ready<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    ready: bool,
}

/// What a model is.
#[derive(Serialize, ToSchema)]
#[schema(as = V2Model)]
pub(in crate::protocol) struct Model<'a> {
    /// Its name.
    pub(in crate::protocol) name: &'a str,
    /// The versions that are ready; of a version, itself.
    pub(in crate::protocol) versions: Vec<String>,
    /// `onnx_` and the engine.
    pub(in crate::protocol) platform: String,
    /// What must be sent.
    pub(in crate::protocol) inputs: Vec<Tensor<'a>>,
    /// What comes back.
    pub(in crate::protocol) outputs: Vec<Tensor<'a>>,
    #[serde(skip_serializing_if = "Description::is_empty")]
    parameters: Description<'a>,
}

/// One input or output.
#[derive(Serialize, ToSchema)]
#[schema(as = V2Tensor)]
pub(in crate::protocol) struct Tensor<'a> {
    /// Its name.
    pub(in crate::protocol) name: &'a str,
    /// Its datatype's name.
    pub(in crate::protocol) datatype: &'static str,
    /// Its dimensions; −1 for one that may vary.
    pub(in crate::protocol) shape: Vec<i64>,
    #[serde(skip_serializing_if = "About::is_empty")]
    parameters: About<'a>,
}

/// What the artifact says of one input or output.
#[derive(Serialize, ToSchema)]
#[schema(as = V2TensorParameters)]
struct About<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    classes: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
}

impl About<'_> {
    fn is_empty(&self) -> bool {
        self.classes.is_empty() && self.description.is_empty()
    }
}

/// What the artifact says of itself.
#[derive(Serialize, ToSchema)]
#[schema(as = V2ModelParameters)]
struct Description<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    producer: &'a str,
}

impl Description<'_> {
    fn is_empty(&self) -> bool {
        self.description.is_empty() && self.producer.is_empty()
    }
}

/// `GET /v2`.
pub(in crate::protocol) fn server() -> Reply {
    let version = env!("CARGO_PKG_VERSION");
    json(&Server { name: NAME, version, extensions: EXTENSIONS })
}

/// `GET /v2/health/live`: whoever can answer is alive.
pub(in crate::protocol) fn live() -> Reply {
    json(&Live { live: true })
}

/// `GET /v2/health/ready`.
pub(in crate::protocol) fn ready(readiness: &Readiness) -> Result<Reply> {
    if readiness.is_ready() {
        return Ok(json(&Ready { name: None, ready: true }));
    }
    let message = format!("not ready: {}", readiness.as_str());
    Err(Error::new(ErrorCode::Unavailable, message))
}

/// `GET /v2/models/{m}[/versions/{v}]`.
pub(in crate::protocol) fn model(plan: &Plan, version: Option<&str>) -> Result<Reply> {
    describe(plan, version).map(|model| json(&model))
}

/// A model by the signature of the version, without one of the champion.
pub(in crate::protocol) fn describe<'a>(
    plan: &'a Plan,
    version: Option<&str>,
) -> Result<Model<'a>> {
    let arm = arm(plan, version)?;
    let versions = match version {
        Some(_) => vec![arm.version.id().to_string()],
        None => plan.ready.keys().map(ToString::to_string).collect(),
    };
    let signature = arm.version.signature();
    Ok(Model {
        name: plan.model.as_str(),
        versions,
        platform: platform(arm),
        inputs: tensors(&signature.inputs),
        outputs: tensors(&signature.outputs),
        parameters: Description {
            description: &signature.docs.description,
            producer: &signature.docs.producer,
        },
    })
}

/// The version that is asked about: without a number the champion.
pub(super) fn arm<'a>(plan: &'a Plan, version: Option<&str>) -> Result<&'a Arm> {
    let arm = match version {
        Some(text) => plan.ready.get(&pinned(plan, text)?),
        None => plan.champion.as_ref(),
    };
    arm.ok_or_else(|| no_champion(plan))
}

/// What runs it, in the protocol's word.
pub(super) fn platform(arm: &Arm) -> String {
    format!("onnx_{}", arm.version.engine())
}

/// `GET …/ready`.
pub(in crate::protocol) fn model_ready(plan: &Plan, version: Option<&str>) -> Result<Reply> {
    check_ready(plan, version)?;
    Ok(json(&Ready { name: Some(plan.model.as_str()), ready: true }))
}

/// Whether the version, without one the champion, may answer; else why not.
pub(in crate::protocol) fn check_ready(plan: &Plan, version: Option<&str>) -> Result<()> {
    match version {
        Some(text) => pinned(plan, text).map(|_| ()),
        None if plan.champion.is_none() => Err(no_champion(plan)),
        None => Ok(()),
    }
}

/// A version that is ready, by its name in the path.
pub(in crate::protocol) fn pinned(plan: &Plan, text: &str) -> Result<VersionId> {
    let version: VersionId = text.parse()?;
    if plan.ready.contains_key(&version) {
        return Ok(version);
    }
    let ready: Vec<_> = plan.ready.keys().map(ToString::to_string).collect();
    let ready = if ready.is_empty() { "none".to_owned() } else { ready.join(", ") };
    let message = format!("model {} has no ready version {version}; ready: {ready}", plan.model);
    Err(Error::new(ErrorCode::NotFound, message))
}

/// The error for a model that nobody answers for.
pub(in crate::protocol) fn no_champion(plan: &Plan) -> Error {
    let message = format!("model {} has no champion that is ready", plan.model);
    Error::new(ErrorCode::Unavailable, message)
}

fn tensors(specs: &[TensorSpec]) -> Vec<Tensor<'_>> {
    let mut tensors = Vec::with_capacity(specs.len());
    for spec in specs {
        let TensorSpec { name, datatype, doc, classes, .. } = spec;
        let (datatype, shape) = (datatype.as_str(), spec.wire_shape());
        let parameters = About { classes, description: doc };
        tensors.push(Tensor { name, datatype, shape, parameters });
    }
    tensors
}
