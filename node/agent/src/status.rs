//! What works on this node, for `xebec status` and for the Node's condition `xebec.io/DatapathReady`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use xebec_client::chain;
use xebec_datapath::{Counter, Datapath, Traffic, XdpDevice};
use xebec_kubelet::NodeVerdict;
use xebec_machinery::net::IpFamily;
use xebec_podnet::{Node, Routing};
use xebec_services::{Forwarding, ServiceKey};
use xebec_types::time;

use crate::canary::Outcomes;

/// The Node's condition.
const CONDITION: &str = "xebec.io/DatapathReady";
/// Below the agent's `--run-dir`.
const FILE: &str = "status.json";
/// How old a report gets before it is written again.
const PERIOD: Duration = Duration::from_secs(30);
/// Reasons for a fault that the condition names.
const FAULTS_MAX: usize = 5;
/// Services with direct server return that a report names.
const DSR_SERVICES_MAX: usize = 20;
/// The mode of an uplink whose driver does not balance.
const XDP_OFF: &str = "off";

/// A node's own report.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub node: String,
    /// When it was made.
    pub time: String,
    /// `vxlan` or `native`.
    pub routing: String,
    /// Of pods, the primary first: `IPv4`, `IPv6`.
    #[serde(default)]
    pub ip_families: Vec<String>,
    /// Of pods.
    pub mtu: u32,
    pub uplinks: Vec<String>,
    /// Of each uplink.
    #[serde(default)]
    pub xdp: Vec<XdpReport>,
    /// Packets for services that uplinks' drivers sent on, since the node's maps were made.
    #[serde(default)]
    pub xdp_sent: u64,
    #[serde(default)]
    pub forwarding: ForwardingReport,
    /// What the datapath would use if the kernel had it.
    pub features: Vec<FeatureReport>,
    /// Each program that was tried, with what is wrong with it.
    pub effective: Outcomes,
    pub maps: Vec<MapReport>,
    /// Of each map of flows.
    #[serde(default)]
    pub half_open: Vec<HalfOpenReport>,
    /// Half-open flows that made place for others, since the node's maps were made: many more than before mean a flood.
    #[serde(default)]
    pub half_open_evicted: u64,
    pub services: u64,
    pub frontends: u64,
    pub pods: u64,
    /// What could not be repaired, by part.
    pub faults: BTreeMap<String, String>,
}

/// Whether an uplink's driver balances services dialled from outside. Where it does not, `from_netdev` does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct XdpReport {
    pub uplink: String,
    /// `native`, `generic` or `off`.
    pub mode: String,
    /// Why it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl XdpReport {
    /// `device` is what became of `--xdp` for this uplink, if it was given.
    fn new(uplink: String, device: Option<&XdpDevice>) -> Self {
        let (mode, reason) = match device {
            None => (XDP_OFF, Some("not asked for (--xdp)".to_owned())),
            Some(XdpDevice { wanted, fault: None, .. }) => (wanted.label(), None),
            Some(XdpDevice { wanted, fault: Some(fault), .. }) => {
                (XDP_OFF, Some(format!("{wanted} was asked for: {fault}")))
            }
        };
        Self { uplink, mode: mode.to_owned(), reason }
    }
}

/// How clients outside reach backends on other nodes.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForwardingReport {
    /// Of Services that do not say: `snat` or `dsr`.
    pub mode: String,
    /// Why there is no `dsr` on this node, whatever Services say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_dsr: Option<String>,
    /// How many Services have `dsr`.
    pub dsr: u64,
    /// The first of them.
    pub dsr_services: Vec<String>,
}

