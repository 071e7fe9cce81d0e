use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use xebec_client::Key;
use xebec_types::core::{
    Container, NodeAffinity, Pod, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint,
    WeightedPodAffinityTerm,
};
use xebec_types::{LabelSelector, LabelSelectorRequirement, object};

use super::Resources;

/// Requests that scores assume for a container without any, as upstream's `DefaultMilliCPURequest` and `DefaultMemoryRequest`.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

/// A pod as exact types: what a decision needs of it, computed once.
pub struct PodInfo {
    /// As it was last seen, so that no older one is held.
    pod: Mutex<Arc<Pod>>,
    pub uid: Arc<str>,
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub priority: i32,
    /// `preemptionPolicy: Never`
    pub never_preempts: bool,
    pub terminating: bool,
    pub requests: Resources,
    /// With a minimum per container, for scores.
    pub nonzero: Resources,
    pub ports: Vec<HostPort>,
    pub images: Vec<String>,
    pub tolerations: Vec<Toleration>,
    pub node_selector: BTreeMap<String, String>,
    pub node_affinity: Option<NodeAffinity>,
    pub affinity: Vec<PodTerm>,
    pub anti_affinity: Vec<PodTerm>,
    pub preferred_affinity: Vec<WeightedTerm>,
    pub preferred_anti_affinity: Vec<WeightedTerm>,
    pub spread: Vec<SpreadConstraint>,
    pub claims: Vec<UsedClaim>,
    /// Equal for pods of one class.
    pub class_key: Arc<str>,
}

/// A PersistentVolumeClaim that the pod mounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsedClaim {
    pub key: Key,
    /// It is made for this pod, from a template in it.
    pub ephemeral: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

/// A term of pod affinity or anti-affinity.
pub struct PodTerm {
    pub topology_key: String,
    selector: Option<LabelSelector>,
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
}

pub struct WeightedTerm {
    pub weight: i64,
    pub term: PodTerm,
}

