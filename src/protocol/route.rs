//! Paths to routes; pure.
//!
//! One list names every path: who looks a route up, who is told that there is
//! none, and who reads the description of the API goes by it.

use std::borrow::Cow;

use http::Method;

use crate::error::{Error, ErrorCode, Result};
use crate::types::{Role, VersionId, Wish};

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
    /// `GET /`: KServe's sign of life.
    Alive,
    /// `GET /v2/openapi.json`.
    Document,
    /// `POST /v1/feedback`.
    Feedback,
    /// `GET /v1/models`.
    V1Models,
    /// `GET /v2/models`, KServe's.
    V2Models,
    /// Below `/v1/models/{model}[/versions/{version}|/labels/{label}]`.
    V1 {
        /// The model.
        model: &'p str,
        /// Which of its versions.
        which: Which<'p>,
        /// What is asked about it.
        verb: V1Verb,
    },
}

/// Which version of a model a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which<'p> {
    /// Whichever answers.
    Any,
    /// By its number, as it stands in the path.
    Version(&'p str),
    /// By what it does for the model.
    Label(&'p str),
}

/// What is asked about a model in V1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum V1Verb {
    /// `GET` on the model itself.
    Status,
    /// `GET …/metadata`.
    Metadata,
    /// `POST …:predict`.
    Predict,
}

impl Which<'_> {
    /// The version that must answer.
    pub(super) fn version(self) -> Result<Option<VersionId>> {
        match self {
            Self::Version(version) => version.parse().map(Some),
            Self::Any | Self::Label(_) => Ok(None),
        }
    }

    /// The role whose version must answer: the labels are the roles.
    pub(super) fn role(self) -> Result<Option<Role>> {
        let Self::Label(label) = self else { return Ok(None) };
        let all = [Role::Champion, Role::Canary, Role::Shadow];
        let role = all.into_iter().find(|role| role.as_str() == label);
        role.map(Some).ok_or_else(|| {
            let message = format!("no label {:?}; labels: champion, canary, shadow", shown(label));
            Error::new(ErrorCode::NotFound, message)
        })
    }
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

/// The methods of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Reading; `HEAD` as well.
    Get,
    /// Everything that has a body.
    Post,
}

impl Takes {
    /// For the `Allow` header.
    const fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
        }
    }

    fn fits(self, method: &Method) -> bool {
        match self {
            Self::Get => matches!(*method, Method::GET | Method::HEAD),
            Self::Post => method == Method::POST,
        }
    }
}

/// One path of the API.
#[derive(Debug)]
pub(super) struct Path {
    /// Its methods.
    pub(super) takes: Takes,
    /// What stands between its slashes; `{name}` for what varies.
    segments: &'static [&'static str],
}

/// Fills a segment of [`Path`] from the pattern of the list.
macro_rules! segment {
    ($fixed:literal) => {
        $fixed
    };
    ($varies:ident) => {
        concat!("{", stringify!($varies), "}")
    };
}

/// Makes the list of paths and the look-up from one declaration. Where two
/// patterns fit, the first counts.
macro_rules! paths {
    ($( $takes:ident $($segment:tt)/+ => $route:expr; )+) => {
        /// Every path of the API.
        pub(super) const PATHS: &[Path] =
            &[$( Path { takes: Takes::$takes, segments: &[$( segment!($segment) ),+] } ),+];

        /// The route of a path, by what stands between its slashes.
        fn find<'p>(parts: &[&'p str]) -> Option<(Takes, Route<'p>)> {
            match *parts {
                $( [$( $segment ),+] => Some((Takes::$takes, $route)), )+
                _ => None,
            }
        }
    };
}

