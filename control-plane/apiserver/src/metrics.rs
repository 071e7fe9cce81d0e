//! `/metrics` in the Prometheus text format, under upstream's names
//! (kubernetes.io, "Kubernetes Metrics Reference").

use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder, histogram_opts,
};

/// Upstream's buckets of `apiserver_request_duration_seconds`, thinned to those that dashboards use.
const SECONDS: [f64; 14] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Counters of the request pipeline.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    inflight: IntGaugeVec,
    long_running: IntGaugeVec,
    objects: IntGaugeVec,
}

/// What a request was about, for labels; all short-lived strings.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// Upper case, as upstream: `LIST`, `WATCH`, `POST`.
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// `resource`, `namespace` or `cluster`; empty for other paths.
    pub scope: &'a str,
}

impl Metrics {
    /// # Errors
    /// When a name is registered twice, which a test of this module would show.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let what = ["verb", "group", "version", "resource", "subresource", "scope", "component"];
        let requests = IntCounterVec::new(
            Opts::new("apiserver_request_total", "Counter of apiserver requests."),
            &[&what[..], &["code"]].concat(),
        )?;
        let opts: HistogramOpts = histogram_opts!(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds.",
            SECONDS.to_vec()
        );
        let durations = HistogramVec::new(opts, &what)?;
        let gauge = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let inflight =
            gauge("apiserver_current_inflight_requests", "Requests that are being served.", &["request_kind"])?;
        let long_running = gauge("apiserver_longrunning_requests", "Watches and streams that are open.", &["verb"])?;
        let objects = gauge("apiserver_storage_objects", "Stored objects by resource.", &["resource"])?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        for family in [&inflight, &long_running, &objects] {
            registry.register(Box::new(family.clone()))?;
        }
        Ok(Self { registry, requests, durations, inflight, long_running, objects })
    }

    /// Counts a finished request.
    pub fn observe(&self, labels: Labels<'_>, code: u16, duration: Duration) {
        let Labels { verb, group, version, resource, subresource, scope } = labels;
        let code = code.to_string();
        let what = [verb, group, version, resource, subresource, scope, "apiserver"];
        self.requests.with_label_values(&[&what[..], &[&code]].concat()).inc();
        self.durations.with_label_values(&what).observe(duration.as_secs_f64());
    }

    /// Counts a request as being served for as long as the guard lives.
    pub fn serving(&self, mutating: bool) -> InFlight {
        InFlight::new(self.inflight.with_label_values(&[if mutating { "mutating" } else { "readOnly" }]))
    }

    /// Counts a watch or stream for as long as the guard lives.
    pub fn streaming(&self, verb: &str) -> InFlight {
        InFlight::new(self.long_running.with_label_values(&[verb]))
    }

    pub fn set_objects(&self, resource: &str, count: usize) {
        self.objects.with_label_values(&[resource]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The text of `/metrics`, with the process's own memory.
    ///
    /// # Errors
    /// When the encoder fails, which writing to memory does not.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        let mut text = String::from_utf8_lossy(&text).into_owned();
        if let Some(bytes) = resident_bytes() {
            text.push_str("# HELP process_resident_memory_bytes Resident memory size in bytes.\n");
            text.push_str("# TYPE process_resident_memory_bytes gauge\n");
            text.push_str(&format!("process_resident_memory_bytes {bytes}\n"));
        }
        Ok(text)
    }
}

/// Decrements its gauge when it is dropped.
pub struct InFlight(prometheus::IntGauge);

impl InFlight {
    fn new(gauge: prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// VmRSS of proc_pid_status(5), in bytes.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Labels, Metrics};

    #[test]
    fn requests_are_counted_under_upstreams_names() {
        let metrics = Metrics::new().expect("every name is registered once");
        let labels =
            Labels { verb: "LIST", group: "", version: "v1", resource: "pods", subresource: "", scope: "cluster" };
        let guard = metrics.serving(false);
        metrics.observe(labels, 200, Duration::from_millis(3));
        let text = metrics.render().expect("renders");
        assert!(
            text.contains(r#"apiserver_request_total{code="200",component="apiserver",group="",resource="pods""#),
            "{text}"
        );
        assert!(text.contains(r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#), "{text}");
        drop(guard);
        let text = metrics.render().expect("renders");
        assert!(text.contains(r#"apiserver_current_inflight_requests{request_kind="readOnly"} 0"#), "{text}");
    }
}
