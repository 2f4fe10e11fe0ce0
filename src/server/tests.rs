//! Over real sockets.

mod http1;
mod http2;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::engine::EngineError;
use crate::protocol::RequestLimits;
use crate::protocol::testing::{Bench, sums, sums_signature, version};
use crate::server::{ServerLimits, Summary, Tls, bind, run};
use crate::types::{Data, ModelSettings, Tensor};

/// A server under test.
struct Running {
    bench: Bench,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Summary>,
}

type Run = fn(&[Tensor]) -> Result<Vec<Tensor>, EngineError>;

async fn start(limits: ServerLimits, body: RequestLimits, model: Run) -> Running {
    start_over(None, limits, body, model).await
}

async fn start_over(
    tls: Option<Arc<Tls>>,
    limits: ServerLimits,
    body: RequestLimits,
    model: Run,
) -> Running {
    // Runs go to an engine thread, so that a slow one does not stop the test.
    let bench = Bench::with(body, Duration::ZERO);
    let model = version("sums", 1, sums_signature(2), model);
    bench.add(&ModelSettings::default(), &[model], None);
    let listener = bind("127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let ended = tokio::spawn(run(listener, Arc::clone(&bench.service), limits, tls, shutdown));
    Running { bench, address, stop, ended }
}

async fn start_default() -> Running {
    start(ServerLimits::default(), RequestLimits::default(), sums).await
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stop(self) -> Summary {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap()
    }
}

/// A request for `/predict` with one row.
fn request(row: &str) -> String {
    let body = format!(r#"{{"instances":[{row}]}}"#);
    format!("POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads one reply; the connection stays open.
async fn reply(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "closed after {text:?}");
    }
}

/// Sends, and reads the reply.
async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    reply(stream).await
}

/// Waits until the peer closes; a reset is a close, too.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    if stream.read_to_end(&mut rest).await.is_ok() {
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let running = start_default().await;
    let mut stream = running.connect().await;
    for i in 100..1100 {
        let got = ask(&mut stream, &request(&format!("[{i},0.5]"))).await;
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
        assert!(got.ends_with(&format!("\"predictions\":[{i}.5]}}")), "{got}");
    }
    assert_eq!(running.bench.service.metrics().connections().get(), 1);
    let metrics = running.bench.service.clone();
    let summary = running.stop().await;
    assert_eq!(summary, Summary { accepted: 1, refused: 0, aborted: 0 });
    assert_eq!(metrics.metrics().connections().get(), 0);
}

