//! Which load balancers' addresses a node speaks for on its own network: every node finds the same answer by itself,
//! with neither a lease nor a message, by the highest hash of address and node among the nodes that are alive
//! (rendezvous hashing, Thaler and Ravishankar 1998). When a node goes, only its addresses move.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use xebec_types::core::{Node as ApiNode, Service};
use xebec_types::discovery::EndpointSlice;
use xebec_types::object;

/// The class of load balancers whose addresses are ours to announce; none is ours too.
const CLASS: &str = "xebec.io/load-balancer";
/// Upstream's label for nodes that no load balancer may use.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The nodes that may speak for addresses: those that are ready, by name.
pub fn candidates<'a>(nodes: impl IntoIterator<Item = &'a ApiNode>) -> Vec<&'a str> {
    let nodes = nodes.into_iter().filter(|node| is_ready(node) && object::label(&node.metadata, EXCLUDED).is_none());
    nodes.map(|node| object::name(&node.metadata)).collect()
}

/// The nodes that may come to speak for an address without the API server's help, so that each asks the others whether
/// they are there: few, whatever the size of the cluster.
pub const HEIRS: usize = 3;

/// The addresses of one Service, each with its heirs: the first speaks for it, each next one if those before do not
/// answer. Where only nodes with endpoints answer (`externalTrafficPolicy: Local`), only they are among them.
pub fn heirs<'a>(
    service: &Service,
    slices: &[&EndpointSlice],
    candidates: &[&'a str],
) -> BTreeMap<IpAddr, Vec<&'a str>> {
    let Some(spec) = &service.spec else { return BTreeMap::new() };
    let class = spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS);
    if spec.type_.as_deref() != Some("LoadBalancer") || !class {
        return BTreeMap::new();
    }
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let serving = serving(slices);
    let able: Vec<&str> =
        candidates.iter().copied().filter(|name| !local || serving.is_empty() || serving.contains(name)).collect();
    addresses(service).map(|address| (address, ranked(address, &able))).collect()
}

/// The node that speaks for an address, given its heirs and those nodes that do not answer.
pub fn owner<'a>(heirs: &[&'a str], silent: &HashSet<&str>) -> Option<&'a str> {
    heirs.iter().copied().find(|name| !silent.contains(name))
}

fn ranked<'a>(address: IpAddr, candidates: &[&'a str]) -> Vec<&'a str> {
    let mut ranked = candidates.to_vec();
    ranked.sort_by_cached_key(|name| std::cmp::Reverse((weight(address, name), *name)));
    ranked.truncate(HEIRS);
    ranked
}

fn addresses(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let vip = ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    vip.filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
}

/// Nodes with ready endpoints.
fn serving<'a>(slices: &[&'a EndpointSlice]) -> HashSet<&'a str> {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = endpoints.filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
    ready.filter_map(|endpoint| endpoint.node_name.as_deref()).collect()
}

fn is_ready(node: &ApiNode) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// FNV-1a, then the finaliser of MurmurHash3, so that similar names differ in the upper bits too.
fn weight(address: IpAddr, node: &str) -> u64 {
    let fold =
        |hash: u64, bytes: &[u8]| bytes.iter().fold(hash, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let hash = match address {
        IpAddr::V4(address) => fold(0xcbf2_9ce4_8422_2325, &address.octets()),
        IpAddr::V6(address) => fold(0xcbf2_9ce4_8422_2325, &address.octets()),
    };
    let mut hash = fold(hash, node.as_bytes());
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
