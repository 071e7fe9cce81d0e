//! The node's heartbeat: a Lease renewed every ten seconds.

use std::time::Duration;

use serde_json::json;
use xebec_client::{Api, Client, Patch, PatchParams, PostParams, is_already_exists, is_not_found};
use xebec_types::coordination::Lease;
use xebec_types::core::Node;
use xebec_types::time;

const NAMESPACE: &str = "kube-node-lease";
const RENEW: Duration = Duration::from_secs(10);
/// upstream's default: the node is lost after 40 s without renewal.
const LEASE_SECONDS: i32 = 40;

pub(crate) async fn run(client: Client, node: String) {
    let leases = Api::<Lease>::namespaced(client.clone(), NAMESPACE);
    let nodes = Api::<Node>::all(client);
    loop {
        let pause = match renew(&leases, &nodes, &node).await {
            Ok(()) => RENEW,
            Err(error) => {
                tracing::debug!(error = xebec_client::chain(&error), "renew node lease");
                Duration::from_millis(200)
            }
        };
        // Up to a twentieth later, so that many nodes spread out.
        tokio::time::sleep(pause + pause.mul_f64(f64::from(std::process::id() % 20) / 400.0)).await;
    }
}

async fn renew(leases: &Api<Lease>, nodes: &Api<Node>, node: &str) -> Result<(), kube::Error> {
    let spec = json!({"holderIdentity": node, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": time::micro_time(time::now())});
    let patch = Patch::Merge(json!({"spec": spec}));
    match leases.patch(node, &PatchParams::default(), &patch).await {
        Ok(_) => return Ok(()),
        Err(error) if !is_not_found(&error) => return Err(error),
        Err(_) => {}
    }
    // Owned by the node, so that it goes with it.
    let uid = nodes.get(node).await?.metadata.uid.unwrap_or_default();
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid});
    let lease = json!({"metadata": {"name": node, "namespace": NAMESPACE, "ownerReferences": [owner]}, "spec": spec});
    let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
    match leases.create(&PostParams::default(), &lease).await {
        Err(error) if !is_already_exists(&error) => Err(error),
        _ => Ok(()),
    }
}