paths! {
    Post "predict" => Route::Predict { model: None };
    Post "predict" / model => Route::Predict { model: Some(model) };
    Get "v2" => Route::ServerMetadata;
    Get "v2" / "health" / "live" => Route::Live;
    Get "v2" / "health" / "ready" => Route::Ready;
    Get "v2" / "models" / "stats" => Route::Statistics;
    Get "v2" / "models" / model => Route::of(model, None, Verb::Metadata);
    Get "v2" / "models" / model / "versions" / version
        => Route::of(model, Some(version), Verb::Metadata);
    Get "v2" / "models" / model / "ready" => Route::of(model, None, Verb::Ready);
    Get "v2" / "models" / model / "versions" / version / "ready"
        => Route::of(model, Some(version), Verb::Ready);
    Get "v2" / "models" / model / "config" => Route::of(model, None, Verb::Config);
    Get "v2" / "models" / model / "versions" / version / "config"
        => Route::of(model, Some(version), Verb::Config);
    Get "v2" / "models" / model / "stats" => Route::of(model, None, Verb::Statistics);
    Get "v2" / "models" / model / "versions" / version / "stats"
        => Route::of(model, Some(version), Verb::Statistics);
    Post "v2" / "models" / model / "infer" => Route::of(model, None, Verb::Infer);
    Post "v2" / "models" / model / "versions" / version / "infer"
        => Route::of(model, Some(version), Verb::Infer);
    Post "v2" / "repository" / "index" => Route::Index;
    Post "v2" / "repository" / "models" / model / "load"
        => Route::Wish { model, wish: Wish::Load };
    Post "v2" / "repository" / "models" / model / "unload"
        => Route::Wish { model, wish: Wish::Unload };
    Post "v1" / "feedback" => Route::Feedback;
    Get "v1" / "models" => Route::V1Models;
    Get "v2" / "models" => Route::V2Models;
    Get "v1" / "models" / model => Route::v1(model, Which::Any, V1Verb::Status);
    Get "v1" / "models" / model / "versions" / version
        => Route::v1(model, Which::Version(version), V1Verb::Status);
    Get "v1" / "models" / model / "labels" / label
        => Route::v1(model, Which::Label(label), V1Verb::Status);
    Get "v1" / "models" / model / "metadata" => Route::v1(model, Which::Any, V1Verb::Metadata);
    Get "v1" / "models" / model / "versions" / version / "metadata"
        => Route::v1(model, Which::Version(version), V1Verb::Metadata);
    Get "v1" / "models" / model / "labels" / label / "metadata"
        => Route::v1(model, Which::Label(label), V1Verb::Metadata);
    Post "v1" / "models" / model / ":predict" => Route::v1(model, Which::Any, V1Verb::Predict);
    Post "v1" / "models" / model / "versions" / version / ":predict"
        => Route::v1(model, Which::Version(version), V1Verb::Predict);
    Post "v1" / "models" / model / "labels" / label / ":predict"
        => Route::v1(model, Which::Label(label), V1Verb::Predict);
    Get "" => Route::Alive;
    Get "v2" / "openapi.json" => Route::Document;
}

impl<'p> Route<'p> {
    const fn of(model: &'p str, version: Option<&'p str>, verb: Verb) -> Self {
        Self::Model { model, version, verb }
    }

    const fn v1(model: &'p str, which: Which<'p>, verb: V1Verb) -> Self {
        Self::V1 { model, which, verb }
    }
}

impl Path {
    /// The path as people and OpenAPI write it: `/v2/models/{model}/infer`.
    pub(super) fn template(&self) -> String {
        let part = |segment: &&str| match segment.starts_with(':') {
            true => (*segment).to_owned(),
            false => format!("/{segment}"),
        };
        self.segments.iter().map(part).collect()
    }

    /// The route of its template.
    pub(super) fn route(&self) -> Route<'static> {
        find(self.segments).map(|(_, route)| route).expect("the list is what is looked up")
    }

    /// What varies in it.
    pub(super) fn names_in_it(&self) -> impl Iterator<Item = &'static str> {
        self.segments.iter().filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

/// The longest part of a path that a message repeats, in characters.
const SHOWN_MAX: usize = 128;

/// The most segments of a path.
const SEGMENTS_MAX: usize = 7;

/// Why there is no route: the error, and the methods that the path has.
#[derive(Debug)]
pub(super) struct NoRoute {
    /// What to tell.
    pub(super) error: Error,
    /// For the `Allow` header.
    pub(super) allow: Option<&'static str>,
}

/// A path as its segments are meant: each is decoded once. A `/` stays encoded: it
/// must not split, and no name has one.
///
/// # Errors
/// `InvalidArgument` for what is no encoding, of no text, or of a control character.
pub(super) fn decoded(path: &str) -> Result<Cow<'_, str>> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let wrong = |why: &str| {
        let path = shown(path);
        Error::invalid(format!("{path}: {why}; expected % and two hexadecimal digits of UTF-8"))
    };
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let byte = rest.split_first_chunk().and_then(|(digits, behind)| {
            rest = behind;
            hexadecimal(*digits)
        });
        match byte.ok_or_else(|| wrong("an encoding breaks off"))? {
            b'/' => bytes.extend(b"%2F"),
            byte if byte.is_ascii_control() => {
                return Err(wrong("no name has a control character"));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| wrong("what it encodes is no text"))
}

fn hexadecimal(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? << 4 | low?).ok()
}

/// Finds the route of a path that is decoded.
pub(super) fn route<'p>(method: &Method, path: &'p str) -> Result<Route<'p>, NoRoute> {
    let (takes, found) = match_path(path).map_err(|error| NoRoute { error, allow: None })?;
    if takes.fits(method) {
        return Ok(found);
    }
    let allow = takes.allow();
    let message = format!("{method} {}: this path takes {allow}", shown(path));
    Err(NoRoute { error: Error::new(ErrorCode::MethodNotAllowed, message), allow: Some(allow) })
}

