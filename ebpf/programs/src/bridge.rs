//! Flows while their maps are replaced by ones of another layout: programs that bridge the two.
//!
//! While there may be programs that know the old map alone, it decides: what is there is what there is, and every change is
//! made there first. The same is written to the new map, so that nothing is missing in it when user space has copied the
//! rest, and says so ([`names::CARRIED`]): from then on the new map decides, for these programs as for those that know it alone.
//!
//! [`names::CARRIED`]: xebec_abi::names::CARRIED

use aya_ebpf::{
    Global,
    bindings::BPF_NOEXIST,
    btf_maps::{Array, LruHashMap, PerCpuArray},
    helpers::bpf_map_lookup_elem,
    macros::btf_map,
};
use xebec_abi::{Addr4, Addr6, Flow, FlowKey, FlowState, MapId, OtherFlow, Tuple, config, limits};
use xebec_logic::{Family, FlowMap};

use crate::map::{Stored, count_error};

const EEXIST: i32 = 17;
const EBUSY: i32 = 16;

type OldConntrack<A> = LruHashMap<FlowKey<A>, OtherFlow<A>, { limits::FLOWS_MAX as usize }>;
type OldNat<A> = LruHashMap<FlowKey<A>, OtherFlow<A>, { limits::NAT_MAX as usize }>;
type Carries<A> = PerCpuArray<Carry<A>, 1>;

#[unsafe(no_mangle)]
static MIGRATING: Global<u32> = Global::new(0);

/// By [`MapId`]: does the new map decide?
#[btf_map(name = "xb_carried")]
static CARRIED: Array<u32, { config::CARRIED_ENTRIES as usize }> = Array::new();

mod v4 {
    use super::*;

    #[btf_map(name = "xb_old_ct4")]
    pub static OLD_CT: OldConntrack<Addr4> = LruHashMap::new();
    #[btf_map(name = "xb_old_nat4")]
    pub static OLD_NAT: OldNat<Addr4> = LruHashMap::new();
    #[btf_map(name = "xb_carry4")]
    pub static CARRY: Carries<Addr4> = PerCpuArray::new();
}

mod v6 {
    use super::*;

    #[btf_map(name = "xb_old_ct6")]
    pub static OLD_CT: OldConntrack<Addr6> = LruHashMap::new();
    #[btf_map(name = "xb_old_nat6")]
    pub static OLD_NAT: OldNat<Addr6> = LruHashMap::new();
    #[btf_map(name = "xb_carry6")]
    pub static CARRY: Carries<Addr6> = PerCpuArray::new();
}

/// The old maps of a family.
pub trait Bridged: Family {
    fn old_conntrack() -> &'static OldConntrack<Self>;
    fn old_nat() -> &'static OldNat<Self>;
    fn carry() -> &'static Carries<Self>;
}

impl Bridged for Addr4 {
    #[inline(always)]
    fn old_conntrack() -> &'static OldConntrack<Self> {
        &v4::OLD_CT
    }

    #[inline(always)]
    fn old_nat() -> &'static OldNat<Self> {
        &v4::OLD_NAT
    }

    #[inline(always)]
    fn carry() -> &'static Carries<Self> {
        &v4::CARRY
    }
}

impl Bridged for Addr6 {
    #[inline(always)]
    fn old_conntrack() -> &'static OldConntrack<Self> {
        &v6::OLD_CT
    }

    #[inline(always)]
    fn old_nat() -> &'static OldNat<Self> {
        &v6::OLD_NAT
    }

    #[inline(always)]
    fn carry() -> &'static Carries<Self> {
        &v6::CARRY
    }
}

/// Room of a CPU for one flow in both layouts: the stack has none.
#[derive(Clone, Copy)]
pub struct Carry<A: Family> {
    flow: Flow<A>,
    other: OtherFlow<A>,
    /// Of `flow` in the old map.
    state: FlowState,
}

/// Is this map taking the place of one with another layout?
#[inline(always)]
pub fn is_migrating(map: MapId) -> bool {
    MIGRATING.load() & config::migrating(map) != 0
}

#[inline(always)]
fn is_carried<A: Stored>(map: FlowMap) -> bool {
    // SAFETY: user space writes the word whole.
    CARRIED.get_ptr(A::ERRORS.of(map).index()).is_some_and(|carried| unsafe { carried.read_volatile() } != 0)
}

