//! Programs on cgroups: connect, sendmsg, recvmsg and getpeername of sockets.

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_sock_addr,
    helpers::{bpf_get_netns_cookie, bpf_set_retval},
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use xebec_abi::{Addr4, Be16, DropReason, MapId, Origin4, Origins4};
use xebec_logic::sock::{self, Address, Translation};

use crate::{
    config::has_set_retval,
    map::{Maps, ORIGINS, count_drop, count_error},
};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;
const EADDRINUSE: i32 = 98;
const ENOMEM: i32 = 12;

/// Third word of an IPv4-mapped IPv6 address, `::ffff:a.b.c.d`, in network order.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

#[cgroup_sock_addr(connect4)]
pub fn sock4_connect(ctx: SockAddrContext) -> i32 {
    connect::<V4>(&ctx)
}

#[cgroup_sock_addr(connect6)]
pub fn sock6_connect(ctx: SockAddrContext) -> i32 {
    connect::<Mapped>(&ctx)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sock4_sendmsg(ctx: SockAddrContext) -> i32 {
    sendmsg::<V4>(&ctx)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sock6_sendmsg(ctx: SockAddrContext) -> i32 {
    sendmsg::<Mapped>(&ctx)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn sock4_recvmsg(ctx: SockAddrContext) -> i32 {
    untranslate::<V4>(&ctx, |origins, from| sock::sender(origins, from))
}

#[cgroup_sock_addr(recvmsg6)]
pub fn sock6_recvmsg(ctx: SockAddrContext) -> i32 {
    untranslate::<Mapped>(&ctx, |origins, from| sock::sender(origins, from))
}

#[cgroup_sock_addr(getpeername4)]
pub fn sock4_getpeername(ctx: SockAddrContext) -> i32 {
    untranslate::<V4>(&ctx, |origins, from| sock::peer(origins, from))
}

#[cgroup_sock_addr(getpeername6)]
pub fn sock6_getpeername(ctx: SockAddrContext) -> i32 {
    untranslate::<Mapped>(&ctx, |origins, from| sock::peer(origins, from))
}

/// After the kernel has found the port free: not before it is known which port it is.
#[cgroup_sock(post_bind4)]
pub fn sock4_post_bind(ctx: SockContext) -> i32 {
    // SAFETY: the context is the kernel's; the field exists for this attach type.
    let addr = unsafe { (&raw const (*ctx.sock).src_ip4).read_volatile() };
    post_bind(&ctx, addr.to_ne_bytes())
}

/// A dual-stack socket that is bound to `::` has the port of IPv4 too.
#[cgroup_sock(post_bind6)]
pub fn sock6_post_bind(ctx: SockContext) -> i32 {
    // SAFETY: the context is the kernel's; the field exists for this attach type. Word by word, because the verifier
    // knows the array as four fields.
    let word = |i: usize| unsafe { (&raw const (*ctx.sock).src_ip6).cast::<u32>().add(i).read_volatile() };
    if word(0) != 0 || word(1) != 0 || (word(2) != 0 && word(2) != MAPPED) {
        return ALLOW;
    }
    post_bind(&ctx, word(3).to_ne_bytes())
}

#[inline(always)]
fn post_bind(ctx: &SockContext, addr: Addr4) -> i32 {
    // SAFETY: the context is the kernel's. The port is in host order (include/uapi/linux/bpf.h).
    let port = unsafe { (&raw const (*ctx.sock).src_port).read_volatile() } as u16;
    // SAFETY: as above.
    let proto = unsafe { (&raw const (*ctx.sock).protocol).read_volatile() } as u8;
    // SAFETY: the helper reads the socket of the context.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    if sock::may_bind(&Maps, Address { addr, port: Be16::new(port) }, proto, netns) {
        return ALLOW;
    }
    if has_set_retval() {
        // SAFETY: the helper sets what the system call returns.
        unsafe { bpf_set_retval(-EADDRINUSE) };
    }
    REFUSE
}

/// How a hook's context holds an IPv4 address.
trait Family {
    fn load(ctx: &SockAddrContext) -> Option<Address>;
    fn store(ctx: &SockAddrContext, address: Address);
}

struct V4;
/// IPv4-mapped: what dual-stack sockets use for IPv4.
struct Mapped;

impl Family for V4 {
    #[inline(always)]
    fn load(ctx: &SockAddrContext) -> Option<Address> {
        // SAFETY: the context is the kernel's; the field exists for this attach type.
        let addr = unsafe { (&raw const (*ctx.sock_addr).user_ip4).read_volatile() };
        Some(Address { addr: addr.to_ne_bytes(), port: load_port(ctx) })
    }

    #[inline(always)]
    fn store(ctx: &SockAddrContext, address: Address) {
        let addr = u32::from_ne_bytes(address.addr);
        // SAFETY: as in `load`; the field is writable.
        unsafe { (&raw mut (*ctx.sock_addr).user_ip4).write_volatile(addr) };
        store_port(ctx, address.port);
    }
}

impl Family for Mapped {
    #[inline(always)]
    fn load(ctx: &SockAddrContext) -> Option<Address> {
        // SAFETY: the context is the kernel's; the field exists for this attach type. Word by word,
        // because the verifier knows the array as four fields.
        let word = |i: usize| unsafe { (&raw const (*ctx.sock_addr).user_ip6).cast::<u32>().add(i).read_volatile() };
        if word(0) != 0 || word(1) != 0 || word(2) != MAPPED {
            return None;
        }
        Some(Address { addr: word(3).to_ne_bytes(), port: load_port(ctx) })
    }

    #[inline(always)]
    fn store(ctx: &SockAddrContext, address: Address) {
        // SAFETY: as in `load`; the field is writable.
        unsafe {
            (&raw mut (*ctx.sock_addr).user_ip6).cast::<u32>().add(3).write_volatile(u32::from_ne_bytes(address.addr));
        }
        store_port(ctx, address.port);
    }
}

/// The port is in network order in the lower half of the word.
#[inline(always)]
fn load_port(ctx: &SockAddrContext) -> Be16 {
    // SAFETY: the context is the kernel's. Volatile: LLVM must not narrow the load, which the
    // verifier refuses.
    let port = unsafe { (&raw const (*ctx.sock_addr).user_port).read_volatile() };
    Be16::from_bytes((port as u16).to_ne_bytes())
}

#[inline(always)]
fn store_port(ctx: &SockAddrContext, port: Be16) {
    let port = u32::from(u16::from_ne_bytes(port.bytes()));
    // SAFETY: the context is the kernel's; the field is writable.
    unsafe { (&raw mut (*ctx.sock_addr).user_port).write_volatile(port) };
}

#[inline(always)]
fn translation<F: Family>(ctx: &SockAddrContext) -> Option<Translation> {
    let to = F::load(ctx)?;
    // SAFETY: the context is the kernel's.
    let proto = unsafe { (&raw const (*ctx.sock_addr).protocol).read_volatile() } as u8;
    // SAFETY: the helper reads the socket of the context.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    Some(sock::translate(&Maps, to, proto, netns))
}

#[inline(always)]
fn connect<F: Family>(ctx: &SockAddrContext) -> i32 {
    match translation::<F>(ctx) {
        None | Some(Translation::Unchanged) => {
            // A UDP socket may be connected again, to something else.
            if let Some(origins) = stored(ctx) {
                // SAFETY: the storage belongs to this socket, whose calls the kernel serialises.
                unsafe { (*origins).peer = Origin4::default() };
            }
            ALLOW
        }
        Some(Translation::Refused) => refuse(),
        Some(Translation::Backend(origin)) => {
            match created(ctx) {
                // SAFETY: as above.
                Some(origins) => unsafe { (*origins).peer = origin },
                // Works without; only `getpeername` shows the backend.
                None => count_error(MapId::Origins, -ENOMEM),
            }
            store_backend::<F>(ctx, &origin);
            ALLOW
        }
    }
}

#[inline(always)]
fn sendmsg<F: Family>(ctx: &SockAddrContext) -> i32 {
    match translation::<F>(ctx) {
        None | Some(Translation::Unchanged) => ALLOW,
        Some(Translation::Refused) => refuse(),
        Some(Translation::Backend(origin)) => {
            match created(ctx) {
                // SAFETY: the storage belongs to this socket. Two threads that send at once may
                // tear an entry; its backend then matches no sender, or both are the same.
                Some(origins) => sock::remember(unsafe { &mut *origins }, origin),
                // Without it the application would not recognise the answer.
                None => {
                    count_error(MapId::Origins, -ENOMEM);
                    return REFUSE;
                }
            }
            store_backend::<F>(ctx, &origin);
            ALLOW
        }
    }
}

#[inline(always)]
fn untranslate<F: Family>(ctx: &SockAddrContext, find: impl Fn(&Origins4, Address) -> Option<Address>) -> i32 {
    if let Some(origins) = stored(ctx)
        && let Some(from) = F::load(ctx)
        // SAFETY: the storage belongs to this socket.
        && let Some(service) = find(unsafe { &*origins }, from)
    {
        F::store(ctx, service);
    }
    ALLOW
}

#[inline(always)]
fn store_backend<F: Family>(ctx: &SockAddrContext, origin: &Origin4) {
    F::store(ctx, Address { addr: origin.backend_addr, port: origin.backend_port });
}

#[inline(always)]
fn stored(ctx: &SockAddrContext) -> Option<*mut Origins4> {
    // SAFETY: the context's socket is alive during the call.
    let origins = unsafe { ORIGINS.get_ptr_mut(ctx) };
    (!origins.is_null()).then_some(origins)
}

#[inline(always)]
fn created(ctx: &SockAddrContext) -> Option<*mut Origins4> {
    // SAFETY: the context's socket is alive during the call; new storage is zeroed.
    let origins = unsafe { ORIGINS.get_or_insert_ptr_mut(ctx, None) };
    (!origins.is_null()).then_some(origins)
}

/// What a client of a service without backends gets from kube-proxy too. Before 5.18 it is EPERM.
#[inline(always)]
fn refuse() -> i32 {
    count_drop(DropReason::NoBackend, 0);
    if has_set_retval() {
        // SAFETY: the helper sets what the system call returns.
        unsafe { bpf_set_retval(-ECONNREFUSED) };
    }
    REFUSE
}

/// The context's layout is the kernel's.
const _: () = assert!(core::mem::offset_of!(bpf_sock_addr, user_port) == 24);
