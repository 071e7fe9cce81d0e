use xebec_abi::{
    Addr4, Affinity, AffinityKey, Backend, BackendKey, Counter, DropReason, Endpoint, Flow, FlowKey, FragmentKey,
    FrontendKey, FrontendValue, L2Key, L2Mac, LocalPod, MaglevKey, MemberKey, PodRate, Ports, ServiceId, Tuple,
};

use crate::{
    Family, Room,
    conntrack::Touch,
    limit::{Admission, Charge},
};

/// The two maps of flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowMap {
    /// `CT4`, `CT6`
    Conntrack,
    /// `NAT4`, `NAT6`
    Nat,
}

/// A flow is known and its packets become something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unwanted;

/// What a node has once, whatever its families: settings, clock, randomness and counters.
pub trait Host {
    /// Is there an overlay?
    fn overlay(&self) -> bool;
    fn overlay_vni(&self) -> u32;
    /// The node's end of tunnels; 0.0.0.0 of a node without IPv4, whose tunnels run over IPv6.
    fn tunnel_ip(&self) -> Addr4;
    #[inline(always)]
    fn tunnels_ipv6(&self) -> bool {
        self.tunnel_ip() == [0; 4]
    }
    /// What the pods' network takes: with an overlay, what fits it; else what fits every uplink.
    fn pod_mtu(&self) -> u32;
    /// Of packets for services that go on to a backend's node as they are; 0: none do.
    fn dsr_vni(&self) -> u32;
    fn snat_port_min(&self) -> u16;
    fn snat_port_max(&self) -> u16;
    /// Cookie of the node's own network namespace; 0 if unknown.
    fn node_netns(&self) -> u64;
    fn hash_seed(&self) -> u32;
    fn now_ns(&self) -> u64;
    fn random(&self) -> u32;
    fn count(&self, counter: Counter, bytes: u64);
    /// Of a packet that became its own answer; of others the program counts what the decision says.
    fn count_drop(&self, reason: DropReason, bytes: u64);
    /// Looks at the bucket of a pod's device and changes it. A device without one takes everything.
    fn charge(&self, ifindex: u32, decide: impl FnOnce(&PodRate) -> Charge) -> Admission;
}

/// Read-only configuration of a family; constants for the verifier.
pub trait Settings<A> {
    fn node_ip(&self) -> A;
    fn gateway_ip(&self) -> A;
    fn hairpin_ip(&self) -> A;
    /// Is this an address of a pod, on any node?
    fn in_cluster(&self, addr: A) -> bool;
    /// Is this an address of the service range?
    fn in_services(&self, addr: A) -> bool;
    /// The network of the node that would have this pod address, if all nodes have equal prefixes.
    fn node_prefix(&self, addr: A) -> (A, u8);
}

/// Maps.
pub trait Tables<A: Family>: Settings<A> + Host {
    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue>;
    fn backend(&self, key: &BackendKey) -> Option<Backend<A>>;
    /// Makes `backend` that of one of the first slots, of a frontend that has them in its own entry. False if it was replaced
    /// since its value was read.
    fn first_backend(
        &self,
        key: &FrontendKey<A>,
        frontend: &FrontendValue,
        slot: u16,
        backend: &mut Backend<A>,
    ) -> bool;
    /// The slot that an entry of a Maglev table names.
    fn maglev(&self, key: &MaglevKey, entry: u8) -> Option<u16>;
    fn is_member(&self, key: &MemberKey<A>) -> bool;
    /// May this address be a client of a service with source ranges?
    fn in_source_ranges(&self, service: ServiceId, addr: A) -> bool;
    fn affinity(&self, key: &AffinityKey<A>) -> Option<Affinity<A>>;
    fn put_affinity(&self, key: &AffinityKey<A>, value: &Affinity<A>);

    /// Decides in a place for what is large.
    fn with_room<R>(&self, decide: impl FnOnce(&mut Room<A>) -> Result<R, DropReason>) -> Result<R, DropReason>;

    /// Counts a packet on a flow and looks at it, if there is one.
    fn touch<R>(&self, map: FlowMap, key: &FlowKey<A>, touch: &Touch, look: impl FnOnce(&Flow<A>) -> R) -> Option<R>;
    /// Counts a packet on a flow and looks at it, if there is one whose packets become what is wanted.
    fn touch_if<R>(
        &self,
        map: FlowMap,
        key: &FlowKey<A>,
        touch: &Touch,
        wanted: impl FnOnce(&Tuple<A>) -> bool,
        look: impl FnOnce(&Flow<A>) -> R,
    ) -> Result<Option<R>, Unwanted>;
    /// Changes a flow in place, without counting a packet.
    fn alter<R>(&self, map: FlowMap, key: &FlowKey<A>, change: impl FnOnce(&mut Flow<A>) -> R) -> Option<R>;
    /// Looks at a flow, without counting a packet.
    fn look<R>(&self, map: FlowMap, key: &FlowKey<A>, look: impl FnOnce(&Flow<A>) -> R) -> Option<R>;
    /// Removes a flow, if it is there.
    fn remove_flow(&self, map: FlowMap, key: &FlowKey<A>);
    /// Adds a flow. False if there is one already.
    fn add_flow(&self, map: FlowMap, key: &FlowKey<A>, flow: &Flow<A>) -> Result<bool, DropReason>;
    /// Adds a flow or writes over the one there is, in place. True if there was none.
    fn put_flow(&self, map: FlowMap, key: &FlowKey<A>, flow: &Flow<A>) -> Result<bool, DropReason>;
    /// Gives a flow the place of another among the transient ones of its map, which is made known, zeroes if there was
    /// none, with room for another key.
    fn enlist(&self, map: FlowMap, key: &FlowKey<A>, leave: impl FnOnce(&FlowKey<A>, &mut FlowKey<A>));

    fn fragment(&self, key: &FragmentKey<A>) -> Option<Ports>;
    fn put_fragment(&self, key: &FragmentKey<A>, ports: &Ports);

    /// The address of a device on which the node answers ARP or neighbour solicitations for a service.
    fn announced(&self, key: &L2Key<A>) -> Option<L2Mac>;
    fn pod(&self, addr: &A) -> Option<LocalPod>;
    /// Looks up an address or a prefix of other nodes' pods.
    fn remote(&self, addr: &A) -> Option<Endpoint<A>>;
}
