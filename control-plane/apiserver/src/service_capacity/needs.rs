//! What a Service and its EndpointSlices take of the nodes' maps.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use xebec_registry::value::{at, string};

/// Of a NodePort: the node's address for clients inside and outside, loopback and the pods' gateway.
const OF_NODE_PORT: u64 = 4;
/// Of an address that clients outside dial too.
const OF_EXTERNAL: u64 = 2;

/// `maglev`: clients outside find their backend in a table.
const LOAD_BALANCING_ALGORITHM: &str = "xebec.io/load-balancing-algorithm";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Of the map of IPv4 and of that of IPv6.
pub type Entries = [u64; 2];

/// A map of Services that every node has, once for each family.
pub struct Map {
    /// As in `xebec_abi::names`.
    pub names: [&'static str; 2],
    /// What it holds, as `--datapath-capacity` calls it.
    pub what: &'static str,
}

/// In the order of [`Needs`].
pub const MAPS: [Map; 5] = [
    Map { names: ["xb_lb4_fe", "xb_lb6_fe"], what: "frontends" },
    Map { names: ["xb_lb4_be", "xb_lb6_be"], what: "backends" },
    Map { names: ["xb_lb4_member", "xb_lb6_member"], what: "members" },
    Map { names: ["xb_lb4_range", "xb_lb6_range"], what: "source-ranges" },
    Map { names: ["xb_lb4_maglev", "xb_lb6_maglev"], what: "maglev-blocks" },
];
/// Their index in [`MAPS`].
pub const BACKENDS: usize = 1;
pub const MAGLEV: usize = 4;

/// Entries of each of [`MAPS`].
pub type Needs = [Entries; MAPS.len()];

/// A Service as the maps see it. The default is one that is not there, or that DNS alone serves.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Service {
    pub frontends: Entries,
    /// As `name/protocol`.
    ports: Vec<Arc<str>>,
    /// Whether its ports lead from every node to all endpoints.
    leads_everywhere: bool,
    /// Whether a policy `Local` has them lead to a node's own besides, or instead.
    leads_to_own: bool,
    /// Whether it has an address of IPv4, and of IPv6.
    families: [bool; 2],
    source_ranges: Entries,
    maglev_blocks: Entries,
    has_affinity: bool,
}

/// Backends of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    pub name: Arc<str>,
    /// That every node has.
    pub everywhere: Entries,
    /// Of the policy `Local`, on the node with the most of them.
    pub own: Entries,
}

impl Port {
    /// The port is two to the maps, of which this one has more.
    pub fn most(&self, family: usize) -> u64 {
        self.everywhere[family].max(self.own[family])
    }
}

/// An EndpointSlice as the maps see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slice {
    /// Whatever their conditions: one that becomes ready must not need more.
    endpoints: u64,
    /// How many of them are on each node, by a hash of its name.
    nodes: Box<[(u32, u32)]>,
    family: usize,
    /// As `name/protocol`.
    ports: Vec<Box<str>>,
}

/// What Services take depends on.
pub struct Cluster {
    pub families: Families,
    /// Of a Maglev table.
    pub table_blocks: u64,
}

/// The families of Services' addresses, the primary one first; 0 is IPv4, 1 is IPv6.
pub struct Families(Vec<usize>);

impl Families {
    pub fn new(ranges: &[IpNet]) -> Self {
        Self(ranges.iter().map(|range| usize::from(range.addr().is_ipv6())).collect())
    }

    /// A Service that is not stored yet may not have its addresses.
    fn of(&self, spec: &Value) -> Vec<usize> {
        let addresses: Vec<usize> = list(spec, "clusterIPs").iter().filter_map(family).collect();
        let named = list(spec, "ipFamilies").iter().map(|family| usize::from(family == "IPv6"));
        let named: Vec<usize> = named.collect();
        match string(spec, "ipFamilyPolicy") {
            "PreferDualStack" | "RequireDualStack" => self.0.clone(),
            _ if !addresses.is_empty() => addresses,
            _ if !named.is_empty() => named,
            _ => vec![self.0.first().copied().unwrap_or_default()],
        }
    }
}

