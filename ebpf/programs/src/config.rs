//! Configuration in `.rodata`, filled by the loader ([`xebec_abi::config::global`]) and frozen.

use aya_ebpf::{
    Global,
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns},
};
use xebec_abi::{Addr4, Addr6, Counter, DropReason, PodRate};
use xebec_logic::{
    Host, Settings,
    limit::{Admission, Charge},
};

use crate::map::{Maps, charge, count, count_drop};

/// An IPv6 address or mask, as globals hold it.
type Words = [u32; 4];

macro_rules! globals {
    ($ty:ty: $zero:expr; $($name:ident),* $(,)?) => { $(
        #[unsafe(no_mangle)]
        static $name: Global<$ty> = Global::new($zero);
    )* };
}

globals!(
    u32: 0;
    NODE_IP,
    GATEWAY_IP,
    HAIRPIN_IP,
    CLUSTER_ADDR,
    CLUSTER_MASK,
    SERVICE_ADDR,
    SERVICE_MASK,
    NODE_PREFIX_LEN,
    OVERLAY_IFINDEX,
    OVERLAY_VNI,
    POD_MTU,
    DSR_IFINDEX,
    DSR_VNI,
    TEST_TUNNEL_VNI,
    TEST_TUNNEL_NODE,
    SNAT_PORT_MIN,
    SNAT_PORT_MAX,
    HAS_SET_RETVAL,
    HAS_COARSE_CLOCK,
    HASH_SEED,
    NODE_NETNS_LOW,
    NODE_NETNS_HIGH,
    NODE_PREFIX_LEN6,
);

globals!(
    Words: [0; 4];
    NODE_IP6,
    GATEWAY_IP6,
    HAIRPIN_IP6,
    CLUSTER_ADDR6,
    CLUSTER_MASK6,
    SERVICE_ADDR6,
    SERVICE_MASK6,
    NODE_PREFIX_MASK6,
    TEST_TUNNEL_NODE6,
);

/// Device of the overlay, 0 if there is none.
#[inline(always)]
pub fn overlay_ifindex() -> u32 {
    OVERLAY_IFINDEX.load()
}

/// Device of the tunnel to backends that answer their clients themselves, 0 if there is none.
#[inline(always)]
pub fn dsr_ifindex() -> u32 {
    DSR_IFINDEX.load()
}

/// The network identifier and address, both in host order, that a packet without a tunnel key came with in a test; zeroes
/// if there is no test.
#[inline(always)]
pub fn test_tunnel() -> (u32, u32) {
    (TEST_TUNNEL_VNI.load(), TEST_TUNNEL_NODE.load())
}

/// The same on a node whose tunnels run over IPv6.
#[inline(always)]
pub fn test_tunnel6() -> (u32, Addr6) {
    (TEST_TUNNEL_VNI.load(), Addr6::from_words(TEST_TUNNEL_NODE6.load()))
}

/// Does the kernel have `bpf_set_retval`?
#[inline(always)]
pub fn has_set_retval() -> bool {
    HAS_SET_RETVAL.load() != 0
}

impl Host for Maps {
    #[inline(always)]
    fn overlay(&self) -> bool {
        OVERLAY_IFINDEX.load() != 0
    }

    #[inline(always)]
    fn overlay_vni(&self) -> u32 {
        OVERLAY_VNI.load()
    }

    #[inline(always)]
    fn tunnel_ip(&self) -> Addr4 {
        NODE_IP.load().to_ne_bytes()
    }

    #[inline(always)]
    fn pod_mtu(&self) -> u32 {
        POD_MTU.load()
    }

    #[inline(always)]
    fn dsr_vni(&self) -> u32 {
        DSR_VNI.load()
    }

    #[inline(always)]
    fn snat_port_min(&self) -> u16 {
        SNAT_PORT_MIN.load() as u16
    }

    #[inline(always)]
    fn snat_port_max(&self) -> u16 {
        SNAT_PORT_MAX.load() as u16
    }

    #[inline(always)]
    fn node_netns(&self) -> u64 {
        u64::from(NODE_NETNS_HIGH.load()) << 32 | u64::from(NODE_NETNS_LOW.load())
    }

    #[inline(always)]
    fn hash_seed(&self) -> u32 {
        HASH_SEED.load()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // The coarse clock is the same one as of its last tick, without asking the hardware.
        // SAFETY: the helpers read clocks.
        unsafe { if HAS_COARSE_CLOCK.load() != 0 { bpf_ktime_get_coarse_ns() } else { bpf_ktime_get_ns() } }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper reads this CPU's generator.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn count(&self, counter: Counter, bytes: u64) {
        count(counter, bytes);
    }

    #[inline(always)]
    fn count_drop(&self, reason: DropReason, bytes: u64) {
        count_drop(reason, bytes);
    }

    #[inline(always)]
    fn charge(&self, ifindex: u32, decide: impl FnOnce(&PodRate) -> Charge) -> Admission {
        charge(ifindex, decide)
    }
}

impl Settings<Addr4> for Maps {
    #[inline(always)]
    fn node_ip(&self) -> Addr4 {
        NODE_IP.load().to_ne_bytes()
    }

    #[inline(always)]
    fn gateway_ip(&self) -> Addr4 {
        GATEWAY_IP.load().to_ne_bytes()
    }

    #[inline(always)]
    fn hairpin_ip(&self) -> Addr4 {
        HAIRPIN_IP.load().to_ne_bytes()
    }

    #[inline(always)]
    fn in_cluster(&self, addr: Addr4) -> bool {
        u32::from_ne_bytes(addr) & CLUSTER_MASK.load() == CLUSTER_ADDR.load()
    }

    #[inline(always)]
    fn in_services(&self, addr: Addr4) -> bool {
        u32::from_ne_bytes(addr) & SERVICE_MASK.load() == SERVICE_ADDR.load()
    }

    #[inline(always)]
    fn node_prefix(&self, addr: Addr4) -> (Addr4, u8) {
        let len = NODE_PREFIX_LEN.load();
        // A shift by 32 is no shift to the CPU; no prefix is that short.
        let mask = u32::MAX << (32u32.wrapping_sub(len) & 31);
        ((u32::from_be_bytes(addr) & mask).to_be_bytes(), len as u8)
    }
}

impl Settings<Addr6> for Maps {
    #[inline(always)]
    fn node_ip(&self) -> Addr6 {
        Addr6::from_words(NODE_IP6.load())
    }

    #[inline(always)]
    fn gateway_ip(&self) -> Addr6 {
        Addr6::from_words(GATEWAY_IP6.load())
    }

    #[inline(always)]
    fn hairpin_ip(&self) -> Addr6 {
        Addr6::from_words(HAIRPIN_IP6.load())
    }

    #[inline(always)]
    fn in_cluster(&self, addr: Addr6) -> bool {
        masked(addr, CLUSTER_MASK6.load()) == CLUSTER_ADDR6.load()
    }

    #[inline(always)]
    fn in_services(&self, addr: Addr6) -> bool {
        masked(addr, SERVICE_MASK6.load()) == SERVICE_ADDR6.load()
    }

    #[inline(always)]
    fn node_prefix(&self, addr: Addr6) -> (Addr6, u8) {
        (Addr6::from_words(masked(addr, NODE_PREFIX_MASK6.load())), NODE_PREFIX_LEN6.load() as u8)
    }
}

#[inline(always)]
fn masked(addr: Addr6, mask: Words) -> Words {
    let [a, b, c, d] = *addr.words();
    [a & mask[0], b & mask[1], c & mask[2], d & mask[3]]
}
