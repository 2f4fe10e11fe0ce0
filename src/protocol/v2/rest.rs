//! `POST …/infer`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};

use crate::error::{Error, Result};
use crate::protocol::Arrived;
use crate::protocol::call::{self, Accepted, Answered, Ask, Failed, Form};
use crate::protocol::json::{self, Tokens};
use crate::protocol::message::{names, short};
use crate::protocol::reply::{self, JSON_LENGTH, Reply};
use crate::protocol::v2::binary;
use crate::protocol::v2::json::{Chosen, InferRequest, Payload, answer, choose};
use crate::protocol::v2::parameters::{self, Parameters};
use crate::routing::{Assignment, Plan, Router};
use crate::types::{Datatype, Signature, Tensor, VersionId};

/// A request, taken apart, whatever form it came in.
pub(in crate::protocol) enum Request<'a> {
    /// An envelope, and the tensors in or behind it.
    Header(Box<Headed<'a>>),
    /// The body is the only input.
    Raw(&'a [u8]),
}

/// A request's envelope, and where the elements of its inputs are.
pub(in crate::protocol) struct Headed<'a> {
    /// The JSON part; empty where there is none.
    text: &'a str,
    request: InferRequest<'a>,
    /// Whether all of the JSON part is known to be JSON.
    checked: bool,
    payloads: Vec<Payload<'a>>,
}

/// What came beside a request's body.
pub(in crate::protocol) struct Beside<'a> {
    /// The plan of its model, loaded once for this request.
    pub(in crate::protocol) plan: &'a Arc<Plan>,
    /// The version that the client insists on.
    pub(in crate::protocol) version: Option<VersionId>,
    /// Its headers.
    pub(in crate::protocol) headers: &'a HeaderMap,
    /// When it arrived.
    pub(in crate::protocol) at: Instant,
    /// When its body was begun to be read.
    pub(in crate::protocol) read: Instant,
    /// The time for its answer, where it names none itself.
    pub(in crate::protocol) timeout: Duration,
    /// The most time for its answer, whatever else it says.
    pub(in crate::protocol) within: Option<Duration>,
}

/// What an answer's form follows from.
pub(in crate::protocol) struct InferForm {
    id: Option<String>,
    chosen: Vec<Chosen>,
}

/// Reads an inference request for the version that shall answer it, within
/// `timeout` where it names no other.
pub(in crate::protocol) fn accept(
    router: &Router,
    timeout: Duration,
    arrived: &Arrived<'_>,
    model: &str,
    version: Option<&str>,
) -> Result<Accepted<InferForm>, Failed> {
    let headers = &arrived.parts.headers;
    let plan = router.plan(model)?;
    let version = version.map(str::parse).transpose()?;
    let request = Request::read(headers, &arrived.body)?;
    let (at, read, within) = (arrived.at, arrived.read, None);
    let beside = Beside { plan: &plan, version, headers, at, read, timeout, within };
    request.accept(router, &beside, |id, chosen| InferForm { id: id.map(str::to_owned), chosen })
}

/// One hop by itself, for `benches/`: a body without raw tensors to tensors.
pub fn decode_infer(body: &[u8], assignment: &Assignment) -> Result<Vec<Tensor>> {
    Request::read(&HeaderMap::new(), body)?.decode(assignment.version().signature())
}

impl Form for InferForm {
    type Reply = Reply;

    fn encode(&self, answered: &Answered<'_>) -> Result<Reply> {
        let (mut body, tail) = answer(answered, self.id.as_deref(), &self.chosen)?;
        if !self.chosen.iter().any(|chosen| chosen.binary) {
            return Ok(reply::json(body));
        }
        let json_length = body.len();
        body.extend_from_slice(&tail);
        Ok(reply::mixed(body, json_length))
    }
}

