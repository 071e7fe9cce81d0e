//! A pod leaves load balancing before it is told to stop.
//!
//! First the control plane withdraws it: no EndpointSlice offers it as ready. Then every node must have that in its
//! datapath: each is asked over its kubelet's port, and answers once the version of the EndpointSlices at which the
//! pod was gone is applied there. Nothing is written to the API for it, and a node is asked only while a pod that
//! Services offer is being deleted: one request per node and pod.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use xebec_client::node::NodeClient;
use xebec_client::{Informers, chain};
use xebec_kubelet::{PodRef, Withdraw, Withdrawal};
use xebec_services::SliceVersion;
use xebec_types::core::Node;
use xebec_types::discovery::{Endpoint, EndpointSlice};

/// From the moment when no node sends new connections until the pod is told to stop: a connection that was made just before
/// may have its first request on the way, and a program that ends at SIGTERM would end without reading it.
const SETTLE: Duration = Duration::from_millis(100);
/// So many names are told of nodes that did not answer.
const NAMES_MAX: usize = 5;

pub struct WithdrawFromServices {
    informers: Informers,
    own: String,
    seen: SliceVersion,
    /// The version that this node's own datapath has.
    applied: watch::Receiver<u64>,
    nodes: NodeClient,
}

impl WithdrawFromServices {
    pub fn new(informers: &Informers, own: &str, applied: watch::Receiver<u64>, nodes: NodeClient) -> Self {
        let seen = SliceVersion::follow(&informers.informer::<EndpointSlice>());
        Self { informers: informers.clone(), own: own.to_owned(), seen, applied, nodes }
    }

    /// Waits until no EndpointSlice offers the pod; the version at which that was so, `None` if none ever did.
    async fn unoffered(&self, uid: &str) -> Option<u64> {
        let slices = self.informers.informer::<EndpointSlice>();
        let mut changes = slices.subscribe();
        if !slices.read().iter().any(|slice| of_pod(slice, uid).next().is_some()) {
            return None;
        }
        while slices.read().iter().any(|slice| offers(slice, uid)) {
            changes.changed().await;
        }
        Some(self.seen.get())
    }

    /// The names of the nodes that do not have `version` at the deadline.
    async fn missing(&self, version: u64, deadline: Instant) -> Vec<String> {
        let own = async {
            let mut applied = self.applied.clone();
            let done = timeout_at(deadline, applied.wait_for(|applied| *applied >= version)).await;
            (!matches!(done, Ok(Ok(_)))).then(|| self.own.clone())
        };
        let others: Vec<_> =
            self.informers.informer::<Node>().list().iter().filter_map(|node| self.peer(node)).collect();
        let others = others.into_iter().map(|(name, address)| async move {
            let url = format!("https://{address}/xebec/v1/applied?slices={version}");
            match timeout_at(deadline, self.nodes.get(&url)).await {
                Ok(Ok((http::StatusCode::OK, _))) => return None,
                Ok(Ok((status, answer))) => tracing::warn!(node = name, %status, answer, "withdrawal not acknowledged"),
                Ok(Err(error)) => tracing::warn!(node = name, error = chain(&error), "withdrawal not acknowledged"),
                Err(_) => {}
            }
            Some(name)
        });
        let (own, others) = tokio::join!(own, join_all(others));
        others.into_iter().chain([own]).flatten().collect()
    }

    /// Another node that is alive, and where its kubelet listens. One that is not Ready forwards at most for pods that
    /// nobody can reach through it either: waiting for it would hold up every deletion.
    fn peer(&self, node: &Node) -> Option<(String, std::net::SocketAddr)> {
        let name = node.metadata.name.clone().filter(|name| *name != self.own)?;
        let status = node.status.as_ref()?;
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
        let mut addresses = status.addresses.iter().flatten();
        let ip: IpAddr = addresses.find(|address| address.type_ == "InternalIP")?.address.parse().ok()?;
        let endpoint = status.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref()?;
        Some((name, (ip, u16::try_from(endpoint.port).ok()?).into()))
    }
}

#[async_trait::async_trait]
impl Withdraw for WithdrawFromServices {
    async fn withdraw(&self, pod: &PodRef, limit: Duration) -> Withdrawal {
        let deadline = Instant::now() + limit;
        let version = match timeout_at(deadline, self.unoffered(&pod.uid)).await {
            Ok(None) => return Withdrawal::NotServed,
            Ok(Some(version)) => version,
            Err(_) => return Withdrawal::TimedOut(format!("EndpointSlices still offer the pod after {limit:?}")),
        };
        let missing = self.missing(version, deadline).await;
        if missing.is_empty() {
            sleep_until(deadline.min(Instant::now() + SETTLE)).await;
            return Withdrawal::Acknowledged;
        }
        let names = missing[..missing.len().min(NAMES_MAX)].join(", ");
        Withdrawal::TimedOut(format!("{} nodes did not acknowledge in {limit:?}: {names}", missing.len()))
    }
}

/// The pod's endpoints: by the object they stand for, because pods of the host's network share addresses.
fn of_pod<'a>(slice: &'a EndpointSlice, uid: &str) -> impl Iterator<Item = &'a Endpoint> {
    let is_pod = move |endpoint: &&Endpoint| {
        endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).is_some_and(|target| target == uid)
    };
    slice.endpoints.iter().flatten().filter(is_pod)
}

fn offers(slice: &EndpointSlice, uid: &str) -> bool {
    let ready = |endpoint: &Endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
    of_pod(slice, uid).any(|endpoint| ready(endpoint).unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(conditions: Value, uid: &str, mentioned: bool, offered: bool) {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4",
            "endpoints": [{
                "addresses": ["10.244.0.2"], "conditions": conditions,
                "targetRef": {"kind": "Pod", "name": "p", "uid": "u1"},
            }],
        }))
        .expect("a slice");
        assert_eq!(of_pod(&slice, uid).next().is_some(), mentioned, "{conditions} mentions {uid}");
        assert_eq!(offers(&slice, uid), offered, "{conditions} offers {uid}");
    }

    #[test]
    fn only_a_ready_endpoint_of_the_pod_is_offered() {
        check(json!({"ready": true}), "u1", true, true);
        check(json!({}), "u1", true, true);
        check(json!({"ready": false, "serving": true, "terminating": true}), "u1", true, false);
        check(json!({"ready": true}), "u2", false, false);
    }
}
