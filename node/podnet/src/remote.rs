//! Routes to the pods of other nodes.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use xebec_netlink::{Neighbour, Route};

use crate::ipam::gateway;
use crate::{Drift, DriftKind, Node, ROUTE_PROTOCOL, Result, Routing, vxlan_mac};

/// Another node and the pods behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    pub pod_cidr: Ipv4Net,
    pub node_ip: Ipv4Addr,
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
        let desired: Vec<Route> = self.others(remotes).map(|remote| self.route(remote)).collect();
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

    fn others<'a>(&self, remotes: &'a [Remote]) -> impl Iterator<Item = &'a Remote> {
        let (own_ip, own_cidr) = (self.node_ip, self.pod_cidr);
        remotes.iter().filter(move |remote| remote.node_ip != own_ip && remote.pod_cidr.trunc() != own_cidr)
    }

    fn route(&self, remote: &Remote) -> Route {
        let route = Route::new(IpNet::V4(remote.pod_cidr.trunc())).src(self.gateway.into()).protocol(ROUTE_PROTOCOL);
        match (self.routing, &self.vxlan) {
            (Routing::Vxlan { .. }, Some(vxlan)) => {
                route.via(gateway(remote.pod_cidr).into()).dev(vxlan.index).onlink()
            }
            _ => route.via(remote.node_ip.into()).dev(self.uplink.index),
        }
    }

    /// On the overlay every pod of a node is behind the node's gateway, whose MAC address is its VXLAN device's.
    fn neighbour(&self, remote: &Remote) -> Option<Neighbour> {
        let dev = self.vxlan.as_ref()?.index;
        Some(Neighbour { dev, ip: gateway(remote.pod_cidr).into(), mac: vxlan_mac(remote.node_ip) })
    }
}

/// Routes of ours that are wider than one address lead to remotes; the narrow ones are this node's pods.
pub fn diff(actual: &[Route], desired: &[Route]) -> Changes {
    let ours = |route: &&Route| {
        route.protocol == ROUTE_PROTOCOL && route.dst.prefix_len() < 32 && matches!(route.dst.addr(), IpAddr::V4(_))
    };
    let wanted = |route: &&Route| desired.iter().any(|d| d.dst == route.dst);
    Changes {
        replace: desired.iter().filter(|route| !actual.contains(route)).cloned().collect(),
        delete: actual.iter().filter(ours).filter(|route| !wanted(route)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