impl<'a> Request<'a> {
    fn read(headers: &HeaderMap, body: &'a [u8]) -> Result<Self> {
        let (json, tail) = match headers.get(JSON_LENGTH) {
            None => (body, None),
            Some(value) => match json_length(value, body.len())? {
                0 => return Ok(Self::Raw(body)),
                length => (&body[..length], Some(&body[length..])),
            },
        };
        let text = json::utf8(json)?;
        let (request, checked) = match InferRequest::skim(text) {
            Some(request) => (request, false),
            None => (json::parse(text)?, true),
        };
        let mut headed = Headed { text, request, checked, payloads: Vec::new() };
        match headed.payloads(tail) {
            Ok(payloads) => headed.payloads = payloads,
            Err(error) => return Err(headed.grammar().unwrap_or(error)),
        }
        Ok(Self::Header(Box::new(headed)))
    }

    /// Finds the version that shall answer, and decodes the inputs for it. `form` is
    /// made of the request's id and the outputs that it wants.
    pub(in crate::protocol) fn accept<F>(
        &self,
        router: &Router,
        beside: &Beside<'_>,
        form: impl FnOnce(Option<&str>, Vec<Chosen>) -> F,
    ) -> Result<Accepted<F>, Failed> {
        let Beside { plan, version, headers, at, read, timeout, within } = *beside;
        let grammar = || self.grammar();
        let asked = || -> Result<_> {
            let parameters = self.parameters()?;
            let key = match call::header_key(headers) {
                Some(key) => Some(Cow::Borrowed(key)),
                None => self.key(plan)?,
            };
            let role = call::header_role(headers)?.or(parameters.role);
            let allowed = call::header_timeout(headers)?.or(parameters.timeout);
            Ok((parameters, key, role, allowed))
        };
        let (parameters, key, role, allowed) =
            asked().map_err(|error| grammar().unwrap_or(error)).map_err(Failed::from)?;
        let deadline = call::deadline(at, allowed, within.unwrap_or(timeout));
        let last = within.and_then(|within| at.checked_add(within));
        let deadline = deadline.into_iter().chain(last).min();
        let (grammar, parameter) = (&grammar, &|name: &str| self.parameter(name));
        let ask = Ask { plan, headers, version, role, key, parameter, deadline, at, read, grammar };
        call::accept(router, ask, |assignment| {
            let signature = assignment.version().signature();
            let chosen = self.choose(signature, parameters.binary_output)?;
            Ok((self.decode(signature)?, form(self.id(), chosen)))
        })
    }

    /// What is wrong with the grammar of what has been skimmed only.
    fn grammar(&self) -> Option<Error> {
        match self {
            Self::Header(headed) => headed.grammar(),
            Self::Raw(_) => None,
        }
    }

    fn parameters(&self) -> Result<Parameters> {
        match self {
            Self::Header(headed) => {
                Parameters::read(parameters::entries(headed.request.parameters.as_ref()))
            }
            // Who sends raw bytes can read them, too.
            Self::Raw(_) => Ok(Parameters { binary_output: true, ..Parameters::default() }),
        }
    }

    /// A parameter of the request that is a text or a number.
    fn parameter(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let Self::Header(headed) = self else { return None };
        let value = headed.request.parameters.as_ref()?.get(name)?;
        call::scalar_key(Tokens::new(value).next()).ok().flatten()
    }

    fn id(&self) -> Option<&str> {
        match self {
            Self::Header(headed) => headed.request.id.as_deref(),
            Self::Raw(_) => None,
        }
    }

