//! `xebec top services`: what connections to services take, as the socket hooks of every node saw it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use xebec_datapath::latency::{Histogram, Observed, ServiceLatency, latencies};
use xebec_types::core::Service;

use crate::DEFAULT_DIR;
use crate::cluster::layout::Layout;
use crate::cluster::process::bpffs;
use crate::cluster::spec::Spec;
use crate::output::say;

#[derive(Args)]
pub struct Top {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// TCP connections from pods and nodes to Services: how many, connect time, round-trip time, retransmits
    Services(Services),
}

#[derive(Args)]
struct Services {
    /// The cluster's directory: what all its nodes saw
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// On a node of a cluster that `xebec up` did not make: what the node of this name saw
    #[arg(long, requires = "kubeconfig")]
    node_name: Option<String>,
    /// That node's bpf filesystem
    #[arg(long, default_value = "/sys/fs/bpf")]
    bpffs: PathBuf,
    /// Where the names of Services are read [default: the cluster's]
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    #[arg(long, default_value = "connections")]
    sort: Sort,
    /// Also a line for each backend
    #[arg(long)]
    backends: bool,
    /// As JSON, with the backends
    #[arg(long)]
    json: bool,
    /// Again after so many seconds, until interrupted
    #[arg(long, num_args = 0..=1, value_name = "SECONDS", default_missing_value = "2")]
    watch: Option<u32>,
}

/// Most or slowest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Sort {
    Connections,
    /// By the connect time's p99
    Connect,
    /// By the round-trip time's p99
    Rtt,
    Retransmits,
}

impl Top {
    /// # Errors
    /// No cluster, no API server, or maps that cannot be read.
    pub async fn run(self) -> Result<()> {
        let Command::Services(services) = self.command;
        services.run().await
    }
}

type ByFrontend = BTreeMap<SocketAddr, BTreeMap<SocketAddr, Observed>>;

impl Services {
    async fn run(self) -> Result<()> {
        let layout = Layout::new(&self.dir)?;
        let kubeconfig = self.kubeconfig.clone().unwrap_or_else(|| layout.kubeconfig());
        let client = xebec_client::connection::from_kubeconfig(&kubeconfig).await?;
        loop {
            let services = Api::<Service>::all(client.clone()).list(&ListParams::default()).await?;
            let rows = rows(self.observe(&layout)?, &names(&services.items), self.sort);
            let text = if self.json { serde_json::to_string_pretty(&to_json(&rows))? } else { self.table(&rows) };
            let redraws = self.watch.is_some() && std::io::stdout().is_terminal();
            // Clears the terminal (ECMA-48, ED and CUP).
            let clear = if redraws { "\x1b[2J\x1b[H" } else { "" };
            say!("{clear}{}", text.trim_end())?;
            let Some(seconds) = self.watch else { return Ok(()) };
            tokio::time::sleep(Duration::from_secs(seconds.max(1).into())).await;
        }
    }

    /// What all nodes saw, together.
    fn observe(&self, layout: &Layout) -> Result<ByFrontend> {
        let read = |bpffs: &Path, node: &str| {
            latencies(bpffs, node).with_context(|| format!("read the maps of {node} in {}", bpffs.display()))
        };
        if let Some(node) = &self.node_name {
            return Ok(join(read(&self.bpffs, node)?));
        }
        let Some(spec) = Spec::load(layout)? else {
            bail!("no cluster in {}: name another --dir, or a --node-name of this host", layout.dir().display());
        };
        let mut all = Vec::new();
        for node in spec.nodes() {
            all.extend(read(&bpffs(layout, node)?, &node.name())?);
        }
        Ok(join(all))
    }

    fn table(&self, rows: &[Row]) -> String {
        let mut lines =
            vec![["SERVICE", "CONNECTIONS", "CONNECT P50", "P99", "RTT P50", "P99", "RETRANSMITS"].map(str::to_owned)];
        for row in rows {
            lines.push(cells(&row.name, &row.total));
            for (backend, observed) in row.backends.iter().filter(|_| self.backends) {
                lines.push(cells(&format!("  {backend}"), observed));
            }
        }
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..7).map(width).collect();
        let mut text = String::new();
        for line in lines {
            let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        text
    }
}

struct Row {
    name: String,
    address: SocketAddr,
    total: Observed,
    backends: BTreeMap<SocketAddr, Observed>,
}

fn join(services: Vec<ServiceLatency>) -> ByFrontend {
    let mut joined = ByFrontend::new();
    for service in services {
        let backends = joined.entry(service.frontend).or_default();
        for (backend, observed) in service.backends {
            backends.entry(backend).or_default().join(&observed);
        }
    }
    joined
}

/// Namespace and name of each clusterIP's port.
fn names(services: &[Service]) -> HashMap<SocketAddr, String> {
    let mut names = HashMap::new();
    for service in services {
        let (namespace, name) = (service.metadata.namespace.as_deref(), service.metadata.name.as_deref());
        let name = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
        let Some(spec) = &service.spec else { continue };
        for ip in spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok()) {
            for port in spec.ports.iter().flatten() {
                if let Ok(number) = u16::try_from(port.port) {
                    names.insert(SocketAddr::new(ip, number), format!("{name}:{number}"));
                }
            }
        }
    }
    names
}

