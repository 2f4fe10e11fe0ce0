//! The inference port's other wires: HTTP/2, and TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::gateway::{Gateway, HANG, start, start_with};
use crate::http::Client;

fn block_on<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> SendRequest<Full<Bytes>> {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn predict(sender: &mut SendRequest<Full<Bytes>>, path: &str) -> (u16, String) {
    let body = Full::new(Bytes::from_static(br#"{"instances": [[1], [2]]}"#));
    let request = http::Request::post(format!("http://x{path}")).body(body).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

#[test]
fn http2_and_http1_answer_the_same() {
    let gateway = start("", &["answers 1", "answers 2"]);
    block_on(async {
        let address = gateway.app.inference_address();
        let mut one = Client::connect(address).await;
        let mut two = speak(TcpStream::connect(address).await.unwrap()).await;
        for path in [
            "/v1/models/m:predict",
            "/v1/models/m/versions/1:predict",
            "/v1/models/m/versions/9:predict",
            "/v1/models/nobody:predict",
        ] {
            let reply = one.post(path, r#"{"instances": [[1], [2]]}"#).await;
            let (status, text) = predict(&mut two, path).await;
            assert_eq!((status, text), (reply.status, reply.text()), "{path}");
        }
        let opened =
            |protocol| format!("foreshadow_connections_opened_total{{protocol=\"{protocol}\"}} 1");
        gateway.wait_for_metric(&opened("http1")).await;
        gateway.wait_for_metric(&opened("http2")).await;
    });
    gateway.app.stop();
}

/// A certificate and its key in a folder.
fn certify(folder: &std::path::Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

async fn secure(
    gateway: &Gateway,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    secure_at(gateway.app.inference_address(), trusted).await
}

async fn secure_at(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[test]
fn a_certificate_is_served_and_renewed_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let old = certify(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let settings = [
        ("server.tls_certificate", path("cert.pem")),
        ("server.tls_key", path("key.pem")),
        ("server.tls_rescan", "5ms".to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let gateway = start_with("", &["answers 1"], &settings);
    block_on(async {
        let mut open = speak(secure(&gateway, &old).await.unwrap()).await;
        assert_eq!(predict(&mut open, "/predict/m").await.0, 200);
        let new = certify(folder.path());
        let renewed = async {
            while secure(&gateway, &new).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HANG, renewed).await.expect("the new certificate is taken");
        assert_eq!(predict(&mut open, "/predict/m").await.0, 200, "what is open goes on");
    });
    gateway.app.stop();
}

/// With a certificate, gRPC is behind it as well: what is secret in a call must not
/// travel in clear text beside a REST that does not.
#[test]
fn grpc_has_the_same_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certify(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let settings = [
        ("server.tls_certificate", path("cert.pem")),
        ("server.tls_key", path("key.pem")),
        ("server.tls_handshake_timeout", "50ms".to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let gateway = start_with("", &["answers 1"], &settings);
    block_on(async {
        let address = gateway.app.grpc_address().unwrap();
        let mut sender = speak(secure_at(address, &certificate).await.unwrap()).await;
        let request =
            http::Request::post("https://localhost/inference.GRPCInferenceService/ServerLive")
                .header("content-type", "application/grpc")
                .body(Full::new(Bytes::from_static(&[0; 5])))
                .unwrap();
        let reply =
            sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(reply.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(reply.to_bytes(), [0, 0, 0, 0, 2, 8, 1][..]);
        // Who says nothing, and who speaks in clear text, does not get through.
        let cut = r#"foreshadow_connections_cut_total{reason="handshake"}"#;
        let silent = TcpStream::connect(address).await.unwrap();
        gateway.wait_for_metric(&format!("{cut} 1")).await;
        drop(silent);
        let plain = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(plain)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post(format!("http://{address}/x"));
        assert!(sender.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.is_err());
        gateway.wait_for_metric(&format!("{cut} 2")).await;
    });
    gateway.app.stop();
}
