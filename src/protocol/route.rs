//! Paths to routes; pure.

use http::Method;

use crate::error::{Error, ErrorCode};
use crate::types::Wish;

/// What a path and a method ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'p> {
    /// `POST /predict` or `POST /predict/{model}`.
    Predict {
        /// The model, if the path names one.
        model: Option<&'p str>,
    },
    /// `GET /v2`.
    ServerMetadata,
    /// `GET /v2/health/live`.
    Live,
    /// `GET /v2/health/ready`.
    Ready,
    /// `GET /v2/models/stats`.
    Statistics,
    /// `POST /v2/repository/index`.
    Index,
    /// `POST /v2/repository/models/{model}/load` or `…/unload`.
    Wish {
        /// The model.
        model: &'p str,
        /// What is to become of it.
        wish: Wish,
    },
    /// Below `/v2/models/{model}[/versions/{version}]`.
    Model {
        /// The model.
        model: &'p str,
        /// The version, as it stands in the path.
        version: Option<&'p str>,
        /// What is asked about it.
        verb: Verb,
    },
}

/// What is asked about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// `GET` on the model itself.
    Metadata,
    /// `GET …/ready`.
    Ready,
    /// `GET …/config`.
    Config,
    /// `GET …/stats`.
    Statistics,
    /// `POST …/infer`.
    Infer,
}

/// Every route, for those who lost their way.
const ROUTES: &str = "POST /predict, POST /predict/{model}, GET /v2, GET /v2/health/live, \
                      GET /v2/health/ready, GET /v2/models/{model}[/versions/{version}], \
                      GET /v2/models/{model}[/versions/{version}]/ready, \
                      GET /v2/models/{model}[/versions/{version}]/config, \
                      GET /v2/models/{model}[/versions/{version}]/stats, GET /v2/models/stats, \
                      POST /v2/models/{model}[/versions/{version}]/infer, \
                      POST /v2/repository/index, \
                      POST /v2/repository/models/{model}/load, \
                      POST /v2/repository/models/{model}/unload";

/// The longest part of a path that a message repeats, in characters.
const SHOWN_MAX: usize = 128;

/// Why there is no route: the error, and the methods that the path has.
#[derive(Debug)]
pub(super) struct NoRoute {
    /// What to tell.
    pub(super) error: Error,
    /// For the `Allow` header.
    pub(super) allow: Option<&'static str>,
}

const GET: &str = "GET, HEAD";
const POST: &str = "POST";

/// Finds the route.
pub(super) fn route<'p>(method: &Method, path: &'p str) -> Result<Route<'p>, NoRoute> {
    let found = match_path(path).map_err(|error| NoRoute { error, allow: None })?;
    let allow = match found {
        Route::Predict { .. }
        | Route::Model { verb: Verb::Infer, .. }
        | Route::Index
        | Route::Wish { .. } => POST,
        _ => GET,
    };
    let fits = match allow {
        POST => method == Method::POST,
        _ => matches!(*method, Method::GET | Method::HEAD),
    };
    if fits {
        return Ok(found);
    }
    let message = format!("{method} {}: this path takes {allow}", shown(path));
    Err(NoRoute { error: Error::new(ErrorCode::MethodNotAllowed, message), allow: Some(allow) })
}

fn match_path(path: &str) -> Result<Route<'_>, Error> {
    let mut parts = [""; 6];
    let mut count = 0;
    for part in path.strip_prefix('/').unwrap_or(path).split('/') {
        *parts.get_mut(count).ok_or_else(|| not_found(path))? = part;
        count += 1;
    }
    let parts = &parts[..count];
    if parts.last().is_some_and(|last| last.is_empty()) {
        return Err(not_found(path));
    }
    let model = |model, version, verb| Ok(Route::Model { model, version, verb });
    match *parts {
        ["predict"] => Ok(Route::Predict { model: None }),
        ["predict", model] => Ok(Route::Predict { model: Some(model) }),
        ["v2"] => Ok(Route::ServerMetadata),
        ["v2", "health", "live"] => Ok(Route::Live),
        ["v2", "health", "ready"] => Ok(Route::Ready),
        ["v2", "models", "stats"] => Ok(Route::Statistics),
        ["v2", "repository", "index"] => Ok(Route::Index),
        ["v2", "repository", "models", model, "load"] => {
            Ok(Route::Wish { model, wish: Wish::Load })
        }
        ["v2", "repository", "models", model, "unload"] => {
            Ok(Route::Wish { model, wish: Wish::Unload })
        }
        ["v2", "models", m] => model(m, None, Verb::Metadata),
        ["v2", "models", m, "versions", v] => model(m, Some(v), Verb::Metadata),
        ["v2", "models", m, verb] => model(m, None, self::verb(verb, path)?),
        ["v2", "models", m, "versions", v, verb] => model(m, Some(v), self::verb(verb, path)?),
        _ => Err(not_found(path)),
    }
}

