//! HTTP/2 by prior knowledge: as a client speaks it, and frame by frame where
//! no client would.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

/// A client, and what its connection ends with.
struct Client {
    sender: SendRequest<Full<Bytes>>,
    ended: JoinHandle<hyper::Result<()>>,
}

impl Client {
    async fn connect(running: &Running) -> Self {
        let stream = TokioIo::new(running.connect().await);
        let (sender, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
        Self { sender, ended: tokio::spawn(connection) }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    async fn predict(&mut self, row: &str) -> (StatusCode, String) {
        let request = post(format!(r#"{{"instances":[{row}]}}"#));
        read(self.send(request).await.unwrap()).await
    }
}

fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("http://x/predict").body(Full::new(body.into())).unwrap()
}

async fn read(reply: Response<Incoming>) -> (StatusCode, String) {
    let (parts, body) = reply.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn requests_share_a_connection() {
    let running = start_default().await;
    let client = Client::connect(&running).await;
    let asked: Vec<_> = (100..400)
        .map(|i| {
            let mut client =
                Client { sender: client.sender.clone(), ended: tokio::spawn(async { Ok(()) }) };
            tokio::spawn(async move { (i, client.predict(&format!("[{i},0.5]")).await) })
        })
        .collect();
    for asked in asked {
        let (i, (status, text)) = asked.await.unwrap();
        assert_eq!(status, 200, "{text}");
        assert!(text.ends_with(&format!("\"predictions\":[{i}.5]}}")), "{text}");
    }
    let metrics = running.bench.metrics();
    assert!(metrics.contains("foreshadow_connections_opened_total{protocol=\"http2\"} 1"));
    drop(client);
    assert_eq!(running.stop().await, Summary { accepted: 1, refused: 0, aborted: 0 });
}

#[tokio::test]
async fn bodies_larger_than_the_windows_come_and_go() {
    let body = RequestLimits { body_bytes_max: 64 << 20, ..RequestLimits::default() };
    let running = start(ServerLimits::default(), body, sums).await;
    let mut client = Client::connect(&running).await;
    let rows = "[1,2],".repeat(1_000_000);
    let (status, text) = client.predict(rows.trim_end_matches(',')).await;
    assert_eq!(status, 200);
    assert_eq!(text.matches("3.0").count(), 1_000_000);
}

#[tokio::test]
async fn the_limits_of_a_request_are_those_of_http1() {
    let limits = ServerLimits { headers_max: 3, header_bytes_max: 1000, ..ServerLimits::default() };
    let body = RequestLimits {
        body_bytes_max: 64,
        body_timeout: Duration::from_millis(20),
        ..RequestLimits::default()
    };
    let running = start(limits, body, sums).await;
    let mut client = Client::connect(&running).await;
    let live = |headers: usize, size: usize| {
        let mut request = Request::get("http://x/v2/health/live");
        for i in 0..headers {
            request = request.header(format!("x-{i}"), "x".repeat(size));
        }
        request.body(Full::new(Bytes::new())).unwrap()
    };
    for (headers, size, status) in [(3, 1, 200), (4, 1, 431), (1, 1000, 431)] {
        let got = client.send(live(headers, size)).await.unwrap();
        assert_eq!(got.status(), status, "{headers} {size}");
    }
    let (status, text) = read(client.send(post(vec![b' '; 65])).await.unwrap()).await;
    assert_eq!((status.as_u16(), &text[..]), (413, TOO_LARGE));
    // Part of a body, and then nothing.
    let mut raw = Raw::connect(&running, &[]).await;
    raw.send(&[headers(1, false), frame(0, 0, 1, b"{")]).await;
    let reply = raw.until(|frame| frame.kind == 0).await;
    assert_eq!(reply.payload, b"{\"error\":\"the body did not arrive within 20ms\"}");
}

const TOO_LARGE: &str = "{\"error\":\"the body is over the limit of 64 bytes\"}";

#[tokio::test]
async fn the_end_lets_streams_finish_and_takes_no_new_ones() {
    let running = start(ServerLimits::default(), RequestLimits::default(), gated_twice).await;
    let mut idle = Client::connect(&running).await;
    idle.predict("[1,2]").await;
    let mut busy = Raw::connect(&running, &[]).await;
    let body = frame(0, END_STREAM, 1, br#"{"instances":[[5,2]]}"#);
    busy.send(&[headers(1, false), body]).await;
    while !WAITS.swap(false, SeqCst) {
        tokio::task::yield_now().await;
    }
    let stopping = tokio::spawn(running.stop());
    // The idle one ends at once, in good order.
    idle.ended.await.unwrap().unwrap();
    // The other is told to ask no more, and that this is understood.
    busy.until(|frame| frame.kind == GOAWAY).await;
    let ping = busy.until(|frame| frame.kind == PING).await;
    busy.send(&[frame(PING, ACK, 0, &ping.payload)]).await;
    let last = busy.until(|frame| frame.kind == GOAWAY).await;
    assert_eq!(last.payload, [0, 0, 0, 1, 0, 0, 0, 0], "stream 1 is the last; no error");
    OPENED.store(true, SeqCst);
    let reply = busy.until(|frame| frame.kind == 0).await;
    assert!(reply.payload.ends_with(b"[7.0]}"), "{reply:?}");
    drop(busy);
    assert_eq!(stopping.await.unwrap(), Summary { accepted: 2, refused: 0, aborted: 0 });
}

/// Whether rows that start with 5 may be answered, and whether one waits.
static OPENED: AtomicBool = AtomicBool::new(false);
static WAITS: AtomicBool = AtomicBool::new(false);

fn gated_twice(inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
    let Data::Fp32(x) = inputs[0].data() else { unreachable!("checked") };
    if x[0] == 5.0 {
        WAITS.store(true, SeqCst);
        while !OPENED.load(SeqCst) {
            std::thread::yield_now();
        }
    }
    sums(inputs)
}

#[tokio::test]
async fn who_asks_for_nothing_is_told_to_go() {
    let limits =
        ServerLimits { header_timeout: Duration::from_millis(50), ..ServerLimits::default() };
    let running = start(limits, RequestLimits::default(), sums).await;
    let mut client = Client::connect(&running).await;
    client.predict("[1,2]").await;
    client.ended.await.unwrap().unwrap();
    // And who says no more than that it speaks HTTP/2.
    let mut raw = Raw::connect(&running, &[]).await;
    let goaway = raw.until(|frame| frame.kind == GOAWAY).await;
    assert_eq!(goaway.payload[4..8], [0; 4], "without an error");
    wait_for_cut(&running, "idle", 1).await;
}

/// Waits until some connections were cut for a reason.
async fn wait_for_cut(running: &Running, reason: &str, count: usize) {
    let line = format!("foreshadow_connections_cut_total{{reason=\"{reason}\"}} ");
    loop {
        let metrics = running.bench.metrics();
        let at = metrics.find(&line).unwrap() + line.len();
        let number: usize = metrics[at..].lines().next().unwrap().parse().unwrap();
        if number >= count {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_reply_that_nobody_reads_ends_the_connection() {
    let limits =
        ServerLimits { write_timeout: Duration::from_millis(50), ..ServerLimits::default() };
    let running = start(limits, RequestLimits::default(), sums).await;
    // No window for any stream's data.
    let mut raw = Raw::connect(&running, &[(4, 0)]).await;
    let body = frame(0, END_STREAM, 1, br#"{"instances":[[1,2]]}"#);
    raw.send(&[headers(1, false), body]).await;
    raw.until(|frame| frame.kind == 1).await;
    wait_for_cut(&running, "stalled", 1).await;
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let running = start_default().await;
    let mut raw = Raw::connect(&running, &[]).await;
    let flood: Vec<_> = (0..2000_u32)
        .flat_map(|i| [headers(2 * i + 1, true), frame(3, 0, 2 * i + 1, &[0, 0, 0, 8])])
        .collect();
    raw.send(&flood).await;
    let goaway = raw.until(|frame| frame.kind == GOAWAY).await;
    assert_eq!(goaway.payload[4..8], [0, 0, 0, 0xb], "ENHANCE_YOUR_CALM");
    wait_for_cut(&running, "broken", 1).await;
}

#[tokio::test]
async fn the_number_of_streams_is_announced_and_kept() {
    let limits = ServerLimits { streams_max: 7, ..ServerLimits::default() };
    let running = start(limits, RequestLimits::default(), sums).await;
    let mut raw = Raw::connect(&running, &[]).await;
    let settings = raw.until(|frame| frame.kind == 4 && !frame.payload.is_empty()).await;
    let streams = settings.payload.chunks(6).find(|setting| setting[..2] == [0, 3]).unwrap();
    assert_eq!(streams[2..], [0, 0, 0, 7]);
    // One more than that, none of which is whole, is refused and may be tried again.
    let more: Vec<_> = (0..8).map(|i| headers(2 * i + 1, false)).collect();
    raw.send(&more).await;
    let refused = raw.until(|frame| frame.kind == 3).await;
    assert_eq!((refused.stream, &refused.payload[..]), (15, &[0, 0, 0, 7][..]), "REFUSED_STREAM");
}

const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A client that does as the test says.
struct Raw(TcpStream);

/// A frame.
#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of `POST /predict`, which may be all of it.
fn headers(stream: u32, whole: bool) -> Vec<u8> {
    let flags = END_HEADERS | if whole { END_STREAM } else { 0 };
    let path = b"\x83\x86\x04\x08/predict";
    frame(1, flags, stream, path)
}

impl Raw {
    /// Connects with these settings.
    async fn connect(running: &Running, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self(running.connect().await);
        let setting =
            |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let settings: Vec<u8> = settings.iter().flat_map(setting).collect();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        raw.send(&[preface, frame(4, 0, 0, &settings)]).await;
        raw
    }

    /// Sends frames; a server that has had enough may have left.
    async fn send(&mut self, frames: &[Vec<u8>]) {
        let _ = self.0.write_all(&frames.concat()).await;
    }

    /// Reads frames until one is right.
    async fn until(&mut self, right: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.expect("the frame comes before the end");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.unwrap();
            let frame = Frame { kind: head[3], stream, payload };
            if right(&frame) {
                return frame;
            }
        }
    }
}
