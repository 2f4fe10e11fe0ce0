//! Rows and columns: `/predict`, Foreshadow's short form, and TensorFlow
//! Serving's `:predict` (V1), of which it is a dialect.
//!
//! Both take the same values in the same forms. The short form also takes
//! model, version, role and timeout from the body, names features and classes,
//! refuses keys that it does not know, and says in its reply who answered;
//! V1's clients expect none of that, and send keys of their own.

mod columns;
mod encode;
mod rows;

use std::borrow::Cow;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::protocol::Arrived;
use crate::protocol::call::{self, Accepted, Answered, Ask, Failed, Form};
use crate::protocol::json::{self, Element as _, Object, Reader, Token, Tokens};
use crate::protocol::message::short;
use crate::protocol::reply::{self, Reply};
use crate::protocol::route::Which;
use crate::protocol::v1::SIGNATURE;
use crate::routing::{Assignment, Plan, Router};
use crate::types::{GroupSource, Role, Tensor, VersionId};

/// The keys of a body, apart from the routing key.
const KEYS: &str = "instances, inputs, model, version, parameters, signature_name";
/// The keys of `parameters`.
const PARAMETERS: &str = "role, timeout";

/// Whose form a body and its reply have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Foreshadow's own.
    Short,
    /// TensorFlow Serving's.
    V1,
}

/// What the path asks for.
#[derive(Clone, Copy)]
pub(super) struct Target<'p> {
    /// The model, if the path names one.
    model: Option<&'p str>,
    /// Which of its versions.
    which: Which<'p>,
    dialect: Dialect,
}

impl<'p> Target<'p> {
    /// `/predict` or `/predict/{model}`.
    pub(super) const fn short(model: Option<&'p str>) -> Self {
        Self { model, which: Which::Any, dialect: Dialect::Short }
    }

    /// `/v1/models/{model}…:predict`.
    pub(super) const fn v1(model: &'p str, which: Which<'p>) -> Self {
        Self { model: Some(model), which, dialect: Dialect::V1 }
    }
}

