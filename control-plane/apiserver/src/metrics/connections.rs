//! Connections: those that are open, those that were not taken, and those that were ended.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::InFlight;

#[derive(Clone)]
pub struct Connections {
    open: IntGauge,
    refused: IntCounterVec,
    ended: IntCounterVec,
    /// Upstream's.
    handshake_errors: IntCounter,
}

impl Connections {
    /// # Errors
    /// When a name is registered twice.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["reason"]);
        let connections = Self {
            open: IntGauge::new("xebec_apiserver_connections", "Connections of clients that are open.")?,
            refused: counter(
                "xebec_apiserver_connections_refused_total",
                "Connections that were not taken: too many are open (limit), or the system gave none (accept).",
            )?,
            ended: counter(
                "xebec_apiserver_connections_ended_total",
                "Connections that were not ended in order, by what was wrong with them.",
            )?,
            handshake_errors: IntCounter::new(
                "apiserver_tls_handshake_errors_total",
                "Connections dropped with a TLS handshake error.",
            )?,
        };
        registry.register(Box::new(connections.open.clone()))?;
        registry.register(Box::new(connections.refused.clone()))?;
        registry.register(Box::new(connections.ended.clone()))?;
        registry.register(Box::new(connections.handshake_errors.clone()))?;
        ["limit", "accept"].iter().for_each(|reason| connections.refused.with_label_values(&[reason]).inc_by(0));
        Ok(connections)
    }

    /// Counts a connection as open for as long as the guard lives.
    pub fn open(&self) -> InFlight {
        InFlight::new(self.open.clone())
    }

    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    pub fn ended(&self, reason: &str) {
        if reason.starts_with("handshake") {
            self.handshake_errors.inc();
        }
        self.ended.with_label_values(&[reason]).inc();
    }
}
