//! An HTTP/1.1 connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::server::ServerLimits;
use crate::server::conn::{End, Http, Stop};
use crate::server::idle::{Activity, Watched};

/// What hyper holds without an allocation per request.
const HEADERS_ON_STACK: usize = 100;

/// The most bytes that a connection reads, or gathers to be written, at a time.
const BUFFER_BYTES_MAX: usize = 128 << 10;

/// How connections are served.
pub(super) fn builder(limits: &ServerLimits) -> Builder {
    let mut builder = Builder::new();
    // Its own limit for headers is a timer for each request; see `idle`.
    builder.header_read_timeout(None);
    builder.max_header_size(limits.header_bytes_max);
    // Headers and body in one piece: copying some hundred bytes costs less than
    // a system call with two buffers. A connection's turn is as long as it takes
    // to read or write this much.
    builder.writev(false).max_buf_size(BUFFER_BYTES_MAX.max(limits.header_bytes_max));
    if limits.headers_max != HEADERS_ON_STACK {
        builder.max_headers(limits.headers_max);
    }
    builder
}

/// Serves a connection to its end, of which `first` has been read. `idle` is
/// done when `activity` says that it waited too long for a request.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Http,
    stream: S,
    first: BytesMut,
    activity: Activity,
    idle: Pin<&mut impl Future<Output = ()>>,
    stop: Pin<&mut Stop>,
) -> End {
    let stream = TokioIo::new(Watched::new(stream, activity.clone(), first));
    let service = &shared.service;
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let (service, working) = (Arc::clone(service), activity.begin());
        async move {
            let reply = service.handle(request).await;
            drop(working);
            Ok::<_, Infallible>(reply)
        }
    });
    let mut connection = std::pin::pin!(shared.http1.serve_connection(stream, answer));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = idle => return End::Idle,
    };
    End::of(ended)
}
