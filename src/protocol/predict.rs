//! `/predict`: Foreshadow's short form, which takes and gives what TensorFlow
//! Serving's `:predict` does, and names model, version and prediction.

mod columns;
mod encode;
mod rows;

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::protocol::call::{self, Answered, Ask, Failed};
use crate::protocol::json::{self, Object, Token, Tokens};
use crate::protocol::message::short;
use crate::protocol::reply::{self, Reply};
use crate::protocol::{Arrived, Service};
use crate::routing::{Assignment, Plan};
use crate::types::{ModelSettings, Role, Tensor, VersionId};

/// The keys of a body, apart from the routing key.
const KEYS: &str = "instances, inputs, model, version, parameters";
/// The keys of `parameters`.
const PARAMETERS: &str = "role, timeout";

/// Values of a request, still as text.
#[derive(Clone, Copy)]
enum Values<'a> {
    /// `instances`: one value per row.
    Rows(&'a RawValue),
    /// `inputs`: one value per input.
    Columns(&'a RawValue),
}

/// A body, taken apart.
struct Envelope<'a> {
    body: &'a str,
    values: Values<'a>,
    model: Option<Cow<'a, str>>,
    version: Option<VersionId>,
    role: Option<Role>,
    /// In microseconds.
    timeout: Option<u64>,
    others: Vec<(String, &'a RawValue)>,
}

impl Service {
    /// Answers `/predict` and `/predict/{model}`.
    pub(super) async fn predict(
        &self,
        arrived: &Arrived,
        model: Option<&str>,
    ) -> Result<Reply, Failed> {
        let headers = &arrived.parts.headers;
        call::check_encoding(headers)?;
        let envelope = Envelope::read(&arrived.body)?;
        let plan = match envelope.model(model)? {
            Some(model) => self.router.plan(&model)?,
            None => self.router.plan(self.router.only_model()?.as_str())?,
        };
        let field = envelope.key(&plan)?;
        let ask = Ask {
            plan: &plan,
            version: envelope.version,
            role: call::header_role(headers)?.or(envelope.role),
            key: call::header_key(headers).map(Cow::Borrowed).or(field),
            deadline: call::deadline(
                arrived.at,
                call::header_timeout(headers)?.or(envelope.timeout),
                self.limits.timeout,
            ),
            at: arrived.at,
        };
        let settings = &plan.settings;
        let decode = |assignment: &Assignment| envelope.decode(assignment, settings);
        self.call(ask, decode, |answered, rows| encode(answered, rows, settings)).await
    }
}

fn encode(answered: &Answered<'_>, rows: Option<usize>, settings: &ModelSettings) -> Result<Reply> {
    let body = match rows {
        Some(rows) => encode::rows(answered, rows, settings)?,
        None => encode::columns(answered, settings)?,
    };
    Ok(reply::json(body))
}

/// One hop by itself, for `benches/`: a body of rows to tensors.
pub fn decode_rows(body: &[u8], assignment: &Assignment) -> Result<Vec<Tensor>> {
    let settings = &assignment.plan().settings;
    Ok(Envelope::read(body)?.decode(assignment, settings)?.0)
}

/// One hop by itself, for `benches/`: outputs of `rows` rows to a reply's body.
pub fn encode_rows(assignment: &Assignment, outputs: &[Tensor], rows: usize) -> Result<Vec<u8>> {
    let prediction_id = "00000000000000000000000000000000";
    let answered = Answered { assignment, outputs, prediction_id };
    encode::rows(&answered, rows, &assignment.plan().settings)
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8]) -> Result<Self> {
        let body = json::utf8(body)?;
        let object: Object<'_> = json::parse(body)?;
        let values = match (object.get("instances"), object.get("inputs")) {
            (Some(rows), None) => Values::Rows(rows),
            (None, Some(columns)) => Values::Columns(columns),
            (Some(_), Some(_)) => {
                return Err(Error::invalid("both \"instances\" and \"inputs\"; send one of them"));
            }
            (None, None) => {
                return Err(Error::invalid(format!(
                    "\"instances\" (rows) or \"inputs\" (columns) is missing; known keys: {KEYS}"
                )));
            }
        };
        let mut envelope = Self {
            body,
            values,
            model: None,
            version: None,
            role: None,
            timeout: None,
            others: Vec::new(),
        };
        for (key, value) in object.iter() {
            match key {
                "instances" | "inputs" => {}
                "model" => envelope.model = Some(text(body, key, value)?),
                "version" => envelope.version = Some(version(body, value)?),
                "parameters" => envelope.parameters(value)?,
                other => envelope.others.push((other.to_owned(), value)),
            }
        }
        Ok(envelope)
    }

    fn parameters(&mut self, value: &'a RawValue) -> Result<()> {
        let object: Object<'_> = json::parse_part(self.body, value)?;
        for (key, value) in object.iter() {
            match key {
                "role" => self.role = Some(call::role(&text(self.body, key, value)?)?),
                "timeout" => self.timeout = Some(micros(value)?),
                other => {
                    return Err(Error::invalid(format!(
                        "unknown parameter {:?}; known: {PARAMETERS}",
                        short(other)
                    )));
                }
            }
        }
        Ok(())
    }

    /// The model that path or body name.
    fn model(&self, path: Option<&str>) -> Result<Option<Cow<'_, str>>> {
        match (path, self.model.as_deref()) {
            (Some(path), Some(body)) if path != body => Err(Error::invalid(format!(
                "the path names model {:?}, the body {:?}",
                short(path),
                short(body)
            ))),
            (Some(name), _) | (None, Some(name)) => Ok(Some(Cow::Owned(name.to_owned()))),
            (None, None) => Ok(None),
        }
    }

    /// The routing key in the body: a top-level field, else a feature of the
    /// first row. Other unknown keys are refused here, where the one that is
    /// allowed is known.
    fn key(&self, plan: &Plan) -> Result<Option<Cow<'a, [u8]>>> {
        let field = plan.settings.routing_key.as_deref();
        let mut found = None;
        for (key, value) in &self.others {
            if field != Some(key.as_str()) {
                let also = field.map(|field| format!(", {field}")).unwrap_or_default();
                return Err(Error::invalid(format!(
                    "unknown key {:?}; known: {KEYS}{also}",
                    short(key)
                )));
            }
            found = call::scalar_key(Tokens::new(self.body, value).next())
                .map_err(|error| error.context(format!("{key:?}")))?;
        }
        match (found, field, self.values) {
            (None, Some(field), Values::Rows(rows)) => {
                let features = &plan.settings.features;
                rows::first_row_key(Tokens::new(self.body, rows), features, field)
            }
            (None, Some(field), Values::Columns(columns)) => {
                let features = &plan.settings.features;
                match features.iter().position(|feature| feature == field) {
                    Some(n) => call::nth_key(Tokens::new(self.body, columns), n),
                    None => Ok(None),
                }
            }
            (found, ..) => Ok(found),
        }
    }

    /// The inputs, and the number of rows if they came as rows.
    fn decode(
        &self,
        assignment: &Assignment,
        settings: &ModelSettings,
    ) -> Result<(Vec<Tensor>, Option<usize>)> {
        let signature = assignment.version().signature();
        match self.values {
            Values::Rows(raw) => {
                let tokens = Tokens::new(self.body, raw);
                let (tensors, rows) =
                    rows::decode(self.body, tokens, signature, &settings.features)?;
                Ok((tensors, Some(rows)))
            }
            Values::Columns(raw) => {
                let tokens = Tokens::new(self.body, raw);
                Ok((columns::decode(self.body, tokens, signature)?, None))
            }
        }
    }
}

/// A string under `key`.
fn text<'a>(body: &'a str, key: &str, value: &'a RawValue) -> Result<Cow<'a, str>> {
    match Tokens::new(body, value).next() {
        Token::String(inner) => {
            json::unescape(inner).map_err(|why| Error::invalid(format!("{key:?}: {why}")))
        }
        other => Err(Error::invalid(format!("{key:?}: expected a string, got {}", other.kind()))),
    }
}

/// A version as a number or a string.
fn version(body: &str, value: &RawValue) -> Result<VersionId> {
    match Tokens::new(body, value).next() {
        Token::String(word) | Token::Word(word) => word
            .parse()
            .map_err(|_| short(word))
            .map_err(|word| Error::invalid(format!("\"version\": {word:?} is no version number"))),
        other => Err(Error::invalid(format!(
            "\"version\": expected a number from 1, got {}",
            other.kind()
        ))),
    }
}

/// Microseconds of a timeout.
fn micros(value: &RawValue) -> Result<u64> {
    value.get().parse().map_err(|_| {
        Error::invalid("parameter \"timeout\": expected a whole number of microseconds")
    })
}

#[cfg(test)]
mod tests;
