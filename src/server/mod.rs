//! Sockets: listening, connections and their limits, the graceful end; of the
//! inference listener and of gRPC's. A connection of the former speaks HTTP/1.1 or,
//! if its first bytes or the handshake of TLS say so, HTTP/2.
//!
//! Invariants: the number of connections is bounded, and what is over the
//! bound is closed at once and counted; no connection waits for its peer
//! without a timeout; the end lets requests in flight finish, but not for
//! ever.

mod conn;
mod grpc;
mod http1;
mod http2;
mod idle;
mod limits;
mod listener;
mod preface;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use limits::{GrpcLimits, ServerLimits};
pub use listener::bind;
pub use tls::{Tls, TlsFiles};

use crate::protocol::{Grpc, Service};
use crate::server::conn::Http;
use crate::telemetry::Metrics;

/// A pause after the kernel refused a connection, for instance because file
/// descriptors ran out: trying again at once would only burn the CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a server did, once it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Connections taken.
    pub accepted: u64,
    /// Connections closed at once because of the limit.
    pub refused: u64,
    /// Connections cut off because the grace period was over.
    pub aborted: usize,
}

/// How the connections of a listener are served.
trait Connections: Send + 'static {
    /// Where they are counted.
    fn metrics(&self) -> &Metrics;

    /// Serves one to its end. Once `stopped` says so, what it has begun is its last.
    fn serve(
        &self,
        stream: TcpStream,
        stopped: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + 'static;
}

/// Serves until `shutdown` is done; then takes no new connection, lets those
/// at work finish their request within the grace period, and cuts off the
/// rest. With a certificate, connections begin with a handshake of TLS.
pub async fn run(
    listener: TcpListener,
    service: Arc<Service>,
    limits: ServerLimits,
    tls: Option<Arc<Tls>>,
    shutdown: impl Future<Output = ()>,
) -> Summary {
    let connections = Arc::new(Http::new(service, limits.clone(), tls));
    accept(listener, connections, &limits, shutdown).await
}

/// The same over gRPC. Its streams end when `shutdown` is done.
pub async fn run_grpc(
    listener: TcpListener,
    service: Arc<Grpc>,
    limits: ServerLimits,
    own: GrpcLimits,
    tls: Option<Arc<Tls>>,
    shutdown: impl Future<Output = ()>,
) -> Summary {
    let draining = Arc::clone(&service);
    let shutdown = async move {
        shutdown.await;
        draining.drain();
    };
    let connections = Arc::new(grpc::Http2::new(service, limits.clone(), own, tls));
    accept(listener, connections, &limits, shutdown).await
}

async fn accept(
    listener: TcpListener,
    connections: impl Connections,
    limits: &ServerLimits,
    shutdown: impl Future<Output = ()>,
) -> Summary {
    let (stop, stopped) = watch::channel(false);
    let open = JoinSet::new();
    let (connections_max, summary) = (limits.connections_max, Summary::default());
    let mut open = Open { connections, open, connections_max, stopped, summary };
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => open.take(stream),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::select! {
                    () = &mut shutdown => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    // From here on the kernel refuses new connections.
    drop(listener);
    // Nobody listening means that no connection is open.
    let _ = stop.send(true);
    open.finish(limits.grace).await
}

/// The open connections.
struct Open<C> {
    connections: C,
    open: JoinSet<()>,
    connections_max: usize,
    stopped: watch::Receiver<bool>,
    summary: Summary,
}

impl<C: Connections> Open<C> {
    /// Serves a connection, or closes it if there are too many.
    fn take(&mut self, stream: TcpStream) {
        while self.open.try_join_next().is_some() {}
        if self.open.len() >= self.connections_max {
            self.summary.refused += 1;
            self.connections.metrics().connections_refused().inc();
            return;
        }
        self.summary.accepted += 1;
        self.open.spawn(self.connections.serve(stream, self.stopped.clone()));
    }

    /// Waits for the connections within the grace period.
    async fn finish(mut self, grace: Duration) -> Summary {
        let all = async { while self.open.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            self.summary.aborted = self.open.len();
            self.open.shutdown().await;
        }
        self.summary
    }
}

#[cfg(test)]
mod tests;
