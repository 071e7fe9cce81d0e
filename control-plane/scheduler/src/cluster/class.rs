use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{NodeIndex, PodInfo};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClassId(usize);

/// Pods on nodes that no selector and no rule of their own tells apart: same namespace, labels and pod affinity.
pub struct Class {
    /// Any of them.
    pub sample: Arc<PodInfo>,
    /// How many there are, by node.
    pub nodes: HashMap<NodeIndex, u32>,
}

#[derive(Default)]
pub struct Classes {
    classes: Vec<Option<Class>>,
    free: Vec<ClassId>,
    by_key: HashMap<Arc<str>, ClassId>,
    by_namespace: HashMap<String, Vec<ClassId>>,
    /// Classes whose pods have pod (anti-)affinity.
    with_affinity: Vec<ClassId>,
}

impl Classes {
    pub fn add(&mut self, pod: &Arc<PodInfo>, node: NodeIndex) -> ClassId {
        let id = match self.by_key.get(&pod.class_key) {
            Some(id) => *id,
            None => self.insert(pod),
        };
        if let Some(class) = &mut self.classes[id.0] {
            *class.nodes.entry(node).or_default() += 1;
        }
        id
    }

    pub fn remove(&mut self, id: ClassId, node: NodeIndex) {
        let Some(class) = &mut self.classes[id.0] else { return };
        if let Some(count) = class.nodes.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                class.nodes.remove(&node);
            }
        }
        if !class.nodes.is_empty() {
            return;
        }
        let Some(class) = self.classes[id.0].take() else { return };
        self.by_key.remove(&class.sample.class_key);
        if let Some(ids) = self.by_namespace.get_mut(&class.sample.namespace) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_namespace.remove(&class.sample.namespace);
            }
        }
        self.with_affinity.retain(|other| *other != id);
        self.free.push(id);
    }

    pub fn in_namespace<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a Class> + use<'a> {
        self.by_namespace.get(namespace).into_iter().flatten().filter_map(|id| self.classes[id.0].as_ref())
    }

    pub fn all(&self) -> impl Iterator<Item = &Class> {
        self.classes.iter().flatten()
    }

    pub fn with_affinity(&self) -> impl Iterator<Item = &Class> {
        self.with_affinity.iter().filter_map(|id| self.classes[id.0].as_ref())
    }

    fn insert(&mut self, pod: &Arc<PodInfo>) -> ClassId {
        let id = self.free.pop().unwrap_or(ClassId(self.classes.len()));
        let class = Class { sample: pod.clone(), nodes: HashMap::new() };
        if id.0 == self.classes.len() {
            self.classes.push(Some(class));
        } else {
            self.classes[id.0] = Some(class);
        }
        self.by_key.insert(pod.class_key.clone(), id);
        self.by_namespace.entry(pod.namespace.clone()).or_default().push(id);
        if pod.has_pod_affinity() {
            self.with_affinity.push(id);
        }
        id
    }
}

impl Class {
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.sample.labels
    }

    pub fn namespace(&self) -> &str {
        &self.sample.namespace
    }
}
