//! The maps, and the logic's [`Tables`] over them.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, SkStorage, lpm_trie::Key as TrieKey},
    helpers::bpf_get_smp_processor_id,
    macros::btf_map,
};
use xebec_abi::{
    Addr4, Addr6, Affinity, AffinityKey, Backend, BackendKey, Counter, DropReason, Endpoint, Flow, FlowKey,
    FragmentKey, FrontendEntry, FrontendKey, FrontendValue, L2Key, L2Mac, LocalPod, MaglevBlock, MaglevKey, MapId,
    MemberKey, Origins, PodRate, Ports, PrefixKey, RangeKey, ServiceId, Traffic, Tuple,
    latency::{Latency, LatencyKey},
    limits,
    stats::{MAP_ERRORS_ENTRIES, TRAFFIC_ENTRIES},
};
use xebec_logic::{
    Family, FlowMap, Host, Room, Settings, Tables, Unwanted,
    conntrack::{self, Touch},
    lb::scale,
    limit::{Admission, Charge},
    transient::Turn,
};

use crate::bridge::{self, Bridged};

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
const EEXIST: i32 = 17;
const EBUSY: i32 = 16;

/// A hash map whose memory grows with its entries.
type Grown<K, V, const N: usize> = HashMap<K, V, N, NO_PREALLOC>;

type Frontends<A> = Grown<FrontendKey<A>, FrontendEntry<A>, { limits::FRONTENDS_MAX as usize }>;
type Backends<A> = Grown<BackendKey, Backend<A>, { limits::BACKENDS_MAX as usize }>;
type Maglev = Grown<MaglevKey, MaglevBlock, { limits::MAGLEV_BLOCKS_MAX as usize }>;
type Members<A> = Grown<MemberKey<A>, u32, { limits::MEMBERS_MAX as usize }>;
type Ranges<A> = LpmTrie<RangeKey<A>, u32, { limits::RANGES_MAX as usize }>;
type Affinities<A> = LruHashMap<AffinityKey<A>, Affinity<A>, { limits::AFFINITIES_MAX as usize }>;
type SocketOrigins<A> = SkStorage<Origins<A>>;
/// Least recently used: an entry costs a connection no allocation, and those of services that nobody dials make place.
type Latencies<A> = LruHashMap<LatencyKey<A>, Latency, { limits::LATENCIES_MAX as usize }>;
type Conntrack<A> = LruHashMap<FlowKey<A>, Flow<A>, { limits::FLOWS_MAX as usize }>;
type Nat<A> = LruHashMap<FlowKey<A>, Flow<A>, { limits::NAT_MAX as usize }>;
type Transient<A> = Array<FlowKey<A>, { (limits::TRANSIENT_FLOWS_MAX + limits::TRANSIENT_NAT_MAX) as usize }>;
type Turns<A> = PerCpuArray<Turn<A>, 1>;
type Fragments<A> = LruHashMap<FragmentKey<A>, Ports, { limits::FRAGMENTS_MAX as usize }>;
type Announced<A> = Grown<L2Key<A>, L2Mac, { limits::ANNOUNCED_MAX as usize }>;
type Pods<A> = Grown<A, LocalPod, { limits::PODS_MAX as usize }>;
type Ipcache<A> = Grown<PrefixKey<A>, Endpoint<A>, { limits::ENDPOINTS_MAX as usize }>;
type Rooms<A> = PerCpuArray<Room<A>, 1>;
type Prefixes<A> = LpmTrie<A, Endpoint<A>, { limits::PREFIXES_MAX as usize }>;

mod v4 {
    use super::*;

