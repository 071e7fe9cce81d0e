//! Certificates: how long those of clients are good, and until when the server's own are.

use prometheus::{GaugeVec, Histogram, HistogramOpts, Opts, Registry};
use time::{Duration, OffsetDateTime};

/// Upstream's: half an hour to a year (`apiserver/pkg/authentication/request/x509`).
const LEFT_SECONDS: [f64; 14] = [
    0.0,
    1_800.0,
    3_600.0,
    7_200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];

#[derive(Clone)]
pub struct Certificates {
    left: Histogram,
    own: GaugeVec,
}

impl Certificates {
    /// # Errors
    /// When a name is registered twice.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let left = HistogramOpts::new(
            "apiserver_client_certificate_expiration_seconds",
            "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
        );
        let own = Opts::new(
            "xebec_apiserver_certificate_not_after_timestamp_seconds",
            "When a certificate of the server's expires, in seconds since the epoch.",
        );
        let certificates = Self {
            left: Histogram::with_opts(left.buckets(LEFT_SECONDS.to_vec()))?,
            own: GaugeVec::new(own, &["certificate"])?,
        };
        registry.register(Box::new(certificates.left.clone()))?;
        registry.register(Box::new(certificates.own.clone()))?;
        Ok(certificates)
    }

    /// Counts a request whose client showed a certificate that is good for so long.
    pub fn seen(&self, left: Duration) {
        self.left.observe(left.as_seconds_f64());
    }

    pub fn set_own(&self, certificate: &str, not_after: OffsetDateTime) {
        self.own.with_label_values(&[certificate]).set(not_after.unix_timestamp() as f64);
    }
}
