//! The maps, and the logic's [`Tables`] over them.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    btf_maps::{HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, SkStorage, lpm_trie::Key as PrefixKey},
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_boot_ns},
    macros::btf_map,
};
use xebec_abi::{
    Addr4, Affinity4, AffinityKey, Backend4, BackendKey, Counter, DropReason, Endpoint4, Flow4, FlowKey4, FragmentKey4,
    Frontend4, FrontendKey4, L2Key4, L2Mac, MapId, MemberKey4, Origins4, Pod4, Ports, PrefixKey4, RangeKey4, ServiceId,
    Traffic, Tuple4,
    latency::{Latency, LatencyKey4},
    limits,
    stats::{MAP_ERRORS_ENTRIES, TRAFFIC_ENTRIES},
};
use xebec_logic::{FlowMap, Settings, Tables, conntrack};

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
const EEXIST: i32 = 17;
const EBUSY: i32 = 16;

/// A hash map whose memory grows with its entries.
type Grown<K, V, const N: usize> = HashMap<K, V, N, NO_PREALLOC>;

#[btf_map(name = "xb_lb4_fe")]
static FRONTENDS: Grown<FrontendKey4, Frontend4, { limits::FRONTENDS_MAX as usize }> = HashMap::new();
#[btf_map(name = "xb_lb4_be")]
static BACKENDS: Grown<BackendKey, Backend4, { limits::BACKENDS_MAX as usize }> = HashMap::new();
#[btf_map(name = "xb_lb4_member")]
static MEMBERS: Grown<MemberKey4, u32, { limits::MEMBERS_MAX as usize }> = HashMap::new();
#[btf_map(name = "xb_lb4_range")]
static RANGES: LpmTrie<RangeKey4, u32, { limits::RANGES_MAX as usize }> = LpmTrie::new();
#[btf_map(name = "xb_lb4_affinity")]
static AFFINITY: LruHashMap<AffinityKey, Affinity4, { limits::AFFINITIES_MAX as usize }> = LruHashMap::new();
/// What sockets dialled. Pinned: a socket keeps its storage only in this map.
#[btf_map(name = "xb_sock4_origin")]
pub static ORIGINS: SkStorage<Origins4> = SkStorage::new();
/// When a socket that a hook translated began to connect (boot-time clock).
#[btf_map(name = "xb_sock_start")]
pub static STARTS: SkStorage<u64> = SkStorage::new();
#[btf_map(name = "xb_latency4")]
pub static LATENCIES: PerCpuHashMap<LatencyKey4, Latency, { limits::LATENCIES_MAX as usize }, NO_PREALLOC> =
    PerCpuHashMap::new();
#[btf_map(name = "xb_ct4")]
static CT: LruHashMap<FlowKey4, Flow4, { limits::FLOWS_MAX as usize }> = LruHashMap::new();
#[btf_map(name = "xb_nat4")]
static NAT: LruHashMap<FlowKey4, Flow4, { limits::NAT_MAX as usize }> = LruHashMap::new();
#[btf_map(name = "xb_frag4")]
static FRAGMENTS: LruHashMap<FragmentKey4, Ports, { limits::FRAGMENTS_MAX as usize }> = LruHashMap::new();
#[btf_map(name = "xb_l2_4")]
static ANNOUNCED: Grown<L2Key4, L2Mac, { limits::ANNOUNCED_MAX as usize }> = HashMap::new();
#[btf_map(name = "xb_pods4")]
static PODS: Grown<Addr4, Pod4, { limits::PODS_MAX as usize }> = HashMap::new();
#[btf_map(name = "xb_ipcache4")]
static IPCACHE: Grown<PrefixKey4, Endpoint4, { limits::ENDPOINTS_MAX as usize }> = HashMap::new();
#[btf_map(name = "xb_prefix4")]
static PREFIXES: LpmTrie<Addr4, Endpoint4, { limits::PREFIXES_MAX as usize }> = LpmTrie::new();
#[btf_map(name = "xb_drops")]
static DROPS: PerCpuArray<Traffic, { TRAFFIC_ENTRIES as usize }> = PerCpuArray::new();
#[btf_map(name = "xb_counters")]
static COUNTERS: PerCpuArray<Traffic, { TRAFFIC_ENTRIES as usize }> = PerCpuArray::new();
#[btf_map(name = "xb_map_errors")]
static MAP_ERRORS: PerCpuArray<u64, { MAP_ERRORS_ENTRIES as usize }> = PerCpuArray::new();

/// All maps.
pub struct Maps;

#[inline(always)]
pub fn count_drop(reason: DropReason, bytes: u64) {
    add(DROPS.get_ptr_mut(reason.index()), bytes);
}

#[inline(always)]
fn add(slot: Option<*mut Traffic>, bytes: u64) {
    if let Some(slot) = slot {
        // SAFETY: the slot is this CPU's, and the program is not preempted by itself.
        unsafe {
            (*slot).packets = (*slot).packets.wrapping_add(1);
            (*slot).bytes = (*slot).bytes.wrapping_add(bytes);
        }
    }
}

#[inline(always)]
pub fn count_error(map: MapId, error: i32) {
    if let Some(slot) = MAP_ERRORS.get_ptr_mut(map.error_index(error)) {
        // SAFETY: the slot is this CPU's, and the program is not preempted by itself.
        unsafe { *slot = (*slot).wrapping_add(1) };
    }
}

