//! Sends one message.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::crypto::ring;

use crate::error::{Error, Result};

/// A message that was not taken.
#[derive(Debug)]
pub(super) struct Refused {
    /// Why; without the URL.
    pub(super) why: String,
    /// When the receiver wants it again.
    pub(super) after: Option<Duration>,
    /// The receiver refuses this message for what it is, and not all of them.
    pub(super) lasting: bool,
}

/// A way to one receiver.
pub(super) struct Post {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    timeout: Duration,
}

impl Post {
    /// `timeout` is for a whole exchange.
    ///
    /// # Errors
    /// The system's roots of trust cannot be read, and `url` needs them.
    pub(super) fn new(url: &Uri, timeout: Duration) -> Result<Self> {
        let builder = ClientConfig::builder_with_provider(ring::default_provider().into());
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::internal("TLS cannot be set up").with_detail(e))?;
        let tls = if url.scheme_str() == Some("https") {
            builder.with_root_certificates(roots()?).with_no_client_auth()
        } else {
            builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(timeout));
        let https =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new()).build(https.wrap_connector(http));
        Ok(Self { client, url: url.clone(), timeout })
    }

    /// Sends a body with these headers; taken is what is answered with 2xx. The answer's
    /// body is not read.
    pub(super) async fn send(
        &self,
        headers: [(&'static str, String); 3],
        body: String,
    ) -> std::result::Result<(), Refused> {
        let failed = |why: String| Refused { why, after: None, lasting: false };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        let to = request.headers_mut();
        to.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        to.insert(USER_AGENT, HeaderValue::from_static("foreshadow"));
        for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
            let value = HeaderValue::from_str(&value).map_err(|e| failed(e.to_string()))?;
            to.insert(name, value);
        }
        let exchange = tokio::time::timeout(self.timeout, self.client.request(request));
        let seconds = self.timeout.as_secs_f64();
        let reply = exchange.await.map_err(|_| failed(format!("no answer within {seconds} s")))?;
        let reply = reply.map_err(|error| failed(root_cause(&error)))?;
        if reply.status().is_success() {
            return Ok(());
        }
        let why = format!("it answered {}", reply.status());
        // Where it wants a password, or is not there, somebody may mend that.
        let lasting = [400, 410, 413, 415, 422].contains(&reply.status().as_u16());
        Err(Refused { why, after: retry_after(reply.headers()), lasting })
    }
}

/// What the system trusts.
fn roots() -> Result<rustls::RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let detail = found.errors.first().map_or_else(String::new, ToString::to_string);
        let message = "a webhook has an https URL, and this system has no certificates of \
                       authorities; install them (ca-certificates), or set SSL_CERT_FILE";
        return Err(Error::invalid(message).with_detail(detail));
    }
    Ok(roots)
}

/// In seconds; a date is not looked at.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The innermost cause: what the system said. The outer ones have addresses in them.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
