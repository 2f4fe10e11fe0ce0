//! What a connection may cost.

use std::time::Duration;

/// Limits of a listener's connections. Those of a request's body are the
/// protocol's ([`crate::protocol::RequestLimits`]).
#[derive(Clone, Debug, PartialEq)]
pub struct ServerLimits {
    /// Connections open at once; one more is closed at once.
    pub connections_max: usize,
    /// Headers of a request; one more is answered with 431.
    pub headers_max: usize,
    /// Bytes of a request's line and headers; one more is answered with 431.
    pub header_bytes_max: usize,
    /// Time for a request's headers to arrive, counted from the end of the
    /// request before: it ends idle connections as well. It may take a quarter
    /// more.
    pub header_timeout: Duration,
    /// Time that a client may leave a reply unread. The kernel watches it
    /// (Linux only); replies that fit its buffers never wait.
    pub write_timeout: Duration,
    /// Time for the handshake of TLS.
    pub handshake_timeout: Duration,
    /// Requests under way on one HTTP/2 connection; one more waits for its turn,
    /// or is refused by the protocol.
    pub streams_max: u32,
    /// How often an HTTP/2 peer is asked for a sign of life, which must come
    /// within `write_timeout`; `None` for never.
    pub ping_interval: Option<Duration>,
    /// Time for requests in flight to finish when the server ends.
    pub grace: Duration,
}

impl Default for ServerLimits {
    /// 10 000 connections; 100 headers of 32 KiB in all, within 60 s; 30 s for
    /// a reply to be read, 10 s for a handshake; 128 streams, a sign of life every 30 s; a grace period
    /// of 25 s.
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            headers_max: 100,
            header_bytes_max: 32 << 10,
            header_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            streams_max: 128,
            ping_interval: Some(Duration::from_secs(30)),
            grace: Duration::from_secs(25),
        }
    }
}

/// Limits of gRPC's connections, besides those of every listener.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcLimits {
    /// Calls of a connection that may be open at once.
    pub streams_max: u32,
    /// After so much silence the client is asked whether it is there; `None` means
    /// never.
    pub keepalive_interval: Option<Duration>,
    /// Time for its answer.
    pub keepalive_timeout: Duration,
    /// The age from which on a connection takes no new call, a tenth more or less, so
    /// that balancers of connections get their chance; `None` means never.
    pub age_max: Option<Duration>,
    /// Time for the calls of such a connection to finish.
    pub age_grace: Duration,
}

impl Default for GrpcLimits {
    /// 1000 calls; an answer within 20 s to a question each minute; any age, and 30 s
    /// of grace.
    fn default() -> Self {
        Self {
            streams_max: 1000,
            keepalive_interval: Some(Duration::from_secs(60)),
            keepalive_timeout: Duration::from_secs(20),
            age_max: None,
            age_grace: Duration::from_secs(30),
        }
    }
}
