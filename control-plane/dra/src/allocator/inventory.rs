//! The devices of the cluster, by pools: `GatherPools`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use xebec_machinery::Quantity;
use xebec_types::core::NodeSelector;
use xebec_types::device::{self, Counter, DeviceRequestAllocationResult, ResourceSlice};
use xebec_types::node;

use super::Node;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceId {
    pub driver: String,
    pub pool: String,
    pub device: String,
}

impl DeviceId {
    pub fn of(result: &DeviceRequestAllocationResult) -> Self {
        let DeviceRequestAllocationResult { driver, pool, device, .. } = result;
        Self { driver: driver.clone(), pool: pool.clone(), device: device.clone() }
    }
}

/// A device's place in an inventory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Index(usize);

/// Every device of complete pools, in the order of pools and slices.
#[derive(Default)]
pub struct Inventory {
    pub pools: Vec<Pool>,
    devices: Vec<Device>,
    by_id: HashMap<DeviceId, Index>,
    /// Devices of one node only, and those that others may have too.
    by_node: HashMap<String, Vec<Index>>,
    shared: Vec<Index>,
}

pub struct Pool {
    pub name: String,
    /// Slices of the newest generation are missing, or name a device twice: nothing is taken from it.
    pub unusable: bool,
    /// Places of its slices.
    places: Vec<Place>,
    /// What its devices share, by set and counter.
    pub counters: HashMap<(String, String), Quantity>,
}

pub struct Device {
    pub id: DeviceId,
    pub pool: usize,
    pub device: device::Device,
    pub place: Place,
}

/// Where a device can be used.
#[derive(Clone)]
pub enum Place {
    Everywhere,
    Node(String),
    Nodes(NodeSelector),
}

impl Place {
    fn of(node: Option<&String>, nodes: Option<&NodeSelector>) -> Self {
        match (node, nodes) {
            (Some(node), _) => Self::Node(node.clone()),
            (None, Some(nodes)) => Self::Nodes(nodes.clone()),
            (None, None) => Self::Everywhere,
        }
    }

    pub fn has(&self, wanted: &Node<'_>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Node(name) => name == wanted.name,
            Self::Nodes(nodes) => selects(nodes, wanted),
        }
    }
}

/// Whether a selector of nodes has this one.
pub fn selects(nodes: &NodeSelector, wanted: &Node<'_>) -> bool {
    nodes.node_selector_terms.iter().any(|term| node::term_selects(term, wanted.name, wanted.label))
}

impl Inventory {
    /// Slices of older generations of their pool are left out.
    pub fn new<'a>(slices: impl Iterator<Item = &'a Arc<ResourceSlice>>) -> Self {
        let mut pools: BTreeMap<(&str, &str), Vec<&ResourceSlice>> = BTreeMap::new();
        for slice in slices {
            pools.entry((&slice.spec.driver, &slice.spec.pool.name)).or_default().push(slice);
        }
        let mut inventory = Self::default();
        for slices in pools.into_values() {
            inventory.add(slices);
        }
        inventory
    }

    fn add(&mut self, mut slices: Vec<&ResourceSlice>) {
        let newest = slices.iter().map(|slice| slice.spec.pool.generation).max().unwrap_or(0);
        slices.retain(|slice| slice.spec.pool.generation == newest);
        let Some(first) = slices.first() else { return };
        let wanted = first.spec.pool.resource_slice_count;
        let mut names = HashSet::new();
        let devices = || slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
        let unusable = usize::try_from(wanted) != Ok(slices.len()) || !devices().all(|d| names.insert(d.name.as_str()));
        let sets = slices.iter().flat_map(|slice| slice.spec.shared_counters.iter().flatten());
        let counters = sets.flat_map(|set| amounts(&set.name, &set.counters)).collect();
        let mut pool = Pool {
            name: format!("{}/{}", first.spec.driver, first.spec.pool.name),
            unusable,
            places: Vec::new(),
            counters,
        };
        for slice in &slices {
            let spec = &slice.spec;
            let of_slice = Place::of(spec.node_name.as_ref(), spec.node_selector.as_ref());
            for device in spec.devices.iter().flatten() {
                let place = match spec.per_device_node_selection {
                    Some(true) => Place::of(device.node_name.as_ref(), device.node_selector.as_ref()),
                    _ => of_slice.clone(),
                };
                if unusable {
                    pool.places.push(place);
                } else {
                    self.put(spec, device.clone(), place);
                }
            }
        }
        self.pools.push(pool);
    }

    fn put(&mut self, spec: &device::ResourceSliceSpec, device: device::Device, place: Place) {
        let id = DeviceId { driver: spec.driver.clone(), pool: spec.pool.name.clone(), device: device.name.clone() };
        let index = Index(self.devices.len());
        match &place {
            Place::Node(node) => self.by_node.entry(node.clone()).or_default().push(index),
            _ => self.shared.push(index),
        }
        self.by_id.insert(id.clone(), index);
        self.devices.push(Device { id, pool: self.pools.len(), device, place });
    }

    pub fn device(&self, index: Index) -> &Device {
        &self.devices[index.0]
    }

    pub fn find(&self, id: &DeviceId) -> Option<&Device> {
        self.by_id.get(id).map(|index| self.device(*index))
    }

    /// Devices that the node can use, in their order.
    pub fn on(&self, node: &Node<'_>) -> Vec<Index> {
        let own = self.by_node.get(node.name).into_iter().flatten();
        let shared = self.shared.iter().filter(|index| self.device(**index).place.has(node));
        let mut all: Vec<Index> = own.chain(shared).copied().collect();
        all.sort_unstable();
        all
    }

    /// A pool that has devices for the node and is not known as a whole.
    pub fn unusable_on(&self, node: &Node<'_>) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.unusable && pool.places.iter().any(|place| place.has(node)))
    }
}

/// What a device takes of its pool's counters.
pub fn consumed(device: &device::Device) -> impl Iterator<Item = ((String, String), Quantity)> {
    let sets = device.consumes_counters.iter().flatten();
    sets.flat_map(|set| amounts(&set.counter_set, &set.counters))
}

fn amounts(set: &str, counters: &BTreeMap<String, Counter>) -> impl Iterator<Item = ((String, String), Quantity)> {
    let amount = move |(name, counter): (&String, &Counter)| {
        Some(((set.to_owned(), name.clone()), counter.value.0.parse::<Quantity>().ok()?))
    };
    counters.iter().filter_map(amount)
}
