//! Parameters of a request, of an input and of an output, whichever protocol
//! brought them. What is not known here is for others, and left alone; what is
//! no parameter at all (an object, say) is refused even so.

use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, Result};
use crate::protocol::call;
use crate::protocol::json::{Object, unescape};
use crate::protocol::message::short;
use crate::types::Role;

/// A parameter's value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::protocol) enum Value<'a> {
    /// `true` or `false`.
    Boolean(bool),
    /// A number, as its decimal text.
    Number(Cow<'a, str>),
    /// A string.
    Text(Cow<'a, str>),
    /// What is none, and what it is instead.
    Other(&'static str),
}

impl<'a> Value<'a> {
    /// The value that a text of JSON is, which has been checked already.
    fn json(text: &'a str) -> Self {
        match text.as_bytes().first() {
            Some(b't') => Self::Boolean(true),
            Some(b'f') => Self::Boolean(false),
            Some(b'"') => {
                let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                let inner = inner.and_then(|inner| unescape(inner).ok());
                inner.map_or(Self::Other("a broken string"), Self::Text)
            }
            Some(b'[') => Self::Other("an array"),
            Some(b'{') => Self::Other("an object"),
            Some(b'n') | None => Self::Other("null"),
            Some(_) => Self::Number(Cow::Borrowed(text)),
        }
    }

    fn boolean(&self, name: &str) -> Result<bool> {
        match self {
            Self::Boolean(value) => Ok(*value),
            _ => Err(wrong(name, "true or false", self)),
        }
    }

    fn whole(&self, name: &str) -> Result<u64> {
        let number = match self {
            Self::Number(text) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| wrong(name, "a whole number from 0", self))
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Number(text) => f.write_str(&short(text)),
            Self::Text(text) => write!(f, "{:?}", short(text)),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

/// The entries of a JSON object.
pub(in crate::protocol) fn entries<'o>(
    object: Option<&'o Object<'_>>,
) -> impl Iterator<Item = (&'o str, Value<'o>)> {
    object.into_iter().flat_map(Object::iter).map(|(name, text)| (name, Value::json(text)))
}

/// What the parameters of a request ask for.
#[derive(Default)]
pub(in crate::protocol) struct Parameters {
    /// The role that the client insists on.
    pub(in crate::protocol) role: Option<Role>,
    /// In microseconds.
    pub(in crate::protocol) timeout: Option<u64>,
    /// Whether outputs are binary unless they say otherwise.
    pub(in crate::protocol) binary_output: bool,
}

impl Parameters {
    /// Reads those that mean something here. `priority` must be one, and means
    /// nothing: requests are run as they come. A
    /// sequence would be answered wrongly, so it is refused.
    pub(in crate::protocol) fn read<'a>(
        parameters: impl Iterator<Item = (&'a str, Value<'a>)>,
    ) -> Result<Self> {
        let mut read = Self::default();
        for (name, value) in parameters {
            must_be_one(name, &value)?;
            match name {
                "role" => {
                    let Value::Text(role) = &value else {
                        return Err(wrong(name, "a string", &value));
                    };
                    read.role = Some(call::role(role)?);
                }
                "timeout" => read.timeout = Some(value.whole(name)?),
                "priority" => _ = value.whole(name)?,
                "binary_data_output" => read.binary_output = value.boolean(name)?,
                "sequence_id" => refuse_sequence(name, is_nothing(&value))?,
                "sequence_start" | "sequence_end" => {
                    refuse_sequence(name, !value.boolean(name)?)?;
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

/// The bytes that an input says to have behind the JSON.
pub(in crate::protocol) fn binary_size<'a>(
    parameters: impl Iterator<Item = (&'a str, Value<'a>)>,
) -> Result<Option<usize>> {
    let mut size = None;
    for (name, value) in parameters {
        must_be_one(name, &value)?;
        match name {
            "shared_memory_region" => return Err(no_shared_memory(name)),
            "binary_data_size" => {
                size = Some(usize::try_from(value.whole(name)?).unwrap_or(usize::MAX));
            }
            _ => {}
        }
    }
    Ok(size)
}

/// What the parameters of an output ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol) struct OutputParameters {
    /// Whether it is to be binary; `None` for as the request says.
    pub(in crate::protocol) binary: Option<bool>,
    /// How many of the largest entries are wanted in its place; 0 is none.
    pub(in crate::protocol) classes: usize,
}

impl OutputParameters {
    /// Reads those that mean something here.
    pub(in crate::protocol) fn read<'a>(
        parameters: impl Iterator<Item = (&'a str, Value<'a>)>,
    ) -> Result<Self> {
        let mut read = Self::default();
        for (name, value) in parameters {
            must_be_one(name, &value)?;
            match name {
                "shared_memory_region" => return Err(no_shared_memory(name)),
                "binary_data" => read.binary = Some(value.boolean(name)?),
                "classification" => {
                    read.classes = usize::try_from(value.whole(name)?).unwrap_or(usize::MAX);
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

fn must_be_one(name: &str, value: &Value<'_>) -> Result<()> {
    match value {
        Value::Other(_) => Err(wrong(name, "a string, a number or a boolean", value)),
        _ => Ok(()),
    }
}

/// No sequence has this id.
fn is_nothing(id: &Value<'_>) -> bool {
    match id {
        Value::Number(text) => text == "0",
        Value::Text(text) => text.is_empty(),
        Value::Boolean(_) | Value::Other(_) => false,
    }
}

fn refuse_sequence(name: &str, absent: bool) -> Result<()> {
    if absent {
        return Ok(());
    }
    let message = format!(
        "parameter {name:?}: no model here keeps state between requests; send each request by \
         itself, without it"
    );
    Err(Error::invalid(message))
}

fn no_shared_memory(name: &str) -> Error {
    let message = format!(
        "parameter {name:?}: memory is not shared with clients here; send the tensor's bytes"
    );
    Error::invalid(message)
}

fn wrong(name: &str, expected: &str, got: &Value<'_>) -> Error {
    let name = short(name);
    Error::invalid(format!("parameter {name:?}: expected {expected}, got {got}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    fn object(text: &str) -> Object<'_> {
        serde_json::from_str(text).unwrap()
    }

    fn refused(text: &str) -> (ErrorCode, String) {
        let object = object(text);
        let error = Parameters::read(entries(Some(&object))).err().unwrap();
        (error.code(), error.message().to_owned())
    }

    #[test]
    fn what_means_something_is_read_and_the_rest_left_alone() {
        let text = r#"{"timeout":5,"priority":1,"binary_data_output":true,"role":"canary",
            "sequence_id":0,"sequence_start":false,"mine":"a","more":1.5,"most":false}"#;
        let object = object(text);
        let read = Parameters::read(entries(Some(&object))).unwrap();
        assert_eq!((read.role, read.timeout), (Some(Role::Canary), Some(5)));
        assert!(read.binary_output);
        assert!(Parameters::read(entries(None)).is_ok());
    }

    #[test]
    fn a_value_of_a_wrong_kind_is_told_so() {
        let anything = "a string, a number or a boolean";
        for (text, name, expected, got) in [
            (r#"{"timeout":"x"}"#, "timeout", "a whole number from 0", "\"x\""),
            (r#"{"timeout":-1}"#, "timeout", "a whole number from 0", "-1"),
            (r#"{"timeout":1.5}"#, "timeout", "a whole number from 0", "1.5"),
            (r#"{"priority":"high"}"#, "priority", "a whole number from 0", "\"high\""),
            (r#"{"binary_data_output":1}"#, "binary_data_output", "true or false", "1"),
            (r#"{"sequence_end":"no"}"#, "sequence_end", "true or false", "\"no\""),
            (r#"{"role":7}"#, "role", "a string", "7"),
            (r#"{"timeout":"a\""}"#, "timeout", "a whole number from 0", r#""a\"""#),
            (r#"{"mine":{}}"#, "mine", anything, "an object"),
            (r#"{"mine":[1]}"#, "mine", anything, "an array"),
            (r#"{"mine":null}"#, "mine", anything, "null"),
        ] {
            let expected = format!("parameter {name:?}: expected {expected}, got {got}");
            assert_eq!(refused(text), (ErrorCode::InvalidArgument, expected));
        }
    }

    #[test]
    fn sequences_and_shared_memory_are_refused() {
        for text in [r#"{"sequence_id":7}"#, r#"{"sequence_id":"a"}"#, r#"{"sequence_start":true}"#]
        {
            let (code, message) = refused(text);
            assert_eq!(code, ErrorCode::InvalidArgument);
            assert!(message.contains("no model here keeps state"), "{message}");
        }
        let region = object(r#"{"shared_memory_region":"a"}"#);
        let input = binary_size(entries(Some(&region))).unwrap_err();
        let output = OutputParameters::read(entries(Some(&region))).unwrap_err();
        assert_eq!(input.message(), output.message());
        assert_eq!(input.code(), ErrorCode::InvalidArgument);
    }

    #[test]
    fn inputs_and_outputs_have_their_own() {
        let size = |text: &str| binary_size(entries(Some(&object(text))));
        assert_eq!(size(r#"{"binary_data_size":8,"mine":1}"#).unwrap(), Some(8));
        assert_eq!(size("{}").unwrap(), None);
        let message = size(r#"{"binary_data_size":-8}"#).unwrap_err().message().to_owned();
        let expected = "parameter \"binary_data_size\": expected a whole number from 0, got -8";
        assert_eq!(message, expected);
        let output = |text: &str| OutputParameters::read(entries(Some(&object(text))));
        let read = output(r#"{"binary_data":false,"classification":3}"#).unwrap();
        assert_eq!(read, OutputParameters { binary: Some(false), classes: 3 });
        assert!(output(r#"{"classification":"3"}"#).is_err());
        assert!(output(r#"{"binary_data":null}"#).is_err());
    }
}
