//! Pods of other nodes: routes for the host's own traffic, map entries for the pods'.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use xebec_client::{Informers, chain};
use xebec_datapath::Datapath;
use xebec_podnet::{PodNetwork, Remote};
use xebec_types::core::Node;

use crate::cidr;

/// Pause between attempts when a write fails.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the Nodes for ever. Nothing is removed before their first full list.
pub async fn follow(informers: Informers, own: String, network: Arc<PodNetwork>, datapath: Arc<Datapath>) {
    let nodes = informers.informer::<Node>();
    let mut changes = nodes.subscribe();
    nodes.synced().await;
    loop {
        let desired = nodes.list().iter().filter_map(|node| remote(node, &own)).collect();
        if let Err(error) = apply(&desired, &network, &datapath).await {
            tracing::warn!(error = chain(error.as_ref()), "routes to other nodes not written");
            tokio::time::sleep(RETRY).await;
            continue;
        }
        changes.changed().await;
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

async fn apply(
    desired: &BTreeMap<Ipv4Net, Ipv4Addr>,
    network: &PodNetwork,
    datapath: &Datapath,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let actual: BTreeMap<_, _> = datapath.remotes()?.into_iter().collect();
    let wanted: BTreeMap<IpNet, IpAddr> = desired.iter().map(|(cidr, node)| ((*cidr).into(), (*node).into())).collect();
    for (cidr, node) in wanted.iter().filter(|(cidr, node)| actual.get(cidr) != Some(node)) {
        datapath.put_remote(*cidr, *node)?;
    }
    for cidr in actual.keys().filter(|cidr| !wanted.contains_key(cidr)) {
        datapath.remove_remote(*cidr)?;
    }
    let remotes: Vec<_> = desired.iter().map(|(&pod_cidr, &node_ip)| Remote { pod_cidr, node_ip }).collect();
    network.node().ensure_remotes(&remotes).await?;
    Ok(())
}
