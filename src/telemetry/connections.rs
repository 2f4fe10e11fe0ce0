//! Counts of a listener's connections.

use prometheus::{IntCounter, IntGauge};

use crate::telemetry::Metrics;
use crate::telemetry::metrics::{DECLARED, Declare};

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why a connection ended before both sides were done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionCut {
    /// It waited too long for a request.
    Idle,
    /// Its peer did not read what it was sent.
    Stalled,
    /// Its peer left in the middle, or broke the protocol.
    Broken,
    /// It did not get through the handshake of TLS.
    Handshake,
}

const PROTOCOLS: [&str; 2] = ["http1", "http2"];
const CUTS: [&str; 4] = ["idle", "stalled", "broken", "handshake"];

/// All of them.
pub(super) struct Connections {
    pub(super) open: IntGauge,
    pub(super) refused: IntCounter,
    opened: [IntCounter; PROTOCOLS.len()],
    cut: [IntCounter; CUTS.len()],
}

impl Connections {
    pub(super) fn declare(d: &Declare<'_>) -> Self {
        let open = IntGauge::new("foreshadow_connections", "Open client connections.");
        let open = d.add(open.expect(DECLARED));
        let refused = IntCounter::new(
            "foreshadow_connections_refused_total",
            "Connections closed at once because the limit was reached.",
        );
        let refused = d.add(refused.expect(DECLARED));
        let opened = d.counters(
            "foreshadow_connections_opened_total",
            "Connections whose protocol is known, by protocol.",
            &["protocol"],
        );
        let cut = d.counters(
            "foreshadow_connections_cut_total",
            "Connections that ended before both sides were done, by reason.",
            &["reason"],
        );
        // Resolved once, so that all series are there from the beginning.
        Self {
            open,
            refused,
            opened: PROTOCOLS.map(|protocol| opened.with_label_values(&[protocol])),
            cut: CUTS.map(|reason| cut.with_label_values(&[reason])),
        }
    }

    pub(super) fn opened(&self, protocol: ConnectionProtocol) {
        self.opened[protocol as usize].inc();
    }

    pub(super) fn cut(&self, reason: ConnectionCut) {
        self.cut[reason as usize].inc();
    }
}

impl Metrics {
    /// Open client connections.
    #[must_use]
    pub const fn connections(&self) -> &IntGauge {
        &self.connections.open
    }

    /// Connections refused at the limit.
    #[must_use]
    pub const fn connections_refused(&self) -> &IntCounter {
        &self.connections.refused
    }

    /// Counts a connection whose protocol has become known.
    pub fn connection_opened(&self, protocol: ConnectionProtocol) {
        self.connections.opened(protocol);
    }

    /// Counts a connection that was cut.
    pub fn connection_cut(&self, reason: ConnectionCut) {
        self.connections.cut(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn each_kind_has_its_series() {
        let metrics = Metrics::new();
        metrics.connection_opened(ConnectionProtocol::Http2);
        metrics.connection_cut(ConnectionCut::Handshake);
        let text = metrics.render();
        for line in [
            "foreshadow_connections_opened_total{protocol=\"http1\"} 0",
            "foreshadow_connections_opened_total{protocol=\"http2\"} 1",
            "foreshadow_connections_cut_total{reason=\"idle\"} 0",
            "foreshadow_connections_cut_total{reason=\"handshake\"} 1",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