fn verb(name: &str, path: &str) -> Result<Verb, Error> {
    match name {
        "ready" => Ok(Verb::Ready),
        "config" => Ok(Verb::Config),
        "infer" => Ok(Verb::Infer),
        "stats" => Ok(Verb::Statistics),
        "generate" | "generate_stream" | "trace" => Err(unsupported(path)),
        _ => Err(not_found(path)),
    }
}

fn not_found(path: &str) -> Error {
    let message = format!("no such path: {}; there are {ROUTES}", shown(path));
    Error::new(ErrorCode::NotFound, message)
}

fn unsupported(path: &str) -> Error {
    let message =
        format!("{}: this extension of the protocol is not implemented here", shown(path));
    Error::new(ErrorCode::Unsupported, message)
}

fn shown(path: &str) -> String {
    path.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model<'p>(version: Option<&'p str>, verb: Verb) -> Route<'p> {
        Route::Model { model: "churn", version, verb }
    }

    fn wish<'p>(wish: Wish) -> Route<'p> {
        Route::Wish { model: "churn", wish }
    }

    #[test]
    fn every_route_is_found() {
        let cases = [
            ("POST", "/predict", Route::Predict { model: None }),
            ("POST", "/predict/churn", Route::Predict { model: Some("churn") }),
            ("GET", "/v2", Route::ServerMetadata),
            ("GET", "/v2/health/live", Route::Live),
            ("HEAD", "/v2/health/ready", Route::Ready),
            ("GET", "/v2/models/churn", model(None, Verb::Metadata)),
            ("GET", "/v2/models/churn/versions/2", model(Some("2"), Verb::Metadata)),
            ("POST", "/v2/repository/index", Route::Index),
            ("POST", "/v2/repository/models/churn/load", wish(Wish::Load)),
            ("POST", "/v2/repository/models/churn/unload", wish(Wish::Unload)),
            ("GET", "/v2/models/stats", Route::Statistics),
            ("GET", "/v2/models/churn/stats", model(None, Verb::Statistics)),
            ("GET", "/v2/models/churn/versions/2/stats", model(Some("2"), Verb::Statistics)),
            ("GET", "/v2/models/churn/ready", model(None, Verb::Ready)),
            ("GET", "/v2/models/churn/config", model(None, Verb::Config)),
            ("GET", "/v2/models/churn/versions/2/config", model(Some("2"), Verb::Config)),
            ("GET", "/v2/models/churn/versions/2/ready", model(Some("2"), Verb::Ready)),
            ("POST", "/v2/models/churn/infer", model(None, Verb::Infer)),
            ("POST", "/v2/models/churn/versions/2/infer", model(Some("2"), Verb::Infer)),
        ];
        for (method, path, expected) in cases {
            let found = route(&method.parse().unwrap(), path).unwrap();
            assert_eq!(found, expected, "{method} {path}");
        }
    }

    #[test]
    fn what_is_no_route_says_why() {
        let cases = [
            ("GET", "/", ErrorCode::NotFound, None, "no such path: /; there are POST /predict, "),
            ("GET", "/predict/", ErrorCode::NotFound, None, "no such path"),
            ("GET", "/predict/a/b", ErrorCode::NotFound, None, "no such path"),
            ("GET", "/v2/models", ErrorCode::NotFound, None, "no such path"),
            ("GET", "/v2/models/churn/unknown", ErrorCode::NotFound, None, "no such path"),
            ("GET", "/v2/models/c/versions/2/a/b/c/d", ErrorCode::NotFound, None, "no such path"),
            ("GET", "//predict", ErrorCode::NotFound, None, "no such path"),
            (
                "GET",
                "/predict/churn",
                ErrorCode::MethodNotAllowed,
                Some("POST"),
                "GET /predict/churn: this path takes POST",
            ),
            (
                "DELETE",
                "/v2",
                ErrorCode::MethodNotAllowed,
                Some("GET, HEAD"),
                "DELETE /v2: this path takes GET, HEAD",
            ),
            (
                "GET",
                "/v2/models/churn/trace",
                ErrorCode::Unsupported,
                None,
                "/v2/models/churn/trace: this extension of the protocol is not implemented here",
            ),
            ("POST", "/v2/repository/models/churn", ErrorCode::NotFound, None, "no such path"),
        ];
        for (method, path, code, allow, message) in cases {
            let none = route(&method.parse().unwrap(), path).unwrap_err();
            assert_eq!(none.error.code(), code, "{method} {path}");
            assert_eq!(none.allow, allow, "{method} {path}");
            assert!(none.error.message().starts_with(message), "{}", none.error);
        }
        let long = format!("/{}", "x".repeat(10_000));
        assert!(route(&Method::GET, &long).unwrap_err().error.message().len() < 1_000);
    }
}