    #[btf_map(name = "xb_lb4_fe")]
    pub static FRONTENDS: Frontends<Addr4> = HashMap::new();
    #[btf_map(name = "xb_lb4_be")]
    pub static BACKENDS: Backends<Addr4> = HashMap::new();
    #[btf_map(name = "xb_lb4_maglev")]
    pub static MAGLEV: Maglev = HashMap::new();
    #[btf_map(name = "xb_lb4_member")]
    pub static MEMBERS: Members<Addr4> = HashMap::new();
    #[btf_map(name = "xb_lb4_range")]
    pub static RANGES: Ranges<Addr4> = LpmTrie::new();
    #[btf_map(name = "xb_lb4_affinity")]
    pub static AFFINITY: Affinities<Addr4> = LruHashMap::new();
    /// What sockets dialled. Pinned: a socket keeps its storage only in this map.
    #[btf_map(name = "xb_sock4_origin")]
    pub static ORIGINS: SocketOrigins<Addr4> = SkStorage::new();
    #[btf_map(name = "xb_latency4")]
    pub static LATENCIES: Latencies<Addr4> = LruHashMap::new();
    #[btf_map(name = "xb_ct4")]
    pub static CT: Conntrack<Addr4> = LruHashMap::new();
    #[btf_map(name = "xb_nat4")]
    pub static NAT: Nat<Addr4> = LruHashMap::new();
    /// Keys of the requests of transient flows, those of `CT` first: as many turns as each has places.
    #[btf_map(name = "xb_transient4")]
    pub static TRANSIENT: Transient<Addr4> = Array::new();
    #[btf_map(name = "xb_turn4")]
    pub static TURN: Turns<Addr4> = PerCpuArray::new();
    #[btf_map(name = "xb_frag4")]
    pub static FRAGMENTS: Fragments<Addr4> = LruHashMap::new();
    #[btf_map(name = "xb_l2_4")]
    pub static ANNOUNCED: Announced<Addr4> = HashMap::new();
    #[btf_map(name = "xb_pods4")]
    pub static PODS: Pods<Addr4> = HashMap::new();
    #[btf_map(name = "xb_ipcache4")]
    pub static IPCACHE: Ipcache<Addr4> = HashMap::new();
    /// Of the program that this CPU runs.
    #[btf_map(name = "xb_room4")]
    pub static ROOM: Rooms<Addr4> = PerCpuArray::new();
    #[btf_map(name = "xb_prefix4")]
    pub static PREFIXES: Prefixes<Addr4> = LpmTrie::new();
}

mod v6 {
    use super::*;

    #[btf_map(name = "xb_lb6_fe")]
    pub static FRONTENDS: Frontends<Addr6> = HashMap::new();
    #[btf_map(name = "xb_lb6_be")]
    pub static BACKENDS: Backends<Addr6> = HashMap::new();
    #[btf_map(name = "xb_lb6_maglev")]
    pub static MAGLEV: Maglev = HashMap::new();
    #[btf_map(name = "xb_lb6_member")]
    pub static MEMBERS: Members<Addr6> = HashMap::new();
    #[btf_map(name = "xb_lb6_range")]
    pub static RANGES: Ranges<Addr6> = LpmTrie::new();
    #[btf_map(name = "xb_lb6_affinity")]
    pub static AFFINITY: Affinities<Addr6> = LruHashMap::new();
    /// What sockets dialled. Pinned: a socket keeps its storage only in this map.
    #[btf_map(name = "xb_sock6_origin")]
    pub static ORIGINS: SocketOrigins<Addr6> = SkStorage::new();
    #[btf_map(name = "xb_latency6")]
    pub static LATENCIES: Latencies<Addr6> = LruHashMap::new();
    #[btf_map(name = "xb_ct6")]
    pub static CT: Conntrack<Addr6> = LruHashMap::new();
    #[btf_map(name = "xb_nat6")]
    pub static NAT: Nat<Addr6> = LruHashMap::new();
    /// Keys of the requests of transient flows, those of `CT` first: as many turns as each has places.
    #[btf_map(name = "xb_transient6")]
    pub static TRANSIENT: Transient<Addr6> = Array::new();
    #[btf_map(name = "xb_turn6")]
    pub static TURN: Turns<Addr6> = PerCpuArray::new();
    #[btf_map(name = "xb_frag6")]
    pub static FRAGMENTS: Fragments<Addr6> = LruHashMap::new();
    #[btf_map(name = "xb_l2_6")]
    pub static ANNOUNCED: Announced<Addr6> = HashMap::new();
    #[btf_map(name = "xb_pods6")]
    pub static PODS: Pods<Addr6> = HashMap::new();
    #[btf_map(name = "xb_ipcache6")]
    pub static IPCACHE: Ipcache<Addr6> = HashMap::new();
    /// Of the program that this CPU runs.
    #[btf_map(name = "xb_room6")]
    pub static ROOM: Rooms<Addr6> = PerCpuArray::new();
    #[btf_map(name = "xb_prefix6")]
    pub static PREFIXES: Prefixes<Addr6> = LpmTrie::new();
}