impl Service {
    pub fn of(service: &Value, Cluster { families, table_blocks }: &Cluster) -> Self {
        let spec = &service["spec"];
        let kind = string(spec, "type");
        if kind == "ExternalName" || string(spec, "clusterIP") == "None" {
            return Self::default();
        }
        let ports = list(spec, "ports");
        let has_node_ports =
            kind == "NodePort" || (kind == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false);
        let external: Vec<usize> = list(spec, "externalIPs").iter().filter_map(family).collect();
        let ingress =
            list(at(service, "status.loadBalancer"), "ingress").iter().filter_map(|entry| family(&entry["ip"]));
        let ingress: Vec<usize> = ingress.collect();
        let ranges = if kind == "LoadBalancer" { source_ranges(service) } else { BTreeSet::new() };
        // Under the policy `Local` clients outside dial what is another service to the maps.
        let balanced = if string(spec, "externalTrafficPolicy") == "Local" { 2 } else { 1 };
        let external: Vec<usize> = external.into_iter().chain(ingress.iter().copied()).collect();
        let is_maglev = service["metadata"]["annotations"][LOAD_BALANCING_ALGORITHM] == "maglev";
        let (mut frontends, mut has_family, mut source_ranges) = ([0, 0], [false, false], [0, 0]);
        let mut maglev_blocks = [0, 0];
        for family in families.of(spec) {
            let addresses = external.iter().filter(|of| **of == family).count() as u64;
            let node_ports = if has_node_ports { OF_NODE_PORT } else { 0 };
            frontends[family] = ports.len() as u64 * (1 + node_ports + OF_EXTERNAL * addresses);
            has_family[family] = true;
            if is_maglev && (has_node_ports || addresses > 0) {
                maglev_blocks[family] = ports.len() as u64 * table_blocks;
            }
            if ingress.contains(&family) {
                let ranges = ranges.iter().filter(|range| usize::from(range.addr().is_ipv6()) == family).count();
                source_ranges[family] = ports.len() as u64 * balanced * ranges as u64;
            }
        }
        let (is_internal_own, is_external_own) =
            (string(spec, "internalTrafficPolicy") == "Local", string(spec, "externalTrafficPolicy") == "Local");
        let is_external = has_node_ports || !external.is_empty();
        Self {
            frontends,
            // Whatever the policies, clients inside who dial what is not the clusterIP get any endpoint.
            leads_everywhere: !is_internal_own || is_external,
            leads_to_own: is_internal_own || (is_external_own && is_external),
            ports: ports.iter().map(|port| port_key(string(port, "name"), string(port, "protocol")).into()).collect(),
            families: has_family,
            source_ranges,
            maglev_blocks,
            has_affinity: spec["sessionAffinity"] == "ClientIP",
        }
    }

    /// Backends of each port, together with those of all `slices`.
    pub fn backends<'a>(&self, slices: impl Iterator<Item = &'a Slice> + Clone) -> Vec<Port> {
        let of = |name: &Arc<str>| {
            let (mut everywhere, mut nodes) = ([0, 0], [HashMap::new(), HashMap::new()]);
            for slice in slices.clone().filter(|slice| self.families[slice.family]) {
                if !slice.ports.iter().any(|of| **of == **name) {
                    continue;
                }
                everywhere[slice.family] += if self.leads_everywhere { slice.endpoints } else { 0 };
                for (node, endpoints) in slice.nodes.iter().filter(|_| self.leads_to_own) {
                    *nodes[slice.family].entry(*node).or_default() += u64::from(*endpoints);
                }
            }
            let own = nodes.map(|nodes| nodes.into_values().max().unwrap_or_default());
            Port { name: name.clone(), everywhere, own }
        };
        self.ports.iter().map(of).collect()
    }

    /// What it takes with these backends of its ports.
    pub fn needs(&self, ports: &[Port]) -> Needs {
        let backends = [0, 1].map(|family| ports.iter().map(|port| port.everywhere[family] + port.own[family]).sum());
        let members = if self.has_affinity { backends } else { [0, 0] };
        [self.frontends, backends, members, self.source_ranges, self.maglev_blocks]
    }
}