    /// The routing key in the request: a parameter, else a feature of the
    /// first row.
    fn key(&self, plan: &Plan) -> Result<Option<Cow<'a, [u8]>>> {
        let (Self::Header(headed), Some(field)) = (self, &plan.settings.routing_key) else {
            return Ok(None);
        };
        let parameter = headed.request.parameters.as_ref().and_then(|object| object.get(field));
        if let Some(value) = parameter {
            return call::scalar_key(Tokens::new(value).next());
        }
        let at = plan.settings.features.iter().position(|feature| feature == field);
        let ([input], [payload], Some(n)) = (&headed.request.inputs[..], &headed.payloads[..], at)
        else {
            return Ok(None);
        };
        match payload {
            Payload::Json(value) => call::nth_key(Tokens::new(value), n),
            Payload::Raw(bytes) => {
                let datatype: Option<Datatype> = input.datatype.parse().ok();
                let key = datatype.and_then(|datatype| binary::nth_key(datatype, bytes, n));
                Ok(key.map(Cow::Owned))
            }
            Payload::Typed(elements) => Ok(elements.nth_key(n).map(Cow::Owned)),
        }
    }

    fn choose(&self, signature: &Signature, binary: bool) -> Result<Vec<Chosen>> {
        let (wanted, binary) = match self {
            // What has no JSON part is answered without one.
            Self::Header(headed) if headed.text.is_empty() => {
                (headed.request.outputs.as_deref(), None)
            }
            Self::Header(headed) => (headed.request.outputs.as_deref(), Some(binary)),
            Self::Raw(_) => (None, Some(binary)),
        };
        choose(&signature.outputs, wanted, binary)
    }

    /// The inputs of a version with this signature.
    pub(in crate::protocol) fn decode(&self, signature: &Signature) -> Result<Vec<Tensor>> {
        match self {
            Self::Header(headed) => headed.decode(signature),
            Self::Raw(body) => {
                let [spec] = &signature.inputs[..] else {
                    return Err(Error::invalid(format!(
                        "a raw body needs a model with one input, this one has {}",
                        signature.inputs.len()
                    )));
                };
                Ok(vec![binary::whole_body(spec, body)?])
            }
        }
    }
}

impl<'a> Headed<'a> {
    /// A request that did not come as JSON; `payloads` has one for each input.
    pub(in crate::protocol) fn of(request: InferRequest<'a>, payloads: Vec<Payload<'a>>) -> Self {
        Self { text: "", request, checked: true, payloads }
    }

    fn payloads(&self, mut tail: Option<&'a [u8]>) -> Result<Vec<Payload<'a>>> {
        let inputs = self.request.inputs.iter();
        let payloads = inputs.map(|input| input.payload(&mut tail)).collect::<Result<_>>()?;
        match tail.map_or(0, <[u8]>::len) {
            0 => Ok(payloads),
            left => Err(Error::invalid(format!(
                "{left} bytes are left behind the last binary input; the \"binary_data_size\" of \
                 the inputs must add up to the body behind the JSON"
            ))),
        }
    }

    fn grammar(&self) -> Option<Error> {
        if self.checked {
            return None;
        }
        json::parse::<InferRequest<'_>>(self.text).err()
    }

    /// Each input is looked up once; one that is unknown or comes twice ends
    /// the search, so a long list costs no more than the model has inputs.
    fn decode(&self, signature: &Signature) -> Result<Vec<Tensor>> {
        let mut tensors: Vec<Tensor> = Vec::with_capacity(signature.inputs.len());
        for (input, payload) in self.request.inputs.iter().zip(&self.payloads) {
            let Some(spec) = signature.input(&input.name) else {
                return Err(Error::invalid(format!(
                    "input {:?} is unknown; this model takes {}",
                    short(&input.name),
                    names(&signature.inputs)
                )));
            };
            if tensors.iter().any(|tensor| tensor.name() == input.name) {
                return Err(Error::invalid(format!("input {:?} is given twice", input.name)));
            }
            let (shape, data) = input.decode(self.text, *payload, spec)?;
            tensors.push(Tensor::new(&spec.name, shape, data)?);
        }
        Ok(tensors)
    }
}

/// The length of the JSON part.
fn json_length(value: &HeaderValue, body: usize) -> Result<usize> {
    let wrong = |why: String| Error::invalid(format!("header {JSON_LENGTH}: {why}"));
    let text = value.to_str().unwrap_or_default();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let length: Option<usize> = digits.then(|| text.parse().ok()).flatten();
    let length = length
        .ok_or_else(|| wrong(format!("expected a whole number from 0, got {:?}", short(text))))?;
    if length > body {
        return Err(wrong(format!("{length} bytes of JSON, but the body has only {body}")));
    }
    Ok(length)
}
