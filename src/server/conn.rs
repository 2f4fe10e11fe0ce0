//! One connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus::IntGauge;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::protocol::Service;
use crate::server::idle::{Activity, Watched};
use crate::server::{Connections, ServerLimits};
use crate::telemetry::Metrics;

/// What hyper holds without an allocation per request.
const HEADERS_ON_STACK: usize = 100;

/// The most bytes that a connection reads, or gathers to be written, at a time.
const BUFFER_BYTES_MAX: usize = 128 << 10;

/// Connections of the inference listener.
pub(super) struct Http {
    builder: Arc<Builder>,
    service: Arc<Service>,
    limits: ServerLimits,
}

impl Http {
    pub(super) fn new(service: Arc<Service>, limits: ServerLimits) -> Self {
        Self { builder: Arc::new(builder(&limits)), service, limits }
    }
}

impl Connections for Http {
    fn metrics(&self) -> &Metrics {
        self.service.metrics()
    }

    fn serve(
        &self,
        stream: TcpStream,
        stopped: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (builder, service) = (Arc::clone(&self.builder), Arc::clone(&self.service));
        serve(builder, stream, service, self.limits.clone(), stopped)
    }
}

/// How connections are served.
fn builder(limits: &ServerLimits) -> Builder {
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

/// Counts a connection while it is open.
pub(super) struct Counted(IntGauge);

impl Counted {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Sets what a connection of either listener has.
pub(super) fn set_options(stream: &TcpStream, write_timeout: Duration) -> std::io::Result<()> {
    // Replies are written whole, so there is nothing to wait for.
    stream.set_nodelay(true)?;
    // hyper would wait for ever for a client that does not read.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(write_timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = write_timeout;
    Ok(())
}

/// Serves a connection to its end. Once `stopped` says so, the request in
/// flight is its last.
async fn serve(
    builder: Arc<Builder>,
    stream: TcpStream,
    service: Arc<Service>,
    limits: ServerLimits,
    mut stopped: watch::Receiver<bool>,
) {
    let _counted = Counted::new(service.metrics().connections());
    if let Err(error) = set_options(&stream, limits.write_timeout) {
        tracing::debug!(%error, "a connection's options could not be set");
    }
    let activity = Activity::default();
    let stream = TokioIo::new(Watched::new(stream, activity.clone()));
    let working = activity.clone();
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let (service, working) = (Arc::clone(&service), working.begin());
        async move {
            let reply = service.handle(request).await;
            drop(working);
            Ok::<_, Infallible>(reply)
        }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(stream, answer));
    // An error means that the server is gone, which is the same.
    let stop = async { drop(stopped.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = activity.idle_for(limits.header_timeout) => {
            tracing::debug!("a connection waited too long for a request");
            return;
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
