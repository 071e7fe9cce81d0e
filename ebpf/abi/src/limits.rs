//! Every limit of the datapath, in one place. Maps are not preallocated, so a limit costs memory
//! only when it is used; the LRU maps, which the kernel preallocates, are budgeted below.

use crate::{
    Addr4, Addr6, Address, Affinity, AffinityKey, Flow1, FlowKey, FragmentKey, Ports,
    latency::{Latency, LatencyKey},
};

/// Frontends: one per (address, port, protocol) that clients dial.
pub const FRONTENDS_MAX: u32 = 262_144;
/// Backends over all services, counting both generations while a service is being replaced.
pub const BACKENDS_MAX: u32 = 1_048_576;
/// Backends of one service port. Slots are `u16`.
pub const SERVICE_BACKENDS_MAX: u16 = 32_768;
/// Of these, those that a frontend's own entry has besides: IPv4's entry and the kernel's header are two cache lines.
pub const FIRST_BACKENDS: usize = 4;
/// Members of services with session affinity.
pub const MEMBERS_MAX: u32 = 262_144;
/// Source ranges of load balancers, over all services.
pub const RANGES_MAX: u32 = 65_536;
/// Parts of Maglev tables of a family, of 256 entries each and half a KiB, counting both generations while a service is being
/// replaced: a thousand service ports with tables of the default size.
pub const MAGLEV_BLOCKS_MAX: u32 = 131_072;
/// Clients with a remembered backend.
pub const AFFINITIES_MAX: u32 = 32_768;
/// Backends of services that nodes' clients connected to last, counted by backend.
pub const LATENCIES_MAX: u32 = 8_192;
/// Flows whose service address is translated packet by packet, and those from outside to pods; and the transient ones.
pub const FLOWS_MAX: u32 = 32_768 + 2 * TRANSIENT_FLOWS_MAX;
/// Masqueraded flows and flows from outside to services take two entries each; and the transient ones.
pub const NAT_MAX: u32 = 65_536 + 2 * TRANSIENT_NAT_MAX;
/// Half-open and closed flows of each map, of two entries each: the oldest makes place for another one.
pub const TRANSIENT_FLOWS_MAX: u32 = 4_096;
pub const TRANSIENT_NAT_MAX: u32 = 8_192;
/// Datagrams whose fragments are on their way.
pub const FRAGMENTS_MAX: u32 = 4_096;
/// Addresses of a family that the node answers ARP or neighbour solicitations for, over all devices.
pub const ANNOUNCED_MAX: u32 = 65_536;
/// Pods on this node.
pub const PODS_MAX: u32 = 4_096;
/// Single addresses and node prefixes of other nodes.
pub const ENDPOINTS_MAX: u32 = 524_288;
/// Prefixes of any other length.
pub const PREFIXES_MAX: u32 = 65_536;
/// Services one unconnected UDP socket can talk to at the same time and still see their addresses.
pub const SOCKET_ORIGINS_MAX: usize = 8;
/// Ports tried before a masqueraded flow is refused.
pub const SNAT_TRIES_MAX: u32 = 32;
/// Of these, ports that must be free: only then may a connection that is over have to give its port.
pub const SNAT_TRIES_FREE: u32 = 16;
/// Tries after which any half-open flow has to give its port, and one that was reset sooner.
pub const SNAT_TRIES_PATIENT: u32 = 24;
/// How long a closed connection keeps its port from others, after its last packet: what `tcp_tw_reuse` takes for enough
/// (`tcp_twsk_unique`, net/ipv4/tcp_ipv4.c).
pub const LINGER_NS: u64 = 1_000_000_000;
/// The same after a reset that may have been forged, as its sequence number was not looked at.
pub const RESET_NS: u64 = 300 * LINGER_NS;
/// The same where others have tried in vain for a port: after so long Linux's own conntrack forgets a connection that was
/// reset (`nf_conntrack_tcp_timeout_close`).
pub const RESET_PRESSED_NS: u64 = 10 * LINGER_NS;

/// What the kernel allocates up front for the LRU maps of a family: element header (72 bytes on 64-bit kernels:
/// `struct htab_elem` and LRU node), key and value. The maps of a family that a node does not have are made as small as
/// they can be.
const fn lru_bytes<A: Address>() -> u64 {
    (FLOWS_MAX + NAT_MAX) as u64 * entry::<FlowKey<A>, Flow1<A>>()
        + AFFINITIES_MAX as u64 * entry::<AffinityKey<A>, Affinity<A>>()
        + LATENCIES_MAX as u64 * entry::<LatencyKey<A>, Latency>()
        + FRAGMENTS_MAX as u64 * entry::<FragmentKey<A>, Ports>()
        + (TRANSIENT_FLOWS_MAX + TRANSIENT_NAT_MAX) as u64 * size_of::<FlowKey<A>>() as u64
}
const fn entry<K, V>() -> u64 {
    (72 + size_of::<K>() + size_of::<V>()) as u64
}
const _: () = assert!(lru_bytes::<Addr4>() <= 23 << 20, "LRU maps must fit the node's memory budget");
const _: () = assert!(lru_bytes::<Addr6>() <= 30 << 20, "LRU maps must fit the node's memory budget");
const _: () = assert!(TRANSIENT_FLOWS_MAX.is_power_of_two() && TRANSIENT_NAT_MAX.is_power_of_two());
const _: () = assert!(SERVICE_BACKENDS_MAX as u32 * 2 <= BACKENDS_MAX);