fn match_path(path: &str) -> Result<(Takes, Route<'_>), Error> {
    let mut parts = [""; SEGMENTS_MAX];
    let mut count = 0;
    for part in path.strip_prefix('/').unwrap_or(path).split('/') {
        *parts.get_mut(count).ok_or_else(|| not_found(path))? = part;
        count += 1;
    }
    // In V1 the verb stands behind a colon, as a part of the last segment.
    if parts[0] == "v1"
        && let Some(at) = parts[count - 1].find(':')
        && count < SEGMENTS_MAX
    {
        (parts[count - 1], parts[count]) = parts[count - 1].split_at(at);
        count += 1;
    }
    let parts = &parts[..count];
    if count > 1 && parts.last().is_some_and(|last| last.is_empty()) {
        return Err(not_found(path));
    }
    // What is refused on purpose may look like a model's name.
    if let Some(refused) = refused(parts, path) {
        return Err(refused);
    }
    find(parts).ok_or_else(|| not_found(path))
}

/// Why a path that others have is refused here.
fn refused(parts: &[&str], path: &str) -> Option<Error> {
    match *parts {
        ["v2", "models", _, verb] | ["v2", "models", _, "versions", _, verb] => {
            let known = ["generate", "generate_stream", "trace"];
            known.contains(&verb).then(|| unsupported(path))
        }
        ["v2", "systemsharedmemory" | "cudasharedmemory", ..] => Some(refusal(
            path,
            "a client that changes memory while it is read could crash this server; send tensors \
             in the body",
        )),
        ["v2", "trace", "setting"]
        | ["v2", "models", _, "trace", "setting"]
        | ["v2", "models", _, "versions", _, "trace", "setting"] => {
            Some(refusal(path, "requests are not traced at a client's wish"))
        }
        ["v2", "logging"] => {
            Some(refusal(path, "what is logged is a setting of the process ([log])"))
        }
        ["v1", "models", _, .., ":classify" | ":regress"] => Some(Error::new(
            ErrorCode::Unsupported,
            format!(
                "{}: classification and regression take TensorFlow's Examples, which an ONNX \
                 model does not; send its inputs to :predict",
                shown(path)
            ),
        )),
        ["v1", "models", _, .., ":explain"] => Some(unsupported(path)),
        _ => None,
    }
}

fn not_found(path: &str) -> Error {
    let message =
        format!("no such path: {}; GET /v2/openapi.json describes what there is", shown(path));
    Error::new(ErrorCode::NotFound, message)
}