/// Values of a request, still as text.
#[derive(Clone, Copy)]
enum Values<'a> {
    /// `instances`: one value per row.
    Rows(&'a str),
    /// `inputs`: one value per input.
    Columns(&'a str),
}

/// A body, taken apart.
struct Envelope<'a> {
    body: &'a str,
    /// Whether all of the body is known to be JSON.
    checked: bool,
    dialect: Dialect,
    values: Values<'a>,
    model: Option<Cow<'a, str>>,
    version: Option<VersionId>,
    role: Option<Role>,
    /// In microseconds.
    timeout: Option<u64>,
    others: Vec<(String, &'a str)>,
}

/// What an answer's form follows from.
pub(super) struct PredictForm {
    /// The number of rows, if they came as rows.
    rows: Option<usize>,
    dialect: Dialect,
}

/// Reads a request of rows or columns for the version that shall answer it,
/// within `timeout` where it names no other.
pub(super) fn accept(
    router: &Router,
    timeout: Duration,
    arrived: &Arrived<'_>,
    target: Target<'_>,
) -> Result<Accepted<PredictForm>, Failed> {
    let headers = &arrived.parts.headers;
    let dialect = target.dialect;
    let (version, label) = (target.which.version()?, target.which.role()?);
    let envelope = Envelope::read(&arrived.body, dialect)?;
    let grammar = || envelope.grammar();
    let asked = || -> Result<_> {
        let plan = match envelope.model(target.model)? {
            Some(model) => router.plan(model)?,
            None => router.plan(router.only_model()?.as_str())?,
        };
        let field = envelope.key(&plan)?;
        Ok((plan, field, call::header_role(headers)?, call::header_timeout(headers)?))
    };
    let (plan, field, role, asked_timeout) =
        asked().map_err(|error| grammar().unwrap_or(error)).map_err(Failed::from)?;
    let ask = Ask {
        plan: &plan,
        headers,
        version: version.or(envelope.version),
        role: label.or(role).or(envelope.role),
        key: call::header_key(headers).map(Cow::Borrowed).or(field),
        deadline: call::deadline(arrived.at, asked_timeout.or(envelope.timeout), timeout),
        at: arrived.at,
        read: arrived.read,
        grammar: &grammar,
        parameter: &|name: &str| envelope.parameter(name),
    };
    call::accept(router, ask, |assignment| {
        let (inputs, rows) = envelope.decode(assignment)?;
        Ok((inputs, PredictForm { rows, dialect }))
    })
}

impl Form for PredictForm {
    type Reply = Reply;

    fn encode(&self, answered: &Answered<'_>) -> Result<Reply> {
        let body = match self.rows {
            Some(rows) => encode::rows(answered, rows, self.dialect)?,
            None => encode::columns(answered, self.dialect)?,
        };
        Ok(reply::json(body))
    }
}

/// One hop by itself, for `benches/`: a body of rows to tensors.
pub fn decode_rows(body: &[u8], assignment: &Assignment) -> Result<Vec<Tensor>> {
    Ok(Envelope::read(body, Dialect::Short)?.decode(assignment)?.0)
}

/// One hop by itself, for `benches/`: outputs of `rows` rows to a reply's body.
pub fn encode_rows(assignment: &Assignment, outputs: &[Tensor], rows: usize) -> Result<Vec<u8>> {
    let prediction_id = "00000000000000000000000000000000";
    let answered = Answered { assignment, outputs, prediction_id };
    encode::rows(&answered, rows, Dialect::Short)
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8], dialect: Dialect) -> Result<Self> {
        let body = json::utf8(body)?;
        let (object, checked) = match Object::skim(body) {
            Some(object) => (object, false),
            None => (json::parse(body)?, true),
        };
        let read = Self::of(body, &object, checked, dialect);
        read.map_err(|error| grammar(body, checked).unwrap_or(error))
    }

    fn of(body: &'a str, object: &Object<'a>, checked: bool, dialect: Dialect) -> Result<Self> {
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
            checked,
            values,
            dialect,
            model: None,
            version: None,
            role: None,
            timeout: None,
            others: Vec::new(),
        };
        for (key, value) in object.iter() {
            match key {
                "instances" | "inputs" => {}
                "signature_name" => signature(&text(key, value)?)?,
                _ if dialect == Dialect::V1 => envelope.others.push((key.to_owned(), value)),
                "model" => envelope.model = Some(text(key, value)?),
                "version" => envelope.version = Some(version(value)?),
                "parameters" => envelope.parameters(value)?,
                other => envelope.others.push((other.to_owned(), value)),
            }
        }
        Ok(envelope)
    }

    /// What is wrong with the grammar of what has been skimmed only.
    fn grammar(&self) -> Option<Error> {
        grammar(self.body, self.checked)
    }

    fn parameters(&mut self, value: &'a str) -> Result<()> {
        let object: Object<'_> = json::parse_part(self.body, value)?;
        for (key, value) in object.iter() {
            match key {
                "role" => self.role = Some(call::role(&text(key, value)?)?),
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
    fn model<'m>(&'m self, path: Option<&'m str>) -> Result<Option<&'m str>> {
        match (path, self.model.as_deref()) {
            (Some(path), Some(body)) if path != body => Err(Error::invalid(format!(
                "the path names model {:?}, the body {:?}",
                short(path),
                short(body)
            ))),
            (name, None) | (_, name @ Some(_)) => Ok(name),
        }
    }

    /// The routing key in the body: a top-level field, else a feature of the
    /// first row. Other unknown keys are refused here, where the one that is
    /// allowed is known; what V1's clients send besides means nothing.
    fn key(&self, plan: &Plan) -> Result<Option<Cow<'a, [u8]>>> {
        let field = plan.settings.routing_key.as_deref();
        let mut found = None;
        for (key, value) in &self.others {
            if field != Some(key.as_str()) {
                if self.dialect == Dialect::V1 || is_groups(plan, key) {
                    continue;
                }
                let also = field.map(|field| format!(", {field}")).unwrap_or_default();
                return Err(Error::invalid(format!(
                    "unknown key {:?}; known: {KEYS}{also}",
                    short(key)
                )));
            }
            found = call::scalar_key(Tokens::new(value).next())
                .map_err(|error| error.context(format!("{key:?}")))?;
        }
        match (found, field, self.values) {
            (None, Some(field), Values::Rows(rows)) => {
                let features = &plan.settings.features;
                rows::first_row_key(Tokens::new(rows), features, field)
            }
            (None, Some(field), Values::Columns(columns)) => {
                let features = &plan.settings.features;
                match features.iter().position(|feature| feature == field) {
                    Some(n) => call::nth_key(Tokens::new(columns), n),
                    None => Ok(None),
                }
            }
            (found, ..) => Ok(found),
        }
    }

    /// A key beside the rows that is a text or a number.
    fn parameter(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let (_, value) = self.others.iter().find(|(key, _)| key == name)?;
        call::scalar_key(Tokens::new(value).next()).ok().flatten()
    }

    /// The inputs, and the number of rows if they came as rows.
    fn decode(&self, assignment: &Assignment) -> Result<(Vec<Tensor>, Option<usize>)> {
        let signature = assignment.version().signature();
        match self.values {
            Values::Rows(rows) => {
                let reader = Reader::new(self.body, rows).with_base64();
                let features = &assignment.plan().settings.features;
                let (tensors, rows) = rows::decode(self.body, reader, signature, features)?;
                Ok((tensors, Some(rows)))
            }
            Values::Columns(columns) => {
                let reader = Reader::new(self.body, columns).with_base64();
                Ok((columns::decode(self.body, reader, signature)?, None))
            }
        }
    }
}

/// Whether rows are divided by a key of the body.
fn is_groups(plan: &Plan, key: &str) -> bool {
    let groupings = plan.settings.labels.iter().flat_map(|labels| &labels.groupings);
    groupings.map(|own| &own.source).any(|source| match source {
        GroupSource::Parameter(name) => name == key,
        GroupSource::Column(_) | GroupSource::Header(_) => false,
    })
}

/// What is wrong with a body's grammar, if that is not known yet.
fn grammar(body: &str, checked: bool) -> Option<Error> {
    if checked {
        return None;
    }
    json::parse::<Object<'_>>(body).err()
}

/// A string under `key`.
fn text<'a>(key: &str, value: &'a str) -> Result<Cow<'a, str>> {
    match Tokens::new(value).next() {
        Token::String(inner) => {
            json::unescape(inner).map_err(|why| Error::invalid(format!("{key:?}: {why}")))
        }
        other => Err(Error::invalid(format!("{key:?}: expected a string, got {}", other.kind()))),
    }
}

