//! Programming latency: from the change's arrival on the node to the datapath's answer.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Bucket `i` counts up to `2^i` microseconds; the last is everything slower than 4 s.
const BUCKETS: usize = 24;

#[derive(Default, Debug)]
pub struct Metrics {
    pub batches: AtomicU64,
    pub puts: AtomicU64,
    pub removes: AtomicU64,
    pub failures: AtomicU64,
    pub services: AtomicU64,
    pub frontends: AtomicU64,
    latency: [AtomicU64; BUCKETS],
    latency_sum_us: AtomicU64,
}

impl Metrics {
    pub fn observe(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = (64 - micros.leading_zeros() as usize).min(BUCKETS - 1);
        if let Some(bucket) = self.latency.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.latency_sum_us.fetch_add(micros, Relaxed);
        self.batches.fetch_add(1, Relaxed);
    }

    /// In the Prometheus text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let counters = [
            ("xebec_services_puts_total", "counter", &self.puts),
            ("xebec_services_removes_total", "counter", &self.removes),
            ("xebec_services_failures_total", "counter", &self.failures),
            ("xebec_services", "gauge", &self.services),
            ("xebec_services_frontends", "gauge", &self.frontends),
        ];
        for (name, kind, value) in counters {
            let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {}", value.load(Relaxed));
        }
        let name = "xebec_services_programming_duration_seconds";
        let _ = writeln!(text, "# TYPE {name} histogram");
        let mut total = 0;
        for (i, bucket) in self.latency.iter().enumerate().take(BUCKETS - 1) {
            total += bucket.load(Relaxed);
            let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {total}", (1_u64 << i) as f64 / 1e6);
        }
        total += self.latency.last().map_or(0, |bucket| bucket.load(Relaxed));
        let sum = self.latency_sum_us.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {total}\n{name}_sum {sum}\n{name}_count {total}");
        text
    }
}
