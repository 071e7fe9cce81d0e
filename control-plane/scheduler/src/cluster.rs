//! The cluster as the scheduler sees it: nodes, the pods on them, and what placements look up.
//!
//! One task owns it and applies every change before the next decision, so decisions need no snapshot and no lock.
//! Strings that decisions compare are interned: a topology domain is a number per node, and pods that no selector can tell
//! apart share a class, so that affinity and spreading count classes instead of pods.

mod class;
mod devices;
mod node;
mod pod;
mod resources;
#[cfg(test)]
pub mod tests;
mod volumes;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use xebec_types::core::{Node, Pod};
use xebec_types::object;

pub use class::{Class, ClassId, Classes};
pub use devices::{Assigned, Assignment, Devices};
pub use node::{Change as NodeChange, NodeIndex, NodeInfo};
pub use pod::{HostPort, PodInfo, PodTerm, SpreadConstraint, UsedClaim, WeightedTerm, requests};
pub use resources::Resources;
pub use volumes::{Plan, Volumes};

/// An interned topology key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TopologyId(pub usize);

/// An interned value of a topology key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DomainId(pub u32);

#[derive(Default)]
pub struct Cluster {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<Arc<str>, NodeIndex>,
    free: Vec<NodeIndex>,
    /// Nodes that exist, in the order in which they are tried.
    order: Vec<NodeIndex>,
    pods: HashMap<Arc<str>, Placed>,
    pub classes: Classes,
    topologies: Vec<Topology>,
    /// Labels of namespaces.
    pub namespaces: HashMap<String, BTreeMap<String, String>>,
    /// How many nodes have an image.
    images: HashMap<String, u32>,
    /// Shared, so that a decision can look volumes up node by node. No decision outlives a change.
    pub volumes: Arc<Volumes>,
    /// As `volumes`.
    pub devices: Arc<Devices>,
}

struct Placed {
    info: Arc<PodInfo>,
    node: NodeIndex,
    class: ClassId,
    assumed: bool,
}

#[derive(Default)]
struct Topology {
    key: String,
    domains: HashMap<String, DomainId>,
}

impl Cluster {
    /// Nodes that exist.
    pub fn nodes(&self) -> &[NodeIndex] {
        &self.order
    }

    pub fn node(&self, index: NodeIndex) -> &NodeInfo {
        &self.nodes[index.0]
    }

    pub fn find_node(&self, name: &str) -> Option<NodeIndex> {
        self.by_name.get(name).copied().filter(|index| self.node(*index).exists())
    }

    /// Adds or updates a node and tells what changed that may let a pod fit.
    pub fn put_node(&mut self, node: &Node) -> NodeChange {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let index = self.node_or_placeholder(name);
        let was_there = self.nodes[index.0].exists();
        self.count_images(index, false);
        let change = self.nodes[index.0].set(node);
        self.count_images(index, true);
        for topology in 0..self.topologies.len() {
            self.place_in_topology(index, TopologyId(topology));
        }
        if was_there {
            return change;
        }
        self.order.push(index);
        NodeChange::everything()
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(&index) = self.by_name.get(name) else { return };
        self.count_images(index, false);
        self.order.retain(|other| *other != index);
        self.nodes[index.0].unset();
        self.drop_empty_placeholder(index);
    }