#[tokio::test]
async fn what_is_over_the_limit_of_connections_is_closed_and_counted() {
    let limits = ServerLimits { connections_max: 1, ..ServerLimits::default() };
    let running = start(limits, RequestLimits::default(), sums).await;
    let mut first = running.connect().await;
    ask(&mut first, &request("[1,2]")).await;
    let mut second = running.connect().await;
    closed(&mut second).await;
    assert_eq!(running.bench.service.metrics().connections_refused().get(), 1);
    // The first goes on, and its place is free once it has left.
    assert!(ask(&mut first, &request("[1,2]")).await.starts_with("HTTP/1.1 200"));
    drop(first);
    while running.bench.service.metrics().connections().get() > 0 {
        tokio::task::yield_now().await;
    }
    let mut third = running.connect().await;
    assert!(ask(&mut third, &request("[1,2]")).await.starts_with("HTTP/1.1 200"));
    assert_eq!(running.stop().await, Summary { accepted: 2, refused: 1, aborted: 0 });
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let limits = ServerLimits { headers_max: 3, header_bytes_max: 1000, ..ServerLimits::default() };
    let running = start(limits, RequestLimits::default(), sums).await;
    let with = |n: usize| {
        let more: String = (0..n).map(|i| format!("X-{i}: 1\r\n")).collect();
        format!("GET /v2/health/live HTTP/1.1\r\nHost: x\r\n{more}\r\n")
    };
    let got = ask(&mut running.connect().await, &with(2)).await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    let got = ask(&mut running.connect().await, &with(3)).await;
    assert!(got.starts_with("HTTP/1.1 431"), "{got}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1000));
    let got = ask(&mut running.connect().await, &long).await;
    assert!(got.starts_with("HTTP/1.1 431"), "{got}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_in_both_forms() {
    let body = RequestLimits { body_bytes_max: 64, ..RequestLimits::default() };
    let running = start(ServerLimits::default(), body, sums).await;
    // Refused before any of it is sent.
    let announced = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 65\r\n\r\n";
    let got = ask(&mut running.connect().await, announced).await;
    assert!(got.starts_with("HTTP/1.1 413"), "{got}");
    assert!(got.ends_with("{\"error\":\"the body is over the limit of 64 bytes\"}"), "{got}");
    let piece = format!("20\r\n{}\r\n", "x".repeat(32));
    let chunked = format!(
        "POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        piece.repeat(3)
    );
    let got = ask(&mut running.connect().await, &chunked).await;
    assert!(got.starts_with("HTTP/1.1 413"), "{got}");
}

#[tokio::test]
async fn slow_clients_time_out() {
    let body =
        RequestLimits { body_timeout: Duration::from_millis(20), ..RequestLimits::default() };
    let running = start(ServerLimits::default(), body, sums).await;
    let half = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    let got = ask(&mut running.connect().await, half).await;
    assert!(got.starts_with("HTTP/1.1 408"), "{got}");
    assert!(got.ends_with("{\"error\":\"the body did not arrive within 20ms\"}"), "{got}");
    let header_timeout = Duration::from_millis(300);
    let limits = ServerLimits { header_timeout, ..ServerLimits::default() };
    let running = start(limits, RequestLimits::default(), sums).await;
    // Half of the headers, and none at all.
    for start in ["POST /predict HTTP/1.1\r\n", ""] {
        let mut stream = running.connect().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    }
    // Nothing between two requests.
    let mut idle = running.connect().await;
    ask(&mut idle, &request("[1,2]")).await;
    closed(&mut idle).await;
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_client_that_does_not_read_is_cut_off() {
    let limits =
        ServerLimits { write_timeout: Duration::from_millis(100), ..ServerLimits::default() };
    let running = start(limits, RequestLimits::default(), sums).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(running.address).await.unwrap();
    // Replies of some 8 MB: more than the kernel keeps for us.
    let rows = "[1,2],".repeat(2_000_000);
    let request = request(rows.trim_end_matches(','));
    stream.write_all(request.as_bytes()).await.unwrap();
    while running.bench.service.metrics().connections().get() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Whether rows that start with 5 may be answered.
static OPEN: AtomicBool = AtomicBool::new(false);
/// Whether one of them has arrived.
static WAITING: AtomicBool = AtomicBool::new(false);

fn gated(inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
    let Data::Fp32(x) = inputs[0].data() else { unreachable!("checked") };
    if x[0] == 5.0 {
        WAITING.store(true, SeqCst);
        while !OPEN.load(SeqCst) {
            std::thread::yield_now();
        }
    }
    sums(inputs)
}

#[tokio::test]
async fn the_end_lets_requests_finish_but_not_for_ever() {
    let running = start(ServerLimits::default(), RequestLimits::default(), gated).await;
    let address = running.address;
    let (mut idle, mut busy) = (running.connect().await, running.connect().await);
    ask(&mut idle, &request("[1,2]")).await;
    busy.write_all(request("[5,2]").as_bytes()).await.unwrap();
    while !WAITING.swap(false, SeqCst) {
        tokio::task::yield_now().await;
    }
    let stopping = tokio::spawn(running.stop());
    // The idle connection ends at once; nobody new is taken.
    closed(&mut idle).await;
    assert!(TcpStream::connect(address).await.is_err());
    OPEN.store(true, SeqCst);
    let got = reply(&mut busy).await;
    assert!(got.starts_with("HTTP/1.1 200") && got.ends_with("[7.0]}"), "{got}");
    assert!(got.contains("connection: close"), "{got}");
    assert_eq!(stopping.await.unwrap(), Summary { accepted: 2, refused: 0, aborted: 0 });

    // And one that does not finish is cut off.
    OPEN.store(false, SeqCst);
    let limits = ServerLimits { grace: Duration::from_millis(20), ..ServerLimits::default() };
    let running = start(limits, RequestLimits::default(), gated).await;
    let mut busy = running.connect().await;
    busy.write_all(request("[5,2]").as_bytes()).await.unwrap();
    while !WAITING.swap(false, SeqCst) {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.stop().await, Summary { accepted: 1, refused: 0, aborted: 1 });
    closed(&mut busy).await;
    OPEN.store(true, SeqCst);
}
