//! Programs on cgroups: connect, sendmsg, recvmsg and getpeername of sockets.

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_sock_addr,
    helpers::{bpf_get_netns_cookie, bpf_ktime_get_boot_ns, bpf_set_retval},
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use xebec_abi::{Addr4, Addr6, Be16, DropReason, Origin, Origins};
use xebec_logic::{
    Tables,
    sock::{self, SocketAddress, Translation},
};

use crate::{
    config::has_set_retval,
    map::{Maps, Stored, count_drop, count_error},
};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;
const EADDRINUSE: i32 = 98;
const ENOMEM: i32 = 12;
const NS_PER_US: u64 = 1_000;

/// Third word of an IPv4-mapped IPv6 address, `::ffff:a.b.c.d`, in network order.
pub const MAPPED: u32 = 0x0000_ffff_u32.to_be();

#[cgroup_sock_addr(connect4)]
pub fn sock4_connect(ctx: SockAddrContext) -> i32 {
    connect::<V4>(&ctx)
}

#[cgroup_sock_addr(connect6)]
pub fn sock6_connect(ctx: SockAddrContext) -> i32 {
    if is_mapped(&ctx) { connect::<Mapped>(&ctx) } else { connect::<V6>(&ctx) }
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sock4_sendmsg(ctx: SockAddrContext) -> i32 {
    sendmsg::<V4>(&ctx)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sock6_sendmsg(ctx: SockAddrContext) -> i32 {
    if is_mapped(&ctx) { sendmsg::<Mapped>(&ctx) } else { sendmsg::<V6>(&ctx) }
}

#[cgroup_sock_addr(recvmsg4)]
pub fn sock4_recvmsg(ctx: SockAddrContext) -> i32 {
    recvmsg::<V4>(&ctx)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn sock6_recvmsg(ctx: SockAddrContext) -> i32 {
    if is_mapped(&ctx) { recvmsg::<Mapped>(&ctx) } else { recvmsg::<V6>(&ctx) }
}

#[cgroup_sock_addr(getpeername4)]
pub fn sock4_getpeername(ctx: SockAddrContext) -> i32 {
    getpeername::<V4>(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
pub fn sock6_getpeername(ctx: SockAddrContext) -> i32 {
    if is_mapped(&ctx) { getpeername::<Mapped>(&ctx) } else { getpeername::<V6>(&ctx) }
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
    let words = [word(0), word(1), word(2), word(3)];
    let any = words == [0; 4];
    let mapped = words[0] == 0 && words[1] == 0 && words[2] == MAPPED;
    let may = if mapped || any { post_bind(&ctx, words[3].to_ne_bytes()) } else { ALLOW };
    if may == ALLOW && !mapped { post_bind(&ctx, Addr6::from_words(words)) } else { may }
}

#[inline(always)]
fn post_bind<A: Stored>(ctx: &SockContext, addr: A) -> i32
where
    Maps: Tables<A>,
{
    // SAFETY: the context is the kernel's. The port is in host order (include/uapi/linux/bpf.h).
    let port = unsafe { (&raw const (*ctx.sock).src_port).read_volatile() } as u16;
    // SAFETY: as above.
    let proto = unsafe { (&raw const (*ctx.sock).protocol).read_volatile() } as u8;
    // SAFETY: the helper reads the socket of the context.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    if sock::may_bind(&Maps, SocketAddress { addr, port: Be16::new(port) }, proto, netns) {
        return ALLOW;
    }
    if has_set_retval() {
        // SAFETY: the helper sets what the system call returns.
        unsafe { bpf_set_retval(-EADDRINUSE) };
    }
    REFUSE
}

/// How a hook's context holds an address.
trait Held {
    type Addr: Stored;

    fn load(ctx: &SockAddrContext) -> SocketAddress<Self::Addr>;
    fn store(ctx: &SockAddrContext, address: SocketAddress<Self::Addr>);
}

struct V4;
/// IPv4-mapped: what dual-stack sockets use for IPv4.
struct Mapped;
struct V6;

impl Held for V4 {
    type Addr = Addr4;

    #[inline(always)]
    fn load(ctx: &SockAddrContext) -> SocketAddress<Addr4> {
        // SAFETY: the context is the kernel's; the field exists for this attach type.
        let addr = unsafe { (&raw const (*ctx.sock_addr).user_ip4).read_volatile() };
        SocketAddress { addr: addr.to_ne_bytes(), port: load_port(ctx) }
    }

    #[inline(always)]
    fn store(ctx: &SockAddrContext, address: SocketAddress<Addr4>) {
        let addr = u32::from_ne_bytes(address.addr);
        // SAFETY: as in `load`; the field is writable.
        unsafe { (&raw mut (*ctx.sock_addr).user_ip4).write_volatile(addr) };
        store_port(ctx, address.port);
    }
}

impl Held for Mapped {
    type Addr = Addr4;

    #[inline(always)]
    fn load(ctx: &SockAddrContext) -> SocketAddress<Addr4> {
        SocketAddress { addr: load_word(ctx, 3).to_ne_bytes(), port: load_port(ctx) }
    }

    #[inline(always)]
    fn store(ctx: &SockAddrContext, address: SocketAddress<Addr4>) {
        store_word(ctx, 3, u32::from_ne_bytes(address.addr));
        store_port(ctx, address.port);
    }
}

impl Held for V6 {
    type Addr = Addr6;

    #[inline(always)]
    fn load(ctx: &SockAddrContext) -> SocketAddress<Addr6> {
        let words = [load_word(ctx, 0), load_word(ctx, 1), load_word(ctx, 2), load_word(ctx, 3)];
        SocketAddress { addr: Addr6::from_words(words), port: load_port(ctx) }
    }

    #[inline(always)]
    fn store(ctx: &SockAddrContext, address: SocketAddress<Addr6>) {
        let [a, b, c, d] = *address.addr.words();
        store_word(ctx, 0, a);
        store_word(ctx, 1, b);
        store_word(ctx, 2, c);
        store_word(ctx, 3, d);
        store_port(ctx, address.port);
    }
}

#[inline(always)]
fn is_mapped(ctx: &SockAddrContext) -> bool {
    load_word(ctx, 0) == 0 && load_word(ctx, 1) == 0 && load_word(ctx, 2) == MAPPED
}

/// Word by word, because the verifier knows the array as four fields.
#[inline(always)]
fn load_word(ctx: &SockAddrContext, index: usize) -> u32 {
    // SAFETY: the context is the kernel's; the field exists for the attach types of IPv6.
    unsafe { (&raw const (*ctx.sock_addr).user_ip6).cast::<u32>().add(index).read_volatile() }
}

#[inline(always)]
fn store_word(ctx: &SockAddrContext, index: usize, word: u32) {
    // SAFETY: as in `load_word`; the field is writable.
    unsafe { (&raw mut (*ctx.sock_addr).user_ip6).cast::<u32>().add(index).write_volatile(word) };
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
fn translation<H: Held>(ctx: &SockAddrContext) -> Translation<H::Addr>
where
    Maps: Tables<H::Addr>,
{
    let to = H::load(ctx);
    // SAFETY: the context is the kernel's.
    let proto = unsafe { (&raw const (*ctx.sock_addr).protocol).read_volatile() } as u8;
    // SAFETY: the helper reads the socket of the context.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    sock::translate(&Maps, to, proto, netns)
}

#[inline(always)]
fn connect<H: Held>(ctx: &SockAddrContext) -> i32
where
    Maps: Tables<H::Addr>,
{
    match translation::<H>(ctx) {
        Translation::Unchanged => {
            // A UDP socket may be connected again, to something else.
            if let Some(origins) = stored::<H::Addr>(ctx) {
                // SAFETY: the storage belongs to this socket, whose calls the kernel serialises.
                unsafe { (*origins).peer = Origin::default() };
            }
            ALLOW
        }
        Translation::Refused => refuse(),
        Translation::Forbidden => forbid(),
        Translation::Backend(origin) => {
            match created::<H::Addr>(ctx) {
                // SAFETY: as above.
                Some(origins) => unsafe {
                    (*origins).peer = origin;
                    (*origins).connect_us = now_us();
                },
                // Works without; only `getpeername` shows the backend.
                None => count_error(H::Addr::ERRORS.origins, -ENOMEM),
            }
            store_backend::<H>(ctx, &origin);
            ALLOW
        }
    }
}

#[inline(always)]
fn sendmsg<H: Held>(ctx: &SockAddrContext) -> i32
where
    Maps: Tables<H::Addr>,
{
    match translation::<H>(ctx) {
        Translation::Unchanged => ALLOW,
        Translation::Refused => refuse(),
        Translation::Forbidden => forbid(),
        Translation::Backend(origin) => {
            match created::<H::Addr>(ctx) {
                // SAFETY: the storage belongs to this socket. Two threads that send at once may
                // tear an entry; its backend then matches no sender, or both are the same.
                Some(origins) => sock::remember(unsafe { &mut *origins }, origin),
                // Without it the application would not recognise the answer.
                None => {
                    count_error(H::Addr::ERRORS.origins, -ENOMEM);
                    return REFUSE;
                }
            }
            store_backend::<H>(ctx, &origin);
            ALLOW
        }
    }
}

#[inline(always)]
fn recvmsg<H: Held>(ctx: &SockAddrContext) -> i32 {
    untranslate::<H>(ctx, |origins, from| sock::sender(origins, from))
}

#[inline(always)]
fn getpeername<H: Held>(ctx: &SockAddrContext) -> i32 {
    untranslate::<H>(ctx, |origins, from| sock::peer(origins, from))
}

#[inline(always)]
fn untranslate<H: Held>(
    ctx: &SockAddrContext,
    find: impl Fn(&Origins<H::Addr>, SocketAddress<H::Addr>) -> Option<SocketAddress<H::Addr>>,
) -> i32 {
    if let Some(origins) = stored::<H::Addr>(ctx)
        // SAFETY: the storage belongs to this socket.
        && let Some(service) = find(unsafe { &*origins }, H::load(ctx))
    {
        H::store(ctx, service);
    }
    ALLOW
}

/// For [`Origins::connect_us`]: the boot-time clock's.
#[inline(always)]
pub fn now_us() -> u32 {
    // SAFETY: the helper reads a clock.
    (unsafe { bpf_ktime_get_boot_ns() } / NS_PER_US) as u32
}

#[inline(always)]
fn store_backend<H: Held>(ctx: &SockAddrContext, origin: &Origin<H::Addr>) {
    H::store(ctx, SocketAddress { addr: origin.backend_addr, port: origin.backend_port });
}

#[inline(always)]
fn stored<A: Stored>(ctx: &SockAddrContext) -> Option<*mut Origins<A>> {
    // SAFETY: the context's socket is alive during the call.
    let origins = unsafe { A::origins().get_ptr_mut(ctx) };
    (!origins.is_null()).then_some(origins)
}

#[inline(always)]
fn created<A: Stored>(ctx: &SockAddrContext) -> Option<*mut Origins<A>> {
    // SAFETY: the context's socket is alive during the call; new storage is zeroed.
    let origins = unsafe { A::origins().get_or_insert_ptr_mut(ctx, None) };
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

/// Without a value of its own what a hook refuses is EPERM (`__cgroup_bpf_run_filter_sock_addr`, kernel/bpf/cgroup.c).
#[inline(always)]
fn forbid() -> i32 {
    count_drop(DropReason::SourceRange, 0);
    REFUSE
}

/// The context's layout is the kernel's.
const _: () = assert!(core::mem::offset_of!(bpf_sock_addr, user_port) == 24);
