use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use xebec_client::Key;
use xebec_types::core::{Node, Taint};
use xebec_types::resource;

use super::{DomainId, HostPort, PodInfo, Resources, TopologyId};

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeIndex(pub usize);

/// A node and the sum of the pods on it.
pub struct NodeInfo {
    name: Arc<str>,
    exists: bool,
    labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub pods_max: i64,
    /// What the pods request.
    pub requested: Resources,
    /// The same with a minimum per container, for scores.
    pub nonzero: Resources,
    pub pods: i64,
    ports: Vec<HostPort>,
    images: HashMap<String, i64>,
    domains: Vec<Option<DomainId>>,
    /// Claims of the pods, and how many use each.
    claims: HashMap<Key, u32>,
}

/// What an update of a node changed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Change {
    pub allocatable: bool,
    pub labels: bool,
    pub taints: bool,
}

impl Change {
    pub fn everything() -> Self {
        Self { allocatable: true, labels: true, taints: true }
    }

    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl NodeInfo {
    pub fn placeholder(name: Arc<str>) -> Self {
        Self {
            name,
            exists: false,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            allocatable: Resources::default(),
            pods_max: 0,
            requested: Resources::default(),
            nonzero: Resources::default(),
            pods: 0,
            ports: Vec::new(),
            images: HashMap::new(),
            domains: Vec::new(),
            claims: HashMap::new(),
        }
    }

    pub fn set(&mut self, node: &Node) -> Change {
        self.exists = true;
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let spec = node.spec.as_ref();
        let taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let resources = Resources::new(allocatable);
        let pods_max = allocatable.and_then(|list| list.get("pods")).and_then(resource::value).unwrap_or(0);
        let images = status.and_then(|status| status.images.as_ref()).into_iter().flatten();
        let named = images.flat_map(|image| {
            let size = image.size_bytes.unwrap_or(0);
            image.names.iter().flatten().map(move |name| (name.clone(), size))
        });
        self.images = named.collect();
        let change = Change {
            allocatable: resources != self.allocatable || pods_max != self.pods_max,
            labels: labels != self.labels,
            taints: taints != self.taints || unschedulable != self.unschedulable,
        };
        self.labels = labels;
        self.taints = taints;
        self.unschedulable = unschedulable;
        self.allocatable = resources;
        self.pods_max = pods_max;
        change
    }

    /// The node is gone; its pods may still be seen for a while.
    pub fn unset(&mut self) {
        self.exists = false;
        self.labels.clear();
        self.images.clear();
        self.domains.clear();
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn exists(&self) -> bool {
        self.exists
    }

    pub fn is_empty(&self) -> bool {
        self.pods == 0
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    pub fn images(&self) -> &HashMap<String, i64> {
        &self.images
    }

    pub fn domain(&self, topology: TopologyId) -> Option<DomainId> {
        self.domains.get(topology.0).copied().flatten()
    }

    pub fn set_domain(&mut self, topology: TopologyId, domain: Option<DomainId>) {
        if self.domains.len() <= topology.0 {
            self.domains.resize(topology.0 + 1, None);
        }
        self.domains[topology.0] = domain;
    }

    pub fn port_is_taken(&self, port: &HostPort) -> bool {
        self.ports.iter().any(|taken| taken.conflicts(port))
    }

    /// Claims that pods on the node use.
    pub fn claims(&self) -> impl Iterator<Item = &Key> {
        self.claims.keys()
    }

    /// How many pods on the node use the claim.
    pub fn users(&self, claim: &Key) -> u32 {
        self.claims.get(claim).copied().unwrap_or(0)
    }

    pub fn add_pod(&mut self, pod: &PodInfo) {
        self.pods += 1;
        self.requested.add(&pod.requests);
        self.nonzero.add(&pod.nonzero);
        self.ports.extend(pod.ports.iter().cloned());
        for used in &pod.claims {
            *self.claims.entry(used.key.clone()).or_default() += 1;
        }
    }

    pub fn remove_pod(&mut self, pod: &PodInfo) {
        self.pods -= 1;
        self.requested.subtract(&pod.requests);
        self.nonzero.subtract(&pod.nonzero);
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(at);
            }
        }
        for used in &pod.claims {
            if let Some(users) = self.claims.get_mut(&used.key) {
                *users -= 1;
                if *users == 0 {
                    self.claims.remove(&used.key);
                }
            }
        }
    }
}