impl Slice {
    /// The name of its Service, and the slice. `None` if it has no Service, or names instead of addresses.
    pub fn of<'a>(slice: impl serde::Deserializer<'a>) -> Option<(String, Self)> {
        let Ok(Raw { metadata, address_type, endpoints, ports }) = Raw::deserialize(slice) else { return None };
        let service = metadata.labels?.service.filter(|name| !name.is_empty())?;
        let family = ["IPv4", "IPv6"].iter().position(|family| *family == address_type)?;
        let ports = ports.unwrap_or_default();
        let ports = ports.iter().filter(|port| port.port.is_some_and(|number| number != 0)).map(|port| {
            port_key(port.name.as_deref().unwrap_or_default(), port.protocol.as_deref().unwrap_or_default()).into()
        });
        let endpoints = endpoints.unwrap_or_default();
        let mut nodes = HashMap::<u32, u32>::new();
        for node in endpoints.iter().filter_map(|endpoint| endpoint.node_name.as_deref()) {
            *nodes.entry(hash(node)).or_default() += 1;
        }
        let mut nodes: Box<[(u32, u32)]> = nodes.into_iter().collect();
        nodes.sort_unstable();
        Some((service, Self { endpoints: endpoints.len() as u64, nodes, family, ports: ports.collect() }))
    }
}

/// What is read of an EndpointSlice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw<'a> {
    metadata: Metadata,
    address_type: String,
    #[serde(borrow)]
    endpoints: Option<Vec<RawEndpoint<'a>>>,
    ports: Option<Vec<RawPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEndpoint<'a> {
    #[serde(borrow)]
    node_name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Metadata {
    labels: Option<Labels>,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(rename = "kubernetes.io/service-name")]
    service: Option<String>,
}

#[derive(Deserialize)]
struct RawPort {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i64>,
}

/// Two nodes that have the same count as one.
fn hash(node: &str) -> u32 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(node) as u32
}