impl Maps {
    #[inline(always)]
    fn flow(&self, map: FlowMap, key: &FlowKey4) -> Option<*mut Flow4> {
        match map {
            FlowMap::Conntrack => CT.get_ptr_mut(key),
            FlowMap::Nat => NAT.get_ptr_mut(key),
        }
    }

    /// Before 6.15 an LRU insert can fail with EBUSY while the list is being balanced: once more.
    #[inline(always)]
    fn insert(&self, map: FlowMap, key: &FlowKey4, flow: &Flow4) -> Result<(), i32> {
        let id = match map {
            FlowMap::Conntrack => MapId::Ct4,
            FlowMap::Nat => MapId::Nat4,
        };
        let once = || match map {
            FlowMap::Conntrack => CT.insert(key, flow, BPF_NOEXIST.into()),
            FlowMap::Nat => NAT.insert(key, flow, BPF_NOEXIST.into()),
        };
        let mut result = once();
        if result == Err(-EBUSY) {
            count_error(id, -EBUSY);
            result = once();
        }
        if let Err(error) = result
            && error != -EEXIST
        {
            count_error(id, error);
        }
        result
    }
}

impl Tables for Maps {
    // SAFETY of every `get` below: the value is copied out before anything else happens. User space
    // replaces values whole; an entry that is deleted meanwhile keeps its bytes until it is reused,
    // and a value that was reused in between leads to a backend that does not exist.

    #[inline(always)]
    fn frontend(&self, key: &FrontendKey4) -> Option<Frontend4> {
        // SAFETY: see above.
        unsafe { FRONTENDS.get(key) }.copied()
    }

    #[inline(always)]
    fn backend(&self, key: &BackendKey) -> Option<Backend4> {
        // SAFETY: see above.
        unsafe { BACKENDS.get(key) }.copied()
    }

    #[inline(always)]
    fn is_member(&self, key: &MemberKey4) -> bool {
        MEMBERS.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn in_source_ranges(&self, service: ServiceId, addr: Addr4) -> bool {
        RANGES.get(&PrefixKey::new(64, RangeKey4::new(service, addr))).is_some()
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity4> {
        // SAFETY: see above.
        unsafe { AFFINITY.get(key) }.copied()
    }

    #[inline(always)]
    fn put_affinity(&self, key: &AffinityKey, value: &Affinity4) {
        if let Some(known) = AFFINITY.get_ptr_mut(key) {
            // SAFETY: the pointer is to a live entry; a concurrent writer is the same client.
            unsafe { *known = *value };
        } else if let Err(error) = AFFINITY.insert(key, value, BPF_ANY.into()) {
            count_error(MapId::Affinity, error);
        }
    }

    #[inline(always)]
    fn touch(&self, map: FlowMap, key: &FlowKey4, touch: &conntrack::Touch) -> Option<conntrack::Touched> {
        let flow = self.flow(map, key)?;
        // SAFETY: the pointer is to a live entry. Two CPUs may count at once and lose a count.
        Some(conntrack::touch(unsafe { &mut *flow }, touch))
    }

    #[inline(always)]
    fn peek(&self, map: FlowMap, key: &FlowKey4) -> Option<Tuple4> {
        let flow = self.flow(map, key)?;
        // SAFETY: the pointer is to a live entry.
        Some(unsafe { (*flow).to })
    }

    #[inline(always)]
    fn add_flow(&self, map: FlowMap, key: &FlowKey4, flow: &Flow4) -> Result<bool, DropReason> {
        match self.insert(map, key, flow) {
            Ok(()) => Ok(true),
            Err(error) if error == -EEXIST => Ok(false),
            Err(_) => Err(DropReason::FlowInsert),
        }
    }

    #[inline(always)]
    fn put_flow(&self, map: FlowMap, key: &FlowKey4, flow: &Flow4) -> Result<(), DropReason> {
        if let Some(known) = self.flow(map, key) {
            // SAFETY: the pointer is to a live entry.
            unsafe { *known = *flow };
            return Ok(());
        }
        self.insert(map, key, flow).map_err(|_| DropReason::FlowInsert)
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey4) -> Option<Ports> {
        // SAFETY: see above.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn put_fragment(&self, key: &FragmentKey4, ports: &Ports) {
        if let Err(error) = FRAGMENTS.insert(key, ports, BPF_ANY.into()) {
            count_error(MapId::Fragments4, error);
        }
    }

    #[inline(always)]
    fn announced(&self, key: &L2Key4) -> Option<L2Mac> {
        // SAFETY: see above.
        unsafe { ANNOUNCED.get(key) }.copied()
    }

    #[inline(always)]
    fn pod(&self, addr: Addr4) -> Option<Pod4> {
        // SAFETY: see above.
        unsafe { PODS.get(addr) }.copied()
    }

    #[inline(always)]
    fn remote(&self, addr: Addr4) -> Option<Endpoint4> {
        let exact = PrefixKey4 { addr, prefix_len: 32, pad: [0; 3] };
        let (prefix, prefix_len) = self.node_prefix(addr);
        let node = PrefixKey4 { addr: prefix, prefix_len, pad: [0; 3] };
        // SAFETY: see above.
        unsafe { IPCACHE.get(exact) }
            // SAFETY: see above.
            .or_else(|| unsafe { IPCACHE.get(node) })
            .or_else(|| PREFIXES.get(&PrefixKey::new(32, addr)))
            .copied()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: the helper reads a clock.
        unsafe { bpf_ktime_get_boot_ns() }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper reads this CPU's generator.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn count(&self, counter: Counter, bytes: u64) {
        add(COUNTERS.get_ptr_mut(counter.index()), bytes);
    }
}
