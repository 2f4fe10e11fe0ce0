//! Who may call.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::admin::AdminState;
use crate::admin::reply::ApiError;
use crate::error::{Error, ErrorCode, Result};

/// What is open to everyone who passes the host check: probes have no token.
const OPEN_PATH: &str = "/healthz";

/// The rules for callers. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Rules>);

struct Rules {
    /// SHA-256 of the token: digests of equal length compare in constant
    /// time, whatever length was sent.
    token: Option<[u8; 32]>,
    allowed_hosts: Vec<String>,
}

impl Access {
    /// Requires `token` if there is one. Callers may address the gateway by
    /// IP address, as localhost, or by one of `allowed_hosts` (lower case).
    #[must_use]
    pub fn new(token: Option<&str>, allowed_hosts: &[String]) -> Self {
        let token = token.map(|token| Sha256::digest(token).into());
        Self(Arc::new(Rules { token, allowed_hosts: allowed_hosts.to_vec() }))
    }

    fn check(&self, path: &str, headers: &HeaderMap) -> Result<()> {
        let host = self.check_host(headers)?;
        check_origin(headers, host)?;
        if path == OPEN_PATH { Ok(()) } else { self.check_token(headers) }
    }

    /// A page on `evil.example` whose name is re-bound to this machine's
    /// address is of the same origin for the browser; only the name tells.
    fn check_host<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str> {
        let text = only(headers, &HOST)?.ok_or_else(|| denied("the Host header is missing"))?;
        let authority: Option<Authority> = text.parse().ok();
        let host = authority.as_ref().map_or("", Authority::host);
        let known = is_local(host)
            || self.0.allowed_hosts.iter().any(|allowed| host.eq_ignore_ascii_case(allowed));
        if known {
            return Ok(text);
        }
        Err(denied(format!(
            "Host {text:?}: expected an IP address, localhost, or a name from admin.allowed_hosts"
        )))
    }

    /// Whether a client of another listener may change something there: who
    /// shows the token; without one, whoever reaches it, but for pages of other
    /// origins, which a browser on this machine could be made to open.
    pub fn check_client(&self, headers: &HeaderMap) -> Result<()> {
        if self.0.token.is_some() {
            return self.check_token(headers);
        }
        match headers.contains_key(HOST) {
            true => check_origin(headers, self.check_host(headers)?),
            // HTTP/2 and gRPC, which no page speaks without TLS.
            false if headers.contains_key(ORIGIN) => Err(denied("an Origin without a Host")),
            false => Ok(()),
        }
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<()> {
        let Some(expected) = &self.0.token else { return Ok(()) };
        let shown = only(headers, &AUTHORIZATION)?.and_then(bearer);
        let shown: [u8; 32] = Sha256::digest(shown.unwrap_or_default()).into();
        if bool::from(expected.ct_eq(&shown)) {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::Unauthenticated,
            "expected the admin token in the header Authorization: Bearer …",
        ))
    }
}

/// Whether a name or address in a Host header cannot be re-bound.
fn is_local(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

/// A browser names the page's origin with every change; it must be ours.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<()> {
    let Some(origin) = only(headers, &ORIGIN)? else { return Ok(()) };
    let rest = origin.split_once("://").map(|(_, rest)| rest);
    if rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    Err(denied(format!("Origin {origin:?}: pages of other origins may not call this API")))
}

/// The header's text, if there is exactly one of its name.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    let text = first.map(HeaderValue::to_str).transpose();
    match (text, second) {
        (Ok(text), None) => Ok(text),
        _ => Err(denied(format!("the header {name} must be one line of plain ASCII"))),
    }
}

/// The token in `Bearer <token>`; the scheme's case does not matter.
fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn denied(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::PermissionDenied, message)
}

