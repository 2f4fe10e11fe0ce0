//! One connection of gRPC: HTTP/2 by prior knowledge, or behind a handshake of TLS.
//!
//! A client may keep its connection for as long as it answers pings; what it must
//! not do is to connect and say nothing.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use crate::protocol::Grpc;
use crate::server::conn::{Counted, set_options};
use crate::server::{Connections, GrpcLimits, ServerLimits, Tls};
use crate::telemetry::{ConnectionCut, Metrics};

/// The first bytes of a client that speaks HTTP/2.
const PREFACE_BYTES: usize = 24;

/// Connections of gRPC's listener.
pub(super) struct Http2 {
    builder: Builder<TokioExecutor>,
    service: Arc<Grpc>,
    limits: ServerLimits,
    own: GrpcLimits,
    tls: Option<Arc<Tls>>,
}

impl Http2 {
    pub(super) fn new(
        service: Arc<Grpc>,
        limits: ServerLimits,
        own: GrpcLimits,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        Self { builder: builder(&limits, &own), service, limits, own, tls }
    }
}

impl Connections for Arc<Http2> {
    fn metrics(&self) -> &Metrics {
        self.service.service().metrics()
    }

    fn serve(
        &self,
        stream: TcpStream,
        stopped: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + 'static {
        serve(Self::clone(self), stream, stopped)
    }
}

fn builder(limits: &ServerLimits, own: &GrpcLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(own.streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(own.keepalive_interval)
        .keep_alive_timeout(own.keepalive_timeout);
    builder
}

/// Serves a connection to its end.
async fn serve(shared: Arc<Http2>, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    let metrics = shared.service.service().metrics();
    let _counted = Counted::new(metrics.connections());
    if let Err(error) = set_options(&stream, shared.limits.write_timeout) {
        tracing::debug!(%error, "a connection's options could not be set");
    }
    let Some(tls) = &shared.tls else { return speak(&shared, stream, stopped).await };
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    let shaken = tokio::select! {
        biased;
        shaken = tokio::time::timeout(shared.limits.handshake_timeout, handshake) => shaken,
        // An error means that the server is gone, which is the same.
        _ = stopped.wait_for(|stop| *stop) => return,
    };
    match shaken {
        // Large: a connection without TLS shall not carry it along.
        Ok(Ok(stream)) => Box::pin(speak(&shared, stream, stopped)).await,
        failed => {
            let error = failed.map(|shaken| shaken.err());
            tracing::debug!(?error, "a handshake failed");
            metrics.connection_cut(ConnectionCut::Handshake);
        }
    }
}

/// Serves what a stream says to its end.
async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shared: &Arc<Http2>,
    stream: S,
    mut stopped: watch::Receiver<bool>,
) {
    let Http2 { builder, limits, own, .. } = &**shared;
    let service = Arc::clone(&shared.service);
    let (stream, greeted) = Greeting::new(stream);
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.handle(request).await) }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), answer));
    // An error means that the server is gone, which is the same.
    let stop = async { drop(stopped.wait_for(|stop| *stop).await) };
    let silent = async {
        if tokio::time::timeout(limits.header_timeout, greeted).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = aged(own.age_max) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(own.age_grace, connection).await {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::debug!("a connection was cut off because of its age");
                    return;
                }
            }
        }
        () = silent => {
            tracing::debug!("a connection waited too long before it spoke");
            return;
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Done when a connection is too old.
async fn aged(age_max: Option<Duration>) {
    match age_max {
        Some(age) => tokio::time::sleep(scattered(age, getrandom::u32().unwrap_or(0))).await,
        None => std::future::pending().await,
    }
}

/// A tenth more or less, lest connections that began together end together.
fn scattered(age: Duration, random: u32) -> Duration {
    age.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX))
}

/// A stream that tells when the client's first bytes have come.
struct Greeting<S> {
    stream: S,
    missing: usize,
    greeted: Option<oneshot::Sender<()>>,
}

impl<S> Greeting<S> {
    fn new(stream: S) -> (Self, oneshot::Receiver<()>) {
        let (sender, greeted) = oneshot::channel();
        (Self { stream, missing: PREFACE_BYTES, greeted: Some(sender) }, greeted)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.greeted.is_some() {
            let got = buffer.filled().len() - before;
            self.missing = self.missing.saturating_sub(got);
            if self.missing == 0
                && let Some(greeted) = self.greeted.take()
            {
                // Nobody waits once the connection ends.
                let _ = greeted.send(());
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeting<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_scattered_by_a_tenth() {
        let age = Duration::from_secs(100);
        let seconds = |random| scattered(age, random).as_secs_f64();
        assert!((seconds(0) - 90.0).abs() < 1e-6 && (seconds(u32::MAX) - 110.0).abs() < 1e-6);
    }
}
