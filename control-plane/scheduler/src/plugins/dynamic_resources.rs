use std::sync::Arc;

use xebec_client::Key;
use xebec_dra::allocator::{Allocator, Node};
use xebec_types::core::NodeSelector;
use xebec_types::device::{self, ResourceClaim};
use xebec_types::{node, object};

use crate::cluster::{Assigned, Assignment, Cluster, NodeInfo, PodInfo};
use crate::framework::{Filter, Reason, Rejection, Verdict};

/// Consumers of one claim at most (`resource.ResourceClaimReservedForMaxSize`).
const CONSUMERS_MAX: usize = 256;

/// Devices that the pod's claims have, and those that they could get on a node.
pub struct DynamicResources {
    /// Allocated claims that are not reserved for the pod yet.
    allocated: Vec<Arc<ResourceClaim>>,
    /// Where allocated claims can be used.
    available_on: Vec<NodeSelector>,
    /// Claims without devices, in the order of the allocator's answers.
    waiting: Vec<Arc<ResourceClaim>>,
    allocator: Option<Allocator>,
}

/// An error rules out every node.
pub fn pre_filter(pod: &PodInfo, cluster: &Cluster) -> Result<Option<DynamicResources>, Reason> {
    let object = pod.pod();
    let wanted = device::pod_claims(&object);
    if wanted.is_empty() {
        return Ok(None);
    }
    let devices = &cluster.devices;
    let mut state =
        DynamicResources { allocated: Vec::new(), available_on: Vec::new(), waiting: Vec::new(), allocator: None };
    for entry in wanted.iter().filter(|entry| !device::is_not_needed(&object, entry)) {
        let Some(name) = device::claim_name(&object, entry) else {
            return Err(Reason(format!("pod {:?}: ResourceClaim not created yet", pod.full_name()).into()));
        };
        let claim = devices.claim(&Key::new(&pod.namespace, name));
        let claim = claim.ok_or_else(|| Reason(format!("resourceclaim {name:?} not found").into()))?;
        state.learn(pod, claim, entry.resource_claim_template_name.is_some(), cluster)?;
    }
    if !state.waiting.is_empty() {
        let class = |name: &str| devices.class(name).cloned();
        let allocator = Allocator::new(devices.inventory().clone(), devices.taken(), &state.waiting, class);
        state.allocator = Some(allocator.map_err(|why| Reason(why.into()))?);
    }
    Ok(Some(state))
}

impl DynamicResources {
    fn learn(
        &mut self,
        pod: &PodInfo,
        claim: &Arc<ResourceClaim>,
        generated: bool,
        cluster: &Cluster,
    ) -> Result<(), Reason> {
        let name = object::name(&claim.metadata);
        let refuse = |text: String| Err(Reason(text.into()));
        if object::is_being_deleted(&claim.metadata) {
            return refuse(format!("resourceclaim {name:?} is being deleted"));
        }
        if generated && !device::is_for_pod(claim, &pod.pod()) {
            let (claim, pod) = (format!("{}/{name}", pod.namespace), pod.full_name());
            return refuse(format!("ResourceClaim {claim} was not created for Pod {pod} (Pod is not owner)"));
        }
        if cluster.devices.is_being_allocated(claim) {
            return refuse(format!("resource claim {}/{name} is in the process of being allocated", pod.namespace));
        }
        let Some(allocation) = device::allocation(claim) else {
            if !self.waiting.iter().any(|known| known.metadata.uid == claim.metadata.uid) {
                self.waiting.push(claim.clone());
            }
            return Ok(());
        };
        self.available_on.extend(allocation.node_selector.clone());
        if !device::is_reserved_for(claim, &pod.uid) {
            if device::reserved_for(claim).len() >= CONSUMERS_MAX {
                return refuse("resourceclaim in use".to_owned());
            }
            self.allocated.push(claim.clone());
        }
        Ok(())
    }

    /// What the pod's claims get on this node; none if it has not what they ask for. An error is the claims', not the node's.
    fn assign(&self, node: &NodeInfo) -> Result<Option<Vec<Assigned>>, String> {
        let mut claims: Vec<Assigned> =
            self.allocated.iter().map(|claim| Assigned { claim: claim.clone(), allocation: None }).collect();
        if let Some(allocator) = &self.allocator {
            let label = |key: &str| node.label(key);
            let Some(found) = allocator.allocate(&Node { name: node.name(), label: &label })? else { return Ok(None) };
            let new = self.waiting.iter().zip(found);
            claims.extend(new.map(|(claim, found)| Assigned { claim: claim.clone(), allocation: Some(found) }));
        }
        Ok(Some(claims))
    }

    /// What binding to this node takes; none if the node has not what the claims ask for.
    pub fn plan(&self, node: &NodeInfo) -> Option<Assignment> {
        let claims = self.assign(node).ok()??;
        Some(Assignment { node: node.name().clone(), claims })
    }
}

/// A claim that only this pod uses, or nobody, and that keeps it from nodes: without its devices the pod may fit.
pub fn post_filter(pod: &PodInfo, cluster: &Cluster) -> Option<Arc<ResourceClaim>> {
    let pins = |claim: &&Arc<ResourceClaim>| {
        let nodes = device::allocation(claim).and_then(|allocation| allocation.node_selector.as_ref());
        let only_ours = device::reserved_for(claim).iter().all(|consumer| *consumer.uid == *pod.uid);
        only_ours && nodes.is_some_and(|nodes| cluster.nodes().iter().any(|node| !selects(nodes, cluster.node(*node))))
    };
    let object = pod.pod();
    let names = device::pod_claims(&object).iter().filter_map(|entry| device::claim_name(&object, entry));
    names.filter_map(|name| cluster.devices.claim(&Key::new(&pod.namespace, name))).find(pins).cloned()
}

fn selects(nodes: &NodeSelector, node: &NodeInfo) -> bool {
    nodes.node_selector_terms.iter().any(|term| node::term_selects(term, node.name(), |key| node.label(key)))
}

impl Filter for DynamicResources {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if !self.available_on.iter().all(|nodes| selects(nodes, node)) {
            return Err("resourceclaim not available on the node".into());
        }
        match self.assign(node) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("cannot allocate all claims".into()),
            Err(why) => Err(Rejection { reasons: vec![Reason(why.into())] }),
        }
    }
}