/// Keys that are not on the stack: verifiers forget the number that shares eight bytes of it with a key, as a loop's count.
#[unsafe(no_mangle)]
static INDEXES: [u32; config::CARRIED_ENTRIES as usize] = {
    let mut indexes = [0; config::CARRIED_ENTRIES as usize];
    let mut index = 0;
    while index < indexes.len() {
        indexes[index] = index as u32;
        index += 1;
    }
    indexes
};

/// An entry of an array, by a key of [`INDEXES`].
#[inline(always)]
fn at<M, V>(array: &'static M, index: u32) -> Option<*mut V> {
    let key = INDEXES.get(index as usize)?;
    // SAFETY: the symbol of a map is what the helper takes for one; keys of arrays are `u32`.
    let entry =
        unsafe { bpf_map_lookup_elem(core::ptr::from_ref(array).cast_mut().cast(), core::ptr::from_ref(key).cast()) };
    if entry.is_null() { None } else { Some(entry.cast()) }
}

/// A flow to look at and to change, or null; after a change comes [`store`]. Not inlined, as all of these, for the sake of the
/// caller's stack.
#[inline(never)]
pub fn fetch<A: Stored>(map: FlowMap, key: &FlowKey<A>) -> *mut Flow<A> {
    if is_carried::<A>(map) {
        return own(map, key).unwrap_or(core::ptr::null_mut());
    }
    let (Some(old), Some(carry)) = (old(map, key), A::carry().get_ptr_mut(0)) else { return core::ptr::null_mut() };
    // SAFETY: the room is this CPU's, as that of `Tables::with_room`; `old` points to a live entry, to which another CPU may
    // be writing.
    unsafe {
        copy(&raw const (*old).to, &raw mut (*carry).flow.to);
        (*carry).flow.take(&*old);
        (*carry).state = (*carry).flow.state;
        &raw mut (*carry).flow
    }
}

/// As [`fetch`], without a call: who looks for a flow that gives up its port has no stack left for one.
#[inline(always)]
pub fn look<A: Stored, R>(map: FlowMap, key: &FlowKey<A>, look: impl FnOnce(&Flow<A>) -> R) -> Option<R> {
    let carried: *mut u32 = at(&CARRIED, A::ERRORS.of(map).index())?;
    // SAFETY: user space writes the word whole.
    let flow = if unsafe { carried.read_volatile() } != 0 {
        own(map, key)?
    } else {
        let old = old(map, key)?;
        let carry: *mut Carry<A> = at(A::carry(), 0)?;
        // SAFETY: as in `fetch`.
        unsafe {
            copy(&raw const (*old).to, &raw mut (*carry).flow.to);
            (*carry).flow.take(&*old);
            &raw mut (*carry).flow
        }
    };
    // SAFETY: the pointer is to a live entry; another CPU may be writing to it.
    Some(look(unsafe { &*flow }))
}

/// Writes what became of the flow that was fetched last.
#[inline(never)]
pub fn store<A: Stored>(map: FlowMap, key: &FlowKey<A>) {
    if is_carried::<A>(map) {
        return;
    }
    let (Some(old), Some(carry)) = (old(map, key), A::carry().get_ptr_mut(0)) else { return };
    // SAFETY: as in `fetch`.
    unsafe {
        // Another CPU may have changed it meanwhile: only counts may be lost.
        let state = if (*carry).flow.state == (*carry).state { (*old).state } else { (*carry).flow.state };
        (*carry).flow.state = state;
        (*old).take(&(*carry).flow);
        mirror(map, key, &(*carry).flow);
    }
}

/// Adds a flow or writes over the one there is: 1 if there was none, an error's number if it cannot be made. One number, as
/// LLVM packs a `Result` into a word with what another register happens to hold, which may be a pointer.
#[inline(never)]
pub fn put<A: Stored>(map: FlowMap, key: &FlowKey<A>, flow: &Flow<A>) -> i32 {
    if is_carried::<A>(map) {
        if let Some(known) = own(map, key) {
            // SAFETY: the pointer is to a live entry.
            unsafe { assign(flow, known) };
            return 0;
        }
        return is_new(insert(map, key, flow));
    }
    if let Some(old) = old(map, key) {
        // SAFETY: as in `fetch`.
        unsafe {
            copy(&raw const flow.to, &raw mut (*old).to);
            (*old).take(flow);
        }
        mirror(map, key, flow);
        return 0;
    }
    add(map, key, flow)
}

