//! Read-only configuration: frozen `.rodata` that the loader fills, so that the verifier removes
//! what is off. Addresses and masks are in network order as the bytes of a `u32` on this machine
//! (`u32::from_ne_bytes(addr)`).

/// Version of the pin directory: what lies in it under which name. What the maps in it hold has a layout for each
/// ([`crate::layout`]).
pub const VERSION: u32 = 1;

/// Name of each global, as `EbpfLoader::override_global` takes it.
pub mod global {
    pub const NODE_IP: &str = "NODE_IP";
    pub const GATEWAY_IP: &str = "GATEWAY_IP";
    pub const HAIRPIN_IP: &str = "HAIRPIN_IP";
    pub const CLUSTER_ADDR: &str = "CLUSTER_ADDR";
    pub const CLUSTER_MASK: &str = "CLUSTER_MASK";
    pub const SERVICE_ADDR: &str = "SERVICE_ADDR";
    pub const SERVICE_MASK: &str = "SERVICE_MASK";
    /// Those of IPv6, with the same meaning; 0 where there is none.
    pub const NODE_IP6: &str = "NODE_IP6";
    pub const GATEWAY_IP6: &str = "GATEWAY_IP6";
    pub const HAIRPIN_IP6: &str = "HAIRPIN_IP6";
    pub const CLUSTER_ADDR6: &str = "CLUSTER_ADDR6";
    pub const CLUSTER_MASK6: &str = "CLUSTER_MASK6";
    pub const SERVICE_ADDR6: &str = "SERVICE_ADDR6";
    pub const SERVICE_MASK6: &str = "SERVICE_MASK6";
    pub const NODE_PREFIX_MASK6: &str = "NODE_PREFIX_MASK6";
    pub const NODE_PREFIX_LEN6: &str = "NODE_PREFIX_LEN6";
    pub const NODE_PREFIX_LEN: &str = "NODE_PREFIX_LEN";
    pub const OVERLAY_IFINDEX: &str = "OVERLAY_IFINDEX";
    pub const OVERLAY_VNI: &str = "OVERLAY_VNI";
    pub const POD_MTU: &str = "POD_MTU";
    /// Of the tunnel to nodes whose backends answer their clients themselves ([`super::dsr_vni`]); 0 where there is none.
    pub const DSR_IFINDEX: &str = "DSR_IFINDEX";
    pub const DSR_VNI: &str = "DSR_VNI";
    /// What a packet without a tunnel key came through: `BPF_PROG_TEST_RUN` cannot give it one. Zeroes otherwise.
    pub const TEST_TUNNEL_VNI: &str = "TEST_TUNNEL_VNI";
    pub const TEST_TUNNEL_NODE: &str = "TEST_TUNNEL_NODE";
    pub const TEST_TUNNEL_NODE6: &str = "TEST_TUNNEL_NODE6";
    pub const SNAT_PORT_MIN: &str = "SNAT_PORT_MIN";
    pub const SNAT_PORT_MAX: &str = "SNAT_PORT_MAX";
    pub const HAS_SET_RETVAL: &str = "HAS_SET_RETVAL";
    pub const HAS_COARSE_CLOCK: &str = "HAS_COARSE_CLOCK";
    pub const HASH_SEED: &str = "HASH_SEED";
    /// A bit for each map of flows that is being replaced by one of another layout ([`super::migrating`]). Of programs that
    /// know both.
    pub const MIGRATING: &str = "MIGRATING";
    /// Low and high word of the cookie of the node's network namespace.
    pub const NODE_NETNS: [&str; 2] = ["NODE_NETNS_LOW", "NODE_NETNS_HIGH"];
}

/// Of [`crate::names::CARRIED`], by [`crate::MapId`].
pub const CARRIED_ENTRIES: u32 = u32::BITS;
const _: () = assert!(crate::MapId::ALL.len() as u32 <= CARRIED_ENTRIES);

/// The bit of a map in [`global::MIGRATING`].
pub const fn migrating(map: crate::MapId) -> u32 {
    1 << map.index()
}

/// Source address a pod sees when it reaches itself through a service. Link-local (RFC 3927), so
/// it is nobody's address in a cluster.
pub const HAIRPIN_IP: crate::Addr4 = [169, 254, 77, 77];

/// The same for IPv6: of a locally assigned prefix (RFC 4193) that no cluster uses.
pub const HAIRPIN_IP6: crate::Addr6 =
    crate::Addr6::new([0xfd, 0x78, 0x65, 0x62, 0x65, 0x63, 0, 0, 0, 0, 0, 0, 0, 0, 0x4d, 0x4d]);

/// Ports that masquerade takes: above Linux's default ephemeral range (32768-60999), so they never
/// meet a socket of the node.
pub const SNAT_PORTS: core::ops::RangeInclusive<u16> = 61_000..=65_535;

/// Where encapsulated packets go (Linux's default VXLAN port): never a service's on a node's address.
pub const OVERLAY_PORT: u16 = 8_472;

/// Set in the network identifier of packets for a service that go on to a backend's node as their client sent them.
const DSR: u32 = 1 << 23;
/// Set besides if the client dialled a NodePort: the address is then that of the node it dialled, and no other knows it.
pub const DSR_NODE_PORT: u32 = 1 << 22;

/// The identifier of such packets in the cluster whose overlay has `vni`; that with [`DSR_NODE_PORT`] is taken too. `None` of
/// an identifier that could be mistaken for either, or that VXLAN does not have.
pub const fn dsr_vni(vni: u32) -> Option<u32> {
    if vni < DSR_NODE_PORT { Some(vni | DSR) } else { None }
}

/// Mark on packets whose tunnel key is already set. A packet that enters from a pod has no mark:
/// veth scrubs it when namespaces differ (`skb_scrub_packet`).
pub const MARK_TUNNEL: u32 = 0x7865_6263;

/// Netns cookie (or client address) space tags for [`crate::AffinityKey::kind`].
pub const CLIENT_NETNS: u8 = 1;
pub const CLIENT_ADDR: u8 = 2;
