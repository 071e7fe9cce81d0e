use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use xebec_client::{Change, Key};
use xebec_dra::allocator::{DeviceId, Inventory};
use xebec_types::ObjectMeta;
use xebec_types::device::{self, AllocationResult, DeviceClass, ResourceClaim, ResourceSlice};

use super::put;

/// Claims of devices, their classes, the devices, and what pods that are about to be bound have taken of them.
#[derive(Clone, Default)]
pub struct Devices {
    claims: HashMap<Key, Arc<ResourceClaim>>,
    classes: HashMap<String, Arc<DeviceClass>>,
    slices: BTreeMap<String, Arc<ResourceSlice>>,
    /// Made of the slices when a pod first asks for devices, and again after they changed.
    inventory: OnceLock<Arc<Inventory>>,
    /// By the uid of the pod.
    assumed: BTreeMap<Arc<str>, Assignment>,
}

/// What the claims of a pod get on a node, and must be told before the pod can be bound to it.
#[derive(Clone, PartialEq, Debug)]
pub struct Assignment {
    pub node: Arc<str>,
    pub claims: Vec<Assigned>,
}

/// A claim that is not reserved for its pod yet.
#[derive(Clone, PartialEq, Debug)]
pub struct Assigned {
    pub claim: Arc<ResourceClaim>,
    /// None if it is allocated.
    pub allocation: Option<AllocationResult>,
}

impl Devices {
    pub fn learn_claim(&mut self, change: &Change<ResourceClaim>) {
        // What was written here is known before the watch shows it.
        if let Some(new) = change.new.as_ref()
            && self.claims.get(&change.key()).is_some_and(|known| version(&known.metadata) > version(&new.metadata))
        {
            return;
        }
        put(&mut self.claims, change.key(), change.new.clone());
    }

    pub fn learn_class(&mut self, change: &Change<DeviceClass>) {
        put(&mut self.classes, change.key().name.to_string(), change.new.clone());
    }

    pub fn learn_slice(&mut self, change: &Change<ResourceSlice>) {
        let name = change.key().name.to_string();
        match change.new.clone() {
            Some(slice) => self.slices.insert(name, slice),
            None => self.slices.remove(&name),
        };
        self.inventory = OnceLock::new();
    }

    pub fn claim(&self, key: &Key) -> Option<&Arc<ResourceClaim>> {
        self.claims.get(key)
    }

    pub fn class(&self, name: &str) -> Option<&Arc<DeviceClass>> {
        self.classes.get(name)
    }

    pub fn inventory(&self) -> &Arc<Inventory> {
        self.inventory.get_or_init(|| Arc::new(Inventory::new(self.slices.values())))
    }

    /// Devices that claims have, or will have in a moment. Who only looks on takes none.
    pub fn taken(&self) -> HashSet<DeviceId> {
        let known = self.claims.values().flat_map(|claim| device::results(claim));
        let assigned = self.assumed.values().flat_map(|assignment| &assignment.claims);
        let assumed = assigned.filter_map(|assigned| assigned.allocation.as_ref()?.devices.as_ref()?.results.as_ref());
        let results = known.chain(assumed.flatten()).filter(|result| result.admin_access != Some(true));
        results.map(DeviceId::of).collect()
    }

    /// Whether devices are being written into the claim.
    pub fn is_being_allocated(&self, claim: &ResourceClaim) -> bool {
        let of =
            |assigned: &Assigned| assigned.allocation.is_some() && assigned.claim.metadata.uid == claim.metadata.uid;
        device::allocation(claim).is_none() && self.assumed.values().flat_map(|a| &a.claims).any(of)
    }

    pub fn assume(&mut self, pod: Arc<str>, assignment: Assignment) {
        self.assumed.insert(pod, assignment);
    }

    /// The pod's claims are written, or will not be. Whether it held anything.
    pub fn forget(&mut self, pod: &str) -> bool {
        self.assumed.remove(pod).is_some()
    }

    pub fn assignment_of(&self, pod: &str) -> Option<&Assignment> {
        self.assumed.get(pod)
    }
}

fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
