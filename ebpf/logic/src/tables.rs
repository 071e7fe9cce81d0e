use xebec_abi::{
    Addr4, Affinity4, AffinityKey, Backend4, BackendKey, Counter, DropReason, Endpoint4, Flow4, FlowKey4, FragmentKey4,
    Frontend4, FrontendKey4, L2Key4, L2Mac, MemberKey4, Pod4, Ports, ServiceId, Tuple4,
};

use crate::conntrack::{Touch, Touched};

/// The two maps of flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowMap {
    /// `CT4`
    Conntrack,
    /// `NAT4`
    Nat,
}

/// Read-only configuration; constants for the verifier.
pub trait Settings {
    fn node_ip(&self) -> Addr4;
    fn gateway_ip(&self) -> Addr4;
    fn hairpin_ip(&self) -> Addr4;
    /// Is this an address of a pod, on any node?
    fn in_cluster(&self, addr: Addr4) -> bool;
    /// Is this an address of the service range?
    fn in_services(&self, addr: Addr4) -> bool;
    /// The network of the node that would have this pod address, if all nodes have equal prefixes.
    fn node_prefix(&self, addr: Addr4) -> (Addr4, u8);
    /// Is there an overlay?
    fn overlay(&self) -> bool;
    fn overlay_vni(&self) -> u32;
    fn snat_port_min(&self) -> u16;
    fn snat_port_max(&self) -> u16;
    /// Cookie of the node's own network namespace; 0 if unknown.
    fn node_netns(&self) -> u64;
    fn hash_seed(&self) -> u32;
}

/// Maps, clock and randomness.
pub trait Tables: Settings {
    fn frontend(&self, key: &FrontendKey4) -> Option<Frontend4>;
    fn backend(&self, key: &BackendKey) -> Option<Backend4>;
    fn is_member(&self, key: &MemberKey4) -> bool;
    /// May this address be a client of a service with source ranges?
    fn in_source_ranges(&self, service: ServiceId, addr: Addr4) -> bool;
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity4>;
    fn put_affinity(&self, key: &AffinityKey, value: &Affinity4);

    /// Counts a packet on a flow, if there is one.
    fn touch(&self, map: FlowMap, key: &FlowKey4, touch: &Touch) -> Option<Touched>;
    /// What a flow's packets become, without counting one.
    fn peek(&self, map: FlowMap, key: &FlowKey4) -> Option<Tuple4>;
    /// Adds a flow. False if there is one already.
    fn add_flow(&self, map: FlowMap, key: &FlowKey4, flow: &Flow4) -> Result<bool, DropReason>;
    /// Adds a flow or writes over the one there is, in place.
    fn put_flow(&self, map: FlowMap, key: &FlowKey4, flow: &Flow4) -> Result<(), DropReason>;

    fn fragment(&self, key: &FragmentKey4) -> Option<Ports>;
    fn put_fragment(&self, key: &FragmentKey4, ports: &Ports);

    /// The address of a device on which the node answers ARP for a service.
    fn announced(&self, key: &L2Key4) -> Option<L2Mac>;
    fn pod(&self, addr: Addr4) -> Option<Pod4>;
    /// Looks up an address or a prefix of other nodes' pods.
    fn remote(&self, addr: Addr4) -> Option<Endpoint4>;

    fn now_ns(&self) -> u64;
    fn random(&self) -> u32;
    fn count(&self, counter: Counter, bytes: u64);
}
