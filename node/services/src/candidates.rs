//! Which endpoints of a Service's port are its backends: upstream's CategorizeEndpoints (pkg/proxy/topology.go).

use std::collections::BTreeMap;
use std::net::IpAddr;

use xebec_types::core::{ServicePort as PortSpec, ServiceSpec};
use xebec_types::discovery::{Endpoint, EndpointSlice};

use crate::algorithm::weight;
use crate::{Backend, Node, Protocol, TrafficPolicy};

/// What a hint says to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hint {
    None,
    Here,
    Elsewhere,
}

#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    backend: Backend,
    ready: bool,
    serving: bool,
    zone: Hint,
    node: Hint,
}

impl Candidate {
    fn last_resort(&self) -> bool {
        self.serving && self.backend.terminating
    }
}

/// The endpoints of one port and family that a policy lets take part, one per address, best state first where slices
/// disagree.
pub fn candidates(
    spec: &ServiceSpec,
    port: &PortSpec,
    protocol: Protocol,
    slices: &[&EndpointSlice],
    node: &Node,
    ipv6: bool,
    policy: TrafficPolicy,
) -> Vec<Candidate> {
    let publish_not_ready = spec.publish_not_ready_addresses == Some(true);
    let mut found: BTreeMap<(IpAddr, u16), Candidate> = BTreeMap::new();
    for slice in slices {
        let Some(number) = slice_port(slice, port, protocol) else { continue };
        let weight = weight(&slice.metadata);
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(candidate) = candidate(endpoint, number, weight, node, publish_not_ready) else { continue };
            let eligible = policy == TrafficPolicy::Cluster || candidate.backend.local;
            if candidate.backend.addr.is_ipv6() != ipv6 || !eligible {
                continue;
            }
            let rank = |c: &Candidate| (c.ready, c.last_resort(), c.backend.local);
            let slot = found.entry((candidate.backend.addr, number)).or_insert(candidate);
            if rank(&candidate) > rank(slot) {
                *slot = candidate;
            }
        }
    }
    found.into_values().collect()
}

/// The ready ones or, if there are none, those that serve while they terminate (KEP-1669). Under the policy Local that
/// holds among this node's, which are the candidates; else hints narrow the ready ones down, but not the last resort.
pub fn select(candidates: &[Candidate], policy: TrafficPolicy) -> Vec<Backend> {
    let near = match policy {
        TrafficPolicy::Cluster => topology(candidates),
        TrafficPolicy::Local => Topology::None,
    };
    let ready = candidates.iter().filter(|c| c.ready && near.allows(c));
    let ready: Vec<Backend> = ready.map(|c| c.backend).collect();
    if !ready.is_empty() {
        return ready;
    }
    candidates.iter().filter(|c| c.last_resort()).map(|c| c.backend).collect()
}

#[derive(Clone, Copy)]
enum Topology {
    None,
    Zone,
    Node,
}

impl Topology {
    fn allows(self, candidate: &Candidate) -> bool {
        match self {
            Self::None => true,
            Self::Zone => candidate.zone == Hint::Here,
            Self::Node => candidate.node == Hint::Here,
        }
    }
}

/// Hints count only if every ready endpoint has one and one of them is for here (upstream's topologyModeFromHints).
fn topology(candidates: &[Candidate]) -> Topology {
    let counts = |hint: fn(&Candidate) -> Hint| {
        let mut ready = candidates.iter().filter(|c| c.ready).map(hint);
        ready.clone().all(|hint| hint != Hint::None) && ready.any(|hint| hint == Hint::Here)
    };
    if counts(|c| c.node) {
        Topology::Node
    } else if counts(|c| c.zone) {
        Topology::Zone
    } else {
        Topology::None
    }
}

/// Conditions that are absent mean ready, serving as ready, and not terminating (discovery/v1 EndpointConditions).
fn candidate(endpoint: &Endpoint, port: u16, weight: u8, node: &Node, publish_not_ready: bool) -> Option<Candidate> {
    // Consumers use the first address only; the others are undefined (discovery/v1 Endpoint).
    let addr = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    let local = endpoint.node_name.as_deref() == Some(&node.name);
    let hints = endpoint.hints.as_ref();
    let zones = hints.and_then(|h| h.for_zones.as_ref()).into_iter().flatten().map(|zone| zone.name.as_str());
    let nodes = hints.and_then(|h| h.for_nodes.as_ref()).into_iter().flatten().map(|node| node.name.as_str());
    Some(Candidate {
        backend: Backend { addr, port, local, terminating, weight },
        ready: ready || publish_not_ready,
        serving,
        zone: hint(zones, node.zone.as_deref()),
        node: hint(nodes, Some(&node.name)),
    })
}

fn hint<'a>(mut names: impl Iterator<Item = &'a str> + Clone, here: Option<&str>) -> Hint {
    if names.clone().next().is_none() {
        Hint::None
    } else if names.any(|name| Some(name) == here) {
        Hint::Here
    } else {
        Hint::Elsewhere
    }
}

/// The number that a slice gives a Service's port; slices may differ where `targetPort` is a name.
fn slice_port(slice: &EndpointSlice, port: &PortSpec, protocol: Protocol) -> Option<u16> {
    let wanted = port.name.as_deref().unwrap_or_default();
    let ports = slice.ports.iter().flatten();
    let mut named = ports.filter(|p| p.name.as_deref().unwrap_or_default() == wanted);
    let found = named.find(|p| Protocol::parse(p.protocol.as_deref()) == Some(protocol))?;
    u16::try_from(found.port?).ok().filter(|number| *number != 0)
}
