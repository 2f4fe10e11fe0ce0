//! Who may call, and what.
//!
//! A caller shows a token: the one of the settings, which may do everything, or one
//! that was made with a role (`foreshadow token create`), whose name is the actor of
//! what is done with it. Without any, a gateway on loopback is open by the setting
//! `admin.open`.

mod known;
mod roles;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::admin::AdminState;
use crate::admin::reply::ApiError;
use crate::error::{Error, ErrorCode, Result};
use crate::store::TokenRole;

pub use known::Tokens;

/// The actor of what the gateway does by itself.
const SYSTEM: &str = "foreshadow";
/// How the actor of what a rollout does begins.
const ROLLOUT: &str = "rollout ";
/// What is open to everyone who passes the host check: probes have no token.
const OPEN_PATH: &str = "/healthz";

/// The rules for callers. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Rules>);

struct Rules {
    /// SHA-256 of the token: digests of equal length compare in constant
    /// time, whatever length was sent.
    token: Option<[u8; 32]>,
    /// Tokens with names and roles.
    tokens: Option<Arc<Tokens>>,
    /// Whether who shows none may do everything.
    open: bool,
    allowed_hosts: Vec<String>,
}

/// Who calls.
#[derive(Clone)]
pub(super) struct Caller {
    /// The token's name; `None` for the one of the settings, and without any.
    pub(super) name: Option<String>,
    /// What it may do.
    role: TokenRole,
    /// The tokens with names, of which it showed none.
    others: Option<Arc<Tokens>>,
}

impl Caller {
    /// Who may do everything, and has no name.
    const UNNAMED: Self = Self { name: None, role: TokenRole::Admin, others: None };

    /// Somebody with this token, for tests.
    #[cfg(test)]
    pub(super) fn named(name: Option<&str>) -> Self {
        Self { name: name.map(str::to_owned), ..Self::UNNAMED }
    }

    /// For what only a person may do of whom others know that it is they.
    ///
    /// # Errors
    /// There are tokens with names, and it showed none of them.
    pub(super) fn must_be_known(&self) -> Result<()> {
        if !self.others.as_ref().is_some_and(|tokens| tokens.any()) {
            return Ok(());
        }
        Err(denied(
            "there are tokens with names: show yours (FORESHADOW_ADMIN_TOKEN or --token-file), so \
             that it is known who you are",
        ))
    }

