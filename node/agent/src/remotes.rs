//! Pods of other nodes: routes for the host's own traffic, map entries for the pods'.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
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
    let mut known = None;
    loop {
        let desired: BTreeMap<_, _> = nodes.list().iter().filter_map(|node| remote(node, &own)).collect();
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

/// A node's podCIDR and address; `None` for this node, and for one that has not got both yet.
fn remote(node: &Node, own: &str) -> Option<(Ipv4Net, Ipv4Addr)> {
    if node.metadata.name.as_deref() == Some(own) {
        return None;
    }
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses.iter().find(|address| address.type_ == "InternalIP")?;
    Some((cidr::of(node)?, internal.address.parse().ok()?))
}

/// Returns what it wrote, by kind.
async fn apply(
    desired: &BTreeMap<Ipv4Net, Ipv4Addr>,
    network: &PodNetwork,
    datapath: &Datapath,
) -> Result<Vec<(&'static str, String)>, Box<dyn std::error::Error + Send + Sync>> {
    let mut written = Vec::new();
    let actual: BTreeMap<_, _> = datapath.remotes()?.into_iter().collect();
    let wanted: BTreeMap<IpNet, IpAddr> = desired.iter().map(|(cidr, node)| ((*cidr).into(), (*node).into())).collect();
    for (cidr, node) in wanted.iter().filter(|(cidr, node)| actual.get(cidr) != Some(node)) {
        datapath.put_remote(*cidr, *node)?;
        written.push((DriftKind::MapEntry.label(), format!("pods of {cidr}")));
    }
    for cidr in actual.keys().filter(|cidr| !wanted.contains_key(cidr)) {
        datapath.remove_remote(*cidr)?;
        written.push((DriftKind::MapEntry.label(), format!("pods of {cidr}")));
    }
    let remotes: Vec<_> = desired.iter().map(|(&pod_cidr, &node_ip)| Remote { pod_cidr, node_ip }).collect();
    let routes = network.node().ensure_remotes(&remotes).await?;
    written.extend(routes.into_iter().map(|drift| (drift.kind.label(), drift.object)));
    Ok(written)
}