/// What is not done here on purpose.
fn refusal(path: &str, why: &str) -> Error {
    Error::new(ErrorCode::Unsupported, format!("{} is refused: {why}", shown(path)))
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

    fn v1<'p>(which: Which<'p>, verb: V1Verb) -> Route<'p> {
        Route::V1 { model: "churn", which, verb }
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
            ("POST", "/v1/feedback", Route::Feedback),
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
            ("GET", "/", Route::Alive),
            ("GET", "/v2/openapi.json", Route::Document),
            ("GET", "/v1/models", Route::V1Models),
            ("GET", "/v2/models", Route::V2Models),
            ("GET", "/v1/models/churn", v1(Which::Any, V1Verb::Status)),
            ("GET", "/v1/models/churn/versions/2", v1(Which::Version("2"), V1Verb::Status)),
            ("GET", "/v1/models/churn/labels/canary", v1(Which::Label("canary"), V1Verb::Status)),
            ("GET", "/v1/models/churn/metadata", v1(Which::Any, V1Verb::Metadata)),
            ("POST", "/v1/models/churn:predict", v1(Which::Any, V1Verb::Predict)),
            (
                "POST",
                "/v1/models/churn/versions/2:predict",
                v1(Which::Version("2"), V1Verb::Predict),
            ),
            (
                "POST",
                "/v1/models/churn/labels/shadow:predict",
                v1(Which::Label("shadow"), V1Verb::Predict),
            ),
        ];
        for (method, path, expected) in cases {
            let found = route(&method.parse().unwrap(), path).unwrap();
            assert_eq!(found, expected, "{method} {path}");
        }
    }

    #[test]
    fn segments_are_decoded_once_and_never_split() {
        let cases = [
            ("/v2/models/churn", "/v2/models/churn"),
            ("/v1/models/churn%3Apredict", "/v1/models/churn:predict"),
            ("/v1/models/churn%3apredict", "/v1/models/churn:predict"),
            ("/v2/models/my%20model/infer", "/v2/models/my model/infer"),
            ("/v2/models/%C3%BC", "/v2/models/ü"),
            ("/v2/models%2Fchurn", "/v2/models%2Fchurn"),
            ("/v2/models/a%252Fb", "/v2/models/a%2Fb"),
            ("/v2/models/a+b", "/v2/models/a+b"),
        ];
        for (path, expected) in cases {
            assert_eq!(decoded(path).unwrap(), expected);
        }
        for path in ["/%", "/a%2", "/%zz", "/%+1", "/%FF", "/%C3/a", "/a%0Ab", "/%00"] {
            let error = decoded(path).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgument, "{path}");
            assert!(error.message().starts_with(path), "{error}");
        }
        let found = route(&Method::GET, &decoded("/v2%2Fmodels/churn").unwrap()).unwrap_err();
        assert_eq!(found.error.code(), ErrorCode::NotFound);
    }

    #[test]
    fn labels_are_roles() {
        for (label, role) in [("champion", Role::Champion), ("shadow", Role::Shadow)] {
            assert_eq!(Which::Label(label).role().unwrap(), Some(role));
        }
        assert_eq!(Which::Any.role().unwrap(), None);
        assert_eq!(Which::Version("7").version().unwrap(), VersionId::new(7));
        assert_eq!(Which::Version("x").version().unwrap_err().code(), ErrorCode::InvalidArgument);
        let error = Which::Label("stable").role().unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound);
        assert_eq!(error.message(), "no label \"stable\"; labels: champion, canary, shadow");
    }

    #[test]
    fn every_path_of_the_list_is_looked_up() {
        for path in PATHS {
            let template = path.template();
            let (takes, _) = match_path(&template).unwrap();
            assert_eq!(takes, path.takes, "{template}");
        }
    }

    #[test]
    fn what_is_no_route_says_why() {
        let cases = [
            (
                "GET",
                "/nowhere",
                ErrorCode::NotFound,
                None,
                "no such path: /nowhere; GET /v2/openapi.json describes what there is",
            ),
            ("POST", "/", ErrorCode::MethodNotAllowed, Some("GET, HEAD"), "POST /: this path"),
            ("POST", "/v1/models/churn", ErrorCode::MethodNotAllowed, Some("GET, HEAD"), "POST"),
            ("GET", "/v1/models/c:predict", ErrorCode::MethodNotAllowed, Some("POST"), "GET"),
            ("POST", "/v1/models/c:other", ErrorCode::NotFound, None, "no such path"),
            ("POST", "/v1/models/c/versions/2/a:predict", ErrorCode::NotFound, None, "no such"),
            ("POST", "/v1/models/c/d/e/f/g:predict", ErrorCode::NotFound, None, "no such path"),
            ("POST", "/v1/models/c:", ErrorCode::NotFound, None, "no such path"),
            ("POST", "/v1:predict", ErrorCode::NotFound, None, "no such path"),
            (
                "POST",
                "/v1/models/c:classify",
                ErrorCode::Unsupported,
                None,
                "/v1/models/c:classify: classification and regression take",
            ),
            ("POST", "/v1/models/c/labels/canary:regress", ErrorCode::Unsupported, None, "/v1"),
            ("POST", "/v1/models/c:explain", ErrorCode::Unsupported, None, "/v1/models/c:explain"),
            (
                "POST",
                "/v2/systemsharedmemory/region/a/register",
                ErrorCode::Unsupported,
                None,
                "/v2/systemsharedmemory/region/a/register is refused: a client",
            ),
            ("GET", "/v2/cudasharedmemory/status", ErrorCode::Unsupported, None, "/v2/cuda"),
            ("GET", "/v2/trace/setting", ErrorCode::Unsupported, None, "/v2/trace/setting is"),
            ("POST", "/v2/models/c/trace/setting", ErrorCode::Unsupported, None, "/v2/models/c"),
            (
                "GET",
                "/v2/models/c/versions/2/trace/setting",
                ErrorCode::Unsupported,
                None,
                "/v2/models/c/versions/2/trace/setting is refused: requests are not traced",
            ),
            ("POST", "/v2/logging", ErrorCode::Unsupported, None, "/v2/logging is refused: what"),
            ("GET", "/predict/", ErrorCode::NotFound, None, "no such path"),
            ("GET", "/predict/a/b", ErrorCode::NotFound, None, "no such path"),
            ("GET", "/v2/model", ErrorCode::NotFound, None, "no such path"),
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
            ("POST", "/v2/repository/models/c", ErrorCode::NotFound, None, "no such path"),
        ];
        for (method, path, code, allow, message) in cases {
            let none = route(&method.parse().unwrap(), path).unwrap_err();
            assert_eq!(none.error.code(), code, "{method} {path}");
            assert_eq!(none.allow, allow, "{method} {path}");
            assert!(none.error.message().starts_with(message), "{}", none.error);
        }
        let long = format!("/{}", "x".repeat(10_000));
        assert!(route(&Method::GET, &long).unwrap_err().error.message().len() < 2_000);
    }
}
