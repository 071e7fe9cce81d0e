//! The fewest writes that make a Service's slices tell the truth.

use crate::control;
use crate::endpointslice::endpoint;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use xebec_machinery::net::IpFamily;
use xebec_types::core::{Pod, Service, ServiceSpec};
use xebec_types::discovery::{Endpoint, EndpointPort, EndpointSlice};
use xebec_types::{ObjectMeta, label, object};

/// The value of `endpointslice.kubernetes.io/managed-by` on slices that are ours.
pub const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
/// Endpoints in one slice.
const MAX_ENDPOINTS: usize = 100;

#[derive(Default, Debug)]
pub struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// `pods` are those that the Service selects, `slices` those that we manage for it.
#[must_use]
pub fn step(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    zone: impl Fn(&str) -> Option<String>,
) -> Plan {
    let mut plan = Plan::default();
    let spec = service.spec.as_ref();
    let Some(spec) = spec.filter(|s| endpoint::has_endpoints(s)) else {
        plan.delete = slices.to_vec();
        return plan;
    };
    let labels = labels(service, spec);
    let families = endpoint::families(spec);
    let foreign = |s: &&Arc<EndpointSlice>| !families.iter().any(|f| f.as_str() == s.address_type);
    plan.delete.extend(slices.iter().filter(foreign).cloned());
    for family in families {
        let ours = slices.iter().filter(|s| s.address_type == family.as_str()).cloned().collect();
        let desired = desired(service, spec, pods, family, &zone);
        Reconcile { service, family, labels: &labels, plan: &mut plan }.run(desired, ours);
    }
    plan
}

/// What to write instead of a slice that the nodes have no room for, the most first: what it keeps of `known`, which is stored, and
/// some of what it adds, ready endpoints before others. The last only withdraws: it needs no more than `known`.
pub(crate) fn fewer(wanted: &EndpointSlice, known: Option<&EndpointSlice>) -> Vec<EndpointSlice> {
    let endpoints = wanted.endpoints.clone().unwrap_or_default();
    let stored: HashSet<String> =
        known.iter().flat_map(|slice| slice.endpoints.iter().flatten()).map(identity).collect();
    let (kept, mut added): (Vec<_>, Vec<_>) = endpoints.into_iter().partition(|e| stored.contains(&identity(e)));
    let is_ready = |e: &Endpoint| e.conditions.as_ref().is_none_or(|c| c.ready != Some(false));
    added.sort_by_key(|endpoint| !is_ready(endpoint));
    let halved = |count: &usize| (*count > 0).then_some(count / 2);
    std::iter::successors(halved(&added.len()), halved)
        .map(|count| EndpointSlice {
            endpoints: Some(kept.iter().chain(&added[..count]).cloned().collect()),
            ..wanted.clone()
        })
        .filter(|slice| known.map_or_else(|| slice.endpoints != Some(Vec::new()), |known| slice != known))
        .collect()
}

type Ports = Vec<EndpointPort>;

/// Endpoints by the ports that they serve: pods may resolve a named port differently.
fn desired(
    service: &Service,
    spec: &ServiceSpec,
    pods: &[Arc<Pod>],
    family: IpFamily,
    zone: &impl Fn(&str) -> Option<String>,
) -> Vec<(Ports, Vec<Endpoint>)> {
    let mut groups: Vec<(Ports, Vec<Endpoint>)> = Vec::new();
    for pod in pods {
        let zone = zone(xebec_types::pod::node_name(pod));
        let Some(endpoint) = endpoint::endpoint(service, spec, pod, family, zone) else { continue };
        let ports = endpoint::ports(spec, pod);
        // Without ports only a headless Service has endpoints: it is DNS alone.
        if ports.is_empty() && !endpoint::is_headless(spec) {
            continue;
        }
        match groups.iter_mut().find(|(p, _)| *p == ports) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => groups.push((ports, vec![endpoint])),
        }
    }
    groups
}

struct Reconcile<'a> {
    service: &'a Service,
    family: IpFamily,
    labels: &'a BTreeMap<String, String>,
    plan: &'a mut Plan,
}

