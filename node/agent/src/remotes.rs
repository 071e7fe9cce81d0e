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
    let overlay = network.node().vxlan.is_some();
    let mut known = None;
    loop {
        let all = nodes.list();
        let others = all.iter().filter(|node| node.metadata.name.as_deref() != Some(&own));
        let desired: BTreeMap<_, _> = others.flat_map(|node| remotes(node, overlay)).collect();
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

/// A node's podCIDRs, each with the address that leads there: over the overlay an IPv4 address for either family, else
/// one of the same. Those are left out that have none yet.
fn remotes(node: &Node, overlay: bool) -> Vec<(IpNet, IpAddr)> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    let ips: Vec<IpAddr> = internal.filter_map(|address| address.address.parse().ok()).collect();
    let leads = |cidr: IpNet| {
        let is_ipv4 = overlay || cidr.addr().is_ipv4();
        Some((cidr, *ips.iter().find(|ip| ip.is_ipv4() == is_ipv4)?))
    };
    cidr::of(node).into_iter().filter_map(leads).collect()
}

/// Returns what it wrote, by kind.
async fn apply(
    desired: &BTreeMap<IpNet, IpAddr>,
    network: &PodNetwork,
    datapath: &Datapath,
) -> Result<Vec<(&'static str, String)>, Box<dyn std::error::Error + Send + Sync>> {
    let mut written = Vec::new();
    let actual: BTreeMap<_, _> = datapath.remotes()?.into_iter().collect();
    for (cidr, node) in desired.iter().filter(|(cidr, node)| actual.get(cidr) != Some(node)) {
        datapath.put_remote(*cidr, *node)?;
        written.push((DriftKind::MapEntry.label(), format!("pods of {cidr}")));
    }
    for cidr in actual.keys().filter(|cidr| !desired.contains_key(cidr)) {
        datapath.remove_remote(*cidr)?;
        written.push((DriftKind::MapEntry.label(), format!("pods of {cidr}")));
    }
    let remotes: Vec<_> = desired.iter().map(|(&pod_cidr, &node_ip)| Remote { pod_cidr, node_ip }).collect();
    let routes = network.node().ensure_remotes(&remotes).await?;
    written.extend(routes.into_iter().map(|drift| (drift.kind.label(), drift.object)));
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_family_of_pods_has_its_way() {
        let check = |cidrs: &[&str], ips: &[&str], overlay: bool, want: &[(&str, &str)]| {
            let addresses: Vec<_> = ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
            let node = json!({"spec": {"podCIDRs": cidrs}, "status": {"addresses": addresses}});
            let node: Node = serde_json::from_value(node).expect("a Node");
            let got: Vec<_> =
                remotes(&node, overlay).iter().map(|(cidr, ip)| (cidr.to_string(), ip.to_string())).collect();
            let want: Vec<_> = want.iter().map(|(cidr, ip)| (cidr.to_string(), ip.to_string())).collect();
            assert_eq!(got, want);
        };
        let (four, six) = ("10.244.1.0/24", "fd00:244:1::/64");
        check(&[four, six], &["fd00::1", "10.0.0.1"], false, &[(four, "10.0.0.1"), (six, "fd00::1")]);
        check(&[four, six], &["fd00::1", "10.0.0.1"], true, &[(four, "10.0.0.1"), (six, "10.0.0.1")]);
        check(&[four, six], &["10.0.0.1"], false, &[(four, "10.0.0.1")]);
        check(&[six], &["fd00::1"], true, &[]);
        check(&[four], &[], true, &[]);
    }
}