/// Adds a flow where there is none: 1, or an error's number.
#[inline(never)]
pub fn add<A: Stored>(map: FlowMap, key: &FlowKey<A>, flow: &Flow<A>) -> i32 {
    if is_carried::<A>(map) {
        return is_new(insert(map, key, flow));
    }
    let Some(carry) = A::carry().get_ptr_mut(0) else { return -EBUSY };
    // SAFETY: as in `fetch`.
    let other = unsafe {
        copy(&raw const flow.to, &raw mut (*carry).other.to);
        (*carry).other.take(flow);
        &(*carry).other
    };
    let once = || match map {
        FlowMap::Conntrack => A::old_conntrack().insert(key, other, BPF_NOEXIST.into()),
        FlowMap::Nat => A::old_nat().insert(key, other, BPF_NOEXIST.into()),
    };
    let mut added = once();
    if added == Err(-EBUSY) {
        added = once();
    }
    match added {
        Ok(()) => mirror(map, key, flow),
        Err(error) if error != -EEXIST => count_error(A::ERRORS.of(map), error),
        Err(_) => {}
    }
    is_new(added)
}

#[inline(always)]
fn is_new(added: Result<(), i32>) -> i32 {
    match added {
        Ok(()) => 1,
        Err(error) => error,
    }
}

/// From both maps.
#[inline(never)]
pub fn remove<A: Stored>(map: FlowMap, key: &FlowKey<A>) {
    // An entry that is not there is the only failure, and no failure here.
    let _ = match map {
        FlowMap::Conntrack => (A::old_conntrack().remove(key), A::conntrack().remove(key)),
        FlowMap::Nat => (A::old_nat().remove(key), A::nat().remove(key)),
    };
}

/// Makes the new map's entry what the old one's is.
#[inline(always)]
fn mirror<A: Stored>(map: FlowMap, key: &FlowKey<A>, flow: &Flow<A>) {
    match own(map, key) {
        // SAFETY: the pointer is to a live entry.
        Some(known) => unsafe { assign(flow, known) },
        // User space copies what does not fit at this moment.
        None => drop(insert(map, key, flow)),
    }
}

#[inline(always)]
fn own<A: Stored>(map: FlowMap, key: &FlowKey<A>) -> Option<*mut Flow<A>> {
    match map {
        FlowMap::Conntrack => A::conntrack().get_ptr_mut(key),
        FlowMap::Nat => A::nat().get_ptr_mut(key),
    }
}

#[inline(always)]
fn old<A: Stored>(map: FlowMap, key: &FlowKey<A>) -> Option<*mut OtherFlow<A>> {
    match map {
        FlowMap::Conntrack => A::old_conntrack().get_ptr_mut(key),
        FlowMap::Nat => A::old_nat().get_ptr_mut(key),
    }
}

#[inline(always)]
fn insert<A: Stored>(map: FlowMap, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), i32> {
    let inserted = match map {
        FlowMap::Conntrack => A::conntrack().insert(key, flow, BPF_NOEXIST.into()),
        FlowMap::Nat => A::nat().insert(key, flow, BPF_NOEXIST.into()),
    };
    if let Err(error) = inserted
        && error != -EEXIST
    {
        count_error(A::ERRORS.of(map), error);
    }
    inserted
}

/// # Safety
/// `to` is good for a flow, which is words.
#[inline(always)]
unsafe fn assign<A: Stored>(from: &Flow<A>, to: *mut Flow<A>) {
    // SAFETY: the caller's.
    unsafe { words(core::ptr::from_ref(from).cast(), to.cast(), size_of::<Flow<A>>()) };
}

/// # Safety
/// Both pointers are good for a tuple, which is words.
#[inline(always)]
unsafe fn copy<A: Stored>(from: *const Tuple<A>, to: *mut Tuple<A>) {
    // SAFETY: the caller's.
    unsafe { words(from.cast(), to.cast(), size_of::<Tuple<A>>()) };
}

/// Copies by words that LLVM takes for others' business: else it calls a function.
///
/// # Safety
/// Both pointers are good for so many bytes.
#[inline(always)]
unsafe fn words(from: *const u32, to: *mut u32, bytes: usize) {
    for word in 0..bytes / size_of::<u32>() {
        // SAFETY: the caller's.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
    }
}
