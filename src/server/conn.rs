//! One connection, whatever it speaks.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::protocol::Service;
use crate::server::idle::Activity;
use crate::server::preface::{Protocol, detect};
use crate::server::{Connections, ServerLimits, Tls};
use crate::telemetry::{ConnectionCut, ConnectionProtocol, Metrics};

/// Connections of the inference listener, and what they share.
pub(super) struct Http {
    /// How HTTP/1.1 is served.
    pub(super) http1: http1::Builder,
    /// How HTTP/2 is served.
    pub(super) http2: http2::Builder<TokioExecutor>,
    /// Who answers.
    pub(super) service: Arc<Service>,
    /// What a connection may cost.
    pub(super) limits: ServerLimits,
    /// The certificate, if connections begin with a handshake.
    pub(super) tls: Option<Arc<Tls>>,
}

impl Http {
    pub(super) fn new(service: Arc<Service>, limits: ServerLimits, tls: Option<Arc<Tls>>) -> Self {
        let (http1, http2) = (super::http1::builder(&limits), super::http2::builder(&limits));
        Self { http1, http2, service, limits, tls }
    }
}

impl Connections for Arc<Http> {
    fn metrics(&self) -> &Metrics {
        self.service.metrics()
    }

    fn serve(
        &self,
        stream: TcpStream,
        stopped: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + 'static {
        serve(Self::clone(self), stream, stopped)
    }
}

/// Done when the server is told to stop.
pub(super) type Stop = dyn Future<Output = ()> + Send;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// In good order.
    Closed,
    /// It waited too long for a request.
    Idle,
    /// Its peer did not read what it was sent.
    Stalled,
    /// Its peer left, or broke the protocol.
    Broken,
    /// It did not get through the handshake of TLS.
    Handshake,
}

impl End {
    /// How hyper says it.
    pub(super) fn of(ended: hyper::Result<()>) -> Self {
        let Err(error) = ended else { return Self::Closed };
        tracing::debug!(%error, "a connection broke");
        Self::Broken
    }

    const fn cut(&self) -> Option<ConnectionCut> {
        match self {
            Self::Closed => None,
            Self::Idle => Some(ConnectionCut::Idle),
            Self::Stalled => Some(ConnectionCut::Stalled),
            Self::Broken => Some(ConnectionCut::Broken),
            Self::Handshake => Some(ConnectionCut::Handshake),
        }
    }
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

/// Serves a connection to its end. Once `stopped` says so, the requests in
/// flight are its last.
async fn serve(shared: Arc<Http>, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    let metrics = shared.service.metrics();
    let _counted = Counted::new(metrics.connections());
    if let Err(error) = set_options(&stream, shared.limits.write_timeout) {
        tracing::debug!(%error, "a connection's options could not be set");
    }
    // An error means that the server is gone, which is the same.
    let stop = pin!(async move { drop(stopped.wait_for(|stop| *stop).await) });
    let end = match &shared.tls {
        None => speak(&shared, stream, None, stop).await,
        // Large: a connection without TLS shall not carry it along.
        Some(tls) => Box::pin(secured(&shared, tls, stream, stop)).await,
    };
    if let Some(cut) = end.cut() {
        tracing::debug!(?end, "a connection was cut");
        metrics.connection_cut(cut);
    }
}

/// Serves a connection of TLS.
async fn secured(
    shared: &Arc<Http>,
    tls: &Tls,
    stream: TcpStream,
    mut stop: Pin<&mut Stop>,
) -> End {
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    let shaken = tokio::select! {
        biased;
        shaken = tokio::time::timeout(shared.limits.handshake_timeout, handshake) => shaken,
        () = stop.as_mut() => return End::Closed,
    };
    match shaken {
        Ok(Ok(stream)) => {
            let known = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Some(Protocol::Http2),
                Some(_) => Some(Protocol::Http1),
                None => None,
            };
            speak(shared, stream, known, stop).await
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            End::Handshake
        }
        Err(_) => End::Handshake,
    }
}

/// Serves what a stream speaks: what is `known` already, or what its first
/// bytes say.
async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shared: &Arc<Http>,
    mut stream: S,
    known: Option<Protocol>,
    mut stop: Pin<&mut Stop>,
) -> End {
    let activity = Activity::default();
    let mut idle = pin!(activity.idle_for(shared.limits.header_timeout));
    let mut first = BytesMut::new();
    let protocol = match known {
        Some(protocol) => protocol,
        None => tokio::select! {
            biased;
            detected = detect(&mut stream, &mut first) => match detected {
                Ok(protocol) => protocol,
                Err(error) => {
                    tracing::debug!(%error, "a connection broke");
                    return End::Broken;
                }
            },
            () = stop.as_mut() => return End::Closed,
            () = idle.as_mut() => return End::Idle,
        },
    };
    match protocol {
        Protocol::Http1 => {
            shared.service.metrics().connection_opened(ConnectionProtocol::Http1);
            let activity = activity.clone();
            super::http1::serve(shared, stream, first, activity, idle, stop).await
        }
        Protocol::Http2 => {
            shared.service.metrics().connection_opened(ConnectionProtocol::Http2);
            // Large, and rarely needed: HTTP/1.1 shall not carry it along.
            Box::pin(super::http2::serve(shared, stream, first, stop)).await
        }
    }
}