/// Lets pass who may call.
pub(super) async fn guard(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    match state.access.check(request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => ApiError(error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn code(access: &Access, path: &str, pairs: &[(&str, &str)]) -> Option<ErrorCode> {
        access.check(path, &headers(pairs)).err().map(|error| error.code())
    }

    #[test]
    fn only_names_that_nobody_can_rebind_are_taken() {
        let access = Access::new(None, &["gateway.internal".into()]);
        for good in [
            "127.0.0.1:8002",
            "10.1.2.3",
            "[::1]:8002",
            "localhost:8002",
            "LOCALHOST",
            "Gateway.internal:80",
        ] {
            assert_eq!(code(&access, "/", &[("host", good)]), None, "{good}");
        }
        for bad in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "a b",
            "x@127.0.0.1x",
        ] {
            let got = code(&access, "/", &[("host", bad)]);
            assert_eq!(got, Some(ErrorCode::PermissionDenied), "{bad}");
        }
        assert_eq!(code(&access, "/", &[]), Some(ErrorCode::PermissionDenied));
        let twice = [("host", "127.0.0.1"), ("host", "127.0.0.1")];
        assert_eq!(code(&access, "/", &twice), Some(ErrorCode::PermissionDenied));
    }

    #[test]
    fn a_foreign_origin_is_refused() {
        let access = Access::new(None, &[]);
        let with = |origin| [("host", "127.0.0.1:8002"), ("origin", origin)];
        assert_eq!(code(&access, "/", &with("http://127.0.0.1:8002")), None);
        for bad in ["http://evil.example", "null", "http://127.0.0.1:9", "", "127.0.0.1:8002"] {
            let got = code(&access, "/", &with(bad));
            assert_eq!(got, Some(ErrorCode::PermissionDenied), "{bad}");
        }
    }

    #[test]
    fn clients_elsewhere_show_the_token_or_are_no_foreign_page() {
        let code = |access: &Access, pairs: &[(&str, &str)]| {
            access.check_client(&headers(pairs)).err().map(|error| error.code())
        };
        let closed = Access::new(Some("0123456789abcdef"), &[]);
        let shown = [("host", "models.example"), ("authorization", "Bearer 0123456789abcdef")];
        assert_eq!(code(&closed, &shown), None);
        for pairs in [&shown[..1], &[("host", "127.0.0.1")][..], &[]] {
            assert_eq!(code(&closed, pairs), Some(ErrorCode::Unauthenticated), "{pairs:?}");
        }
        let open = Access::new(None, &[]);
        let foreign = ("origin", "http://evil.example");
        assert_eq!(code(&open, &[]), None);
        assert_eq!(code(&open, &[("host", "127.0.0.1:8000")]), None);
        for pairs in
            [&[("host", "127.0.0.1:8000"), foreign][..], &[foreign], &[("host", "evil.example")]]
        {
            assert_eq!(code(&open, pairs), Some(ErrorCode::PermissionDenied), "{pairs:?}");
        }
    }

    #[test]
    fn the_token_opens_everything_and_probes_need_none() {
        let access = Access::new(Some("0123456789abcdef"), &[]);
        let with = |value| [("host", "127.0.0.1"), ("authorization", value)];
        for good in ["Bearer 0123456789abcdef", "bearer 0123456789abcdef"] {
            assert_eq!(code(&access, "/metrics", &with(good)), None, "{good}");
        }
        for bad in
            ["Bearer 0123456789abcdeX", "Bearer ", "Basic 0123456789abcdef", "0123456789abcdef", ""]
        {
            let got = code(&access, "/metrics", &with(bad));
            assert_eq!(got, Some(ErrorCode::Unauthenticated), "{bad}");
        }
        assert_eq!(
            code(&access, "/metrics", &[("host", "127.0.0.1")]),
            Some(ErrorCode::Unauthenticated)
        );
        assert_eq!(code(&access, "/healthz", &[("host", "127.0.0.1")]), None);
        assert_eq!(
            code(&access, "/healthz", &[("host", "evil.example")]),
            Some(ErrorCode::PermissionDenied)
        );
    }
}
