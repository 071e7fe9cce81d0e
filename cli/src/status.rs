//! `xebec status`: what runs, and whether it works.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use kube::Api;
use kube::api::ListParams;
use serde::Serialize;
use xebec_agent::process::Process;
use xebec_agent::status::{ForwardingReport, HalfOpenReport, Report};
use xebec_types::core::Node;

use crate::cluster::layout::Layout;
use crate::cluster::spec::{Spec, StoreKind, word};
use crate::cluster::{supervise, up};
use crate::output::{self, say};

#[derive(Args)]
pub struct Status {
    /// The cluster's directory
    #[arg(long, default_value = super::DEFAULT_DIR)]
    dir: PathBuf,
    /// Say only what the agent with this --run-dir reports: for a node that `xebec up` did not make
    #[arg(long, conflicts_with = "dir")]
    run_dir: Option<PathBuf>,
    /// For programs
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
}

/// What `-o json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    id: String,
    dir: PathBuf,
    store: String,
    routing: String,
    /// `ipv4`, `ipv6` or `dual`.
    ip_families: String,
    /// Whether each program runs.
    programs: BTreeMap<String, bool>,
    /// Why the API server cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_server: Option<String>,
    /// How many there should be.
    size: usize,
    nodes: Vec<NodeState>,
    /// Names of what does not work; empty when all is well.
    not_working: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeState {
    name: String,
    ready: bool,
    /// What the node's own agent says.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Report>,
}

impl Status {
    /// Prints a line per program, and what each node's datapath does.
    ///
    /// # Errors
    /// When there is no cluster, or any part of it does not work.
    pub async fn run(self) -> Result<()> {
        if let Some(run_dir) = &self.run_dir {
            let report = Report::read(run_dir)
                .with_context(|| format!("read the report of an agent with --run-dir {}", run_dir.display()))?;
            match self.output {
                Some(Format::Json) => say!("{}", serde_json::to_string_pretty(&report)?)?,
                None => print_report(&report)?,
            }
            return faults(&report.problems(), "");
        }
        let layout = Layout::new(&self.dir)?;
        let cluster = Cluster::look(&layout).await?;
        match self.output {
            Some(Format::Json) => say!("{}", serde_json::to_string_pretty(&cluster)?)?,
            None => cluster.print()?,
        }
        faults(&cluster.not_working, &format!("; the logs are in {}", layout.logs().display()))
    }
}

fn faults(names: &[String], hint: &str) -> Result<()> {
    if !names.is_empty() {
        bail!("not working: {}{hint}", names.join(", "));
    }
    Ok(())
}

impl Cluster {
    async fn look(layout: &Layout) -> Result<Self> {
        let Some(spec) = Spec::load(layout)? else {
            bail!("no cluster in {}: `xebec up` makes one", layout.dir().display());
        };
        let mut programs = BTreeMap::from([("supervisor".to_owned(), supervise::is_running(layout))]);
        programs.extend(unit_names(&spec).into_iter().map(|unit| {
            let runs = Process::load(&layout.run().join(format!("{unit}.pid"))).is_some();
            (unit, runs)
        }));
        let report = |name: &str| {
            let node = spec.nodes().find(|node| node.name() == name)?;
            Report::read(&layout.node_run(node)).ok()
        };
        let (api_server, nodes) = match nodes(layout).await {
            Ok(nodes) => (None, nodes),
            Err(reason) => (Some(reason), Vec::new()),
        };
        let state = |node: Node| {
            let name = node.metadata.name.clone().unwrap_or_default();
            NodeState { ready: up::is_ready(&node), report: report(&name), name }
        };
        let mut cluster = Self {
            id: layout.id().to_owned(),
            dir: layout.dir().to_owned(),
            store: word(spec.store),
            routing: word(spec.routing),
            ip_families: word(spec.ip_families),
            programs,
            api_server,
            size: spec.nodes as usize,
            nodes: nodes.into_iter().map(state).collect(),
            not_working: Vec::new(),
        };
        cluster.not_working = cluster.faults();
        Ok(cluster)
    }

    fn faults(&self) -> Vec<String> {
        let programs = self.programs.iter().filter(|(_, runs)| !**runs).map(|(name, _)| name.clone());
        let server = self.api_server.iter().map(|_| "API server".to_owned());
        let nodes = self.nodes.iter().flat_map(|node| {
            let not_ready = (!node.ready).then(|| format!("node {}", node.name));
            let problems = node.report.iter().flat_map(Report::problems);
            not_ready.into_iter().chain(problems.map(|problem| format!("{}: {problem}", node.name)))
        });
        programs.chain(server).chain(nodes).collect()
    }

    fn print(&self) -> Result<(), output::Error> {
        let Self { id, store, routing, ip_families, size, .. } = self;
        let dir = self.dir.display();
        say!("cluster {id} in {dir}: {size} nodes, store {store}, routing {routing}, IP families {ip_families}")?;
        for (name, runs) in &self.programs {
            line(name, if *runs { "running" } else { "not running" })?;
        }
        if let Some(reason) = &self.api_server {
            line("API server", reason)?;
        }
        for node in &self.nodes {
            line(&format!("node {}", node.name), if node.ready { "Ready" } else { "NotReady" })?;
            node.report.as_ref().map_or(Ok(()), print_report)?;
        }
        Ok(())
    }
}

