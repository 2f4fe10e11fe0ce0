//! `POST …/infer`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};

use crate::error::{Error, Result};
use crate::protocol::call::{self, Answered, Ask, Failed};
use crate::protocol::json::{self, Tokens};
use crate::protocol::message::{names, short};
use crate::protocol::reply::{self, JSON_LENGTH, Reply};
use crate::protocol::v2::binary;
use crate::protocol::v2::json::{Chosen, InferRequest, Parameters, Payload, answer, choose};
use crate::protocol::{Arrived, Service};
use crate::routing::{Assignment, Plan};
use crate::types::{Datatype, ModelSettings, Signature, Tensor};

/// A request, taken apart.
enum Request<'a> {
    /// JSON, and raw tensors behind it.
    Header(Box<Headed<'a>>),
    /// The body is the only input.
    Raw(&'a [u8]),
}

struct Headed<'a> {
    /// The JSON part.
    text: &'a str,
    request: InferRequest<'a>,
    payloads: Vec<Payload<'a>>,
}

impl Service {
    /// Answers an inference request.
    pub(in crate::protocol) async fn infer(
        &self,
        arrived: &Arrived,
        model: &str,
        version: Option<&str>,
    ) -> Result<Reply, Failed> {
        let headers = &arrived.parts.headers;
        call::check_encoding(headers)?;
        let plan = self.router.plan(model)?;
        let version = version.map(str::parse).transpose()?;
        let request = Request::read(headers, &arrived.body)?;
        let parameters = request.parameters()?;
        let key = match call::header_key(headers) {
            Some(key) => Some(Cow::Borrowed(key)),
            None => request.key(&plan)?,
        };
        let ask = Ask {
            plan: &plan,
            version,
            role: call::header_role(headers)?.or(parameters.role),
            key,
            deadline: call::deadline(
                arrived.at,
                call::header_timeout(headers)?.or(parameters.timeout),
                self.limits.timeout,
            ),
            at: arrived.at,
        };
        let decode = |assignment: &Assignment| {
            let signature = assignment.version().signature();
            let chosen = request.choose(signature, parameters.binary_output)?;
            Ok((request.decode(signature)?, chosen))
        };
        let settings = &plan.settings;
        self.call(ask, decode, |answered, chosen| encode(answered, request.id(), &chosen, settings))
            .await
    }
}

impl<'a> Request<'a> {
    fn read(headers: &HeaderMap, body: &'a [u8]) -> Result<Self> {
        let (json, mut tail) = match headers.get(JSON_LENGTH) {
            None => (body, None),
            Some(value) => match json_length(value, body.len())? {
                0 => return Ok(Self::Raw(body)),
                length => (&body[..length], Some(&body[length..])),
            },
        };
        let text = json::utf8(json)?;
        let request: InferRequest<'_> = json::parse(text)?;
        let payloads: Result<_> =
            request.inputs.iter().map(|input| input.payload(&mut tail)).collect();
        let payloads = payloads?;
        let left = tail.map_or(0, <[u8]>::len);
        if left > 0 {
            return Err(Error::invalid(format!(
                "{left} bytes are left behind the last binary input; the \"binary_data_size\" of \
                 the inputs must add up to the body behind the JSON"
            )));
        }
        Ok(Self::Header(Box::new(Headed { text, request, payloads })))
    }

    fn parameters(&self) -> Result<Parameters> {
        match self {
            Self::Header(headed) => Parameters::read(headed.request.parameters.as_ref()),
            // Who sends raw bytes can read them, too.
            Self::Raw(_) => Ok(Parameters { binary_output: true, ..Parameters::default() }),
        }
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
            return call::scalar_key(Tokens::new(headed.text, value).next());
        }
        let at = plan.settings.features.iter().position(|feature| feature == field);
        let ([input], [payload], Some(n)) = (&headed.request.inputs[..], &headed.payloads[..], at)
        else {
            return Ok(None);
        };
        match payload {
            Payload::Json(raw) => call::nth_key(Tokens::new(headed.text, raw), n),
            Payload::Raw(bytes) => {
                let datatype: Option<Datatype> = input.datatype.parse().ok();
                let key = datatype.and_then(|datatype| binary::nth_key(datatype, bytes, n));
                Ok(key.map(Cow::Owned))
            }
        }
    }

    fn choose(&self, signature: &Signature, binary: bool) -> Result<Vec<Chosen>> {
        let wanted = match self {
            Self::Header(headed) => headed.request.outputs.as_deref(),
            Self::Raw(_) => None,
        };
        choose(&signature.outputs, wanted, binary)
    }

    fn decode(&self, signature: &Signature) -> Result<Vec<Tensor>> {
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

impl Headed<'_> {
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

fn encode(
    answered: &Answered<'_>,
    id: Option<&str>,
    chosen: &[Chosen],
    settings: &ModelSettings,
) -> Result<Reply> {
    let (mut body, tail) = answer(answered, id, chosen, settings)?;
    if !chosen.iter().any(|(_, binary)| *binary) {
        return Ok(reply::json(body));
    }
    let json_length = body.len();
    body.extend_from_slice(&tail);
    Ok(reply::mixed(body, json_length))
}
