//! What the user asked of `xebec up`: written once, read by the supervisor, `up`, `down` and `image`.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::agent::load_balancer::{ForwardingMode, XdpChoice};

use super::layout::{Host, Layout, NodeNumber, UNDERLAY_PREFIXES};

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A log on local disk inside the server process
    Embedded,
    /// An etcd beside the server
    Etcd,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoutingKind {
    /// Pods on other nodes are reached through a VXLAN tunnel
    Vxlan,
    /// Pods on other nodes are reached by routes through the nodes' addresses
    Native,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpFamilies {
    #[default]
    Ipv4,
    Ipv6,
    /// Pods have an address of each family, Services those that they ask for, IPv4 first
    Dual,
}

impl IpFamilies {
    /// What `--cluster-cidr` takes.
    pub fn cluster_cidr(self) -> &'static str {
        match self {
            Self::Ipv4 => crate::CLUSTER_CIDR,
            Self::Ipv6 => "fd00:10:244::/48",
            Self::Dual => "10.244.0.0/16,fd00:10:244::/48",
        }
    }

    /// What `--service-cluster-ip-range` takes.
    pub fn service_cidr(self) -> &'static str {
        match self {
            Self::Ipv4 => crate::SERVICE_CIDR,
            Self::Ipv6 => "fd00:10:96::/112",
            Self::Dual => "10.96.0.0/16,fd00:10:96::/112",
        }
    }

    /// The addresses of a host, the primary family's first, with the prefix lengths of the underlay.
    pub fn underlay(self, host: Host) -> Vec<(IpAddr, u8)> {
        let (ipv4, ipv6) = ((host.ipv4(), UNDERLAY_PREFIXES.0), (host.ipv6(), UNDERLAY_PREFIXES.1));
        match self {
            Self::Ipv4 => vec![ipv4],
            Self::Ipv6 => vec![ipv6],
            Self::Dual => vec![ipv4, ipv6],
        }
    }

    /// The address of a host that others use.
    pub fn primary(self, host: Host) -> IpAddr {
        if self == Self::Ipv6 { host.ipv6() } else { host.ipv4() }
    }
}

/// A cluster on this machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Spec {
    pub nodes: u32,
    pub store: StoreKind,
    pub routing: RoutingKind,
    #[serde(default)]
    pub ip_families: IpFamilies,
    #[serde(default)]
    pub forwarding: ForwardingMode,
    /// How uplinks balance, if they do.
    #[serde(default)]
    pub xdp: Option<XdpChoice>,
    /// The API server's port on 127.0.0.1 of the host.
    pub port: u16,
}

/// What the user says of a cluster; the rest is as it is, or by default.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub nodes: Option<u32>,
    pub store: Option<StoreKind>,
    pub routing: Option<RoutingKind>,
    pub ip_families: Option<IpFamilies>,
    pub forwarding: Option<ForwardingMode>,
    pub xdp: Option<XdpChoice>,
}

impl Spec {
    pub fn nodes(&self) -> impl Iterator<Item = NodeNumber> + use<> {
        (1..=self.nodes).map(NodeNumber)
    }

    /// The cluster's spec, or `None` when none was ever made in this directory.
    ///
    /// # Errors
    /// When the file cannot be read or is not a spec.
    pub fn load(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.spec();
        match fs::read(&path) {
            Ok(bytes) => {
                let spec = serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
                Ok(Some(spec))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Writes the spec so that a crash leaves the old file or the new one.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        let path = layout.spec();
        let temporary = path.with_extension("tmp");
        let write = || {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    /// Refuses what a running or kept cluster cannot become.
    ///
    /// # Errors
    /// Names the flag that differs and what to do.
    pub fn accept(&self, wanted: &Wanted) -> Result<()> {
        let differs = |flag: &str, was: String, wanted: String| -> Result<()> {
            bail!("this cluster was made with --{flag} {was}; for --{flag} {wanted} run `xebec down` on it first")
        };
        let Wanted { nodes, store, routing, ip_families, forwarding, xdp } = *wanted;
        if let Some(nodes) = nodes.filter(|nodes| *nodes != self.nodes) {
            differs("nodes", self.nodes.to_string(), nodes.to_string())?;
        }
        if let Some(store) = store.filter(|store| *store != self.store) {
            differs("store", word(self.store), word(store))?;
        }
        if let Some(routing) = routing.filter(|routing| *routing != self.routing) {
            differs("routing", word(self.routing), word(routing))?;
        }
        if let Some(families) = ip_families.filter(|families| *families != self.ip_families) {
            differs("ip-families", word(self.ip_families), word(families))?;
        }
        if let Some(forwarding) = forwarding.filter(|forwarding| *forwarding != self.forwarding) {
            differs("forwarding-mode", word(self.forwarding), word(forwarding))?;
        }
        match (self.xdp, xdp.filter(|xdp| self.xdp != Some(*xdp))) {
            (Some(was), Some(wanted)) => differs("xdp", word(was), word(wanted)),
            (None, Some(wanted)) => {
                bail!("this cluster was made without --xdp; for --xdp {} run `xebec down` on it first", word(wanted))
            }
            (_, None) => Ok(()),
        }
    }
}

/// A flag's value as the user writes it.
pub fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