fn port_key(name: &str, protocol: &str) -> String {
    format!("{name}/{}", if protocol.is_empty() { "TCP" } else { protocol })
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Networks of the field, or else of the annotation that it was before; what is none counts for nothing.
fn source_ranges(service: &Value) -> BTreeSet<IpNet> {
    let field = list(&service["spec"], "loadBalancerSourceRanges").iter().filter_map(Value::as_str);
    let annotation = service["metadata"]["annotations"][SOURCE_RANGES].as_str().unwrap_or_default().split(',');
    let mut texts: Vec<&str> = field.collect();
    if texts.is_empty() {
        texts.extend(annotation);
    }
    texts.into_iter().filter_map(|text| text.trim().parse::<IpNet>().ok()).map(|range| range.trunc()).collect()
}

fn family(address: &Value) -> Option<usize> {
    let address: std::net::IpAddr = address.as_str()?.parse().ok()?;
    Some(usize::from(address.is_ipv6()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster() -> Cluster {
        let families = Families::new(&["10.96.0.0/16", "fd96::/112"].map(|range| range.parse().expect("a network")));
        Cluster { families, table_blocks: 64 }
    }

    fn service(spec: &Value) -> Service {
        let ports = json!([{ "name": "http", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
        let mut service = json!({ "spec": { "ports": ports }, "status": spec["status"] });
        spec.as_object().expect("fields").iter().for_each(|(field, value)| service["spec"][field] = value.clone());
        Service::of(&service, &cluster())
    }

    fn slice(family: &str, ports: &Value, endpoints: usize) -> Value {
        json!({
            "metadata": { "namespace": "demo", "name": "a", "labels": { "x": "y", "kubernetes.io/service-name": "web" } },
            "addressType": family,
            "endpoints": vec![json!({ "addresses": ["192.0.2.1"], "conditions": { "ready": false } }); endpoints],
            "ports": ports,
        })
    }

    #[track_caller]
    fn check(spec: Value, expected: Entries) {
        assert_eq!(service(&spec).frontends, expected, "{spec}");
    }

    #[test]
    fn frontends_are_of_addresses_and_ports() {
        check(json!({}), [2, 0]);
        check(json!({ "clusterIPs": ["fd96::1"] }), [0, 2]);
        check(json!({ "ipFamilies": ["IPv6"] }), [0, 2]);
        check(json!({ "ipFamilyPolicy": "PreferDualStack", "type": "NodePort" }), [10, 10]);
        check(json!({ "clusterIP": "None" }), [0, 0]);
        check(json!({ "type": "ExternalName" }), [0, 0]);
        check(json!({ "externalIPs": ["192.0.2.1", "192.0.2.2", "2001:db8::1"] }), [10, 0]);
        let balanced = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }, { "hostname": "lb" }] } });
        check(json!({ "type": "LoadBalancer", "status": balanced }), [14, 0]);
        check(json!({ "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false }), [2, 0]);
    }

    #[test]
    fn source_ranges_are_of_load_balancers_addresses_and_ports() {
        #[track_caller]
        fn check(spec: Value, expected: Entries) {
            assert_eq!(service(&spec).needs(&[])[3], expected, "{spec}");
        }
        let ranges = ["10.1.2.3/8", "10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "no"];
        let balanced = |more: Value| {
            let ingress = json!([{ "ip": "192.0.2.1" }]);
            let mut spec = json!({
                "type": "LoadBalancer", "status": { "loadBalancer": { "ingress": ingress } }, "loadBalancerSourceRanges": ranges,
            });
            more.as_object().expect("fields").iter().for_each(|(field, value)| spec[field] = value.clone());
            spec
        };
        check(balanced(json!({})), [4, 0]);
        check(balanced(json!({ "externalTrafficPolicy": "Local" })), [8, 0]);
        check(balanced(json!({ "loadBalancerSourceRanges": [] })), [0, 0]);
        check(balanced(json!({ "status": null })), [0, 0]);
        check(balanced(json!({ "type": "NodePort" })), [0, 0]);
        let both = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }, { "ip": "2001:db8::1" }] } });
        check(balanced(json!({ "status": both, "ipFamilyPolicy": "RequireDualStack" })), [4, 2]);
        let annotations =
            json!({ "service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8, 192.0.2.0/24" });
        let annotated = json!({
            "metadata": { "annotations": annotations }, "status": both,
            "spec": { "type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "ports": [{ "port": 80 }] },
        });
        assert_eq!(Service::of(&annotated, &cluster()).source_ranges, [2, 0]);
    }

    /// Entries of the maps of backends and members that a Service takes with one slice of seven endpoints.
    #[track_caller]
    fn check_slice(spec: Value, family: &str, ports: Value, backends: Entries, members: Entries) {
        let (of, parsed) = Slice::of(slice(family, &ports, 7)).expect("a slice");
        assert_eq!(of, "web");
        let service = service(&spec);
        let needs = service.needs(&service.backends([&parsed].into_iter()));
        assert_eq!(needs[1..3], [backends, members], "{spec} {family} {ports}");
    }

    #[test]
    fn backends_are_of_endpoints_and_ports_that_match() {
        let http = json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]);
        let both = json!([{ "name": "http", "port": 8080 }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
        check_slice(json!({}), "IPv4", http.clone(), [7, 0], [0, 0]);
        check_slice(json!({}), "IPv4", both.clone(), [14, 0], [0, 0]);
        check_slice(json!({ "sessionAffinity": "ClientIP" }), "IPv4", both.clone(), [14, 0], [14, 0]);
        check_slice(json!({}), "IPv6", both.clone(), [0, 0], [0, 0]);
        check_slice(json!({ "ipFamilyPolicy": "RequireDualStack" }), "IPv6", both.clone(), [0, 14], [0, 0]);
        // Another name, another protocol, or no number.
        check_slice(json!({}), "IPv4", json!([{ "port": 80 }]), [0, 0], [0, 0]);
        check_slice(json!({}), "IPv4", json!([{ "name": "dns", "port": 53 }]), [0, 0], [0, 0]);
        check_slice(json!({}), "IPv4", json!([{ "name": "http" }]), [0, 0], [0, 0]);
        check_slice(json!({}), "IPv4", Value::Null, [0, 0], [0, 0]);
        // What DNS alone serves.
        check_slice(json!({ "clusterIP": "None" }), "IPv4", both.clone(), [0, 0], [0, 0]);
        check_slice(json!({ "type": "ExternalName" }), "IPv4", both.clone(), [0, 0], [0, 0]);
        // Only a node's own, unless there is more to dial than the clusterIP; of those on no node none are.
        let local = |kind: &str| json!({ "internalTrafficPolicy": "Local", "type": kind });
        check_slice(local("ClusterIP"), "IPv4", both.clone(), [0, 0], [0, 0]);
        check_slice(local("NodePort"), "IPv4", both, [14, 0], [0, 0]);
    }

    /// The node with the most of a Service's endpoints, over its slices.
    #[test]
    fn the_policy_local_takes_a_nodes_own_endpoints() {
        #[track_caller]
        fn check(spec: Value, backends: u64) {
            let slice = |family, nodes: &[&str]| {
                let mut slice = slice(family, &json!([{ "name": "http", "port": 8080 }]), 0);
                slice["endpoints"] = nodes.iter().map(|node| json!({ "nodeName": node })).collect();
                Slice::of(slice).expect("a slice").1
            };
            let slices =
                [slice("IPv4", &["a", "a", "b"]), slice("IPv4", &["b", "b", "c", "a"]), slice("IPv6", &["a"; 9])];
            let service = service(&spec);
            assert_eq!(service.needs(&service.backends(slices.iter()))[BACKENDS], [backends, 0], "{spec}");
        }
        check(json!({}), 7);
        check(json!({ "internalTrafficPolicy": "Local" }), 3);
        check(json!({ "externalTrafficPolicy": "Local" }), 7);
        check(json!({ "externalTrafficPolicy": "Local", "type": "NodePort" }), 10);
        check(json!({ "externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.1"] }), 10);
        check(json!({ "internalTrafficPolicy": "Local", "type": "NodePort" }), 10);
    }

    #[test]
    fn maglev_tables_are_of_ports_that_clients_outside_dial() {
        #[track_caller]
        fn check(algorithm: &str, spec: Value, expected: Entries) {
            let annotations = json!({ LOAD_BALANCING_ALGORITHM: algorithm });
            let mut service = json!({ "metadata": { "annotations": annotations }, "spec": spec });
            service["spec"]["ports"] = json!([{ "port": 80 }, { "port": 81 }]);
            assert_eq!(Service::of(&service, &cluster()).needs(&[])[MAGLEV], expected, "{algorithm} {spec}");
        }
        let both = json!({ "type": "NodePort", "ipFamilyPolicy": "RequireDualStack" });
        check("maglev", both.clone(), [128, 128]);
        check("random", both, [0, 0]);
        check("maglev", json!({ "clusterIP": "10.96.0.1" }), [0, 0]);
        check("maglev", json!({ "externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local" }), [128, 0]);
    }

    #[test]
    fn slices_without_a_service_or_addresses_take_nothing() {
        assert!(Slice::of(slice("FQDN", &Value::Null, 1)).is_none());
        let mut nobodys = slice("IPv4", &Value::Null, 1);
        nobodys["metadata"]["labels"] = json!({ "kubernetes.io/service-name": "" });
        assert!(Slice::of(&nobodys).is_none());
        nobodys["metadata"]["labels"] = Value::Null;
        assert!(Slice::of(&nobodys).is_none());
        assert!(Slice::of(&Value::Null).is_none());
    }
}
