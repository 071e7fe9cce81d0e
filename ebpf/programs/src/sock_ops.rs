//! The program on connections' events: what connections to services take. It sees connections that were dialled by a
//! socket that [`crate::socket`] translated, when they are made, retransmit and change their state; of its packets only the
//! one with the first round-trip time after the handshake.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        BPF_NOEXIST, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RETRANS_CB, BPF_SOCK_OPS_RETRANS_CB_FLAG,
        BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_RTT_CB_FLAG, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_TCP_CLOSE,
    },
    helpers::bpf_sk_storage_get,
    macros::sock_ops,
    programs::SockOpsContext,
};
use xebec_abi::{
    Addr4, Addr6, Origins,
    latency::{BUCKETS, Latency, LatencyKey},
};
use xebec_logic::latency::{bucket, round_trip_us};

use crate::{
    map::{Stored, count_error},
    socket::{MAPPED, now_us},
};

const EEXIST: i32 = 17;
const AF_INET: u32 = 2;
/// Events of one socket alone: others cost nothing.
const EVENTS: u32 = BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG;

#[sock_ops]
pub fn sock_ops(ctx: SockOpsContext) -> u32 {
    let _observed = if is_ipv4(&ctx) { observe::<Addr4>(&ctx) } else { observe::<Addr6>(&ctx) };
    // Some callbacks ask for a value: -1 says that there is none (include/uapi/linux/bpf.h).
    ctx.set_reply(u32::MAX);
    1
}

/// Does the connection run over IPv4? A dual-stack socket's other end is then an IPv4-mapped address.
#[inline(always)]
fn is_ipv4(ctx: &SockOpsContext) -> bool {
    // SAFETY: the context is the kernel's. Word by word, because the verifier knows the array as four fields.
    let word = |i: usize| unsafe { (&raw const (*ctx.ops).remote_ip6).cast::<u32>().add(i).read_volatile() };
    ctx.family() == AF_INET || word(0) == 0 && word(1) == 0 && word(2) == MAPPED
}

#[inline(always)]
fn observe<A: Stored>(ctx: &SockOpsContext) -> Option<()> {
    match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established::<A>(ctx),
        BPF_SOCK_OPS_RTT_CB => acknowledged::<A>(ctx),
        BPF_SOCK_OPS_RETRANS_CB => retransmitted::<A>(ctx),
        BPF_SOCK_OPS_STATE_CB => state::<A>(ctx),
        _ => None,
    }
}

/// Only takes the time: to find the backend's entry takes longer, and connect() waits.
#[inline(always)]
fn established<A: Stored>(ctx: &SockOpsContext) -> Option<()> {
    let origins = origins::<A>(ctx)?;
    // SAFETY: the storage belongs to this socket, whose events the kernel serialises.
    unsafe {
        // Zero: it began under an agent that kept its time elsewhere.
        if (*origins).connect_us != 0 {
            (*origins).connect_us = now_us().wrapping_sub((*origins).connect_us).max(1);
        }
    }
    ctx.set_cb_flags((EVENTS | BPF_SOCK_OPS_RTT_CB_FLAG) as i32).ok()
}

/// The first data that the other side has.
#[inline(always)]
fn acknowledged<A: Stored>(ctx: &SockOpsContext) -> Option<()> {
    ctx.set_cb_flags(EVENTS as i32).ok()?;
    entry(origins::<A>(ctx)?).map(drop)
}

#[inline(always)]
fn retransmitted<A: Stored>(ctx: &SockOpsContext) -> Option<()> {
    let entry = entry(origins::<A>(ctx)?)?;
    // SAFETY: the context is the kernel's; the second argument is the number of segments.
    let segments = unsafe { (&raw const (*ctx.ops).__bindgen_anon_1.args).cast::<u32>().add(1).read_volatile() };
    // SAFETY: the entry is the map's.
    unsafe { add(&raw mut (*entry).retransmits, segments.into()) };
    Some(())
}

