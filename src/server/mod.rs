//! Sockets: listening, connections and their limits, the graceful end.
//!
//! Invariants: the number of connections is bounded, and what is over the
//! bound is closed at once and counted; no connection waits for its peer
//! without a timeout; the end lets requests in flight finish, but not for
//! ever.

mod conn;
mod idle;
mod limits;
mod listener;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use limits::ServerLimits;
pub use listener::bind;

use crate::protocol::Service;

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

/// Serves until `shutdown` is done; then takes no new connection, lets those
/// at work finish their request within the grace period, and cuts off the
/// rest.
pub async fn run(
    listener: TcpListener,
    service: Arc<Service>,
    limits: ServerLimits,
    shutdown: impl Future<Output = ()>,
) -> Summary {
    let (stop, stopped) = watch::channel(false);
    let mut open = Open {
        connections: JoinSet::new(),
        builder: Arc::new(conn::builder(&limits)),
        service,
        limits,
        stopped,
        summary: Summary::default(),
    };
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
    open.finish().await
}

/// The open connections.
struct Open {
    connections: JoinSet<()>,
    builder: Arc<hyper::server::conn::http1::Builder>,
    service: Arc<Service>,
    limits: ServerLimits,
    stopped: watch::Receiver<bool>,
    summary: Summary,
}

impl Open {
    /// Serves a connection, or closes it if there are too many.
    fn take(&mut self, stream: TcpStream) {
        while self.connections.try_join_next().is_some() {}
        if self.connections.len() >= self.limits.connections_max {
            self.summary.refused += 1;
            self.service.metrics().connections_refused().inc();
            return;
        }
        self.summary.accepted += 1;
        let (builder, service) = (Arc::clone(&self.builder), Arc::clone(&self.service));
        let (stopped, limits) = (self.stopped.clone(), self.limits.clone());
        self.connections.spawn(conn::serve(builder, stream, service, limits, stopped));
    }

    /// Waits for the connections within the grace period.
    async fn finish(mut self) -> Summary {
        let all = async { while self.connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.grace, all).await.is_err() {
            self.summary.aborted = self.connections.len();
            self.connections.shutdown().await;
        }
        self.summary
    }
}

#[cfg(test)]
mod tests;
