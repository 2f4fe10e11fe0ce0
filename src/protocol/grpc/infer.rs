//! A message of inference as the request that every form becomes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;

use crate::error::{Error, Result};
use crate::protocol::call::{Accepted, Failed};
use crate::protocol::grpc::pb::infer_parameter::ParameterChoice;
use crate::protocol::grpc::pb::{InferParameter, ModelInferRequest};
use crate::protocol::json::{KEYS_MAX, Object};
use crate::protocol::message::short;
use crate::protocol::v2::{
    Beside, Chosen, Headed, InferRequest, InputTensor, Payload, Request, WantedOutput,
};
use crate::routing::{Assignment, Router};
use crate::types::Tensor;

/// What came beside a message, and what holds where it says nothing.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// The call's headers.
    pub(super) headers: &'a HeaderMap,
    /// When it arrived.
    pub(super) at: Instant,
    /// When it was begun to be read.
    pub(super) read: Instant,
    /// The time for its answer, where it names none itself.
    pub(super) timeout: Duration,
    /// The most time for its answer.
    pub(super) within: Option<Duration>,
}

/// Bytes to a message.
pub(super) fn message<M: prost::Message + Default>(bytes: Bytes) -> Result<M> {
    M::decode(bytes).map_err(|error| Error::invalid(format!("malformed protobuf: {error}")))
}

/// Reads a message for the version that shall answer it. `form` is made of its id
/// and the outputs that it wants.
pub(super) fn accept<F>(
    router: &Router,
    message: &ModelInferRequest,
    around: Around<'_>,
    form: impl FnOnce(Option<&str>, Vec<Chosen>) -> F,
) -> Result<Accepted<F>, Failed> {
    let plan = router.plan(&message.model_name)?;
    let version = match message.model_version.as_str() {
        "" => None,
        text => Some(text.parse()?),
    };
    let texts = Texts::of(message)?;
    let Around { headers, at, read, timeout, within } = around;
    let beside = Beside { plan: &plan, version, headers, at, read, timeout, within };
    self::read(message, &texts)?.accept(router, &beside, form)
}

/// One hop by itself, for fuzzing: a message to tensors.
pub fn decode_message(bytes: &[u8], assignment: &Assignment) -> Result<Vec<Tensor>> {
    let message: ModelInferRequest = message(Bytes::copy_from_slice(bytes))?;
    let texts = Texts::of(&message)?;
    read(&message, &texts)?.decode(assignment.version().signature())
}

/// The same request, as it would have come with raw tensors over REST.
fn read<'a>(message: &'a ModelInferRequest, texts: &'a Texts<'a>) -> Result<Request<'a>> {
    let (count, raw) = (message.inputs.len(), &message.raw_input_contents);
    if !raw.is_empty() && raw.len() != count {
        return Err(Error::invalid(format!(
            "{} raw_input_contents for {count} inputs; expected one for each, in their order",
            raw.len()
        )));
    }
    let mut inputs = Vec::with_capacity(count);
    let mut payloads = Vec::with_capacity(count);
    for (i, input) in message.inputs.iter().enumerate() {
        let tensor = InputTensor {
            name: Cow::Borrowed(&input.name),
            shape: input.shape.clone(),
            datatype: Cow::Borrowed(&input.datatype),
            parameters: texts.inputs.get(i).and_then(Text::object),
            data: None,
        };
        tensor.check_parameters()?;
        payloads.push(match (raw.get(i), &input.contents) {
            (Some(_), Some(contents)) if !contents.is_empty() => {
                return Err(tensor.wrong("both contents and raw_input_contents; send one of them"));
            }
            (Some(bytes), _) => Payload::Raw(bytes),
            (None, Some(contents)) => Payload::Typed(contents),
            (None, None) => {
                return Err(tensor.wrong("contents or raw_input_contents is missing"));
            }
        });
        inputs.push(tensor);
    }
    let outputs = message.outputs.iter().enumerate().map(|(i, output)| WantedOutput {
        name: Cow::Borrowed(&output.name),
        parameters: texts.outputs.get(i).and_then(Text::object),
    });
    let request = InferRequest {
        id: Some(Cow::Borrowed(message.id.as_str())).filter(|id| !id.is_empty()),
        parameters: texts.request.object(),
        inputs,
        outputs: Some(outputs.collect::<Vec<_>>()).filter(|outputs| !outputs.is_empty()),
    };
    Ok(Request::Header(Box::new(Headed::of(request, payloads))))
}

/// The parameters of a message as JSON has them.
struct Texts<'a> {
    request: Text<'a>,
    inputs: Vec<Text<'a>>,
    outputs: Vec<Text<'a>>,
}

/// Keys, and values as JSON text.
struct Text<'a>(Vec<(&'a str, String)>);

impl<'a> Texts<'a> {
    fn of(message: &'a ModelInferRequest) -> Result<Self> {
        let inputs = message.inputs.iter().map(|input| &input.parameters);
        let outputs = message.outputs.iter().map(|output| &output.parameters);
        Ok(Self {
            request: Text::of(&message.parameters)?,
            inputs: inputs.map(Text::of).collect::<Result<_>>()?,
            outputs: outputs.map(Text::of).collect::<Result<_>>()?,
        })
    }
}

impl<'a> Text<'a> {
    fn of(parameters: &'a BTreeMap<String, InferParameter>) -> Result<Self> {
        if parameters.len() > KEYS_MAX {
            let count = parameters.len();
            return Err(Error::invalid(format!("{count} parameters; at most {KEYS_MAX}")));
        }
        let mut texts = Vec::with_capacity(parameters.len());
        for (key, parameter) in parameters {
            texts.push((key.as_str(), json(key, parameter)?));
        }
        Ok(Self(texts))
    }

    fn object(&self) -> Option<Object<'_>> {
        let entries = self.0.iter().map(|(key, text)| (*key, text.as_str()));
        (!self.0.is_empty()).then(|| Object::of(entries))
    }
}

/// A parameter's value as JSON.
fn json(key: &str, parameter: &InferParameter) -> Result<String> {
    Ok(match &parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => value.to_string(),
        Some(ParameterChoice::Int64Param(value)) => value.to_string(),
        Some(ParameterChoice::Uint64Param(value)) => value.to_string(),
        Some(ParameterChoice::DoubleParam(value)) => format!("{value:?}"),
        Some(ParameterChoice::StringParam(text)) => {
            serde_json::to_string(text).expect("a string always serialises")
        }
        None => {
            return Err(Error::invalid(format!(
                "parameter {:?}: its value is of no known type; expected bool_param, \
                 int64_param, string_param, double_param or uint64_param",
                short(key)
            )));
        }
    })
}
