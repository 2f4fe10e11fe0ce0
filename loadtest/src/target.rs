//! What is asked of whom: an address, and requests that are ready to send.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE};
use hyper::{Method, Request, Uri};
use serde_json::Value;

use crate::error::Error;
use crate::grpc;

/// Largest file of bodies or rows, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most rows that are taken from a file.
const ROWS_MAX: usize = 100_000;

/// How long the server may take.
const TIMEOUT: HeaderName = HeaderName::from_static("x-foreshadow-timeout");

/// A server's address, as a URL names it; plain HTTP only.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where to connect.
    pub address: SocketAddr,
    /// The `Host` header.
    pub host: HeaderValue,
    /// Path and query, the form that HTTP/1.1 sends; `/` if the URL has none.
    pub path: Uri,
}

impl Server {
    /// Reads a URL and resolves its host once.
    ///
    /// # Errors
    /// If it is no `http://` URL, or its host is unknown.
    pub fn resolve(url: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::new(format!("URL {url:?}: {why}"));
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("expected http://HOST[:PORT]/PATH; TLS is not supported"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let address = (name, authority.port_u16().unwrap_or(80))
            .to_socket_addrs()
            .map_err(|error| wrong(&format!("cannot resolve {name:?}: {error}")))?
            .next()
            .ok_or_else(|| wrong("its host has no address"))?;
        let host_and_port = authority.as_str().rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::from_str(host_and_port).map_err(|_| wrong("odd host"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = path.parse().map_err(|error| wrong(&format!("{error}")))?;
        Ok(Self { address, host, path })
    }
}

/// The requests of a run: one method, path and set of headers; bodies in turn.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where they go.
    pub server: Server,
    /// Whether to speak HTTP/2, without asking first ("prior knowledge").
    pub http2: bool,
    uri: Uri,
    method: Method,
    headers: HeaderMap,
    bodies: Vec<Bytes>,
}

impl Target {
    /// POST requests with these bodies in turn, JSON unless `headers` say
    /// otherwise.
    ///
    /// # Errors
    /// If there is no body or a header is malformed.
    pub fn new(server: Server, headers: &[String], bodies: Vec<Bytes>) -> Result<Self, Error> {
        if bodies.is_empty() {
            return Err(Error::new("no request body: the file of rows has no rows"));
        }
        let mut map = HeaderMap::new();
        map.insert(HOST, server.host.clone());
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for header in headers {
            let (name, value) = parse_header(header)?;
            map.insert(name, value);
        }
        let (uri, method) = (server.path.clone(), Method::POST);
        Ok(Self { server, http2: false, uri, method, headers: map, bodies })
    }

    /// The same with the time that the server may take in a header that Foreshadow
    /// understands, unless there is one already.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        let micros = Duration::from_micros(u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX));
        let text = humantime::format_duration(micros).to_string();
        if let Ok(value) = HeaderValue::try_from(text) {
            self.headers.entry(TIMEOUT).or_insert(value);
        }
        self
    }

    /// The same over HTTP/2, whose requests carry the host in the URI.
    ///
    /// # Errors
    /// If host and path make no URI.
    pub fn over_http2(mut self) -> Result<Self, Error> {
        let host = self.server.host.to_str().unwrap_or_default();
        let uri = format!("http://{host}{}", self.server.path);
        self.uri = uri.parse().map_err(|error| Error::new(format!("{uri}: {error}")))?;
        self.headers.remove(HOST);
        self.http2 = true;
        Ok(self)
    }

    /// The same over gRPC: JSON requests of the Open Inference Protocol as messages.
    ///
    /// # Errors
    /// If the path names no model (`/v2/models/MODEL/infer`), or a body is no such
    /// request.
    pub fn over_grpc(mut self) -> Result<Self, Error> {
        let path = self.server.path.path();
        let model = grpc::model_in(path).ok_or_else(|| {
            Error::new(format!("{path}: expected /v2/models/MODEL/infer, which names the model"))
        })?;
        let messages = self.bodies.iter().map(|body| grpc::message(model, body));
        self.bodies = messages.collect::<Result<_, _>>()?;
        self.server.path = Uri::from_static(grpc::METHOD);
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        self.headers.insert(TE, HeaderValue::from_static("trailers"));
        self.over_http2()
    }

    /// The request at this position of the schedule.
    #[must_use]
    pub fn request(&self, number: u64) -> Request<Full<Bytes>> {
        let index = number % self.bodies.len() as u64;
        let body = usize::try_from(index).map_or(Bytes::new(), |at| self.bodies[at].clone());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// The body in a file, as it is.
///
/// # Errors
/// If the file cannot be read or is too large.
pub fn body_from(path: &Path) -> Result<Bytes, Error> {
    let wrong = |why: String| Error::new(format!("{}: {why}", path.display()));
    let mut bytes = Vec::new();
    let mut file =
        File::open(path).map_err(|error| wrong(error.to_string()))?.take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes.into())
}

/// One body for each row of a sample: `{"instances": [row]}`.
///
/// The file holds `{"instances": [row, …]}`, or the array alone.
///
/// # Errors
/// If the file cannot be read, is no JSON, or has no such array.
pub fn rows_from(path: &Path) -> Result<Vec<Bytes>, Error> {
    let bytes = body_from(path)?;
    rows(&bytes).map_err(|why| Error::new(format!("{}: {why}", path.display())))
}

fn rows(bytes: &[u8]) -> Result<Vec<Bytes>, String> {
    let sample: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let rows = sample.get("instances").unwrap_or(&sample).as_array();
    let rows = rows.ok_or("expected {\"instances\": [row, …]} or an array of rows")?;
    let one = |row: &Value| Bytes::from(serde_json::json!({ "instances": [row] }).to_string());
    Ok(rows.iter().take(ROWS_MAX).map(one).collect())
}

/// The sample that ships with the model that the path names, if the working
/// directory has one: `models/churn/sample.json` for `/predict/churn`.
///
/// None for the paths of the Open Inference Protocol, whose bodies look
/// different.
#[must_use]
pub fn sample_for(path: &str, folder: &Path) -> Option<PathBuf> {
    let path = path.split('?').next().unwrap_or_default();
    if path.starts_with("/v2/") {
        return None;
    }
    let plain = |name: &&str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    let named = path.split(['/', ':']).filter(plain);
    let fallback = (path == "/predict").then_some("churn");
    named
        .chain(fallback)
        .map(|model| folder.join(model).join("sample.json"))
        .find(|sample| sample.is_file())
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), Error> {
    let wrong = || Error::new(format!("header {text:?}: expected NAME:VALUE"));
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_becomes_address_host_and_path() {
        let server = Server::resolve("http://127.0.0.1:8000/predict/churn?a=1").unwrap();
        assert_eq!(server.address, "127.0.0.1:8000".parse().unwrap());
        assert_eq!(server.host, "127.0.0.1:8000");
        assert_eq!(server.path, "/predict/churn?a=1");
        let server = Server::resolve("http://[::1]").unwrap();
        assert_eq!(server.address, "[::1]:80".parse().unwrap());
        assert_eq!(server.path, "/");
    }

    #[test]
    fn other_urls_are_refused_with_a_reason() {
        for (url, why) in [
            ("https://127.0.0.1/", "TLS"),
            ("127.0.0.1:8000", "http://"),
            ("/predict", "http://"),
            ("http://", "URL"),
        ] {
            let error = Server::resolve(url).unwrap_err().to_string();
            assert!(error.contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn every_row_gets_its_turn() {
        for sample in [r#"{"instances":[[1,2],[3,4]]}"#, "[[1,2],[3,4]]"] {
            let bodies = rows(sample.as_bytes()).unwrap();
            assert_eq!(bodies, [r#"{"instances":[[1,2]]}"#, r#"{"instances":[[3,4]]}"#]);
        }
        assert!(rows(b"{}").is_err());
        assert!(rows(b"[1,").unwrap_err().contains("line 1"));
    }

    #[test]
    fn request_has_host_type_and_the_users_headers() {
        let server = Server::resolve("http://127.0.0.1:1/x").unwrap();
        let headers = ["X-Routing-Key: 7".to_owned()];
        let target = Target::new(server.clone(), &headers, vec![Bytes::new()]).unwrap();
        let request = target.request(u64::MAX);
        assert_eq!(request.headers()[HOST], "127.0.0.1:1");
        assert_eq!(request.headers()["x-routing-key"], "7");
        assert_eq!(request.headers()[CONTENT_TYPE], "application/json");
        assert!(Target::new(server.clone(), &["nonsense".to_owned()], vec![Bytes::new()]).is_err());
        assert!(Target::new(server, &[], Vec::new()).is_err());
    }
}
