//! Configuration in `.rodata`, filled by the loader ([`xebec_abi::config::global`]) and frozen.

use aya_ebpf::Global;
use xebec_abi::Addr4;
use xebec_logic::Settings;

use crate::map::Maps;

macro_rules! globals {
    ($($name:ident),* $(,)?) => { $(
        #[unsafe(no_mangle)]
        static $name: Global<u32> = Global::new(0);
    )* };
}

globals!(
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
    SNAT_PORT_MIN,
    SNAT_PORT_MAX,
    HAS_SET_RETVAL,
    HASH_SEED,
    NODE_NETNS_LOW,
    NODE_NETNS_HIGH,
);

/// Device of the overlay, 0 if there is none.
#[inline(always)]
pub fn overlay_ifindex() -> u32 {
    OVERLAY_IFINDEX.load()
}

/// Does the kernel have `bpf_set_retval`?
#[inline(always)]
pub fn has_set_retval() -> bool {
    HAS_SET_RETVAL.load() != 0
}

impl Settings for Maps {
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

    #[inline(always)]
    fn overlay(&self) -> bool {
        OVERLAY_IFINDEX.load() != 0
    }

    #[inline(always)]
    fn overlay_vni(&self) -> u32 {
        OVERLAY_VNI.load()
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
}
