//! Pods of other nodes: routes for the host's own traffic, map entries for the pods'.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;
use xebec_client::Informers;
use xebec_datapath::{Datapath, DriftKind};
use xebec_podnet::{PodNetwork, Remote};
use xebec_types::core::Node;

use crate::drift::Upkeep;
use crate::{cidr, drift};

/// Pause between attempts when a write fails.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the Nodes for ever. Nothing is removed before their first full list. `written` is told true once every node
/// that was in that list can be reached.
pub async fn follow(
    informers: Informers,
    own: String,
    network: Arc<PodNetwork>,
    datapath: Arc<Datapath>,
    written: watch::Sender<bool>,
    upkeep: Upkeep,
) {
    let Upkeep { repairs, mut looked } = upkeep;
    let nodes = informers.informer::<Node>();
    let mut changes = nodes.subscribe();
    nodes.synced().await;
    let node = network.node();
    let ways = Ways {
        overlay: node.vxlan.is_some(),
        tunnel: node.tunnel.is_some(),
        over_ipv4: node.networks.iter().any(|network| network.node_ip.is_ipv4()),
    };
    let mut known = None;
    loop {
        let all = nodes.list();
        let others = all.iter().filter(|node| node.metadata.name.as_deref() != Some(&own));
        let desired = others.fold(Desired::default(), |desired, node| desired.with(node, ways));
        let outcome = apply(&desired, &network, &datapath).await;
        let unchanged = known.as_ref() == Some(&desired);
        let failed = outcome.is_err();
        repairs.looked(
            "routes",
            outcome.map(|found| {
                if unchanged {
                    drift::note(&repairs, found.into_iter())
                }
            }),
        );
        if failed {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        known = Some(desired);
        written.send_replace(true);
        tokio::select! {
            _ = changes.changed() => {}
            looked = looked.changed() => if looked.is_err() { return },
        }
    }
}

/// How this node reaches others.
#[derive(Clone, Copy)]
struct Ways {
    /// Their pods.
    overlay: bool,
    /// Backends there, for clients outside.
    tunnel: bool,
    /// Both run over IPv4, not IPv6.
    over_ipv4: bool,
}

/// Networks of other nodes, each with the address that leads there.
#[derive(Default, PartialEq, Eq)]
struct Desired {
    /// podCIDRs: over the overlay by an address of one family for both, else by one of the same. Those are left out that
    /// have none yet.
    routes: BTreeMap<IpNet, IpAddr>,
    /// The same as the datapath has them, where a tunnel wants an address of its family as well; and with a tunnel the nodes
    /// themselves, by which it is known who may use it.
    entries: BTreeMap<IpNet, IpAddr>,
}

impl Desired {
    fn with(mut self, node: &Node, ways: Ways) -> Self {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let internal = addresses.filter(|address| address.type_ == "InternalIP");
        let ips: Vec<IpAddr> = internal.filter_map(|address| address.address.parse().ok()).collect();
        let of_family = |is_ipv4: bool| ips.iter().copied().find(|ip| ip.is_ipv4() == is_ipv4);
        let end = of_family(ways.over_ipv4).filter(|_| ways.tunnel);
        for cidr in cidr::of(node) {
            let Some(way) = of_family(if ways.overlay { ways.over_ipv4 } else { cidr.addr().is_ipv4() }) else {
                continue;
            };
            self.routes.insert(cidr, way);
            self.entries.insert(cidr, end.unwrap_or(way));
        }
        let own: Vec<IpAddr> = match end {
            Some(IpAddr::V4(end)) => ips.iter().copied().chain([end.to_ipv6_mapped().into()]).collect(),
            // Tables of IPv4 have no such ends.
            Some(IpAddr::V6(_)) => ips.iter().copied().filter(IpAddr::is_ipv6).collect(),
            None => Vec::new(),
        };
        self.entries.extend(end.iter().flat_map(|end| own.iter().map(|ip| (IpNet::from(*ip), *end))));
        self
    }
}

/// Returns what it wrote, by kind.
async fn apply(
    desired: &Desired,
    network: &PodNetwork,
    datapath: &Datapath,
) -> Result<Vec<(&'static str, String)>, Box<dyn std::error::Error + Send + Sync>> {
    let mut written = Vec::new();
    let actual: BTreeMap<_, _> = datapath.remotes()?.into_iter().collect();
    let Desired { routes, entries } = desired;
    for (cidr, node) in entries.iter().filter(|(cidr, node)| actual.get(cidr) != Some(node)) {
        datapath.put_remote(*cidr, *node)?;
        written.push((DriftKind::MapEntry.label(), way_to(*cidr)));
    }
    for cidr in actual.keys().filter(|cidr| !entries.contains_key(cidr)) {
        datapath.remove_remote(*cidr)?;
        written.push((DriftKind::MapEntry.label(), way_to(*cidr)));
    }
    let remotes: Vec<_> = routes.iter().map(|(&pod_cidr, &node_ip)| Remote { pod_cidr, node_ip }).collect();
    let routes = network.node().ensure_remotes(&remotes).await?;
    written.extend(routes.into_iter().map(|drift| (drift.kind.label(), drift.object)));
    Ok(written)
}

/// An entry of the datapath, for people: of a single address it is the node's.
fn way_to(cidr: IpNet) -> String {
    if cidr.prefix_len() == cidr.max_prefix_len() { format!("node {}", cidr.addr()) } else { format!("pods of {cidr}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_family_of_pods_has_its_way() {
        let check = |cidrs: &[&str], ips: &[&str], overlay: bool, want: &[(&str, &str)]| {
            let ways = Ways { overlay, tunnel: false, over_ipv4: cidrs.contains(&"10.244.1.0/24") };
            let addresses: Vec<_> = ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
            let node = json!({"spec": {"podCIDRs": cidrs}, "status": {"addresses": addresses}});
            let node: Node = serde_json::from_value(node).expect("a Node");
            let desired = Desired::default().with(&node, ways);
            let got: Vec<_> = desired.routes.iter().map(|(cidr, ip)| (cidr.to_string(), ip.to_string())).collect();
            let want: Vec<_> = want.iter().map(|(cidr, ip)| (cidr.to_string(), ip.to_string())).collect();
            assert_eq!(got, want);
            assert!(desired.entries == desired.routes);
        };
        let (four, six) = ("10.244.1.0/24", "fd00:244:1::/64");
        check(&[four, six], &["fd00::1", "10.0.0.1"], false, &[(four, "10.0.0.1"), (six, "fd00::1")]);
        check(&[four, six], &["fd00::1", "10.0.0.1"], true, &[(four, "10.0.0.1"), (six, "10.0.0.1")]);
        check(&[four, six], &["10.0.0.1"], false, &[(four, "10.0.0.1")]);
        check(&[six], &["fd00::1"], true, &[(six, "fd00::1")]);
        check(&[six], &["10.0.0.1", "fd00::1"], true, &[(six, "fd00::1")]);
        check(&[six], &["10.0.0.1"], true, &[]);
        check(&[four], &[], true, &[]);
    }
    #[test]
    fn a_tunnel_knows_the_nodes_at_its_other_ends() {
        let check = |ips: &[&str], overlay: bool, want: &[(&str, &str)]| {
            let addresses: Vec<_> = ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
            let cidrs = ["10.244.1.0/24", "fd00:244:1::/64"];
            let node = json!({"spec": {"podCIDRs": cidrs}, "status": {"addresses": addresses}});
            let node: Node = serde_json::from_value(node).expect("a Node");
            let desired = Desired::default().with(&node, Ways { overlay, tunnel: true, over_ipv4: true });
            let got: Vec<_> = desired.entries.iter().map(|(cidr, ip)| (cidr.to_string(), ip.to_string())).collect();
            let want: Vec<_> = want.iter().map(|(cidr, ip)| ((*cidr).to_owned(), (*ip).to_owned())).collect();
            assert_eq!(got, want);
        };
        let ends = |six: &'static str| {
            let ends =
                [("10.0.0.1/32", "10.0.0.1"), ("10.244.1.0/24", "10.0.0.1"), ("::ffff:10.0.0.1/128", "10.0.0.1")];
            ends.into_iter().chain([(six, "10.0.0.1")]).collect::<Vec<_>>()
        };
        for overlay in [true, false] {
            let mut both = ends("fd00::1/128");
            both.push(("fd00:244:1::/64", "10.0.0.1"));
            check(&["fd00::1", "10.0.0.1"], overlay, &both);
        }
        check(&["10.0.0.1"], true, &ends("fd00:244:1::/64"));
        check(&["fd00::1"], false, &[("fd00:244:1::/64", "fd00::1")]);
    }

    #[test]
    fn a_tunnel_over_ipv6_knows_their_ipv6_addresses() {
        let addresses = ["10.0.0.1", "fd00::1"].map(|ip| json!({"type": "InternalIP", "address": ip}));
        let node = json!({"spec": {"podCIDRs": ["fd00:244:1::/64"]}, "status": {"addresses": addresses}});
        let node: Node = serde_json::from_value(node).expect("a Node");
        for overlay in [true, false] {
            let desired = Desired::default().with(&node, Ways { overlay, tunnel: true, over_ipv4: false });
            let got: Vec<_> = desired.entries.iter().map(|(cidr, ip)| (cidr.to_string(), ip.to_string())).collect();
            let end = "fd00::1".to_owned();
            assert_eq!(got, [("fd00::1/128".to_owned(), end.clone()), ("fd00:244:1::/64".to_owned(), end)]);
        }
    }
}
