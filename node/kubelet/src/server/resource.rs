//! `/metrics/resource`: what metrics-server reads for `kubectl top`, by upstream's names.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use http::StatusCode;
use xebec_cri::v1;

use super::stats::{label, of};
use super::{Answer, text};
use crate::kubelet::Kubelet;
use crate::machine::{self, Machine};
use crate::runtime::key;

/// What one container, one pod or the node uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    memory_bytes: u64,
    /// Milliseconds; zero is not known.
    at: i64,
}

pub(super) async fn metrics(kubelet: &Kubelet) -> Answer {
    let runtime = &kubelet.runtime;
    let node = node(&kubelet.machine);
    let body = match tokio::try_join!(runtime.container_stats(), runtime.list_containers(None)) {
        Ok((stats, containers)) => {
            let started = containers.into_iter().map(|c| (c.id, c.created_at)).collect();
            render(&stats, &started, node, false)
        }
        Err(error) => {
            tracing::warn!(error = error.message(), "read container stats");
            render(&[], &HashMap::new(), node, true)
        }
    };
    text(StatusCode::OK, body)
}

/// Of the whole machine: several nodes on one share it.
fn node(machine: &Machine) -> Usage {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    // proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; in hundredths of a second on Linux.
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    let busy: u64 = ticks.iter().take(8).enumerate().filter(|(n, _)| ![3, 4].contains(n)).map(|(_, ticks)| ticks).sum();
    let used = machine.memory.saturating_sub(machine::available_memory_bytes());
    Usage { cpu_seconds: busy as f64 / 100.0, memory_bytes: u64::try_from(used).unwrap_or(0), at: 0 }
}

fn usage(stats: &v1::ContainerStats) -> Usage {
    let (cpu, memory) = (stats.cpu.unwrap_or_default(), stats.memory.unwrap_or_default());
    Usage {
        cpu_seconds: of(cpu.usage_core_nano_seconds.as_ref()) as f64 / 1e9,
        memory_bytes: of(memory.working_set_bytes.as_ref()),
        at: cpu.timestamp / 1_000_000,
    }
}

/// `started`: nanoseconds of Unix time by container id.
fn render(stats: &[v1::ContainerStats], started: &HashMap<String, i64>, node: Usage, failed: bool) -> String {
    let mut containers = Vec::new();
    let mut starts = Vec::new();
    let mut pods: BTreeMap<String, Usage> = BTreeMap::new();
    for one in stats {
        let of_pod = format!("namespace=\"{}\",pod=\"{}\"", label(one, key::POD_NAMESPACE), label(one, key::POD_NAME));
        let usage = usage(one);
        let pod = pods.entry(format!("{{{of_pod}}}")).or_default();
        pod.cpu_seconds += usage.cpu_seconds;
        pod.memory_bytes += usage.memory_bytes;
        pod.at = pod.at.max(usage.at);
        let labels = format!("{{container=\"{}\",{of_pod}}}", label(one, key::CONTAINER_NAME));
        let id = one.attributes.as_ref().map(|a| a.id.as_str()).unwrap_or_default();
        starts.extend(started.get(id).map(|nanos| (labels.clone(), *nanos)));
        containers.push((labels, usage));
    }
    let mut text = String::new();
    let of_node = [(String::new(), node)];
    family(&mut text, "container", &containers);
    let name = "container_start_time_seconds";
    let _ = writeln!(text, "# HELP {name} [STABLE] Start time of the container since unix epoch in seconds");
    let _ = writeln!(text, "# TYPE {name} gauge");
    for (labels, nanos) in &starts {
        let _ = writeln!(text, "{name}{labels} {}", *nanos as f64 / 1e9);
    }
    family(&mut text, "node", &of_node);
    family(&mut text, "pod", &pods.into_iter().collect::<Vec<_>>());
    let name = "resource_scrape_error";
    let _ =
        writeln!(text, "# HELP {name} [STABLE] 1 if there was an error while getting container metrics, 0 otherwise");
    let _ = writeln!(text, "# TYPE {name} gauge\n{name} {}", i32::from(failed));
    text
}

fn family(text: &mut String, of: &str, rows: &[(String, Usage)]) {
    let time = |at: i64| if at > 0 { format!(" {at}") } else { String::new() };
    let cpu = format!("{of}_cpu_usage_seconds_total");
    let _ = writeln!(text, "# HELP {cpu} [STABLE] Cumulative cpu time consumed by the {of} in core-seconds");
    let _ = writeln!(text, "# TYPE {cpu} counter");
    for (labels, usage) in rows {
        let _ = writeln!(text, "{cpu}{labels} {}{}", usage.cpu_seconds, time(usage.at));
    }
    let memory = format!("{of}_memory_working_set_bytes");
    let _ = writeln!(text, "# HELP {memory} [STABLE] Current working set of the {of} in bytes");
    let _ = writeln!(text, "# TYPE {memory} gauge");
    for (labels, usage) in rows {
        let _ = writeln!(text, "{memory}{labels} {}{}", usage.memory_bytes, time(usage.at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(container: &str, nanos: u64, bytes: u64) -> v1::ContainerStats {
        let value = |value| Some(v1::UInt64Value { value });
        let labels = [(key::POD_NAMESPACE, "ns"), (key::POD_NAME, "p"), (key::CONTAINER_NAME, container)];
        let labels: HashMap<_, _> = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes { id: format!("{container}-id"), labels, ..Default::default() }),
            cpu: Some(v1::CpuUsage {
                timestamp: 1_500_000_000,
                usage_core_nano_seconds: value(nanos),
                ..Default::default()
            }),
            memory: Some(v1::MemoryUsage { working_set_bytes: value(bytes), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn containers_add_up_to_their_pod() {
        let started = [("b-id".to_owned(), 2_500_000_000)].into();
        let stats = [stats("a", 1_500_000_000, 100), stats("b", 500_000_000, 50)];
        let text = render(&stats, &started, Usage::default(), false);
        for line in [
            r#"container_cpu_usage_seconds_total{container="a",namespace="ns",pod="p"} 1.5 1500"#,
            r#"container_memory_working_set_bytes{container="b",namespace="ns",pod="p"} 50 1500"#,
            r#"pod_cpu_usage_seconds_total{namespace="ns",pod="p"} 2 1500"#,
            r#"pod_memory_working_set_bytes{namespace="ns",pod="p"} 150 1500"#,
            r#"container_start_time_seconds{container="b",namespace="ns",pod="p"} 2.5"#,
            "node_cpu_usage_seconds_total 0",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
    }
}
