//! TLS, with certificates that the tests make.

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::server::TlsFiles;

/// A folder with a certificate and its key in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> (Self, CertificateDer<'static>) {
        let folder = Self(tempfile::tempdir().unwrap());
        let certificate = folder.renew();
        (folder, certificate)
    }

    /// Writes a new pair.
    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.path("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { certificate: self.path("cert.pem"), key: self.path("key.pem") }
    }

    fn load(&self) -> Arc<Tls> {
        Arc::new(Tls::load(self.files()).unwrap())
    }
}

async fn start_tls(tls: &Arc<Tls>, limits: ServerLimits) -> Running {
    start_over(Some(Arc::clone(tls)), limits, RequestLimits::default(), sums).await
}

/// Connects as a client that trusts one certificate and speaks some protocols.
async fn connect(
    running: &Running,
    trusted: &CertificateDer<'static>,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, running.connect().await).await
}

/// Asks over HTTP/1.1 and closes; the reply.
async fn live(stream: &mut TlsStream<TcpStream>) -> String {
    let request = "GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    String::from_utf8(reply).unwrap()
}

#[tokio::test]
async fn the_handshake_agrees_on_the_protocol() {
    let (folder, certificate) = Folder::new();
    let running = start_tls(&folder.load(), ServerLimits::default()).await;
    for (offered, agreed) in
        [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)]
    {
        let mut stream = connect(&running, &certificate, offered).await.unwrap();
        let found = stream.get_ref().1.alpn_protocol().map(|p| String::from_utf8_lossy(p).into());
        assert_eq!(found, agreed.map(str::to_owned), "{offered:?}");
        if agreed != Some("h2") {
            let reply = live(&mut stream).await;
            assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("true}"), "{reply}");
            continue;
        }
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("https://localhost/v2/health/live");
        let reply = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await;
        let (parts, body) = reply.unwrap().into_parts();
        assert_eq!((parts.status.as_u16(), parts.version), (200, http::Version::HTTP_2));
        assert_eq!(body.collect().await.unwrap().to_bytes(), &b"{\"live\":true}"[..]);
    }
    assert!(connect(&running, &certificate, &["spdy/3"]).await.is_err(), "nothing in common");
    let metrics = running.bench.metrics();
    for line in ["opened_total{protocol=\"http1\"} 2", "opened_total{protocol=\"http2\"} 1"] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
    let (folder, old) = Folder::new();
    let tls = folder.load();
    let running = start_tls(&tls, ServerLimits::default()).await;
    let mut open = connect(&running, &old, &[]).await.unwrap();
    assert!(!tls.reload().unwrap(), "nothing has changed");

    let new = folder.renew();
    assert!(tls.reload().unwrap());
    assert!(connect(&running, &old, &[]).await.is_err());
    assert!(connect(&running, &new, &[]).await.is_ok());
    assert!(live(&mut open).await.starts_with("HTTP/1.1 200"), "what is open goes on");

    std::fs::write(folder.path("cert.pem"), "half a certif").unwrap();
    assert!(tls.reload().is_err());
    assert!(connect(&running, &new, &[]).await.is_ok());
    let newest = folder.renew();
    assert!(tls.reload().unwrap());
    assert!(connect(&running, &newest, &[]).await.is_ok());
}

#[tokio::test]
async fn the_files_are_watched() {
    let (folder, _) = Folder::new();
    let tls = folder.load();
    let running = start_tls(&tls, ServerLimits::default()).await;
    let watching = tokio::spawn(Arc::clone(&tls).watch(Duration::from_millis(1)));
    let new = folder.renew();
    // Meanwhile the two files may have been seen as no pair.
    while connect(&running, &new, &[]).await.is_err() {
        tokio::task::yield_now().await;
    }
    watching.abort();
}

#[tokio::test]
async fn who_does_not_get_through_the_handshake_is_cut_and_counted() {
    let (folder, _) = Folder::new();
    let (_, foreign) = Folder::new();
    let limits =
        ServerLimits { handshake_timeout: Duration::from_millis(50), ..ServerLimits::default() };
    let running = start_tls(&folder.load(), limits).await;
    assert!(connect(&running, &foreign, &[]).await.is_err());
    // Without TLS, and without a word.
    let mut plain = running.connect().await;
    plain.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut silent = running.connect().await;
    for stream in [&mut plain, &mut silent] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    }
    let line = "foreshadow_connections_cut_total{reason=\"handshake\"} 3";
    while !running.bench.metrics().contains(line) {
        tokio::task::yield_now().await;
    }
}

/// What is wrong with these files, without their folder.
fn problem(folder: &Folder, certificate: &str, key: &str) -> String {
    let files = TlsFiles { certificate: folder.path(certificate), key: folder.path(key) };
    let error = Tls::load(files).err().unwrap();
    let here = format!("{}/", folder.0.path().display());
    error.message().replace(&here, "")
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let (folder, _) = Folder::new();
    let (other, _) = Folder::new();
    let write = |name: &str, text: &str| std::fs::write(folder.path(name), text).unwrap();
    std::fs::copy(other.path("key.pem"), folder.path("other.pem")).unwrap();
    write("empty.pem", "");
    write(
        "locked.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    write("large.pem", &" ".repeat((1 << 20) + 1));
    for (certificate, key, expected) in [
        ("none.pem", "key.pem", "none.pem: cannot be read: No such file"),
        ("cert.pem", "none.pem", "none.pem: cannot be read: No such file"),
        ("empty.pem", "key.pem", "empty.pem: no certificate in it; expected -----BEGIN CERT"),
        ("key.pem", "key.pem", "key.pem: no certificate in it"),
        ("cert.pem", "cert.pem", "cert.pem: no private key in it; expected -----BEGIN PRIVATE KEY"),
        (
            "cert.pem",
            "locked.pem",
            "locked.pem: the private key is encrypted; expected one without",
        ),
        ("cert.pem", "other.pem", "other.pem: this is not the key of the certificate in cert.pem"),
        ("broken.pem", "key.pem", "broken.pem: the certificate is broken"),
        ("large.pem", "key.pem", "large.pem: it is larger than 1048576 bytes"),
    ] {
        let found = problem(&folder, certificate, key);
        assert!(found.starts_with(expected), "{found}");
    }
}
