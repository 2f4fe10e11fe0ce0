//! Takes requests apart, with errors in our own form.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Deserializer};

use crate::admin::access::Caller;
use crate::admin::reply::ApiError;
use crate::error::{Error, ErrorCode, Result};
use crate::registry::Provenance;
use crate::types::{ModelName, VersionId};

/// The largest body.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest name of an actor.
const ACTOR_CHARS_MAX: usize = 128;
/// The longest reason.
const REASON_CHARS_MAX: usize = 1000;
/// Above this, not every whole number is a `f64`: 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Who it was when nobody said.
const UNNAMED: &str = "unnamed";

/// A JSON body; an empty one and `null` count as `{}`. The content type is not looked
/// at: a foreign page is known by its origin, and people forget it in `curl`.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
        let body = tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(|_| {
            let seconds = BODY_TIMEOUT.as_secs();
            Error::new(ErrorCode::RequestTimeout, format!("the body took longer than {seconds} s"))
        })?;
        let body = body.map_err(|error| broken_body(&*error))?.to_bytes();
        Ok(Self(parse(&body)?))
    }
}

/// Reads an object. serde would take an array as the fields in their order.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    // White space alone is no JSON.
    let text = match (body, body.trim_ascii()) {
        (b"", _) | (_, b"null") => b"{}",
        (_, text) => text,
    };
    let wrong = |error: serde_json::Error| Error::invalid(format!("body: {error}"));
    if text.starts_with(b"[") {
        serde_json::from_slice::<serde::de::IgnoredAny>(text).map_err(wrong)?;
        return Err(Error::invalid("body: expected an object, got an array"));
    }
    serde_json::from_slice(text).map_err(wrong)
}

fn broken_body(error: &(dyn std::error::Error + 'static)) -> Error {
    if error.is::<LengthLimitError>() {
        let message = format!("the body is over the limit of {BODY_BYTES_MAX} bytes");
        return Error::new(ErrorCode::TooLarge, message);
    }
    Error::invalid(format!("the body broke off: {error}"))
}

/// The query string; unknown parameters are refused by its type.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let query = query.map_err(|error| Error::invalid(error.body_text()))?;
        Ok(Self(query.0))
    }
}

/// `{model}` in the path.
pub(super) struct InModel(pub(super) ModelName);

impl<S: Send + Sync> FromRequestParts<S> for InModel {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(model) = path::<String, S>(parts, state).await?;
        Ok(Self(model.parse()?))
    }
}

/// `{model}` and `{version}` in the path.
pub(super) struct InVersion(pub(super) ModelName, pub(super) VersionId);

impl<S: Send + Sync> FromRequestParts<S> for InVersion {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path((model, version)) = path::<(String, String), S>(parts, state).await?;
        Ok(Self(model.parse()?, version.parse()?))
    }
}

async fn path<T: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<Path<T>> {
    let path = Path::<T>::from_request_parts(parts, state).await;
    path.map_err(|error| Error::invalid(error.body_text()))
}

/// A whole number in a body. JSON has one kind of number, so 2.0 is one as well.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let float = number.as_f64().filter(|x| x.fract() == 0.0 && (0.0..WHOLE_MAX).contains(x));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, in range")]
    let whole = number.as_u64().or(float.map(|x| x as u64));
    whole.ok_or_else(|| {
        serde::de::Error::custom(format!("{number}: expected a whole number from 1"))
    })
}

/// The same where it may be missing, or null.
pub(super) fn maybe_whole<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    #[derive(serde::Deserialize)]
    struct Whole(#[serde(deserialize_with = "whole")] u64);
    Ok(Option::<Whole>::deserialize(d)?.map(|Whole(number)| number))
}

/// A number from 1 in a body.
pub(super) fn numbered(name: &str, number: u64) -> Result<u64> {
    let wrong = || Error::invalid(format!("{name} {number}: expected a whole number from 1"));
    Some(number).filter(|number| *number > 0).ok_or_else(wrong)
}

/// A version's number in a body.
pub(super) fn version(number: u64) -> Result<VersionId> {
    let error = || Error::invalid(format!("version {number}: expected a whole number from 1"));
    VersionId::new(number).ok_or_else(error)
}

/// Checks who and why: they stand in the audit log for good. Whoever shows a token
/// with a name is that name, whatever else they say.
pub(super) fn provenance(
    caller: &Caller,
    actor: Option<String>,
    reason: Option<String>,
) -> Result<Provenance> {
    let said = line("actor", actor, ACTOR_CHARS_MAX)?;
    let reason = line("reason", reason, REASON_CHARS_MAX)?;
    let actor = match (&caller.name, said) {
        (Some(name), _) => name.clone(),
        (None, Some(said)) => {
            caller.may_be(&said)?;
            said
        }
        (None, None) => UNNAMED.to_owned(),
    };
    Ok(Provenance { actor, reason })
}

/// A text of one line; blank counts as none.
fn line(name: &str, text: Option<String>, chars_max: usize) -> Result<Option<String>> {
    let fits =
        |text: &String| text.chars().count() <= chars_max && !text.chars().any(char::is_control);
    if text.as_ref().is_none_or(fits) {
        return Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()));
    }
    let message =
        format!("{name}: expected at most {chars_max} characters without control characters");
    Err(Error::invalid(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    #[test]
    fn a_body_is_an_object_or_nothing() {
        for (body, expected) in
            [("", json!({})), (" null\n", json!({})), ("{\"a\": 1}", json!({"a": 1}))]
        {
            assert_eq!(parse::<Value>(body.as_bytes()).unwrap(), expected, "{body:?}");
        }
        for (body, message) in [
            ("[null, null]", "body: expected an object, got an array"),
            ("[null", "body: EOF while parsing a list at line 1 column 5"),
            ("{", "body: EOF while parsing an object at line 1 column 1"),
            ("\r", "body: EOF while parsing a value at line 1 column 0"),
        ] {
            assert_eq!(parse::<Value>(body.as_bytes()).unwrap_err().message(), message);
        }
    }

    #[test]
    fn two_is_a_whole_number_in_either_spelling() {
        #[derive(Deserialize)]
        struct Number(#[serde(deserialize_with = "whole")] u64);
        let read = |text| serde_json::from_str::<Number>(text).map(|number| number.0);
        for (text, expected) in
            [("2", 2), ("2.0", 2), ("2e1", 20), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        for text in ["2.5", "-1", "-1.0", "1e300", "18446744073709551616", "\"2\"", "null"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn who_and_why_are_one_line_each() {
        let caller = |name: Option<&str>| Caller::named(name);
        let provenance = |actor, reason| provenance(&caller(None), actor, reason);
        let by = provenance(Some(" eve ".into()), Some("  ".into())).unwrap();
        assert_eq!(by, Provenance { actor: "eve".into(), reason: None });
        assert_eq!(provenance(None, None).unwrap().actor, UNNAMED);
        let bad = [
            (Some("a\nb".into()), None),
            (Some("a\n".into()), None),
            (None, Some("x".repeat(1001))),
        ];
        for (actor, reason) in bad {
            assert!(provenance(actor, reason).is_err());
        }
        let by = super::provenance(&caller(Some("ann")), Some("eve".into()), None).unwrap();
        assert_eq!(by.actor, "ann");
    }
}
