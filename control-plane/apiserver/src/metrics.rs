//! `/metrics` in the Prometheus text format, under upstream's names
//! (kubernetes.io, "Kubernetes Metrics Reference").

mod certificates;
mod connections;

use std::time::Duration;

use xebec_machinery::GroupVersionResource;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder, histogram_opts,
};

use crate::service_capacity::Fill;

/// Upstream's buckets of `apiserver_request_duration_seconds`, thinned to those that dashboards use.
const SECONDS: [f64; 14] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Of requests to the store, which is mostly a file on this machine.
const STORE_SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Counters of the request pipeline.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    inflight: IntGaugeVec,
    long_running: IntGaugeVec,
    objects: IntGaugeVec,
    resource_objects: IntGaugeVec,
    watch_events: IntCounterVec,
    store_requests: HistogramVec,
    service_map_entries: IntGaugeVec,
    service_map_max_entries: IntGaugeVec,
    pub connections: Connections,
    pub certificates: Certificates,
}

/// What a request was about, for labels; all short-lived strings.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// Upper case, as upstream: `LIST`, `WATCH`, `POST`.
    pub verb: &'a str,
    /// `All` or empty.
    pub dry_run: &'a str,
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
        let what = ["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"];
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
        let resource_objects =
            gauge("apiserver_resource_objects", "Stored objects by group and resource.", &["group", "resource"])?;
        let service_map_entries = gauge(
            "xebec_apiserver_service_map_entries",
            "Entries that the stored Services and EndpointSlices take of a map of every node's datapath.",
            &["map"],
        )?;
        let service_map_max_entries = gauge(
            "xebec_apiserver_service_map_max_entries",
            "Entries that the map takes: writes that need more are refused.",
            &["map"],
        )?;
        let watch_events = IntCounterVec::new(
            Opts::new("apiserver_watch_events_total", "Events sent to watching clients."),
            &["group", "version", "resource"],
        )?;
        let opts: HistogramOpts = histogram_opts!(
            "etcd_request_duration_seconds",
            "Latency of requests to the store, whichever it is.",
            STORE_SECONDS.to_vec()
        );
        let store_requests = HistogramVec::new(opts, &["operation", "group", "resource"])?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(watch_events.clone()))?;
        registry.register(Box::new(store_requests.clone()))?;
        let gauges =
            [&inflight, &long_running, &objects, &resource_objects, &service_map_entries, &service_map_max_entries];
        for family in gauges {
            registry.register(Box::new(family.clone()))?;
        }
        // Dashboards divide by these before anything happened.
        ["readOnly", "mutating"].iter().for_each(|kind| inflight.with_label_values(&[kind]).set(0));
        Ok(Self {
            requests,
            durations,
            inflight,
            long_running,
            objects,
            resource_objects,
            watch_events,
            store_requests,
            service_map_entries,
            service_map_max_entries,
            connections: Connections::register(&registry)?,
            certificates: Certificates::register(&registry)?,
            registry,
        })
    }

    /// Counts a finished request.
    pub fn observe(&self, labels: Labels<'_>, code: u16, duration: Duration) {
        let Labels { verb, dry_run, group, version, resource, subresource, scope } = labels;
        let code = code.to_string();
        let what = [verb, dry_run, group, version, resource, subresource, scope, "apiserver"];
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

    /// `stored`: `<group>/<resource>` as in the store's keys.
    pub fn set_objects(&self, stored: &str, count: usize) {
        let (group, resource) = parts(stored);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let name = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        self.objects.with_label_values(&[&name]).set(count);
        self.resource_objects.with_label_values(&[group, resource]).set(count);
    }

    pub fn set_service_map(&self, fill: &Fill) {
        let count = |entries: u64| i64::try_from(entries).unwrap_or(i64::MAX);
        self.service_map_entries.with_label_values(&[fill.map]).set(count(fill.entries));
        self.service_map_max_entries.with_label_values(&[fill.map]).set(count(fill.max));
    }

    /// The counter of events sent to those who watch a resource.
    pub fn watch_events(&self, gvr: &GroupVersionResource) -> prometheus::IntCounter {
        self.watch_events.with_label_values(&[&gvr.group, &gvr.version, &gvr.resource])
    }

    /// Times a request to the store about a key until the guard is dropped.
    pub fn store_request(&self, operation: &str, key: &str) -> prometheus::HistogramTimer {
        let (group, resource) = parts(key.strip_prefix(xebec_store::PREFIX).unwrap_or(key));
        self.store_requests.with_label_values(&[operation, group, resource]).start_timer()
    }

    /// The text of `/metrics`, with the process's own memory.
    ///
    /// # Errors
    /// When the encoder fails, which writing to memory does not.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        let mut text = String::from_utf8_lossy(&text).into_owned();
        let mut gauge = |name: &str, help: &str, labels: &str, value: f64| {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name}{labels} {value}\n"));
        };
        let version = crate::discovery::version();
        let part = |key: &str| version[key].as_str().unwrap_or_default().to_owned();
        let labels = format!(
            r#"{{git_version="{}",major="{}",minor="{}",platform="{}"}}"#,
            part("gitVersion"),
            part("major"),
            part("minor"),
            part("platform")
        );
        gauge("kubernetes_build_info", "The version that is served.", &labels, 1.0);
        if let Some(bytes) = resident_bytes() {
            gauge("process_resident_memory_bytes", "Resident memory size in bytes.", "", bytes as f64);
        }
        if let Some(seconds) = cpu_seconds() {
            text.push_str("# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n");
            text.push_str(&format!("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {seconds}\n"));
        }
        Ok(text)
    }
}