/// Takes the only signature that a model has here, by its name or by none.
fn signature(name: &str) -> Result<()> {
    if name.is_empty() || name == SIGNATURE {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "\"signature_name\": {:?} is unknown; a model has {SIGNATURE:?} alone",
        short(name)
    )))
}

/// A version as a number or a string.
fn version(value: &str) -> Result<VersionId> {
    let wrong = |why| Error::invalid(format!("\"version\": {why}"));
    match Tokens::new(value).next() {
        Token::String(word) | Token::Word(word) => version_number(value)
            .ok_or_else(|| wrong(format!("{:?} is no version number", short(word)))),
        other => Err(wrong(format!("expected a number from 1, got {}", other.kind()))),
    }
}

/// A version as JSON has it: a string, or a whole number, however it is written
/// (`2.0` is one to whoever has no integers).
pub(super) fn version_number(value: &str) -> Option<VersionId> {
    match Tokens::new(value).next() {
        Token::String(word) => word.parse().ok(),
        number => u64::read(number).ok().and_then(VersionId::new),
    }
}

/// Microseconds of a timeout.
fn micros(value: &str) -> Result<u64> {
    value.parse().map_err(|_| {
        Error::invalid("parameter \"timeout\": expected a whole number of microseconds")
    })
}

#[cfg(test)]
mod tests;