impl ForwardingReport {
    fn new(default: Forwarding, no_dsr: Option<&str>, direct: &BTreeSet<ServiceKey>) -> Self {
        let mode = if default == Forwarding::Dsr && no_dsr.is_none() { "dsr" } else { "snat" };
        Self {
            mode: mode.to_owned(),
            no_dsr: no_dsr.map(str::to_owned),
            dsr: direct.len() as u64,
            dsr_services: direct.iter().take(DSR_SERVICES_MAX).map(ToString::to_string).collect(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FeatureReport {
    pub name: String,
    pub present: bool,
    /// What takes its place.
    pub instead: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapReport {
    pub name: String,
    pub entries: u64,
    pub limit: u64,
}

/// Flows whose clients have not shown that they got an answer: in a flood all places are taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HalfOpenReport {
    pub map: String,
    pub flows: u64,
    pub places: u64,
}

impl Report {
    /// The report in an agent's `--run-dir`.
    ///
    /// # Errors
    /// When there is none, as before the agent's first start, or it cannot be read.
    pub fn read(run_dir: &Path) -> io::Result<Self> {
        serde_json::from_slice(&std::fs::read(run_dir.join(FILE))?).map_err(io::Error::other)
    }

    /// Everything that does not work, one line each.
    pub fn problems(&self) -> Vec<String> {
        let faults = self.faults.iter().map(|(part, fault)| format!("{part}: {fault}"));
        let programs =
            self.effective.iter().filter_map(|(program, fault)| Some(format!("{program}: {}", fault.as_ref()?)));
        faults.chain(programs).collect()
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, serde_json::to_vec(self)?)?;
        std::fs::rename(temporary, path)
    }

    fn verdict(&self) -> NodeVerdict {
        let problems = self.problems();
        let (status, reason, message) = if problems.is_empty() {
            (true, "DatapathEffective", "every program that was tried works".to_owned())
        } else {
            (false, "DatapathFaulty", problems[..problems.len().min(FAULTS_MAX)].join("; "))
        };
        NodeVerdict { kind: CONDITION, status, reason, message }
    }
}

/// Where reports come from.
pub struct Sources {
    pub node_name: String,
    pub run_dir: PathBuf,
    pub node: Node,
    pub datapath: Arc<Datapath>,
    pub services: Arc<xebec_services::Metrics>,
    /// Of Services that do not say.
    pub forwarding: Forwarding,
    /// Why none has direct server return, if none can.
    pub no_direct_return: Option<&'static str>,
    /// Those that have it.
    pub direct: watch::Receiver<BTreeSet<ServiceKey>>,
    pub outcomes: watch::Receiver<Outcomes>,
    pub faults: watch::Receiver<BTreeMap<&'static str, String>>,
}

/// Writes a report whenever something of it changes, and every [`PERIOD`], for ever.
pub async fn follow(mut sources: Sources, verdicts: watch::Sender<Vec<NodeVerdict>>) {
    let path = sources.run_dir.join(FILE);
    let tried = sources.outcomes.clone();
    loop {
        let report = sources.report();
        if let Err(error) = report.write(&path) {
            tracing::warn!(%error, path = %path.display(), "report not written");
        }
        // Before the first try nobody knows.
        if !tried.borrow().is_empty() {
            let verdict = vec![report.verdict()];
            verdicts.send_if_modified(|known| std::mem::replace(known, verdict.clone()) != verdict);
        }
        tokio::select! {
            changed = sources.outcomes.changed() => if changed.is_err() { return },
            changed = sources.faults.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

impl Sources {
    fn report(&mut self) -> Report {
        let config = self.datapath.config();
        let mut faults: BTreeMap<String, String> =
            self.faults.borrow_and_update().iter().map(|(part, fault)| ((*part).to_owned(), fault.clone())).collect();
        let maps = self.datapath.usage().unwrap_or_else(|error| {
            faults.insert("maps".to_owned(), chain(&error));
            Vec::new()
        });
        let counters = self.datapath.counters().unwrap_or_else(|error| {
            faults.insert("counters".to_owned(), chain(&error));
            Vec::new()
        });
        let half_open = |usage: &xebec_datapath::MapUsage| {
            let xebec_datapath::HalfOpen { flows, places } = usage.half_open?;
            Some(HalfOpenReport { map: usage.map.to_owned(), flows, places })
        };
        let feature = |feature: xebec_datapath::Feature| FeatureReport {
            name: feature.name.to_owned(),
            present: feature.present,
            instead: feature.instead.to_owned(),
        };
        let map = |usage: xebec_datapath::MapUsage| MapReport {
            name: usage.map.to_owned(),
            entries: usage.entries,
            limit: usage.limit,
        };
        Report {
            node: self.node_name.clone(),
            time: time::time(time::now()).0.to_string(),
            routing: match self.node.routing {
                Routing::Vxlan { .. } => "vxlan".to_owned(),
                Routing::Native { .. } => "native".to_owned(),
            },
            ip_families: self.node.networks.iter().map(|network| family(network.node_ip)).collect(),
            mtu: self.node.pod_mtu,
            uplinks: config.uplinks.iter().map(|ifindex| self.uplink(*ifindex)).collect(),
            xdp: self.xdp(),
            xdp_sent: packets(&counters, &[Counter::XdpOverlay, Counter::XdpForward]),
            forwarding: ForwardingReport::new(self.forwarding, self.no_direct_return, &self.direct.borrow()),
            features: self.datapath.features().into_iter().map(feature).collect(),
            effective: self.outcomes.borrow_and_update().clone(),
            half_open: maps.iter().filter_map(half_open).collect(),
            maps: maps.into_iter().map(map).collect(),
            half_open_evicted: packets(&counters, &[Counter::HalfOpenEvicted]),
            services: self.services.services.load(Relaxed),
            frontends: self.services.frontends.load(Relaxed),
            // One with an address of each family is there twice.
            pods: self.datapath.pods().iter().map(|pod| pod.host_ifindex).collect::<BTreeSet<_>>().len() as u64,
            faults,
        }
    }

    fn xdp(&self) -> Vec<XdpReport> {
        let devices = self.datapath.xdp();
        let report = |ifindex: &u32| {
            let device = devices.iter().find(|device| device.ifindex == *ifindex);
            XdpReport::new(device.map_or_else(|| self.uplink(*ifindex), |device| device.name.clone()), device)
        };
        self.datapath.config().uplinks.iter().map(report).collect()
    }

    fn uplink(&self, ifindex: u32) -> String {
        let known = self.node.uplinks.iter().find(|uplink| uplink.index == ifindex);
        known.map_or_else(|| format!("interface {ifindex}"), |uplink| uplink.name.clone())
    }
}

fn packets(counters: &[(Counter, Traffic)], of: &[Counter]) -> u64 {
    counters.iter().filter(|(counter, _)| of.contains(counter)).map(|(_, traffic)| traffic.packets).sum()
}

fn family(ip: IpAddr) -> String {
    IpFamily::of(ip).as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use xebec_datapath::XdpMode;

    use super::*;

    #[track_caller]
    fn check(report: &Report, status: bool, message: &str) {
        let verdict = report.verdict();
        assert_eq!((verdict.status, verdict.message.as_str()), (status, message));
        let json = serde_json::to_vec(report).expect("JSON");
        assert_eq!(serde_json::from_slice::<Report>(&json).expect("a report"), *report);
    }

    #[test]
    fn the_driver_balances_or_there_is_a_reason() {
        let report = |device: Option<(XdpMode, Option<&str>)>| {
            let device = device.map(|(wanted, fault)| {
                let fault = fault.map(str::to_owned);
                XdpDevice { ifindex: 2, name: "eth0".to_owned(), wanted, fault }
            });
            let XdpReport { mode, reason, .. } = XdpReport::new("eth0".to_owned(), device.as_ref());
            (mode, reason.unwrap_or_default())
        };
        let off = |reason: &str| ("off".to_owned(), reason.to_owned());
        assert_eq!(report(None), off("not asked for (--xdp)"));
        assert_eq!(report(Some((XdpMode::Native, None))), ("native".to_owned(), String::new()));
        assert_eq!(report(Some((XdpMode::Generic, None))), ("generic".to_owned(), String::new()));
        let fault = Some("the device is gone");
        assert_eq!(report(Some((XdpMode::Native, fault))), off("native was asked for: the device is gone"));
    }

    #[test]
    fn services_with_direct_server_return_are_counted_and_the_first_named() {
        let services = |count: usize| (0..count).map(|n| ServiceKey::new("default", &format!("s{n:02}"))).collect();
        let report = |default, no_dsr, count| ForwardingReport::new(default, no_dsr, &services(count));
        let few = report(Forwarding::Snat, None, 2);
        assert_eq!((few.mode.as_str(), few.dsr), ("snat", 2));
        assert_eq!(few.dsr_services, ["default/s00", "default/s01"]);
        let many = report(Forwarding::Dsr, None, 30);
        assert_eq!((many.mode.as_str(), many.dsr, many.dsr_services.len()), ("dsr", 30, DSR_SERVICES_MAX));
        let none = report(Forwarding::Dsr, Some("no IPv4"), 0);
        assert_eq!((none.mode.as_str(), none.no_dsr.as_deref()), ("snat", Some("no IPv4")));
    }

    #[test]
    fn the_condition_names_what_does_not_work() {
        let mut report = Report::default();
        report.effective.insert("sock4_connect in pods".to_owned(), None);
        check(&report, true, "every program that was tried works");
        report.effective.insert("from_pod".to_owned(), Some("did not arrive".to_owned()));
        check(&report, false, "from_pod: did not arrive");
        report.faults.insert("devices".to_owned(), "uplink eth0 is down".to_owned());
        check(&report, false, "devices: uplink eth0 is down; from_pod: did not arrive");
    }
}
