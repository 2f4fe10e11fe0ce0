//! One connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::protocol::Service;
use crate::server::ServerLimits;

/// What hyper holds without an allocation per request.
const HEADERS_ON_STACK: usize = 100;

/// How connections are served.
pub(super) fn builder(limits: &ServerLimits) -> Builder {
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    builder.max_header_size(limits.header_bytes_max);
    if limits.headers_max != HEADERS_ON_STACK {
        builder.max_headers(limits.headers_max);
    }
    builder
}

/// Counts a connection while it is open.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn set_options(stream: &TcpStream, write_timeout: Duration) -> std::io::Result<()> {
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
pub(super) async fn serve(
    builder: Arc<Builder>,
    stream: TcpStream,
    service: Arc<Service>,
    write_timeout: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let _counted = Counted::new(service.metrics().connections());
    if let Err(error) = set_options(&stream, write_timeout) {
        tracing::debug!(%error, "a connection's options could not be set");
    }
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.handle(request).await) }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), answer));
    // An error means that the server is gone, which is the same.
    let stop = async { drop(stopped.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
