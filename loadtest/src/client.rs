//! One connection, and one request at a time on it.
//!
//! A connection that the server closed while it was idle is replaced without
//! an error; one that breaks under a request is an error. A request that was
//! given up takes its connection with it, or its late reply would answer the
//! next request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::grpc;
use crate::target::Target;

/// Why there is no complete reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be opened.
    Connect,
    /// It took too long.
    Timeout,
    /// The connection ended, or spoke something other than HTTP.
    Closed,
}

/// A complete reply, of which only this is kept.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status; of gRPC the one that means the same.
    pub status: StatusCode,
    /// `x-model-version`.
    pub version: Option<HeaderValue>,
    /// `x-model-role`.
    pub role: Option<HeaderValue>,
    /// `retry-after`.
    pub retry_after: Option<HeaderValue>,
    /// Length of the body.
    pub body_bytes: u64,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An open connection; dropping it closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: Sender,
    driver: AbortHandle,
}

impl Connection {
    /// Connects; the task that drives the connection runs on this runtime.
    pub(crate) async fn open(address: std::net::SocketAddr, http2: bool) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await.map_err(|_| Failure::Connect)?;
        // A small request must not wait for the acknowledgement of the last.
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let stream = TokioIo::new(stream);
        // Its result comes back through the request that it breaks.
        let (sender, driver) = if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
                .await
                .map_err(|_| Failure::Connect)?;
            (Sender::Http2(sender), tokio::spawn(async move { drop(connection.await) }))
        } else {
            let (sender, connection) =
                http1::handshake(stream).await.map_err(|_| Failure::Connect)?;
            (Sender::Http1(sender), tokio::spawn(async move { drop(connection.await) }))
        };
        Ok(Self { sender, driver: driver.abort_handle() })
    }

    /// Sends one request and waits for the head of its reply.
    ///
    /// The error holds the request again if not a byte of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Option<Request<Full<Bytes>>>> {
        let ready = match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(sender) => sender.ready().await,
        };
        if ready.is_err() {
            return Err(Some(request));
        }
        let sent = match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| error.take_message())
    }

    fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Sends a target's requests, one after the other, on one connection that it
/// keeps as long as it lasts.
#[derive(Debug)]
pub struct Client {
    target: Arc<Target>,
    timeout: Duration,
    connection: Option<Connection>,
}

impl Client {
    /// A client that gives up on a request after `timeout`; not yet connected.
    #[must_use]
    pub fn new(target: Arc<Target>, timeout: Duration) -> Self {
        Self { target, timeout, connection: None }
    }

    /// Opens the connection ahead of the first request. If that fails, the
    /// first request tries again and counts the failure.
    pub async fn connect(&mut self) {
        let opening = Connection::open(self.target.server.address, self.target.http2);
        if let Ok(Ok(connection)) = tokio::time::timeout(self.timeout, opening).await {
            self.connection = Some(connection);
        }
    }

    /// Sends the request at this position of the schedule and reads its reply
    /// to the last byte.
    ///
    /// # Errors
    /// If no complete reply came within the timeout.
    pub async fn exchange(&mut self, number: u64) -> Result<Reply, Failure> {
        let limit = self.timeout;
        tokio::time::timeout(limit, self.attempt(number)).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn attempt(&mut self, number: u64) -> Result<Reply, Failure> {
        let request = self.target.request(number);
        // Taken out, so that whoever drops this future drops the connection.
        let (connection, response) = match self.connection.take() {
            Some(connection) => self.send_or_reopen(connection, request).await?,
            None => self.open_and_send(request).await?,
        };
        let reply = read(response).await?;
        self.connection = Some(connection).filter(Connection::is_open);
        Ok(reply)
    }

    async fn send_or_reopen(
        &self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
    ) -> Result<(Connection, Response<Incoming>), Failure> {
        match connection.send(request).await {
            Ok(response) => Ok((connection, response)),
            Err(Some(unsent)) => self.open_and_send(unsent).await,
            Err(None) => Err(Failure::Closed),
        }
    }

    async fn open_and_send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Connection, Response<Incoming>), Failure> {
        let mut connection =
            Connection::open(self.target.server.address, self.target.http2).await?;
        let response = connection.send(request).await.map_err(|_| Failure::Closed)?;
        Ok((connection, response))
    }
}

async fn read(response: Response<Incoming>) -> Result<Reply, Failure> {
    let (mut head, mut body) = response.into_parts();
    let mut body_bytes = 0;
    let mut told = grpc::status(&head.headers);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::Closed)?;
        body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        told = frame.trailers_ref().map_or(told, grpc::status);
    }
    Ok(Reply {
        status: told.unwrap_or(head.status),
        version: head.headers.remove("x-model-version"),
        role: head.headers.remove("x-model-role"),
        retry_after: head.headers.remove(RETRY_AFTER),
        body_bytes,
    })
}
