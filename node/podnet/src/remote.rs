//! Routes to the pods of other nodes.

use std::net::IpAddr;

use ipnet::IpNet;
use xebec_netlink::{Neighbour, Route};

use crate::ipam::gateway;
use crate::{Drift, DriftKind, Network, Node, ROUTE_PROTOCOL, Result, vxlan_mac};

/// Another node and the pods of one family behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    pub pod_cidr: IpNet,
    /// Of the pods' family or, over VXLAN, the node's IPv4 address for either, if pods have IPv4 at all.
    pub node_ip: IpAddr,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub replace: Vec<Route>,
    pub delete: Vec<Route>,
}

impl Node {
    /// Exactly these remotes. Twice is once: the second time nothing is returned of what was missing, different or too
    /// much. One that the kernel refuses does not keep the others from their routes; the first refusal is returned.
    pub async fn ensure_remotes(&self, remotes: &[Remote]) -> Result<Vec<Drift>> {
        let actual = self.handle.route_list().await?;
        let neighbours = self.handle.neigh_list().await?;
        let desired: Vec<Route> = self.others(remotes).filter_map(|remote| self.route(remote)).collect();
        let changes = diff(&actual, &desired);
        let mut written = Vec::new();
        let mut outcome = Ok(());
        let mut note = |result: xebec_netlink::Result<()>| {
            if outcome.is_ok() {
                outcome = result;
            }
        };
        for neighbour in self.others(remotes).filter_map(|remote| self.neighbour(remote)) {
            if !neighbours.contains(&neighbour) {
                written.push(Drift::new(DriftKind::Neighbour, neighbour.ip));
                note(self.handle.neigh_add(neighbour).await);
            }
        }
        for route in &changes.delete {
            written.push(Drift::new(DriftKind::Route, route.dst));
            note(self.handle.route_del(route).await);
            let overlay = self.vxlan.as_ref().map(|vxlan| vxlan.index);
            if let (Some(via), Some(dev)) = (route.via, route.dev)
                && overlay == Some(dev)
            {
                note(self.handle.neigh_del(dev, via).await);
            }
        }
        for route in &changes.replace {
            written.push(Drift::new(DriftKind::Route, route.dst));
            note(self.handle.route_replace(route).await);
        }
        outcome?;
        Ok(written)
    }

    fn others<'a>(&'a self, remotes: &'a [Remote]) -> impl Iterator<Item = &'a Remote> {
        let is_own = |remote: &Remote| {
            let is =
                |network: &Network| network.node_ip == remote.node_ip || network.pod_cidr == remote.pod_cidr.trunc();
            self.networks.iter().any(is)
        };
        remotes.iter().filter(move |remote| !is_own(remote))
    }

    /// `None` for pods of a family that this node has no part in.
    fn route(&self, remote: &Remote) -> Option<Route> {
        let at = self.networks.iter().position(|n| n.node_ip.is_ipv4() == remote.pod_cidr.addr().is_ipv4())?;
        let (network, uplink) = (self.networks.get(at)?, self.uplinks.get(at)?);
        let route = Route::new(remote.pod_cidr.trunc()).src(network.gateway()).protocol(ROUTE_PROTOCOL);
        Some(match &self.vxlan {
            Some(vxlan) => route.via(gateway(remote.pod_cidr)).dev(vxlan.index).onlink(),
            None => route.via(remote.node_ip).dev(uplink.index),
        })
    }

    /// On the overlay every pod of a node is behind the node's gateway, whose MAC address is its VXLAN device's.
    fn neighbour(&self, remote: &Remote) -> Option<Neighbour> {
        let dev = self.vxlan.as_ref()?.index;
        self.network_of(remote.pod_cidr.addr())?;
        Some(Neighbour { dev, ip: gateway(remote.pod_cidr), mac: vxlan_mac(remote.node_ip) })
    }
}

/// Routes of ours that are wider than one address lead to remotes; the narrow ones are this node's pods.
pub fn diff(actual: &[Route], desired: &[Route]) -> Changes {
    let ours = |route: &&Route| route.protocol == ROUTE_PROTOCOL && route.dst.prefix_len() < route.dst.max_prefix_len();
    let wanted = |route: &&Route| desired.iter().any(|d| d.dst == route.dst);
    Changes {
        replace: desired.iter().filter(|route| !actual.contains(route)).cloned().collect(),
        delete: actual.iter().filter(ours).filter(|route| !wanted(route)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
