//! The index of the repository; loading and unloading. What is asked for is read
//! here, whoever brought it; the repository itself is control's.

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::json::{self, Object};
use crate::protocol::message::short;
use crate::protocol::predict::version_number;
use crate::protocol::reply::{self, Reply};
use crate::protocol::v2::metadata;
use crate::types::{IndexEntry, ModelState, VersionId};

/// The index.
#[derive(Serialize, ToSchema)]
#[schema(as = V2RepositoryIndex)]
pub(in crate::protocol) struct Index(Vec<Line>);

#[derive(Serialize, ToSchema)]
#[schema(as = V2RepositoryEntry)]
struct Line {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    version: Option<String>,
    state: &'static str,
    reason: String,
}

/// `POST /v2/repository/index`: everything, or what is ready.
pub(in crate::protocol) fn index(entries: Vec<IndexEntry>, ready_only: bool) -> Reply {
    let shown = entries.into_iter().filter(|entry| !ready_only || entry.state == ModelState::Ready);
    let line = |entry: IndexEntry| Line {
        name: entry.model.to_string(),
        version: entry.version.map(|version| version.to_string()),
        state: entry.state.as_str(),
        reason: entry.reason,
    };
    metadata::json(&Index(shown.map(line).collect()))
}

/// The reply to a load or an unload that was done.
pub(in crate::protocol) fn done() -> Reply {
    reply::json(b"{}".to_vec())
}

/// Whether the index shall have only what is ready. Clients send an empty body,
/// too.
pub(in crate::protocol) fn ready_only(body: &[u8]) -> Result<bool> {
    let Some(text) = text(body)? else { return Ok(false) };
    let object: Object<'_> = json::parse(text)?;
    match object.get("ready") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => {
            let got = short(other);
            Err(Error::invalid(format!("\"ready\": expected true or false, got {got}")))
        }
    }
}

/// The version that a load or an unload is for, by the `parameters` of its body;
/// `None` means the whole model.
pub(in crate::protocol) fn version(body: &[u8]) -> Result<Option<VersionId>> {
    let Some(text) = text(body)? else { return Ok(None) };
    let object: Object<'_> = json::parse(text)?;
    let Some(parameters) = object.get("parameters").filter(|value| *value != "null") else {
        return Ok(None);
    };
    let parameters: Object<'_> = json::parse_part(text, parameters)?;
    let mut version = None;
    for (name, value) in parameters.iter() {
        if parameter(name)? {
            let number = version_number(value).ok_or_else(|| {
                let value = short(value);
                Error::invalid(format!(
                    "parameter \"version\": expected a whole number from 1, got {value}"
                ))
            });
            version = Some(number?);
        }
    }
    Ok(version)
}

/// Whether a parameter of a load or an unload is the version. What would give a
/// model other content than its folder's is refused: a version never changes.
pub(in crate::protocol) fn parameter(name: &str) -> Result<bool> {
    if name == "config" || name.starts_with("file:") {
        let name = short(name);
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!(
                "parameter {name:?}: a model is loaded from its folder only, and a version never \
                 changes; put a new version into the folder, and load without this parameter"
            ),
        ));
    }
    Ok(name == "version")
}

/// The body as text; `None` if there is nothing in it.
fn text(body: &[u8]) -> Result<Option<&str>> {
    let text = json::utf8(body)?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_understood() {
        for (body, expected) in
            [("", false), (" ", false), ("{}", false), (r#"{"ready":true}"#, true)]
        {
            assert_eq!(ready_only(body.as_bytes()).unwrap(), expected, "{body}");
        }
        let two = VersionId::new(2);
        for (body, expected) in [
            ("", None),
            ("{}", None),
            (r#"{"parameters":null}"#, None),
            (r#"{"parameters":{"unload_dependents":false}}"#, None),
            (r#"{"parameters":{"version":"2"}}"#, two),
            (r#"{"parameters":{"version":2}}"#, two),
            (r#"{"parameters":{"version":2.0}}"#, two),
            (r#"{"parameters":{"version":2e0}}"#, two),
        ] {
            assert_eq!(version(body.as_bytes()).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn what_is_not_taken_says_why() {
        let refused = |body: &str| version(body.as_bytes()).unwrap_err().message().to_owned();
        for name in ["config", "file:1/model.onnx"] {
            let message = refused(&format!(r#"{{"parameters":{{"{name}":"x"}}}}"#));
            assert!(message.starts_with(&format!("parameter {name:?}: a model")), "{message}");
        }
        assert!(refused(r#"{"parameters":{"version":"zero"}}"#).contains("parameter \"version\""));
        assert!(refused(r#"{"parameters":[]}"#).starts_with("wrong JSON at line 1 column 15"));
        assert!(refused("[").starts_with("wrong JSON"));
        let message = ready_only(br#"{"ready":1}"#).unwrap_err().message().to_owned();
        assert_eq!(message, "\"ready\": expected true or false, got 1");
    }
}
