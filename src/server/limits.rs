//! What a connection may cost.

use std::time::Duration;

/// Limits of a listener's connections. Those of a request's body are the
/// protocol's ([`crate::protocol::BodyLimits`]).
#[derive(Clone, Debug, PartialEq)]
pub struct ServerLimits {
    /// Connections open at once; one more is closed at once.
    pub connections_max: usize,
    /// Headers of a request; one more is answered with 431.
    pub headers_max: usize,
    /// Time for a request's headers to arrive, counted from the end of the
    /// request before: it ends idle connections as well.
    pub header_timeout: Duration,
    /// Time for requests in flight to finish when the server ends.
    pub grace: Duration,
}

impl Default for ServerLimits {
    /// 10 000 connections, 100 headers within 60 s, a grace period of 25 s.
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            headers_max: 100,
            header_timeout: Duration::from_secs(60),
            grace: Duration::from_secs(25),
        }
    }
}
