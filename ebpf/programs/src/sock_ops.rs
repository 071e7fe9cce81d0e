//! The program on connections' events: what connections to services take. It sees connections that were dialled by a
//! socket that [`crate::socket`] translated, when they are made, retransmit and change their state; never a packet.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RETRANS_CB,
        BPF_SOCK_OPS_RETRANS_CB_FLAG, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
        BPF_TCP_CLOSE, bpf_sock,
    },
    helpers::{bpf_ktime_get_boot_ns, bpf_sk_storage_get},
    macros::sock_ops,
    programs::SockOpsContext,
};
use xebec_abi::{
    Addr4, MapId, Origins4,
    latency::{BUCKETS, Latency, LatencyKey4},
};
use xebec_logic::latency::{bucket, round_trip_us};

use crate::map::{LATENCIES, STARTS, Stored, count_error};

const EEXIST: i32 = 17;
const NS_PER_US: u64 = 1_000;

#[sock_ops]
pub fn sock_ops(ctx: SockOpsContext) -> u32 {
    let _observed = match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => start(&ctx),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(&ctx),
        BPF_SOCK_OPS_RETRANS_CB => retransmitted(&ctx),
        BPF_SOCK_OPS_STATE_CB => state(&ctx),
        _ => None,
    };
    // Some callbacks ask for a value: -1 says that there is none (include/uapi/linux/bpf.h).
    ctx.set_reply(u32::MAX);
    1
}

/// Before the SYN.
#[inline(always)]
fn start(ctx: &SockOpsContext) -> Option<()> {
    let sk = socket(ctx)?;
    backend(sk)?;
    let start = storage::<u64>(core::ptr::from_ref(&STARTS).cast(), sk, BPF_SK_STORAGE_GET_F_CREATE.into())?;
    // SAFETY: the storage belongs to this socket, whose events the kernel serialises.
    unsafe { *start = now_ns() };
    Some(())
}

#[inline(always)]
fn established(ctx: &SockOpsContext) -> Option<()> {
    let sk = socket(ctx)?;
    let key = backend(sk)?;
    let start = storage::<u64>(core::ptr::from_ref(&STARTS).cast(), sk, 0)?;
    // SAFETY: as in `start`.
    let us = now_ns().saturating_sub(unsafe { *start }) / NS_PER_US;
    let entry = created(&key)?;
    // SAFETY: the entry is the map's.
    unsafe { count(&raw mut (*entry).connect, &raw mut (*entry).connect_us, us) };
    // Events of this socket alone: others cost nothing.
    ctx.set_cb_flags((BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG) as i32).ok()
}

#[inline(always)]
fn retransmitted(ctx: &SockOpsContext) -> Option<()> {
    let entry = LATENCIES.get_ptr_mut(backend(socket(ctx)?)?)?;
    // SAFETY: the context is the kernel's; the second argument is the number of segments.
    let segments = unsafe { (&raw const (*ctx.ops).__bindgen_anon_1.args).cast::<u32>().add(1).read_volatile() };
    // SAFETY: the entry is the map's.
    unsafe { add(&raw mut (*entry).retransmits, segments.into()) };
    Some(())
}

#[inline(always)]
fn state(ctx: &SockOpsContext) -> Option<()> {
    // SAFETY: the context is the kernel's; the second argument is the new state.
    let state = unsafe { (&raw const (*ctx.ops).__bindgen_anon_1.args).cast::<u32>().add(1).read_volatile() };
    if state != BPF_TCP_CLOSE {
        return None;
    }
    let entry = LATENCIES.get_ptr_mut(backend(socket(ctx)?)?)?;
    // SAFETY: the context is the kernel's.
    let srtt = unsafe { (&raw const (*ctx.ops).srtt_us).read_volatile() };
    // SAFETY: the entry is the map's.
    unsafe { count(&raw mut (*entry).rtt, &raw mut (*entry).rtt_us, round_trip_us(srtt)?) };
    Some(())
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

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> Option<*mut bpf_sock> {
    // SAFETY: the context is the kernel's; null once the socket is not a full one.
    let sk = unsafe { (&raw const (*ctx.ops).__bindgen_anon_2.sk).read_volatile() };
    (!sk.is_null()).then_some(sk)
}

/// The service that the socket dialled and the backend it got; `None` if it was not translated.
#[inline(always)]
fn backend(sk: *mut bpf_sock) -> Option<LatencyKey4> {
    let origins = storage::<Origins4>(core::ptr::from_ref(Addr4::origins()).cast(), sk, 0)?;
    // SAFETY: the storage belongs to this socket.
    let peer = unsafe { (*origins).peer };
    (peer.service.0 != 0).then_some(LatencyKey4 {
        service: peer.service,
        addr: peer.backend_addr,
        port: peer.backend_port,
        pad: [0; 2],
    })
}

/// `SkStorage` of aya takes contexts of address hooks only.
#[inline(always)]
fn storage<T>(map: *const c_void, sk: *mut bpf_sock, flags: u64) -> Option<*mut T> {
    // SAFETY: the map is a socket storage of `T`, and the socket is the context's; new storage is zeroed.
    let value = unsafe { bpf_sk_storage_get(map.cast_mut(), sk.cast(), core::ptr::null_mut(), flags) }.cast::<T>();
    (!value.is_null()).then_some(value)
}

#[inline(always)]
fn created(key: &LatencyKey4) -> Option<*mut Latency> {
    if let Some(entry) = LATENCIES.get_ptr_mut(key) {
        return Some(entry);
    }
    insert(key);
    LATENCIES.get_ptr_mut(key)
}

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn insert(key: &LatencyKey4) {
    match LATENCIES.insert(key, &Latency::default(), BPF_NOEXIST.into()) {
        // Another CPU was first.
        Ok(()) => {}
        Err(error) if error == -EEXIST => {}
        Err(error) => count_error(MapId::Latency4, error),
    }
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper reads a clock.
    unsafe { bpf_ktime_get_boot_ns() }
}