/// The group and resource at the start of a key of the store.
fn parts(key: &str) -> (&str, &str) {
    let mut parts = key.splitn(3, '/');
    let (group, resource) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    (if group == "core" { "" } else { group }, resource)
}

pub use certificates::Certificates;
pub use connections::Connections;

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

/// utime and stime of proc_pid_stat(5), in hundredths of a second (`USER_HZ`, which is the same everywhere).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before may hold anything, also spaces and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Some(ticks / 100.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use xebec_machinery::GroupVersionResource;

    use super::{Labels, Metrics};

    #[test]
    fn requests_are_counted_under_upstreams_names() {
        let metrics = Metrics::new().expect("every name is registered once");
        let labels = Labels {
            verb: "LIST",
            dry_run: "",
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            scope: "cluster",
        };
        let guard = metrics.serving(false);
        metrics.observe(labels, 200, Duration::from_millis(3));
        let text = metrics.render().expect("renders");
        assert!(
            text.contains(
                r#"apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods""#
            ),
            "{text}"
        );
        assert!(text.contains(r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#), "{text}");
        metrics.set_objects("core/pods", 3);
        metrics.set_objects("apps/deployments", 2);
        drop(metrics.store_request("create", "/registry/apps/deployments/default/d"));
        metrics.watch_events(&GroupVersionResource::new("apps", "v1", "deployments")).inc();
        let text = metrics.render().expect("renders");
        for line in [
            r#"apiserver_storage_objects{resource="pods"} 3"#,
            r#"apiserver_storage_objects{resource="deployments.apps"} 2"#,
            r#"apiserver_resource_objects{group="apps",resource="deployments"} 2"#,
            r#"etcd_request_duration_seconds_count{group="apps",operation="create",resource="deployments"} 1"#,
            r#"apiserver_watch_events_total{group="apps",resource="deployments",version="v1"} 1"#,
            r#"kubernetes_build_info{git_version="v1.36.0"#,
            "process_cpu_seconds_total ",
        ] {
            assert!(text.lines().any(|shown| shown.starts_with(line)), "{line}\n{text}");
        }
        drop(guard);
        let text = metrics.render().expect("renders");
        assert!(text.contains(r#"apiserver_current_inflight_requests{request_kind="readOnly"} 0"#), "{text}");
    }
}