pub struct SpreadConstraint {
    pub topology_key: String,
    pub max_skew: i64,
    pub min_domains: i64,
    pub hard: bool,
    pub selector: Option<LabelSelector>,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

impl PodInfo {
    pub fn new(pod: &Arc<Pod>) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let namespace = object::namespace(&pod.metadata).to_owned();
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let affinity = spec.affinity.as_ref();
        let pod_affinity = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let anti = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let terms = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<PodTerm> {
            terms.into_iter().flatten().map(|term| PodTerm::new(term, &namespace, &labels)).collect()
        };
        let weighted = |terms: Option<&Vec<WeightedPodAffinityTerm>>| -> Vec<WeightedTerm> {
            let terms = terms.into_iter().flatten();
            let compile = |term: &WeightedPodAffinityTerm| WeightedTerm {
                weight: term.weight.into(),
                term: PodTerm::new(&term.pod_affinity_term, &namespace, &labels),
            };
            terms.map(compile).collect()
        };
        let terminating = object::is_being_deleted(&pod.metadata);
        let class_key = json!([namespace, labels, pod_affinity, anti, terminating]).to_string();
        Self {
            uid: object::uid(&pod.metadata).into(),
            name: object::name(&pod.metadata).to_owned(),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            terminating,
            requests: requests(pod),
            nonzero: needs(pod, with_minimum),
            ports: host_ports(spec),
            images: spec.containers.iter().filter_map(|container| container.image.clone()).collect(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            node_affinity: affinity.and_then(|affinity| affinity.node_affinity.clone()),
            affinity: terms(pod_affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
            anti_affinity: terms(anti.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
            preferred_affinity: weighted(
                pod_affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_anti_affinity: weighted(
                anti.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            spread: spec
                .topology_spread_constraints
                .iter()
                .flatten()
                .map(|constraint| SpreadConstraint::new(constraint, &labels))
                .collect(),
            claims: claims(spec, &namespace, object::name(&pod.metadata)),
            class_key: class_key.into(),
            pod: Mutex::new(pod.clone()),
            namespace,
            labels,
        }
    }

    pub fn pod(&self) -> Arc<Pod> {
        self.pod.lock().clone()
    }

    /// The pod has changed in nothing that placement looks at.
    pub fn renew(&self, pod: &Arc<Pod>) {
        *self.pod.lock() = pod.clone();
    }

    pub fn has_pod_affinity(&self) -> bool {
        !(self.affinity.is_empty()
            && self.anti_affinity.is_empty()
            && self.preferred_affinity.is_empty()
            && self.preferred_anti_affinity.is_empty())
    }

    /// `namespace/name`
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl PodTerm {
    fn new(term: &PodAffinityTerm, namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        // The pod's own namespace counts only if neither names nor a selector are given.
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        let mut selector = term.label_selector.clone();
        if let Some(selector) = &mut selector {
            require(selector, "In", term.match_label_keys.as_deref(), labels);
            require(selector, "NotIn", term.mismatch_label_keys.as_deref(), labels);
        }
        Self {
            topology_key: term.topology_key.clone(),
            selector,
            namespaces,
            namespace_selector: term.namespace_selector.clone(),
        }
    }

    /// Whether the term is about pods with these labels in this namespace.
    pub fn matches(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        namespaces: &HashMap<String, BTreeMap<String, String>>,
    ) -> bool {
        let in_scope = self.namespaces.iter().any(|named| named == namespace)
            || self
                .namespace_selector
                .as_ref()
                .is_some_and(|selector| object::selects(selector, namespaces.get(namespace)));
        // No selector matches no pod.
        in_scope && self.selector.as_ref().is_some_and(|selector| object::selects(selector, Some(labels)))
    }

    /// The only namespace that the term can be about, if there is just one.
    pub fn only_namespace(&self) -> Option<&str> {
        match (&self.namespaces[..], &self.namespace_selector) {
            ([namespace], None) => Some(namespace),
            _ => None,
        }
    }
}

impl SpreadConstraint {
    fn new(constraint: &TopologySpreadConstraint, labels: &BTreeMap<String, String>) -> Self {
        let mut selector = constraint.label_selector.clone();
        if let Some(selector) = &mut selector {
            require(selector, "In", constraint.match_label_keys.as_deref(), labels);
        }
        Self {
            topology_key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew.into(),
            min_domains: constraint.min_domains.unwrap_or(1).into(),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            selector,
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.as_ref().is_some_and(|selector| object::selects(selector, Some(labels)))
    }
}

impl HostPort {
    pub fn conflicts(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ANY || other.ip == ANY)
    }
}

/// `matchLabelKeys`: the pod's own values of these labels become requirements.
fn require(selector: &mut LabelSelector, operator: &str, keys: Option<&[String]>, labels: &BTreeMap<String, String>) {
    for key in keys.unwrap_or_default() {
        if let Some(value) = labels.get(key) {
            selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.to_owned(),
                values: Some(vec![value.clone()]),
            });
        }
    }
}

/// What the pod needs at once: all containers and sidecars, or an init container beside the sidecars started before it.
/// Requests of the pod as a whole take the place of the sum (`PodLevelResources`).
pub fn requests(pod: &Pod) -> Resources {
    needs(pod, Resources::clone)
}

fn needs(pod: &Pod, of_container: impl Fn(&Resources) -> Resources) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let of = |container: &Container| of_container(&held(pod, container));
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let (mut sidecars, mut starting) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let needs = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&needs);
            starting.max(&sidecars);
        } else {
            let mut beside = sidecars.clone();
            beside.add(&needs);
            starting.max(&beside);
        }
    }
    running.add(&sidecars);
    running.max(&starting);
    if let Some(whole) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        let resources = Resources::new(Some(whole));
        if whole.contains_key("cpu") {
            running.milli_cpu = resources.milli_cpu;
        }
        if whole.contains_key("memory") {
            running.memory = resources.memory;
        }
    }
    running.add(&Resources::new(spec.overhead.as_ref()));
    running
}

/// What a container holds of its node: until a resize is done, the most of what it asks for, was granted and has (KEP-1287,
/// as `determineContainerReqs` in k8s.io/component-helpers).
fn held(pod: &Pod, container: &Container) -> Resources {
    let asked = || Resources::new(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses));
    let status = statuses.flatten().find(|status| status.name == container.name);
    let Some((status, has)) = status.and_then(|status| Some((status, status.resources.as_ref()?))) else {
        return asked();
    };
    let mut held = if resize_is_infeasible(pod) { Resources::default() } else { asked() };
    held.max(&Resources::new(has.requests.as_ref()));
    held.max(&Resources::new(status.allocated_resources.as_ref()));
    held
}

/// Whether the node can never give what the spec asks for.
fn resize_is_infeasible(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut pending = conditions.filter(|condition| condition.type_ == "PodResizePending");
    pending.any(|condition| condition.reason.as_deref() == Some("Infeasible"))
}

fn with_minimum(requests: &Resources) -> Resources {
    let mut resources = requests.clone();
    if resources.milli_cpu == 0 {
        resources.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if resources.memory == 0 {
        resources.memory = DEFAULT_MEMORY;
    }
    resources
}

fn claims(spec: &PodSpec, namespace: &str, pod: &str) -> Vec<UsedClaim> {
    let used = spec.volumes.iter().flatten().filter_map(|volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(UsedClaim { key: Key::new(namespace, &claim.claim_name), ephemeral: false });
        }
        volume.ephemeral.as_ref()?;
        Some(UsedClaim { key: Key::new(namespace, &format!("{pod}-{}", volume.name)), ephemeral: true })
    });
    let mut claims: Vec<UsedClaim> = Vec::new();
    for claim in used {
        if !claims.contains(&claim) {
            claims.push(claim);
        }
    }
    claims
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        Some(HostPort {
            ip: port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned()),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: number,
        })
    });
    taken.collect()
}