#[btf_map(name = "xb_pod_rate")]
static POD_RATES: Grown<u32, PodRate, { limits::PODS_MAX as usize }> = HashMap::new();
#[btf_map(name = "xb_drops")]
static DROPS: PerCpuArray<Traffic, { TRAFFIC_ENTRIES as usize }> = PerCpuArray::new();
#[btf_map(name = "xb_counters")]
static COUNTERS: PerCpuArray<Traffic, { TRAFFIC_ENTRIES as usize }> = PerCpuArray::new();
#[btf_map(name = "xb_map_errors")]
static MAP_ERRORS: PerCpuArray<u64, { MAP_ERRORS_ENTRIES as usize }> = PerCpuArray::new();

/// The maps of a family, and how their errors are counted.
pub trait Stored: Family + Bridged {
    const ERRORS: Errors;

    fn room() -> &'static Rooms<Self>;
    fn frontends() -> &'static Frontends<Self>;
    fn backends() -> &'static Backends<Self>;
    fn maglev() -> &'static Maglev;
    fn members() -> &'static Members<Self>;
    fn ranges() -> &'static Ranges<Self>;
    fn affinity() -> &'static Affinities<Self>;
    fn origins() -> &'static SocketOrigins<Self>;
    fn latencies() -> &'static Latencies<Self>;
    fn conntrack() -> &'static Conntrack<Self>;
    fn nat() -> &'static Nat<Self>;
    fn transient() -> &'static Transient<Self>;
    fn turn() -> &'static Turns<Self>;
    fn fragments() -> &'static Fragments<Self>;
    fn announced() -> &'static Announced<Self>;
    fn pods() -> &'static Pods<Self>;
    fn ipcache() -> &'static Ipcache<Self>;
    fn prefixes() -> &'static Prefixes<Self>;
}

/// Where errors of each map are counted.
pub struct Errors {
    pub conntrack: MapId,
    pub nat: MapId,
    pub fragments: MapId,
    pub affinity: MapId,
    pub origins: MapId,
    pub latencies: MapId,
}

impl Errors {
    #[inline(always)]
    pub const fn of(&self, map: FlowMap) -> MapId {
        match map {
            FlowMap::Conntrack => self.conntrack,
            FlowMap::Nat => self.nat,
        }
    }
}

impl Stored for Addr4 {
    const ERRORS: Errors = Errors {
        conntrack: MapId::Ct4,
        nat: MapId::Nat4,
        fragments: MapId::Fragments4,
        affinity: MapId::Affinity,
        origins: MapId::Origins,
        latencies: MapId::Latency4,
    };

    #[inline(always)]
    fn room() -> &'static Rooms<Self> {
        &v4::ROOM
    }

    #[inline(always)]
    fn frontends() -> &'static Frontends<Self> {
        &v4::FRONTENDS
    }

    #[inline(always)]
    fn backends() -> &'static Backends<Self> {
        &v4::BACKENDS
    }

    #[inline(always)]
    fn maglev() -> &'static Maglev {
        &v4::MAGLEV
    }

    #[inline(always)]
    fn members() -> &'static Members<Self> {
        &v4::MEMBERS
    }

    #[inline(always)]
    fn ranges() -> &'static Ranges<Self> {
        &v4::RANGES
    }

    #[inline(always)]
    fn affinity() -> &'static Affinities<Self> {
        &v4::AFFINITY
    }

    #[inline(always)]
    fn origins() -> &'static SocketOrigins<Self> {
        &v4::ORIGINS
    }

    #[inline(always)]
    fn latencies() -> &'static Latencies<Self> {
        &v4::LATENCIES
    }

    #[inline(always)]
    fn conntrack() -> &'static Conntrack<Self> {
        &v4::CT
    }

    #[inline(always)]
    fn nat() -> &'static Nat<Self> {
        &v4::NAT
    }

    #[inline(always)]
    fn transient() -> &'static Transient<Self> {
        &v4::TRANSIENT
    }

    #[inline(always)]
    fn turn() -> &'static Turns<Self> {
        &v4::TURN
    }

    #[inline(always)]
    fn fragments() -> &'static Fragments<Self> {
        &v4::FRAGMENTS
    }

    #[inline(always)]
    fn announced() -> &'static Announced<Self> {
        &v4::ANNOUNCED
    }

    #[inline(always)]
    fn pods() -> &'static Pods<Self> {
        &v4::PODS
    }

    #[inline(always)]
    fn ipcache() -> &'static Ipcache<Self> {
        &v4::IPCACHE
    }

    #[inline(always)]
    fn prefixes() -> &'static Prefixes<Self> {
        &v4::PREFIXES
    }
}