fn line(what: &str, state: &str) -> Result<(), output::Error> {
    say!("{what:20} {state}")
}

fn print_report(report: &Report) -> Result<(), output::Error> {
    let Report { node, time, routing, mtu, services, frontends, pods, .. } = report;
    let (uplinks, families) = (report.uplinks.join(", "), report.ip_families.join(" and "));
    line(
        &format!("  {node}"),
        &format!("{families}, routing {routing}, pod MTU {mtu}, uplinks {uplinks}, reported {time}"),
    )?;
    line("  datapath", &format!("{services} services, {frontends} frontends, {pods} pods"))?;
    let works = report.effective.values().filter(|fault| fault.is_none()).count();
    line("  effective", &format!("{works} of {} programs that were tried", report.effective.len()))?;
    for problem in report.problems() {
        line("  fault", &problem)?;
    }
    line("  forwarding", &forwarding(&report.forwarding))?;
    for xdp in &report.xdp {
        let reason = xdp.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        line("  xdp", &format!("{} {}{reason}", xdp.uplink, xdp.mode))?;
    }
    if report.xdp.iter().any(|xdp| xdp.reason.is_none()) {
        line("  xdp", &format!("{} packets sent on by drivers", report.xdp_sent))?;
    }
    for feature in report.features.iter().filter(|feature| !feature.present) {
        line("  kernel lacks", &format!("{}: {}", feature.name, feature.instead))?;
    }
    if let Some(flows) = half_open(report) {
        line("  half-open flows", &flows)?;
    }
    for map in &report.maps {
        line(&format!("  {}", map.name), &format!("{} of {} entries", map.entries, map.limit))?;
    }
    Ok(())
}

/// How clients outside reach backends on other nodes, and which Services have it otherwise.
fn forwarding(ForwardingReport { mode, no_dsr, dsr, dsr_services }: &ForwardingReport) -> String {
    if let Some(reason) = no_dsr {
        return format!("{mode}; no dsr: {reason}");
    }
    let others = if *dsr > dsr_services.len() as u64 { ", and others" } else { "" };
    match dsr {
        0 => mode.clone(),
        _ => format!("{mode}; dsr of {dsr} Services: {}{others}", dsr_services.join(", ")),
    }
}

/// In a flood every place is taken, and flows make place for others. `None`: the agent does not say.
fn half_open(report: &Report) -> Option<String> {
    let places = |HalfOpenReport { map, flows, places }: &HalfOpenReport| format!("{map} {flows} of {places}");
    let places: Vec<String> = report.half_open.iter().map(places).collect();
    let evicted = report.half_open_evicted;
    (!places.is_empty()).then(|| format!("{}; {evicted} made place for others", places.join(", ")))
}

fn unit_names(spec: &Spec) -> Vec<String> {
    let mut names = vec!["server".to_owned()];
    if spec.store == StoreKind::Etcd {
        names.insert(0, "etcd".to_owned());
    }
    for node in spec.nodes() {
        names.extend([format!("{}.containerd", node.name()), format!("{}.agent", node.name())]);
    }
    names
}

async fn nodes(layout: &Layout) -> Result<Vec<Node>, String> {
    let client = up::connect(layout).await?;
    let nodes = Api::<Node>::all(client).list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    Ok(nodes.items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_with_direct_server_return_are_named() {
        let report = |no_dsr: Option<&str>, dsr, names: &[&str]| ForwardingReport {
            mode: "snat".to_owned(),
            no_dsr: no_dsr.map(str::to_owned),
            dsr,
            dsr_services: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(forwarding(&report(None, 0, &[])), "snat");
        assert_eq!(forwarding(&report(None, 2, &["a/b", "a/c"])), "snat; dsr of 2 Services: a/b, a/c");
        assert_eq!(forwarding(&report(None, 30, &["a/b"])), "snat; dsr of 30 Services: a/b, and others");
        assert_eq!(forwarding(&report(Some("no tunnel"), 0, &[])), "snat; no dsr: no tunnel");
    }

    #[test]
    fn a_flood_is_seen_in_the_places_of_half_open_flows() {
        assert_eq!(half_open(&Report::default()), None);
        let flows = |map: &str, flows, places| HalfOpenReport { map: map.to_owned(), flows, places };
        let half_open_now = vec![flows("xb_ct4", 7, 4_096), flows("xb_nat4", 8_192, 8_192)];
        let report = Report { half_open: half_open_now, half_open_evicted: 1_234, ..Report::default() };
        let expected = "xb_ct4 7 of 4096, xb_nat4 8192 of 8192; 1234 made place for others";
        assert_eq!(half_open(&report).as_deref(), Some(expected));
    }
}
