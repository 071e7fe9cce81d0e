//! The labels by which services and controllers select a pod: pods that share them are spread by default.

use std::collections::BTreeMap;
use std::sync::Arc;

use xebec_client::{Informer, Informers};
use xebec_types::apps::{ReplicaSet, StatefulSet};
use xebec_types::core::Service;
use xebec_types::{LabelSelector, object};

use crate::cluster::PodInfo;

pub struct Workloads {
    services: Arc<Informer<Service>>,
    replica_sets: Arc<Informer<ReplicaSet>>,
    stateful_sets: Arc<Informer<StatefulSet>>,
}

impl Workloads {
    pub fn new(informers: &Informers) -> Self {
        Self { services: informers.informer(), replica_sets: informers.informer(), stateful_sets: informers.informer() }
    }

    /// Upstream's `helper.DefaultSelector`: what all services that select the pod and its controller ask for.
    pub fn default_selector(&self, pod: &PodInfo) -> Option<BTreeMap<String, String>> {
        let mut selector = BTreeMap::new();
        for service in self.services.read().namespace(&pod.namespace) {
            if let Some(labels) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref())
                && object::map_selects(labels, Some(&pod.labels))
            {
                selector.extend(labels.clone());
            }
        }
        if let Some(labels) = self.controller(pod).and_then(|selector| selector.match_labels) {
            selector.extend(labels);
        }
        (!selector.is_empty()).then_some(selector)
    }

    fn controller(&self, pod: &PodInfo) -> Option<LabelSelector> {
        let object = pod.pod();
        let owner = object::controller_of(&object.metadata)?;
        match owner.kind.as_str() {
            "ReplicaSet" => {
                let owner = self.replica_sets.get(&pod.namespace, &owner.name)?;
                owner.spec.as_ref().map(|spec| spec.selector.clone())
            }
            "StatefulSet" => {
                let owner = self.stateful_sets.get(&pod.namespace, &owner.name)?;
                owner.spec.as_ref().map(|spec| spec.selector.clone())
            }
            _ => None,
        }
    }
}