fn rows(observed: ByFrontend, names: &HashMap<SocketAddr, String>, sort: Sort) -> Vec<Row> {
    let row = |(address, backends): (SocketAddr, BTreeMap<_, Observed>)| {
        let mut total = Observed::default();
        backends.values().for_each(|observed| total.join(observed));
        let name = names.get(&address).cloned().unwrap_or_else(|| address.to_string());
        Row { name, address, total, backends }
    };
    let mut rows: Vec<Row> = observed.into_iter().map(row).collect();
    let p99 = |histogram: &Histogram| histogram.quantile(0.99).unwrap_or_default().as_micros() as u64;
    rows.sort_by_cached_key(|row| {
        let by = match sort {
            Sort::Connections => row.total.connect.count(),
            Sort::Connect => p99(&row.total.connect),
            Sort::Rtt => p99(&row.total.rtt),
            Sort::Retransmits => row.total.retransmits,
        };
        (std::cmp::Reverse(by), row.name.clone())
    });
    rows
}

fn cells(name: &str, observed: &Observed) -> [String; 7] {
    let time = |histogram: &Histogram, fraction| {
        histogram.quantile(fraction).map_or_else(|| "-".to_owned(), |time| format!("<{time:?}"))
    };
    [
        name.to_owned(),
        observed.connect.count().to_string(),
        time(&observed.connect, 0.5),
        time(&observed.connect, 0.99),
        time(&observed.rtt, 0.5),
        time(&observed.rtt, 0.99),
        observed.retransmits.to_string(),
    ]
}

fn to_json(rows: &[Row]) -> Value {
    let times = |histogram: &Histogram| {
        let at = |fraction| histogram.quantile(fraction).map(|time| time.as_micros() as u64);
        json!({"p50": at(0.5), "p99": at(0.99), "buckets": histogram.buckets})
    };
    let observed = |observed: &Observed| {
        json!({
            "connections": observed.connect.count(),
            "connect_us": times(&observed.connect),
            "rtt_us": times(&observed.rtt),
            "retransmits": observed.retransmits,
        })
    };
    let row = |row: &Row| {
        let backends: serde_json::Map<_, _> =
            row.backends.iter().map(|(backend, seen)| (backend.to_string(), observed(seen))).collect();
        json!({"service": row.name, "address": row.address.to_string(), "total": observed(&row.total), "backends": backends})
    };
    json!({"services": rows.iter().map(row).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(connections: u64, bucket: usize, retransmits: u64) -> Observed {
        let mut observed = Observed { retransmits, ..Observed::default() };
        observed.connect.buckets[bucket] = connections;
        observed
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn seen() -> Vec<ServiceLatency> {
        let service = |frontend, backend, observed| ServiceLatency {
            frontend: address(frontend),
            backends: [(address(backend), observed)].into(),
        };
        vec![
            service("10.96.0.1:80", "10.244.0.1:8080", observed(10, 3, 0)),
            service("10.96.0.2:80", "10.244.0.2:8080", observed(3, 9, 7)),
            // The first service on another node.
            service("10.96.0.1:80", "10.244.0.1:8080", observed(5, 3, 1)),
            service("[fd96::1]:80", "[fd10::1]:8080", observed(1, 1, 0)),
        ]
    }

    #[track_caller]
    fn check(sort: Sort, expected: [&str; 3]) {
        let names = [(address("10.96.0.1:80"), "default/web:80".to_owned())].into();
        let rows = rows(join(seen()), &names, sort);
        assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), expected, "{sort:?}");
    }

    #[test]
    fn the_most_or_the_slowest_come_first() {
        check(Sort::Connections, ["default/web:80", "10.96.0.2:80", "[fd96::1]:80"]);
        check(Sort::Connect, ["10.96.0.2:80", "default/web:80", "[fd96::1]:80"]);
        check(Sort::Retransmits, ["10.96.0.2:80", "default/web:80", "[fd96::1]:80"]);
    }

    #[test]
    fn nodes_add_up() {
        let rows = rows(join(seen()), &HashMap::new(), Sort::Connections);
        assert_eq!((rows[0].total.connect.count(), rows[0].total.retransmits), (15, 1));
        let json = to_json(&rows);
        assert_eq!(json["services"][0]["backends"]["10.244.0.1:8080"]["connections"], 15);
        assert_eq!(json["services"][1]["total"]["connect_us"]["p99"], 1024);
        assert_eq!(json["services"][2]["backends"]["[fd10::1]:8080"]["connections"], 1);
    }

    #[test]
    fn names_are_those_of_the_cluster_ips() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": "web"},
            "spec": {"clusterIPs": ["10.96.0.9", "fd00::9"], "ports": [{"port": 80}, {"port": 443}]},
        }))
        .expect("a Service");
        let names = names(&[service]);
        assert_eq!(names.get(&address("10.96.0.9:443")).map(String::as_str), Some("default/web:443"));
        assert_eq!(names.get(&address("[fd00::9]:80")).map(String::as_str), Some("default/web:80"));
        assert_eq!(names.len(), 4);
    }
}
