//! What others took away or changed is put back.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use xebec_netlink::{Link, Neighbour, Netns, Route};

use crate::ipam::Record;
use crate::node::{host_device, vxlan_device};
use crate::{HOST_DEVICE, Node, PodNetwork, Result, VXLAN_DEVICE, host_device as pod_device, pod};

/// Something that was not as this crate had left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    pub kind: DriftKind,
    /// Its name, address or destination.
    pub object: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriftKind {
    Device,
    Address,
    Route,
    Neighbour,
    Sysctl,
}

impl DriftKind {
    /// For metrics and messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Address => "address",
            Self::Route => "route",
            Self::Neighbour => "neighbour",
            Self::Sysctl => "sysctl",
        }
    }
}

impl Drift {
    pub(crate) fn new(kind: DriftKind, object: impl fmt::Display) -> Self {
        Self { kind, object: object.to_string() }
    }
}

impl Node {
    /// Brings the node's own devices, their addresses and the sysctls back in line; returns what was not. A device that
    /// is made again keeps its index, by which the datapath knows it. Its routes are [`Node::ensure_remotes`]'s.
    pub async fn repair(&self) -> Result<Vec<Drift>> {
        let mut found = Vec::new();
        let before = self.handle.link_by_name(HOST_DEVICE).await?;
        let host = host_device(&self.handle, self.pod_mtu, Some(self.host.index)).await?;
        found.extend(changed(before, &host));
        if let (Some(port), Some(known)) = (self.routing.port(), &self.tunnel) {
            let before = self.handle.link_by_name(VXLAN_DEVICE).await?;
            let vxlan = vxlan_device(&self.handle, port, self.overlay_ip()?, known.mtu, Some(known.index)).await?;
            found.extend(changed(before, &vxlan));
        }
        // Before the addresses: a device may have IPv6 switched off.
        let sysctls = self.ensure_sysctls()?;
        found.extend(sysctls.into_iter().map(|name| Drift::new(DriftKind::Sysctl, name)));
        let (addresses, gateways) = (self.handle.addr_list(host.index).await?, self.gateways());
        let missing: Vec<_> = gateways.iter().filter(|gateway| !addresses.contains(gateway)).collect();
        if !missing.is_empty() {
            self.handle.ensure_addrs(host.index, &gateways).await?;
            found.extend(missing.into_iter().map(|gateway| Drift::new(DriftKind::Address, gateway)));
        }
        Ok(found)
    }
}

fn changed(before: Option<Link>, after: &Link) -> Option<Drift> {
    let same = |before: &Link| {
        (before.index, before.up, before.mtu, before.mac) == (after.index, after.up, after.mtu, after.mac)
    };
    (!before.is_some_and(|before| same(&before))).then(|| Drift::new(DriftKind::Device, &after.name))
}

/// What the kernel has, read once for all pods.
struct Actual {
    links: Vec<Link>,
    routes: HashSet<Route>,
    neighbours: HashSet<Neighbour>,
}

impl Actual {
    /// What the host's side of a pod lacks, and for which of its addresses first.
    fn lacks(&self, record: &Record) -> Option<(DriftKind, IpAddr)> {
        let name = pod_device(&record.container, &record.ifname);
        let Some(link) = self.links.iter().find(|link| link.name == name).filter(|link| link.up) else {
            return Some((DriftKind::Device, record.ip));
        };
        let lacks = |ip: IpAddr| {
            if !self.neighbours.contains(&pod::neighbour(ip, link.index, &name)) {
                return Some((DriftKind::Neighbour, ip));
            }
            (!self.routes.contains(&pod::host_route(ip, link.index))).then_some((DriftKind::Route, ip))
        };
        record.ips().find_map(lacks)
    }
}

impl PodNetwork {
    /// Brings the host's side of every pod back in line; returns what was not. A pod that lost its device gets one like
    /// it: address and MAC addresses are the same, so its connections go on.
    pub async fn repair(&self) -> Result<Vec<Drift>> {
        let mut found = Vec::new();
        let actual = self.actual().await?;
        for suspect in self.records().iter().filter(|record| actual.lacks(record).is_some()) {
            // While the pod is being made or removed, its requests have the turn; afterwards nothing may be wrong.
            let _turn = self.turn(&suspect.container).await;
            let Some(record) = self.find(&suspect.container, &suspect.ifname) else { continue };
            let Some((kind, ip)) = self.actual().await?.lacks(&record) else { continue };
            if self.restore(&record).await? {
                found.push(Drift::new(kind, format!("{ip} of pod {}", crate::network::label(&record))));
            }
        }
        Ok(found)
    }

    async fn actual(&self) -> Result<Actual> {
        let handle = &self.node().handle;
        let (links, routes) = (handle.links().await?, handle.route_list().await?);
        let neighbours = handle.neigh_list().await?.into_iter().collect();
        Ok(Actual { links, routes: routes.into_iter().collect(), neighbours })
    }

    /// False if the pod itself is gone.
    async fn restore(&self, record: &Record) -> Result<bool> {
        let name = pod_device(&record.container, &record.ifname);
        let failed = |source| crate::Error::Pod { pod: crate::network::label(record), source };
        match self.node().handle.link_by_name(&name).await? {
            Some(link) => pod::configure_host(self.node(), &link, record, &name).await.map_err(failed)?,
            None if Netns::open(&record.netns).is_err() => return Ok(false),
            None => drop(self.connect(record).await?),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