impl Stored for Addr6 {
    const ERRORS: Errors = Errors {
        conntrack: MapId::Ct6,
        nat: MapId::Nat6,
        fragments: MapId::Fragments6,
        affinity: MapId::Affinity6,
        origins: MapId::Origins6,
        latencies: MapId::Latency6,
    };

    #[inline(always)]
    fn room() -> &'static Rooms<Self> {
        &v6::ROOM
    }

    #[inline(always)]
    fn frontends() -> &'static Frontends<Self> {
        &v6::FRONTENDS
    }

    #[inline(always)]
    fn backends() -> &'static Backends<Self> {
        &v6::BACKENDS
    }

    #[inline(always)]
    fn maglev() -> &'static Maglev {
        &v6::MAGLEV
    }

    #[inline(always)]
    fn members() -> &'static Members<Self> {
        &v6::MEMBERS
    }

    #[inline(always)]
    fn ranges() -> &'static Ranges<Self> {
        &v6::RANGES
    }

    #[inline(always)]
    fn affinity() -> &'static Affinities<Self> {
        &v6::AFFINITY
    }

    #[inline(always)]
    fn origins() -> &'static SocketOrigins<Self> {
        &v6::ORIGINS
    }

    #[inline(always)]
    fn latencies() -> &'static Latencies<Self> {
        &v6::LATENCIES
    }

    #[inline(always)]
    fn conntrack() -> &'static Conntrack<Self> {
        &v6::CT
    }

    #[inline(always)]
    fn nat() -> &'static Nat<Self> {
        &v6::NAT
    }

    #[inline(always)]
    fn transient() -> &'static Transient<Self> {
        &v6::TRANSIENT
    }

    #[inline(always)]
    fn turn() -> &'static Turns<Self> {
        &v6::TURN
    }

    #[inline(always)]
    fn fragments() -> &'static Fragments<Self> {
        &v6::FRAGMENTS
    }

    #[inline(always)]
    fn announced() -> &'static Announced<Self> {
        &v6::ANNOUNCED
    }

    #[inline(always)]
    fn pods() -> &'static Pods<Self> {
        &v6::PODS
    }

    #[inline(always)]
    fn ipcache() -> &'static Ipcache<Self> {
        &v6::IPCACHE
    }

    #[inline(always)]
    fn prefixes() -> &'static Prefixes<Self> {
        &v6::PREFIXES
    }
}

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
    /// To look at and to change; then comes `store`.
    #[inline(always)]
    fn flow<A: Stored>(&self, map: FlowMap, key: &FlowKey<A>) -> Option<*mut Flow<A>> {
        if bridge::is_migrating(A::ERRORS.of(map)) {
            let flow = bridge::fetch(map, key);
            return if flow.is_null() { None } else { Some(flow) };
        }
        match map {
            FlowMap::Conntrack => A::conntrack().get_ptr_mut(key),
            FlowMap::Nat => A::nat().get_ptr_mut(key),
        }
    }

    #[inline(always)]
    fn store<A: Stored>(&self, map: FlowMap, key: &FlowKey<A>) {
        if bridge::is_migrating(A::ERRORS.of(map)) {
            bridge::store(map, key);
        }
    }

    /// Before 6.15 an LRU insert can fail with EBUSY while the list is being balanced: once more.
    #[inline(always)]
    fn insert<A: Stored>(&self, map: FlowMap, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), i32> {
        let id = A::ERRORS.of(map);
        if bridge::is_migrating(id) {
            return match bridge::add(map, key, flow) {
                error @ ..0 => Err(error),
                _ => Ok(()),
            };
        }
        let once = || match map {
            FlowMap::Conntrack => A::conntrack().insert(key, flow, BPF_NOEXIST.into()),
            FlowMap::Nat => A::nat().insert(key, flow, BPF_NOEXIST.into()),
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

impl<A: Stored> Tables<A> for Maps
where
    Self: Settings<A>,
{
    // SAFETY of every `get` below: the value is copied out before anything else happens. User space
    // replaces values whole; an entry that is deleted meanwhile keeps its bytes until it is reused,
    // and a value that was reused in between leads to a backend that does not exist.

    #[inline(always)]
    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue> {
        // SAFETY: see above.
        unsafe { A::frontends().get(key) }.map(|entry| entry.value)
    }

    #[inline(always)]
    fn backend(&self, key: &BackendKey) -> Option<Backend<A>> {
        // SAFETY: see above.
        unsafe { A::backends().get(key) }.copied()
    }

    #[inline(always)]
    fn first_backend(
        &self,
        key: &FrontendKey<A>,
        frontend: &FrontendValue,
        slot: u16,
        backend: &mut Backend<A>,
    ) -> bool {
        let Some(entry) = A::frontends().get_ptr(key) else { return false };
        let mut slot = usize::from(slot);
        // The caller has seen that it is one of them; the verifier may have forgotten.
        // SAFETY: one register is masked.
        unsafe { core::arch::asm!("{0} &= 3", inout(reg) slot, options(pure, nomem)) };
        // SAFETY: see above.
        *backend = unsafe { (*entry).first[slot & (limits::FIRST_BACKENDS - 1)] };
        // After it, so that an entry that got another service meanwhile says so.
        // SAFETY: the pointer is to an entry that was alive.
        let (service, generation) = unsafe {
            (
                (&raw const (*entry).value.service).read_volatile(),
                (&raw const (*entry).value.generation).read_volatile(),
            )
        };
        service == frontend.service && generation == frontend.generation
    }

    #[inline(always)]
    fn maglev(&self, key: &MaglevKey, entry: u8) -> Option<u16> {
        let mut entry = usize::from(entry);
        // LLVM cuts the entry out of a swapped word, of which older verifiers know nothing, and would remove a plain
        // mask.
        // SAFETY: one register is masked.
        unsafe { core::arch::asm!("{0} &= 255", inout(reg) entry, options(pure, nomem)) };
        // SAFETY: see above. A block is not replaced while its frontend leads to it.
        unsafe { A::maglev().get(key) }.map(|block| block.slots[entry & 255])
    }

    #[inline(always)]
    fn is_member(&self, key: &MemberKey<A>) -> bool {
        A::members().get_ptr(key).is_some()
    }

    #[inline(always)]
    fn in_source_ranges(&self, service: ServiceId, addr: A) -> bool {
        A::ranges().get(&TrieKey::new(32 + u32::from(A::BITS), RangeKey::new(service, addr))).is_some()
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey<A>) -> Option<Affinity<A>> {
        // SAFETY: see above.
        unsafe { A::affinity().get(key) }.copied()
    }

    #[inline(always)]
    fn put_affinity(&self, key: &AffinityKey<A>, value: &Affinity<A>) {
        if let Some(known) = A::affinity().get_ptr_mut(key) {
            // SAFETY: the pointer is to a live entry; a concurrent writer is the same client.
            unsafe { *known = *value };
        } else if let Err(error) = A::affinity().insert(key, value, BPF_ANY.into()) {
            count_error(A::ERRORS.affinity, error);
        }
    }

    #[inline(always)]
    fn with_room<R>(&self, decide: impl FnOnce(&mut Room<A>) -> Result<R, DropReason>) -> Result<R, DropReason> {
        let Some(room) = A::room().get_ptr_mut(0) else { return Err(DropReason::InvalidPacket) };
        // SAFETY: the entry is this CPU's. Programs on devices run with softirqs off, one after the other, so nobody else
        // has a reference to it. It holds zeroes, or what a program left: both are a value.
        decide(unsafe { &mut *room })
    }

    #[inline(always)]
    fn touch<R>(&self, map: FlowMap, key: &FlowKey<A>, touch: &Touch, look: impl FnOnce(&Flow<A>) -> R) -> Option<R> {
        let flow = self.flow(map, key)?;
        // SAFETY: the pointer is to a live entry. Two CPUs may count at once and lose a count.
        let flow = unsafe { &mut *flow };
        conntrack::touch(flow, touch, Host::now_ns(self));
        let seen = look(flow);
        self.store(map, key);
        Some(seen)
    }

    #[inline(always)]
    fn touch_if<R>(
        &self,
        map: FlowMap,
        key: &FlowKey<A>,
        touch: &Touch,
        wanted: impl FnOnce(&Tuple<A>) -> bool,
        look: impl FnOnce(&Flow<A>) -> R,
    ) -> Result<Option<R>, Unwanted> {
        let Some(flow) = self.flow(map, key) else { return Ok(None) };
        // SAFETY: the pointer is to a live entry. Two CPUs may count at once and lose a count.
        let flow = unsafe { &mut *flow };
        if !wanted(&flow.to) {
            return Err(Unwanted);
        }
        conntrack::touch(flow, touch, Host::now_ns(self));
        let seen = look(flow);
        self.store(map, key);
        Ok(Some(seen))
    }

    #[inline(always)]
    fn alter<R>(&self, map: FlowMap, key: &FlowKey<A>, change: impl FnOnce(&mut Flow<A>) -> R) -> Option<R> {
        let flow = self.flow(map, key)?;
        // SAFETY: the pointer is to a live entry; another CPU may be writing to it.
        let changed = change(unsafe { &mut *flow });
        self.store(map, key);
        Some(changed)
    }

    #[inline(always)]
    fn look<R>(&self, map: FlowMap, key: &FlowKey<A>, look: impl FnOnce(&Flow<A>) -> R) -> Option<R> {
        if bridge::is_migrating(A::ERRORS.of(map)) {
            return bridge::look(map, key, look);
        }
        let flow = self.flow(map, key)?;
        // SAFETY: the pointer is to a live entry; another CPU may be writing to it.
        Some(look(unsafe { &*flow }))
    }

    #[inline(always)]
    fn remove_flow(&self, map: FlowMap, key: &FlowKey<A>) {
        if bridge::is_migrating(A::ERRORS.of(map)) {
            bridge::remove(map, key);
            return;
        }
        // An entry that is not there is the only failure, and no failure here.
        let _ = match map {
            FlowMap::Conntrack => A::conntrack().remove(key),
            FlowMap::Nat => A::nat().remove(key),
        };
    }

    #[inline(always)]
    fn add_flow(&self, map: FlowMap, key: &FlowKey<A>, flow: &Flow<A>) -> Result<bool, DropReason> {
        match self.insert(map, key, flow) {
            Ok(()) => Ok(true),
            Err(error) if error == -EEXIST => Ok(false),
            Err(_) => Err(DropReason::FlowInsert),
        }
    }

    #[inline(always)]
    fn put_flow(&self, map: FlowMap, key: &FlowKey<A>, flow: &Flow<A>) -> Result<bool, DropReason> {
        if bridge::is_migrating(A::ERRORS.of(map)) {
            return match bridge::put(map, key, flow) {
                ..0 => Err(DropReason::FlowInsert),
                new => Ok(new != 0),
            };
        }
        if let Some(known) = self.flow(map, key) {
            // SAFETY: the pointer is to a live entry.
            unsafe { *known = *flow };
            return Ok(false);
        }
        self.insert(map, key, flow).map(|()| true).map_err(|_| DropReason::FlowInsert)
    }

    #[inline(always)]
    fn enlist(&self, map: FlowMap, key: &FlowKey<A>, leave: impl FnOnce(&FlowKey<A>, &mut FlowKey<A>)) {
        let Some(turn) = A::turn().get_ptr_mut(0) else { return };
        // SAFETY: as in `with_room`.
        let Turn { next: [flows, nat], leaving, answer } = unsafe { &mut *turn };
        let (next, first, count) = match map {
            FlowMap::Conntrack => (flows, 0, limits::TRANSIENT_FLOWS_MAX),
            FlowMap::Nat => (nat, limits::TRANSIENT_FLOWS_MAX, limits::TRANSIENT_NAT_MAX),
        };
        // Each CPU takes every place in turn, from one far from those of others: so the oldest goes, without a count that
        // all would have to change. Two that take the same place at once lose a flow, which is collected as garbage.
        // SAFETY: the helper says which CPU this is.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let place = next.wrapping_add(scale(cpu.wrapping_mul(0x9e37_79b1), count)) & (count - 1);
        *next = next.wrapping_add(1);
        let Some(place) = A::transient().get_ptr_mut(first + place) else { return };
        // SAFETY: the pointer is to an entry of an array.
        let place = unsafe { &mut *place };
        *leaving = *place;
        *place = *key;
        leave(leaving, answer);
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<A>) -> Option<Ports> {
        // SAFETY: see above.
        unsafe { A::fragments().get(key) }.copied()
    }

    #[inline(always)]
    fn put_fragment(&self, key: &FragmentKey<A>, ports: &Ports) {
        if let Err(error) = A::fragments().insert(key, ports, BPF_ANY.into()) {
            count_error(A::ERRORS.fragments, error);
        }
    }

    #[inline(always)]
    fn announced(&self, key: &L2Key<A>) -> Option<L2Mac> {
        // SAFETY: see above.
        unsafe { A::announced().get(key) }.copied()
    }

    #[inline(always)]
    fn pod(&self, addr: &A) -> Option<LocalPod> {
        // SAFETY: see above.
        unsafe { A::pods().get(addr) }.copied()
    }

    #[inline(always)]
    fn remote(&self, addr: &A) -> Option<Endpoint<A>> {
        let mut key = PrefixKey { addr: *addr, prefix_len: A::BITS, pad: [0; 3] };
        // SAFETY: see above.
        if let Some(endpoint) = unsafe { A::ipcache().get(&key) } {
            return Some(*endpoint);
        }
        (key.addr, key.prefix_len) = self.node_prefix(*addr);
        // SAFETY: see above.
        if let Some(endpoint) = unsafe { A::ipcache().get(&key) } {
            return Some(*endpoint);
        }
        A::prefixes().get(&TrieKey::new(u32::from(A::BITS), *addr)).copied()
    }
}

#[inline(always)]
pub fn count(counter: Counter, bytes: u64) {
    add(COUNTERS.get_ptr_mut(counter.index()), bytes);
}

/// As [`xebec_logic::Host::charge`].
#[inline(always)]
pub fn charge(ifindex: u32, decide: impl FnOnce(&PodRate) -> Charge) -> Admission {
    let Some(rate) = POD_RATES.get_ptr_mut(&ifindex) else { return Admission::Pass };
    // SAFETY: the pointer is to a live entry; the word that changes is read once.
    let seen =
        unsafe { PodRate { bytes_per_s: (*rate).bytes_per_s, burst_ns: (*rate).burst_ns, full_ns: (*rate).full_ns } };
    let charge = decide(&seen);
    if charge.start_ns != 0 {
        // Of CPUs that find the bucket full at the same time one is counted.
        // SAFETY: as above.
        unsafe { (*rate).full_ns = charge.start_ns };
    }
    if charge.add_ns != 0 {
        // SAFETY: the instruction adds to a word of a live entry. It is `BPF_XADD`, which every kernel has; LLVM might
        // make a fetching addition of an atomic one, which is 5.12's.
        unsafe {
            core::arch::asm!(
                "lock *(u64 *)({0} + 0) += {1}",
                in(reg) &raw mut (*rate).full_ns,
                in(reg) charge.add_ns,
                options(nostack),
            );
        }
    }
    charge.admission
}