impl Reconcile<'_> {
    fn run(&mut self, desired: Vec<(Ports, Vec<Endpoint>)>, mut slices: Vec<Arc<EndpointSlice>>) {
        let nothing = desired.is_empty();
        for (ports, endpoints) in desired {
            let same = |s: &Arc<EndpointSlice>| s.ports.as_deref().unwrap_or_default() == ports;
            let (ours, others) = slices.into_iter().partition(same);
            slices = others;
            self.group(&ports, endpoints, ours);
        }
        // A Service without endpoints keeps one empty slice, so that its consumers know that it has
        // none.
        if nothing {
            let placeholder = slices.iter().position(|s| s.ports.iter().flatten().next().is_none());
            match placeholder.or_else(|| (!slices.is_empty()).then_some(0)) {
                Some(at) => {
                    let kept = slices.remove(at);
                    self.put(&kept, Vec::new(), Vec::new());
                }
                None => {
                    let empty = self.slice(&[], Vec::new());
                    self.plan.create.push(empty);
                }
            }
        }
        self.plan.delete.extend(slices);
    }

    /// Slices of one set of ports: endpoints stay where they are, new ones fill slices that change
    /// anyway, then the others, then new slices.
    fn group(&mut self, ports: &Ports, endpoints: Vec<Endpoint>, slices: Vec<Arc<EndpointSlice>>) {
        let mut wanted: HashMap<String, Endpoint> = endpoints.into_iter().map(|e| (identity(&e), e)).collect();
        let mut kept: Vec<(Arc<EndpointSlice>, Vec<Endpoint>, bool)> = Vec::new();
        for slice in slices {
            let known = slice.endpoints.as_deref().unwrap_or_default();
            let still: Vec<Endpoint> = known.iter().filter_map(|e| wanted.remove(&identity(e))).collect();
            let changed = still != known;
            kept.push((slice, still, changed));
        }
        let mut new: Vec<Endpoint> = wanted.into_values().collect();
        new.sort_by(|a, b| a.addresses.cmp(&b.addresses));
        for changed in [true, false] {
            for (_, endpoints, _) in kept.iter_mut().filter(|(_, _, c)| *c == changed) {
                let room = MAX_ENDPOINTS.saturating_sub(endpoints.len());
                endpoints.extend(new.drain(..room.min(new.len())));
            }
        }
        for (slice, endpoints, _) in kept {
            if endpoints.is_empty() {
                self.plan.delete.push(slice);
            } else {
                self.put(&slice, endpoints, ports.clone());
            }
        }
        for chunk in new.chunks(MAX_ENDPOINTS) {
            let slice = self.slice(ports, chunk.to_vec());
            self.plan.create.push(slice);
        }
    }

    fn put(&mut self, known: &Arc<EndpointSlice>, endpoints: Vec<Endpoint>, ports: Ports) {
        let mut slice = EndpointSlice::clone(known);
        slice.endpoints = Some(endpoints).filter(|e| !e.is_empty() || known.endpoints.is_some());
        slice.ports = Some(ports).filter(|p| !p.is_empty() || known.ports.is_some());
        slice.metadata.labels = Some(self.labels.clone());
        if slice != **known {
            self.plan.update.push(slice);
        }
    }

    fn slice(&self, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> EndpointSlice {
        let name = object::name(&self.service.metadata);
        EndpointSlice {
            metadata: ObjectMeta {
                generate_name: Some(format!("{name}-")),
                namespace: self.service.metadata.namespace.clone(),
                labels: Some(self.labels.clone()),
                owner_references: Some(vec![control::controller_ref(self.service)]),
                ..ObjectMeta::default()
            },
            address_type: self.family.as_str().into(),
            endpoints: Some(endpoints),
            ports: Some(ports.to_vec()),
        }
    }
}

fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|t| t.uid.as_deref()).unwrap_or_default();
    format!("{uid} {}", endpoint.addresses.join(","))
}

/// The Service's labels, except those that mark slices themselves.
fn labels(service: &Service, spec: &ServiceSpec) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(label::SERVICE_NAME.into(), object::name(&service.metadata).into());
    labels.insert(label::ENDPOINTSLICE_MANAGED_BY.into(), MANAGED_BY.into());
    labels.remove(label::HEADLESS_SERVICE);
    if endpoint::is_headless(spec) {
        labels.insert(label::HEADLESS_SERVICE.into(), String::new());
    }
    labels
}

#[cfg(test)]
mod tests;
