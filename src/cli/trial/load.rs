//! An open-loop load: requests go out when they are due, not when the last
//! one came back.
//!
//! A request that found no free connection at its time is counted from the
//! time it was due, so that a stall of the gateway shows in the figures.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::task::JoinSet;

use super::tally::Tally;
use crate::cli::client::{self, Http};

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is overdue by this much after the end is not sent any more.
const OVERTIME: Duration = Duration::from_secs(5);
/// The largest reply.
const REPLY_BYTES_MAX: usize = 16 << 20;
/// The most of an error's message that is kept.
const MESSAGE_CHARS_MAX: usize = 200;

/// What to send, how often, for how long.
pub(super) struct Load {
    pub(super) rate: u32,
    pub(super) length: Duration,
    pub(super) connections: usize,
    pub(super) target: Target,
}

/// Where requests go, and their bodies, in turn.
pub(super) struct Target {
    pub(super) uri: Uri,
    pub(super) bodies: Vec<Bytes>,
}

struct Shared {
    load: Load,
    http: Http,
    total: u64,
    next: AtomicU64,
    started: Instant,
    tally: Mutex<Tally>,
}

/// Runs the load to its end, or until `interrupted` is done; `progress` is
/// called once per second.
pub(super) async fn run(
    load: Load,
    interrupted: impl Future<Output = ()>,
    progress: impl Fn(&Tally, Duration),
) -> Tally {
    let connections = load.connections;
    let total = (load.length.as_secs_f64() * f64::from(load.rate)).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rate and length are bounded"
    )]
    let total = total as u64;
    let shared = Arc::new(Shared {
        load,
        http: client::http(),
        total,
        next: AtomicU64::new(0),
        started: Instant::now(),
        tally: Mutex::default(),
    });
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        workers.spawn(Arc::clone(&shared).work());
    }
    let mut interrupted = std::pin::pin!(interrupted);
    let second = Duration::from_secs(1);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + second, second);
    loop {
        tokio::select! {
            ended = workers.join_next() => if ended.is_none() { break },
            () = &mut interrupted => {
                workers.shutdown().await;
                return std::mem::take(&mut *shared.lock());
            }
            _ = ticks.tick() => progress(&shared.lock(), shared.started.elapsed()),
        }
    }
    let mut tally = std::mem::take(&mut *shared.lock());
    tally.unsent = shared.total.saturating_sub(shared.next.load(Relaxed));
    tally
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next due request until there is none.
    async fn work(self: Arc<Self>) {
        while self.started.elapsed() < self.load.length + OVERTIME {
            let number = self.next.fetch_add(1, Relaxed);
            if number >= self.total {
                return;
            }
            let since = self.wait(number).await;
            let outcome = tokio::time::timeout(TIMEOUT, self.send(number)).await;
            let elapsed = since.elapsed();
            let outcome = outcome.unwrap_or_else(|_| Err("no answer within 10 s".to_owned()));
            match outcome {
                Ok((version, role)) => self.lock().answer(&version, &role, elapsed),
                Err(message) => self.lock().error(message),
            }
        }
    }

    /// Waits until a request is due. Its latency counts from there, but not
    /// the millisecond by which a timer may wake late.
    async fn wait(&self, number: u64) -> Instant {
        let due = self.started + Duration::from_secs(1).mul_f64(ratio(number, self.load.rate));
        if Instant::now() >= due {
            return due;
        }
        tokio::time::sleep_until(due.into()).await;
        Instant::now()
    }

    /// Sends one request; who answered, or what went wrong.
    async fn send(&self, number: u64) -> Result<(String, String), String> {
        let bodies = &self.load.target.bodies;
        let index = usize::try_from(number).unwrap_or(0) % bodies.len();
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.load.target.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(bodies[index].clone()))
            .map_err(|error| error.to_string())?;
        let reply = self.http.request(request).await;
        read(reply.map_err(|error| client::root_cause(&error))?).await
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
fn ratio(number: u64, rate: u32) -> f64 {
    number as f64 / f64::from(rate)
}

/// Reads a reply to its end, as the connection is free only then.
async fn read(reply: Response<Incoming>) -> Result<(String, String), String> {
    let (head, body) = reply.into_parts();
    let body = Limited::new(body, REPLY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("the reply broke off: {error}"))?.to_bytes();
    let named = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or("?").to_owned()
    };
    if head.status.is_success() {
        return Ok((named("x-model-version"), named("x-model-role")));
    }
    let said: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let said = said.and_then(|said| Some(said.get("error")?.as_str()?.to_owned()));
    let said: String = said.unwrap_or_default().chars().take(MESSAGE_CHARS_MAX).collect();
    Err(format!("{}: {said}", head.status))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;

    use super::*;

    /// Answers as version 2 for bodies that name it, fails others.
    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let reply = if body == "two" {
            Response::builder().header("x-model-version", "2").header("x-model-role", "canary")
        } else {
            Response::builder().status(503)
        };
        Ok(reply.body(Full::new(Bytes::from_static(b"{\"error\":\"full\"}"))).unwrap())
    }

    #[tokio::test]
    async fn answers_are_told_by_their_headers_and_errors_by_their_words() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let io = TokioIo::new(stream);
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(io, service_fn(answer)));
            }
        });
        let uri = format!("http://{address}/predict/churn").parse().unwrap();
        let bodies = vec![Bytes::from_static(b"two"), Bytes::from_static(b"one")];
        let load = Load {
            rate: 1000,
            length: Duration::from_millis(20),
            connections: 4,
            target: Target { uri, bodies },
        };
        let tally = run(load, std::future::pending(), |_, _| {}).await;
        let json = tally.to_json();
        assert_eq!(json["arms"][0]["answers"], 10, "{json}");
        assert_eq!(
            (&json["arms"][0]["version"], &json["arms"][0]["role"]),
            (&"2".into(), &"canary".into())
        );
        assert_eq!(json["errors"]["503 Service Unavailable: full"], 10, "{json}");
        assert_eq!(json["unsent"], 0);
    }

    #[tokio::test]
    async fn an_interrupted_load_keeps_what_it_counted() {
        // Accepts, and never answers.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let load = Load {
            rate: 1000,
            length: Duration::from_secs(24 * 3600),
            connections: 1,
            target: Target { uri, bodies: vec![Bytes::new()] },
        };
        let came = async { drop(listener.accept().await.unwrap()) };
        let tally = run(load, came, |_, _| {}).await;
        assert_eq!((tally.answered(), tally.unsent), (0, 0), "nothing was due that had no place");
    }
}
