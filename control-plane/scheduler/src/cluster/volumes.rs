use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use xebec_client::{Change, Key};
use xebec_types::core::{PersistentVolume, PersistentVolumeClaim};
use xebec_types::storage::{CSINode, StorageClass};
use xebec_types::{annotation, object, volume};

use super::put;

/// Claims, volumes and classes, and what pods that are about to be bound have taken of them.
#[derive(Clone, Default)]
pub struct Volumes {
    claims: HashMap<Key, Arc<PersistentVolumeClaim>>,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    classes: HashMap<String, Arc<StorageClass>>,
    /// By node and driver: how many volumes may be attached.
    limits: HashMap<String, BTreeMap<String, usize>>,
    /// By the uid of the pod.
    assumed: BTreeMap<Arc<str>, Plan>,
}

/// What must be written, and come true, before a pod can be bound to a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub node: Arc<str>,
    /// Claims, and the volumes that were chosen for them.
    pub bindings: Vec<(Key, String)>,
    /// Claims whose volumes are to be made for the node.
    pub provisions: Vec<Key>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }

    pub fn claims(&self) -> impl Iterator<Item = &Key> {
        self.bindings.iter().map(|(claim, _)| claim).chain(&self.provisions)
    }
}

impl Volumes {
    pub fn learn_claim(&mut self, change: &Change<PersistentVolumeClaim>) {
        put(&mut self.claims, change.key(), change.new.clone());
    }

    pub fn learn_volume(&mut self, change: &Change<PersistentVolume>) {
        let name = change.key().name.to_string();
        match change.new.clone() {
            Some(volume) => self.volumes.insert(name, volume),
            None => self.volumes.remove(&name),
        };
    }

    pub fn learn_class(&mut self, change: &Change<StorageClass>) {
        put(&mut self.classes, change.key().name.to_string(), change.new.clone());
    }

    pub fn learn_csi_node(&mut self, change: &Change<CSINode>) {
        let limits = change.new.as_ref().map(|node| {
            let drivers = node.spec.drivers.iter();
            let limited = drivers.filter_map(|d| Some((d.name.clone(), d.allocatable.as_ref()?.count?)));
            limited.map(|(driver, count)| (driver, usize::try_from(count).unwrap_or(0))).collect()
        });
        put(&mut self.limits, change.key().name.to_string(), limits);
    }

    pub fn claim(&self, key: &Key) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.get(key)
    }

    pub fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.get(name)
    }

    pub fn class(&self, claim: &PersistentVolumeClaim) -> Option<&Arc<StorageClass>> {
        self.classes.get(volume::class(claim)?)
    }

    pub fn limit(&self, node: &str, driver: &str) -> Option<usize> {
        self.limits.get(node)?.get(driver).copied()
    }

    /// Volumes that no pod which is about to be bound has taken.
    pub fn free(&self) -> impl Iterator<Item = &Arc<PersistentVolume>> {
        let taken: Vec<&str> =
            self.assumed.values().flat_map(|plan| &plan.bindings).map(|(_, volume)| volume.as_str()).collect();
        self.volumes.values().filter(move |volume| !taken.contains(&object::name(&volume.metadata)))
    }

    /// The volume that somebody, or a pod that shares the claim, has meant for it.
    pub fn meant(&self, key: &Key, claim: &PersistentVolumeClaim) -> Option<&Arc<PersistentVolume>> {
        let assumed = self.assumed.values().flat_map(|plan| &plan.bindings).find(|(claim, _)| claim == key);
        match assumed {
            Some((_, name)) => self.volume(name),
            None => self.volumes.values().find(|v| volume::is_for(v, claim) && volume::suits(claim, v)),
        }
    }

    /// The node for which the claim's volume is to be made.
    pub fn selected_node<'a>(&'a self, key: &Key, claim: &'a PersistentVolumeClaim) -> Option<&'a str> {
        let assumed = self.assumed.values().find(|plan| plan.provisions.contains(key)).map(|plan| &*plan.node);
        assumed.or_else(|| object::annotation(&claim.metadata, annotation::SELECTED_NODE))
    }

    pub fn assume(&mut self, pod: Arc<str>, plan: Plan) {
        self.assumed.insert(pod, plan);
    }

    /// The pod is bound, or will not be. Whether it held anything.
    pub fn forget(&mut self, pod: &str) -> bool {
        self.assumed.remove(pod).is_some()
    }

    pub fn plan_of(&self, pod: &str) -> Option<&Plan> {
        self.assumed.get(pod)
    }
}
