//! Talks HTTP to a gateway.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::failure::Failure;
use crate::config::Token;

/// Longest wait for an answer: a change waits for a load at most.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest reply.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// Where the gateway is and how to show its answer.
#[derive(Debug, Args)]
#[command(next_help_heading = "Gateway")]
pub(super) struct ClientArgs {
    /// The gateway's admin API
    #[arg(
        long,
        value_name = "URL",
        env = "FORESHADOW_ADMIN",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8002",
        value_parser = base_url
    )]
    admin: String,
    /// A file with the admin token [env: FORESHADOW_ADMIN_TOKEN_FILE, or the token
    /// itself in FORESHADOW_ADMIN_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print the reply as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What the audit log is told.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Audit log")]
pub(super) struct ChangeArgs {
    /// Why; it stands in the audit log
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// By whose hand [default: $USER]
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
}

impl ChangeArgs {
    /// Who does it: as named, else the user of this terminal.
    pub(super) fn actor(&self) -> Option<String> {
        self.actor.clone().or_else(|| std::env::var("USER").ok()).filter(|name| !name.is_empty())
    }

    /// `fields` with who and why added, as a body.
    pub(super) fn body(&self, mut fields: serde_json::Map<String, Value>) -> Value {
        for (name, value) in [("reason", self.reason.clone()), ("actor", self.actor())] {
            fields.extend(value.map(|value| (name.to_owned(), Value::from(value))));
        }
        Value::Object(fields)
    }

    /// Who and why as a query string, with its question mark.
    pub(super) fn query(&self) -> String {
        let pairs = [("reason", self.reason.clone()), ("actor", self.actor())];
        let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let pairs: Vec<_> =
            pairs.map(|(name, value)| format!("{name}={}", escape(&value))).collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }
}

/// Percent-encodes everything but the unreserved characters.
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let one = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(one).collect()
}

/// Takes `http://host:port`, with or without a slash at the end.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    let base = text.trim_end_matches('/');
    let uri: Option<Uri> = base.parse().ok();
    let fits = uri.is_some_and(|uri| {
        uri.scheme_str() == Some("http")
            && uri.host().is_some()
            && uri.path() == "/"
            && uri.query().is_none()
    });
    if fits { Ok(base.to_owned()) } else { Err("expected an address like http://host:port".into()) }
}

/// The plain client under every command; keeps connections open.
pub(super) type Http = Client<HttpConnector, Full<Bytes>>;

/// A client that gives up on an address that does not answer.
pub(super) fn http() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// The innermost cause of an error: what the system said.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A client of one gateway's admin API.
pub(super) struct Admin {
    base: String,
    token: Option<HeaderValue>,
    http: Http,
}

impl ClientArgs {
    /// A client with the token that the arguments or the environment give.
    pub(super) fn connect(&self) -> Result<Admin, Failure> {
        let token = match &self.token_file {
            Some(file) => Some(Token::read(file).map_err(Failure::usage)?),
            None => token_from_environment(|name| std::env::var_os(name))?,
        };
        let bearer = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
                .expect("a token is printable ASCII");
            value.set_sensitive(true);
            value
        });
        Ok(Admin { base: self.admin.clone(), token: bearer, http: http() })
    }
}

