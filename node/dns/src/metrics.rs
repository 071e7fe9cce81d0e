//! Counters, in the Prometheus text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hickory_proto::op::ResponseCode;

#[derive(Default, Debug)]
pub struct Metrics {
    pub udp_queries: AtomicU64,
    pub tcp_queries: AtomicU64,
    pub malformed: AtomicU64,
    pub cluster_answers: AtomicU64,
    pub forwarded: AtomicU64,
    pub forward_failures: AtomicU64,
    pub cache_hits: AtomicU64,
    pub stale_answers: AtomicU64,
    pub truncated: AtomicU64,
    pub services: AtomicU64,
    no_error: AtomicU64,
    nx_domain: AtomicU64,
    serv_fail: AtomicU64,
    other_codes: AtomicU64,
}

impl Metrics {
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    pub fn code(&self, code: ResponseCode) {
        Self::count(match code {
            ResponseCode::NoError => &self.no_error,
            ResponseCode::NXDomain => &self.nx_domain,
            ResponseCode::ServFail => &self.serv_fail,
            _ => &self.other_codes,
        });
    }

    pub fn render(&self) -> String {
        let mut text = String::new();
        let plain = [
            ("xebec_dns_malformed_total", &self.malformed),
            ("xebec_dns_cluster_answers_total", &self.cluster_answers),
            ("xebec_dns_forwarded_total", &self.forwarded),
            ("xebec_dns_forward_failures_total", &self.forward_failures),
            ("xebec_dns_cache_hits_total", &self.cache_hits),
            ("xebec_dns_stale_answers_total", &self.stale_answers),
            ("xebec_dns_truncated_total", &self.truncated),
        ];
        for (name, value) in plain {
            let _ = writeln!(text, "# TYPE {name} counter\n{name} {}", value.load(Relaxed));
        }
        let _ = writeln!(text, "# TYPE xebec_dns_queries_total counter");
        for (transport, value) in [("udp", &self.udp_queries), ("tcp", &self.tcp_queries)] {
            let _ = writeln!(text, "xebec_dns_queries_total{{transport=\"{transport}\"}} {}", value.load(Relaxed));
        }
        let _ = writeln!(text, "# TYPE xebec_dns_responses_total counter");
        let codes = [
            ("NOERROR", &self.no_error),
            ("NXDOMAIN", &self.nx_domain),
            ("SERVFAIL", &self.serv_fail),
            ("other", &self.other_codes),
        ];
        for (code, value) in codes {
            let _ = writeln!(text, "xebec_dns_responses_total{{rcode=\"{code}\"}} {}", value.load(Relaxed));
        }
        let services = self.services.load(Relaxed);
        let _ = writeln!(text, "# TYPE xebec_dns_services gauge\nxebec_dns_services {services}");
        text
    }
}