#[inline(always)]
fn state<A: Stored>(ctx: &SockOpsContext) -> Option<()> {
    // SAFETY: the context is the kernel's; the second argument is the new state.
    let state = unsafe { (&raw const (*ctx.ops).__bindgen_anon_1.args).cast::<u32>().add(1).read_volatile() };
    if state != BPF_TCP_CLOSE {
        return None;
    }
    let entry = entry(origins::<A>(ctx)?)?;
    // SAFETY: the context is the kernel's.
    let srtt = unsafe { (&raw const (*ctx.ops).srtt_us).read_volatile() };
    // SAFETY: the entry is the map's.
    unsafe { count(&raw mut (*entry).rtt, &raw mut (*entry).rtt_us, round_trip_us(srtt)?) };
    Some(())
}

/// What is known of the socket's backend, with the time that the socket took to connect, which counts once. After that
/// nothing is made anew: the service may be gone.
#[inline(always)]
fn entry<A: Stored>(origins: *mut Origins<A>) -> Option<*mut Latency> {
    // SAFETY: the storage belongs to this socket, whose events the kernel serialises.
    let (peer, us) = unsafe { ((*origins).peer, (*origins).connect_us) };
    let key = LatencyKey { service: peer.service, addr: peer.backend_addr, port: peer.backend_port, pad: [0; 2] };
    if us == 0 {
        return A::latencies().get_ptr_mut(&key);
    }
    let entry = created(&key)?;
    // SAFETY: as above.
    unsafe { (*origins).connect_us = 0 };
    // SAFETY: the entry is the map's.
    unsafe { count(&raw mut (*entry).connect, &raw mut (*entry).connect_us, us.into()) };
    Some(entry)
}

/// Adds one to the histogram and `us` to the sum.
///
/// # Safety
/// Both lie in an entry of a map.
#[inline(always)]
unsafe fn count(histogram: *mut [u32; BUCKETS], sum: *mut u64, us: u64) {
    // SAFETY: a bucket is below their number.
    let bucket = unsafe { histogram.cast::<u32>().add(bucket(us)) };
    // SAFETY: as the caller says. Where one CPU adds, others may too: `core`'s atomics are not there for BPF, and the
    // instruction is (BPF_XADD, instruction-set.rst).
    unsafe { core::arch::asm!("lock *(u32 *)({0} + 0) += {1}", in(reg) bucket, in(reg) 1u64) };
    // SAFETY: as the caller says.
    unsafe { add(sum, us) };
}

/// # Safety
/// `to` lies in an entry of a map.
#[inline(always)]
unsafe fn add(to: *mut u64, more: u64) {
    // SAFETY: as the caller says; atomic as in `count`.
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) to, in(reg) more) };
}

/// What the socket's hooks know; `None` if they did not translate it.
#[inline(always)]
fn origins<A: Stored>(ctx: &SockOpsContext) -> Option<*mut Origins<A>> {
    // SAFETY: the context is the kernel's; null once the socket is not a full one.
    let sk = unsafe { (&raw const (*ctx.ops).__bindgen_anon_2.sk).read_volatile() };
    if sk.is_null() {
        return None;
    }
    let map = core::ptr::from_ref(A::origins()).cast::<c_void>().cast_mut();
    // `SkStorage` of aya takes contexts of address hooks only.
    // SAFETY: the map is a socket storage of `Origins<A>`, and the socket is the context's.
    let origins = unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), 0) }.cast::<Origins<A>>();
    // SAFETY: the storage belongs to this socket.
    (!origins.is_null() && unsafe { (*origins).peer.service.0 } != 0).then_some(origins)
}

#[inline(always)]
fn created<A: Stored>(key: &LatencyKey<A>) -> Option<*mut Latency> {
    if let Some(entry) = A::latencies().get_ptr_mut(key) {
        return Some(entry);
    }
    insert(key);
    A::latencies().get_ptr_mut(key)
}

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn insert<A: Stored>(key: &LatencyKey<A>) {
    match A::latencies().insert(key, &Latency::default(), BPF_NOEXIST.into()) {
        // Another CPU was first.
        Ok(()) => {}
        Err(error) if error == -EEXIST => {}
        Err(error) => count_error(A::ERRORS.latencies, error),
    }
}