/// The token in the environment, or in the file that it names. The names are
/// the server's own, so that both can share an environment.
fn token_from_environment(
    read: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Token>, Failure> {
    let set = |name| read(name).filter(|value| !value.is_empty());
    if let Some(text) = set("FORESHADOW_ADMIN_TOKEN") {
        let token = text.to_str().and_then(Token::new);
        let expected = "FORESHADOW_ADMIN_TOKEN: expected at least 16 printable ASCII characters";
        return token.map(Some).ok_or_else(|| Failure::usage(expected));
    }
    let file = set("FORESHADOW_ADMIN_TOKEN_FILE").map(PathBuf::from);
    file.map(|file| Token::read(&file).map_err(Failure::usage)).transpose()
}

impl Admin {
    /// Asks for `path`.
    pub(super) async fn get_json(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, None).await
    }

    /// Sends a request and takes the JSON reply; anything but 200 is a
    /// failure with the gateway's own words.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let request = self.request(method, path, body)?;
        let exchange = async {
            let reply =
                self.http.request(request).await.map_err(|error| self.unreachable(&error))?;
            let (head, body) = reply.into_parts();
            let body = Limited::new(body, REPLY_BYTES_MAX).collect().await;
            let body = body.map_err(|error| {
                Failure::failed(format!("the reply from {} broke off: {error}", self.base))
            })?;
            Ok((head.status, body.to_bytes()))
        };
        let (status, body) =
            tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| self.silent())??;
        self.accept(status, &body)
    }

    /// Sends a request without a body; the reply's head, and its body as it comes.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
    ) -> Result<(StatusCode, Incoming), Failure> {
        let request = self.request(method, path, None)?;
        let reply = tokio::time::timeout(TIMEOUT, self.http.request(request)).await;
        let reply = reply.map_err(|_| self.silent())?.map_err(|error| self.unreachable(&error))?;
        let (head, body) = reply.into_parts();
        Ok((head.status, body))
    }

    fn silent(&self) -> Failure {
        let seconds = TIMEOUT.as_secs();
        Failure::failed(format!("{} did not answer within {seconds} s", self.base))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body));
        request.map_err(|error| Failure::usage(format!("{}{path}: {error}", self.base)))
    }

    /// A reply's JSON, or what was refused.
    pub(super) fn accept(&self, status: StatusCode, body: &[u8]) -> Result<Value, Failure> {
        let value: Option<Value> = serde_json::from_slice(body).ok();
        if status == StatusCode::OK {
            return value.ok_or_else(|| self.foreign());
        }
        let said = value.as_ref().and_then(|value| value.get("error")?.as_str());
        let Some(said) = said else { return Err(self.foreign()) };
        let hint = if status == StatusCode::UNAUTHORIZED {
            " (set FORESHADOW_ADMIN_TOKEN or --token-file)"
        } else {
            ""
        };
        Err(Failure::failed(format!("{said}{hint}")))
    }

    /// Reads a reply's JSON as what the command expects.
    pub(super) fn parse<T: DeserializeOwned>(&self, value: Value) -> Result<T, Failure> {
        serde_json::from_value(value).map_err(|error| {
            let base = &self.base;
            Failure::failed(format!(
                "{base} answered something unexpected ({error}); is it another release?"
            ))
        })
    }

    fn unreachable(&self, error: &hyper_util::client::legacy::Error) -> Failure {
        Failure::failed(format!(
            "no gateway answers at {}: is `foreshadow serve` running? ({})",
            self.base,
            root_cause(error)
        ))
    }

    /// Somebody else answered.
    pub(super) fn foreign(&self) -> Failure {
        let base = &self.base;
        Failure::failed(format!(
            "{base} answers, but not as a gateway's admin API; is --admin right? (inference and \
             admin have different ports)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_plain_http() {
        assert_eq!(base_url("http://127.0.0.1:8002/").unwrap(), "http://127.0.0.1:8002");
        for bad in ["", "127.0.0.1:8002", "https://x", "http://", "http://x/y", "http://x?y"] {
            assert!(base_url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn queries_are_escaped() {
        let args = ChangeArgs { reason: Some("50% & more".into()), actor: Some("é".into()) };
        assert_eq!(args.query(), "?reason=50%25%20%26%20more&actor=%C3%A9");
    }

    #[test]
    fn the_token_comes_from_the_environment_or_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "fedcba9876543210\n").unwrap();
        let with = |token: &str, file: &std::path::Path| {
            token_from_environment(|name| match name {
                "FORESHADOW_ADMIN_TOKEN" => Some(token.into()),
                _ => Some(file.into()),
            })
        };
        let revealed = |token: Option<Token>| token.map(|token| token.reveal().to_owned());
        assert_eq!(revealed(with("", std::path::Path::new("")).unwrap()), None);
        assert_eq!(revealed(with("", &file).unwrap()).unwrap(), "fedcba9876543210");
        assert_eq!(revealed(with("0123456789abcdef", &file).unwrap()).unwrap(), "0123456789abcdef");
        let failure = with("short", &file).unwrap_err().to_string();
        assert!(failure.contains("at least 16") && !failure.contains("short"), "{failure}");
    }

    #[tokio::test]
    async fn a_silent_address_is_told_with_what_to_do() {
        // A port that was free a moment ago and that nobody listens on.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let admin = Admin { base: format!("http://{free}"), token: None, http: http() };
        let failure = admin.get_json("/v1/models").await.unwrap_err().to_string();
        assert!(
            failure.starts_with(&format!("no gateway answers at http://{free}: is")),
            "{failure}"
        );
        assert!(failure.to_lowercase().contains("refused"), "{failure}");
    }

    #[test]
    fn refusals_are_the_gateways_own_words() {
        let admin = Admin { base: "http://x".into(), token: None, http: http() };
        let refused =
            |status, body: &str| admin.accept(status, body.as_bytes()).unwrap_err().to_string();
        let said = refused(StatusCode::CONFLICT, r#"{"error":"version 2 is not ready"}"#);
        assert_eq!(said, "version 2 is not ready");
        assert!(refused(StatusCode::UNAUTHORIZED, r#"{"error":"no"}"#).contains("--token-file"));
        for (status, body) in [(StatusCode::OK, "<html>"), (StatusCode::NOT_FOUND, "nope")] {
            assert!(refused(status, body).contains("is --admin right?"), "{body}");
        }
    }
}