    /// Whether the pod is on a node, or assumed to be.
    pub fn contains_pod(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|placed| placed.assumed)
    }

    /// Puts a pod on a node that it has been bound to (`assumed`: that it is about to be).
    pub fn put_pod(&mut self, info: Arc<PodInfo>, node: &str, assumed: bool) {
        self.remove_pod(&info.uid);
        let index = self.node_or_placeholder(node);
        let class = self.classes.add(&info, index);
        self.nodes[index.0].add_pod(&info);
        self.pods.insert(info.uid.clone(), Placed { info, node: index, class, assumed });
    }

    /// A pod that placement need not look at again has changed.
    pub fn renew_pod(&mut self, pod: &Arc<Pod>) {
        if let Some(placed) = self.pods.get(object::uid(&pod.metadata)) {
            placed.info.renew(pod);
        }
    }

    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let Placed { info, node, class, .. } = self.pods.remove(uid)?;
        self.classes.remove(class, node);
        self.nodes[node.0].remove_pod(&info);
        self.drop_empty_placeholder(node);
        Some(info)
    }

    /// The pods of less than a priority, by their node.
    pub fn below(&self, priority: i32) -> HashMap<NodeIndex, Vec<Arc<PodInfo>>> {
        let mut below: HashMap<NodeIndex, Vec<Arc<PodInfo>>> = HashMap::new();
        for placed in self.pods.values().filter(|placed| placed.info.priority < priority) {
            below.entry(placed.node).or_default().push(placed.info.clone());
        }
        below
    }

    /// Learns of volumes.
    pub fn volumes_mut(&mut self) -> &mut Volumes {
        Arc::make_mut(&mut self.volumes)
    }

    /// Learns of devices.
    pub fn devices_mut(&mut self) -> &mut Devices {
        Arc::make_mut(&mut self.devices)
    }

    pub fn compile(pod: &Arc<Pod>) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(pod))
    }

    /// The number by which nodes know a topology key.
    pub fn topology(&mut self, key: &str) -> TopologyId {
        if let Some(known) = self.find_topology(key) {
            return known;
        }
        let id = TopologyId(self.topologies.len());
        self.topologies.push(Topology { key: key.to_owned(), domains: HashMap::new() });
        for index in 0..self.nodes.len() {
            self.place_in_topology(NodeIndex(index), id);
        }
        id
    }

    pub fn find_topology(&self, key: &str) -> Option<TopologyId> {
        self.topologies.iter().position(|topology| topology.key == key).map(TopologyId)
    }

    /// One more than the greatest number of a domain.
    pub fn domains(&self, topology: TopologyId) -> usize {
        self.topologies[topology.0].domains.len()
    }

    /// How many nodes have the image.
    pub fn nodes_with_image(&self, image: &str) -> u32 {
        self.images.get(image).copied().unwrap_or(0)
    }

    pub fn has_images(&self) -> bool {
        !self.images.is_empty()
    }

    fn place_in_topology(&mut self, index: NodeIndex, id: TopologyId) {
        let (topology, node) = (&mut self.topologies[id.0], &mut self.nodes[index.0]);
        let domain = node.label(&topology.key).map(|value| match topology.domains.get(value) {
            Some(domain) => *domain,
            None => {
                let domain = DomainId(topology.domains.len() as u32);
                topology.domains.insert(value.to_owned(), domain);
                domain
            }
        });
        node.set_domain(id, domain);
    }

    fn count_images(&mut self, index: NodeIndex, present: bool) {
        for image in self.nodes[index.0].images().keys() {
            if present {
                *self.images.entry(image.clone()).or_default() += 1;
            } else if let Some(count) = self.images.get_mut(image) {
                *count -= 1;
                if *count == 0 {
                    self.images.remove(image);
                }
            }
        }
    }

    /// Pods may be seen before their node: they wait in a placeholder.
    fn node_or_placeholder(&mut self, name: &str) -> NodeIndex {
        if let Some(&index) = self.by_name.get(name) {
            return index;
        }
        let name: Arc<str> = name.into();
        let index = self.free.pop().unwrap_or(NodeIndex(self.nodes.len()));
        let node = NodeInfo::placeholder(name.clone());
        if index.0 == self.nodes.len() {
            self.nodes.push(node);
        } else {
            self.nodes[index.0] = node;
        }
        self.by_name.insert(name, index);
        index
    }

    fn drop_empty_placeholder(&mut self, index: NodeIndex) {
        let node = &self.nodes[index.0];
        if !node.exists() && node.is_empty() {
            self.by_name.remove(node.name());
            self.free.push(index);
        }
    }
}

fn put<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
