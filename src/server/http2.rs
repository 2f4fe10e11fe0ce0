//! An HTTP/2 connection: many requests at a time.
//!
//! hyper runs each on a task of its own. What a peer can hold is bounded by the
//! number of streams, the flow control's windows, and what waits to be sent of a
//! reply. Three things end a connection whose peer does nothing: no stream for
//! as long as a head may take; a reply that nobody reads, while nothing else
//! happens, for as long as reading may take; a `PING` without an answer.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::protocol::Written;
use crate::server::ServerLimits;
use crate::server::conn::{End, Http, Stop};
use crate::server::idle::{Activity, Watched, unchanged_for};

/// Streams that the peer reset before we took them. More are an attack: each
/// costs us more than its sender ("rapid reset").
const RESETS_MAX: usize = 20;
/// Streams that we reset for the peer's errors.
const ERRORS_MAX: usize = 256;
/// Bytes of a reply that wait to be sent; the rest is asked for later.
const SEND_BYTES_MAX: usize = 256 << 10;
/// Bytes of bodies under way to us, of a stream and of all of a connection's.
const WINDOW_BYTES: u32 = 1 << 20;

/// How connections are served.
pub(super) fn builder(limits: &ServerLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(ERRORS_MAX)
        .max_send_buf_size(SEND_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.write_timeout);
    builder
}

/// Serves a connection to its end, of which `first` has been read.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shared: &Arc<Http>,
    stream: S,
    first: BytesMut,
    stop: Pin<&mut Stop>,
) -> End {
    let (writes, streams) = (Activity::default(), Streams::default());
    let stream = TokioIo::new(Watched::new(stream, writes.clone(), first));
    let answer = service_fn({
        let (shared, streams) = (Arc::clone(shared), streams.clone());
        move |request| answer(Arc::clone(&shared), streams.clone(), request)
    });
    let mut connection = pin!(shared.http2.serve_connection(stream, answer));
    let limits = &shared.limits;
    let idle = unchanged_for(limits.header_timeout, |idle| {
        let (count, open) = streams.seen();
        idle.look(count, open)
    });
    let stalled = unchanged_for(limits.write_timeout, |idle| {
        // What the kernel keeps back, it ends by itself.
        let (written, blocked) = writes.seen();
        idle.look(written, blocked || !streams.only_writes())
    });
    let end = tokio::select! {
        biased;
        ended = connection.as_mut() => return End::of(ended),
        () = stop => None,
        () = idle => Some(End::Idle),
        () = stalled => return End::Stalled,
    };
    // GOAWAY: what is under way is finished, and nothing new is begun.
    connection.as_mut().graceful_shutdown();
    match end {
        None => End::of(connection.await),
        Some(end) => {
            // Nothing is under way but, at most, what nobody reads.
            let _ = tokio::time::timeout(limits.write_timeout, connection).await;
            end
        }
    }
}

async fn answer(
    shared: Arc<Http>,
    streams: Streams,
    request: http::Request<Incoming>,
) -> Result<Response<Replying>, Infallible> {
    let open = Open::new(streams);
    // Their size is hyper's matter, their number is not.
    if request.headers().len() > shared.limits.headers_max {
        let mut reply =
            Response::new(Replying { body: Written::default(), _open: open.replying() });
        *reply.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Ok(reply);
    }
    let reply = shared.service.handle(request).await;
    Ok(reply.map(|body| Replying { body, _open: open.replying() }))
}

/// What a connection's streams do. They are on several threads.
#[derive(Clone, Default)]
struct Streams(Arc<Counts>);

#[derive(Default)]
struct Counts {
    /// Anything that counts makes it larger.
    changes: AtomicU64,
    /// Requests without a reply yet.
    working: AtomicU64,
    /// Replies that are not handed over whole.
    replying: AtomicU64,
}

impl Streams {
    /// A number that changes with each stream, and whether any is open.
    fn seen(&self) -> (u64, bool) {
        let open = self.0.working.load(Relaxed) + self.0.replying.load(Relaxed);
        (self.0.changes.load(Relaxed), open > 0)
    }

    /// Whether all that is left to do is to send replies.
    fn only_writes(&self) -> bool {
        self.0.working.load(Relaxed) == 0 && self.0.replying.load(Relaxed) > 0
    }
}

/// A stream, from its request's arrival until its reply is handed over.
struct Open {
    streams: Streams,
    replying: bool,
}

impl Open {
    fn new(streams: Streams) -> Self {
        streams.0.changes.fetch_add(1, Relaxed);
        streams.0.working.fetch_add(1, Relaxed);
        Self { streams, replying: false }
    }

    /// The same, once it has a reply.
    fn replying(mut self) -> Self {
        self.replying = true;
        self.streams.0.replying.fetch_add(1, Relaxed);
        self.streams.0.working.fetch_sub(1, Relaxed);
        self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let counts = &self.streams.0;
        let count = if self.replying { &counts.replying } else { &counts.working };
        count.fetch_sub(1, Relaxed);
        counts.changes.fetch_add(1, Relaxed);
    }
}

/// A reply's body, which keeps its stream open.
struct Replying {
    body: Written,
    _open: Open,
}

impl Body for Replying {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_open_until_its_reply_is_handed_over() {
        let streams = Streams::default();
        assert_eq!((streams.seen(), streams.only_writes()), ((0, false), false));
        let first = Open::new(streams.clone());
        let second = Open::new(streams.clone());
        assert_eq!((streams.seen(), streams.only_writes()), ((2, true), false));
        let first = first.replying();
        assert_eq!((streams.seen(), streams.only_writes()), ((2, true), false));
        drop(second);
        assert_eq!((streams.seen(), streams.only_writes()), ((3, true), true));
        drop(first);
        assert_eq!((streams.seen(), streams.only_writes()), ((4, false), false));
    }
}
