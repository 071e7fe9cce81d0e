//! Names of maps, programs and pin directories.

/// `BPF_OBJ_NAME_LEN` is 16 with its NUL; longer names are cut, and then collide.
pub const NAME_MAX_BYTES: usize = 15;

pub const LB4_FRONTENDS: &str = "xb_lb4_fe";
pub const LB4_BACKENDS: &str = "xb_lb4_be";
pub const LB4_MEMBERS: &str = "xb_lb4_member";
pub const LB4_RANGES: &str = "xb_lb4_range";
pub const LB4_MAGLEV: &str = "xb_lb4_maglev";
pub const LB4_AFFINITY: &str = "xb_lb4_affinity";
pub const SOCK4_ORIGINS: &str = "xb_sock4_origin";
pub const LATENCY4: &str = "xb_latency4";
pub const CT4: &str = "xb_ct4";
pub const NAT4: &str = "xb_nat4";
pub const TRANSIENT4: &str = "xb_transient4";
pub const FRAGMENTS4: &str = "xb_frag4";
pub const L2_ANNOUNCED4: &str = "xb_l2_4";
pub const PODS4: &str = "xb_pods4";
pub const IPCACHE4: &str = "xb_ipcache4";
pub const PREFIXES4: &str = "xb_prefix4";
pub const LB6_FRONTENDS: &str = "xb_lb6_fe";
pub const LB6_BACKENDS: &str = "xb_lb6_be";
pub const LB6_MEMBERS: &str = "xb_lb6_member";
pub const LB6_RANGES: &str = "xb_lb6_range";
pub const LB6_MAGLEV: &str = "xb_lb6_maglev";
pub const LB6_AFFINITY: &str = "xb_lb6_affinity";
pub const SOCK6_ORIGINS: &str = "xb_sock6_origin";
pub const LATENCY6: &str = "xb_latency6";
pub const CT6: &str = "xb_ct6";
pub const NAT6: &str = "xb_nat6";
pub const TRANSIENT6: &str = "xb_transient6";
pub const FRAGMENTS6: &str = "xb_frag6";
pub const L2_ANNOUNCED6: &str = "xb_l2_6";
pub const PODS6: &str = "xb_pods6";
pub const IPCACHE6: &str = "xb_ipcache6";
pub const PREFIXES6: &str = "xb_prefix6";
pub const POD_RATES: &str = "xb_pod_rate";
pub const DROPS: &str = "xb_drops";
pub const COUNTERS: &str = "xb_counters";
pub const MAP_ERRORS: &str = "xb_map_errors";
/// Flows in another layout, while a map of them is replaced by one in this.
pub const OLD_CT4: &str = "xb_old_ct4";
pub const OLD_NAT4: &str = "xb_old_nat4";
pub const OLD_CT6: &str = "xb_old_ct6";
pub const OLD_NAT6: &str = "xb_old_nat6";
/// While maps of flows are replaced, by their ids: 1 when the new one has everything, and decides.
pub const CARRIED: &str = "xb_carried";
/// Of user space alone: what layout each pinned map has.
pub const LAYOUTS: &str = "xb_layout";

/// The maps of each family that the kernel allocates whole.
pub const WHOLE4: [&str; 6] = [LB4_AFFINITY, LATENCY4, CT4, NAT4, TRANSIENT4, FRAGMENTS4];
pub const WHOLE6: [&str; 6] = [LB6_AFFINITY, LATENCY6, CT6, NAT6, TRANSIENT6, FRAGMENTS6];

/// The maps of what connections take.
pub const LATENCIES: [&str; 2] = [LATENCY4, LATENCY6];

/// Every map that outlives an agent.
pub const PINNED_MAPS: [&str; 36] = [
    LB4_FRONTENDS,
    LB4_BACKENDS,
    LB4_MEMBERS,
    LB4_RANGES,
    LB4_MAGLEV,
    LB4_AFFINITY,
    SOCK4_ORIGINS,
    LATENCY4,
    CT4,
    NAT4,
    TRANSIENT4,
    FRAGMENTS4,
    L2_ANNOUNCED4,
    PODS4,
    IPCACHE4,
    PREFIXES4,
    LB6_FRONTENDS,
    LB6_BACKENDS,
    LB6_MEMBERS,
    LB6_RANGES,
    LB6_MAGLEV,
    LB6_AFFINITY,
    SOCK6_ORIGINS,
    LATENCY6,
    CT6,
    NAT6,
    TRANSIENT6,
    FRAGMENTS6,
    L2_ANNOUNCED6,
    PODS6,
    IPCACHE6,
    PREFIXES6,
    POD_RATES,
    DROPS,
    COUNTERS,
    MAP_ERRORS,
];

const _: () = {
    let mut i = 0;
    while i < PINNED_MAPS.len() {
        assert!(PINNED_MAPS[i].len() <= NAME_MAX_BYTES, "a map name is too long");
        i += 1;
    }
};