    /// Whether it may say that it is `actor`: nobody is a token's owner without showing
    /// it, nor the gateway itself.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn may_be(&self, actor: &str) -> Result<()> {
        if actor == SYSTEM || actor.starts_with(ROLLOUT) {
            return Err(denied(format!("actor {actor:?}: expected a person's name")));
        }
        if self.others.as_ref().is_some_and(|tokens| tokens.has(actor)) {
            let message = format!("actor {actor:?} has a token: show it, or name yourself");
            return Err(denied(message));
        }
        Ok(())
    }

    fn must_be(&self, needed: TokenRole) -> Result<()> {
        if self.role >= needed {
            return Ok(());
        }
        let (name, own) = (self.name.as_deref().unwrap_or_default(), self.role.as_str());
        let needed = needed.as_str();
        Err(denied(format!("this needs the role {needed}; the token {name:?} has {own}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Error::internal("a request got past the guard").into())
    }
}

impl Access {
    /// Requires `token` if there is one. Callers may address the gateway by
    /// IP address, as localhost, or by one of `allowed_hosts` (lower case).
    #[must_use]
    pub fn new(token: Option<&str>, allowed_hosts: &[String]) -> Self {
        let token: Option<[u8; 32]> = token.map(|token| Sha256::digest(token).into());
        let (open, allowed_hosts) = (token.is_none(), allowed_hosts.to_vec());
        Self(Arc::new(Rules { token, tokens: None, open, allowed_hosts }))
    }

    /// The same with tokens that have names and roles. It is `open` to those who show
    /// none only if there is no token of the settings either.
    #[must_use]
    pub fn with_tokens(self, tokens: Arc<Tokens>, open: bool) -> Self {
        let Rules { token, allowed_hosts, .. } = &*self.0;
        let (token, allowed_hosts) = (*token, allowed_hosts.clone());
        let open = open && token.is_none();
        Self(Arc::new(Rules { token, tokens: Some(tokens), open, allowed_hosts }))
    }

    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Caller> {
        let host = self.check_host(headers)?;
        check_origin(headers, host)?;
        if path == OPEN_PATH {
            return Ok(Caller { role: TokenRole::Viewer, ..Caller::UNNAMED });
        }
        let caller = self.check_token(headers)?;
        caller.must_be(roles::needed(method, path))?;
        Ok(caller)
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
    ///
    /// The name of its token, if it has one.
    pub fn check_client(&self, headers: &HeaderMap) -> Result<Option<String>> {
        if self.0.open {
            match headers.contains_key(HOST) {
                true => check_origin(headers, self.check_host(headers)?)?,
                // HTTP/2 and gRPC, which no page speaks without TLS.
                false if headers.contains_key(ORIGIN) => {
                    return Err(denied("an Origin without a Host"));
                }
                false => {}
            }
        }
        let caller = self.check_token(headers)?;
        caller.must_be(TokenRole::Operator)?;
        Ok(caller.name)
    }

    fn unnamed(&self) -> Caller {
        Caller { others: self.0.tokens.clone(), ..Caller::UNNAMED }
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<Caller> {
        let header = only(headers, &AUTHORIZATION)?;
        if header.is_none() && self.0.open {
            return Ok(self.unnamed());
        }
        let shown = header.and_then(bearer).unwrap_or_default();
        let digest: [u8; 32] = Sha256::digest(shown).into();
        if self.0.token.as_ref().is_some_and(|expected| bool::from(expected.ct_eq(&digest))) {
            return Ok(self.unnamed());
        }
        let tokens = self.0.tokens.as_ref();
        if let Some((name, role)) = tokens.and_then(|known| known.whose(shown, SystemTime::now())) {
            return Ok(Caller { name: Some(name), role, others: None });
        }
        Err(Error::new(
            ErrorCode::Unauthenticated,
            "expected the admin token, or one that is known, in the header Authorization: Bearer …",
        ))
    }

    /// Lets tokens be read again, if what is known of them is old.
    async fn refresh(&self, headers: &HeaderMap) {
        if let Some(tokens) = self.0.tokens.as_ref().filter(|_| headers.contains_key(AUTHORIZATION))
        {
            tokens.refresh().await;
        }
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
    mut request: Request,
    next: Next,
) -> Response {
    state.access.refresh(request.headers()).await;
    let (method, path) = (request.method(), request.uri().path());
    match state.access.check(method, path, request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
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
        access.check(&Method::GET, path, &headers(pairs)).err().map(|error| error.code())
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

    #[tokio::test]
    async fn a_named_token_may_do_what_its_role_says() {
        let tokens = Arc::new(Tokens::new(Arc::new(crate::store::Memory::default())));
        let eve = tokens.create("eve", TokenRole::Operator, "ann", None).await.unwrap().secret;
        let bob = tokens.create("bob", TokenRole::Viewer, "ann", None).await.unwrap().secret;
        let check = |access: &Access, method: Method, path: &str, secret: Option<&str>| {
            let mut pairs = vec![("host", "127.0.0.1")];
            let bearer = secret.map(|secret| format!("Bearer {secret}"));
            pairs.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
            access.check(&method, path, &headers(&pairs))
        };
        let open = Access::new(None, &[]).with_tokens(Arc::clone(&tokens), true);
        let closed = Access::new(None, &[]).with_tokens(Arc::clone(&tokens), false);
        let change = "/v1/models/churn/promote";
        for access in [&open, &closed] {
            let caller = check(access, Method::POST, change, Some(&eve)).unwrap();
            assert_eq!(caller.name.as_deref(), Some("eve"));
            let refused = check(access, Method::POST, change, Some(&bob)).err().unwrap();
            let expected = "this needs the role operator; the token \"bob\" has viewer";
            assert_eq!(
                (refused.code(), refused.message()),
                (ErrorCode::PermissionDenied, expected)
            );
            assert!(check(access, Method::GET, "/v1/models", Some(&bob)).is_ok());
            assert!(check(access, Method::POST, "/v1/tokens", Some(&eve)).is_err());
            // A wrong token is worse than none.
            let unknown = check(access, Method::GET, "/v1/models", Some("fsh_00")).err().unwrap();
            assert_eq!(unknown.code(), ErrorCode::Unauthenticated);
        }
        let nobody = check(&open, Method::POST, "/v1/tokens", None).unwrap();
        assert_eq!((nobody.name.as_ref(), nobody.role), (None, TokenRole::Admin));
        // Who shows none is none of those who have one, and nobody's second person.
        for taken in ["eve", "foreshadow", "rollout 7"] {
            assert!(nobody.may_be(taken).is_err(), "{taken}");
        }
        assert!(nobody.may_be("carl").is_ok() && nobody.must_be_known().is_err());
        let known = check(&open, Method::GET, "/v1/models", Some(&eve)).unwrap();
        assert!(known.must_be_known().is_ok());
        assert!(check(&closed, Method::GET, "/v1/models", None).is_err());
        let client = |secret: &str| {
            let bearer = format!("Bearer {secret}");
            closed.check_client(&headers(&[("authorization", &bearer)])).is_ok()
        };
        assert!(client(&eve) && !client(&bob));
        // The settings' token closes what would be open.
        let both = Access::new(Some("0123456789abcdef"), &[]).with_tokens(tokens, true);
        assert!(check(&both, Method::GET, "/v1/models", None).is_err());
        assert!(check(&both, Method::POST, "/v1/tokens", Some("0123456789abcdef")).is_ok());
    }
}
