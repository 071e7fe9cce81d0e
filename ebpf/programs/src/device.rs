//! Programs on network devices. Each is: decide, then act on the verdict in one place.

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH,
        BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup, bpf_redir_neigh, bpf_tunnel_key,
    },
    helpers::{
        bpf_fib_lookup as fib_lookup, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_type,
        bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key,
    },
    macros::classifier,
    programs::TcContext,
};
use xebec_abi::{
    Addr4, Addr6, Counter, DropReason,
    config::{DSR_NODE_PORT, MARK_TUNNEL},
};
use xebec_logic::{
    Action, Family, Host, Room, Tables, Verdict,
    header::{self, Frame, Ip},
    l2, mtu, nat, netdev, overlay, pod,
};

use crate::{
    config::{dsr_ifindex, overlay_ifindex, test_tunnel, test_tunnel6},
    map::{Maps, Stored, count_drop},
    skb::Skb,
};

/// `TCX_NEXT`, and `TC_ACT_UNSPEC` for clsact: on to the next program, then on the packet's way.
const NEXT: i32 = -1;
/// `TCX_PASS`, `TC_ACT_OK`: on the packet's way, past what other programs there are.
const DONE: i32 = 0;
/// `TCX_DROP`, `TC_ACT_SHOT`.
const SHOT: i32 = 2;
const PACKET_HOST: u32 = 0;
/// The longest packet that the FIB can be asked about.
const MAX_BYTES: u32 = u16::MAX as u32;
/// Without the tunnel's local address, which 6.0 added (26101f5ab6bd): earlier kernels refuse a larger size, and later
/// ones take this one.
const TUNNEL_KEY_BYTES: u32 = core::mem::offset_of!(bpf_tunnel_key, __bindgen_anon_3) as u32;

macro_rules! programs {
    ($($hook:ident: $ipv4:ident, $ipv6:ident;)*) => { $(
        #[classifier]
        pub fn $ipv4(ctx: TcContext) -> i32 {
            $hook::<Addr4>(&ctx)
        }

        #[classifier]
        pub fn $ipv6(ctx: TcContext) -> i32 {
            $hook::<Addr6>(&ctx)
        }
    )* };
}

programs!(
    pod_ingress: from_pod, from_pod6;
    pod_egress: to_pod, to_pod6;
    netdev_ingress: from_netdev, from_netdev6;
    netdev_egress: to_netdev, to_netdev6;
    overlay_ingress: from_overlay, from_overlay6;
    overlay_egress: to_overlay, to_overlay6;
);

/// A family, as programs on devices need it.
trait Routed: Stored {
    const AF: u8;

    /// What becomes of a question of neighbours; `None` of any other packet.
    fn neighbour(skb: &mut Skb<'_>, ifindex: u32) -> Option<Verdict>;
    /// Sets the addresses to look up.
    fn ask(fib: &mut bpf_fib_lookup, ip: &Ip<Self>);
    /// The next hop that was found.
    fn next_hop(fib: &bpf_fib_lookup) -> bpf_redir_neigh;
    /// Sets the tunnel's other end: `node`, or without one what the room has.
    fn set_tunnel_key(ctx: &TcContext, node: Addr4, vni: u32) -> Result<(), DropReason>;
    /// The network identifier that an encapsulated packet came with; its node goes into the room.
    fn enter(ctx: &TcContext, room: &mut Room<Self>) -> Option<u32>;
}

impl Routed for Addr4 {
    const AF: u8 = 2;

    #[inline(always)]
    fn neighbour(skb: &mut Skb<'_>, ifindex: u32) -> Option<Verdict> {
        l2::arp(skb, &Maps, ifindex)
    }

    #[inline(always)]
    fn ask(fib: &mut bpf_fib_lookup, ip: &Ip<Self>) {
        fib.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(ip.src);
        fib.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(ip.dst);
    }

    #[inline(always)]
    fn next_hop(fib: &bpf_fib_lookup) -> bpf_redir_neigh {
        // SAFETY: zeroes are a value of this C structure.
        let mut next_hop: bpf_redir_neigh = unsafe { core::mem::zeroed() };
        next_hop.nh_family = Self::AF.into();
        // SAFETY: after a lookup the union holds the next hop's address.
        next_hop.__bindgen_anon_1.ipv4_nh = unsafe { fib.__bindgen_anon_4.ipv4_dst };
        next_hop
    }

    #[inline(always)]
    fn set_tunnel_key(ctx: &TcContext, node: Addr4, vni: u32) -> Result<(), DropReason> {
        set_tunnel_key(ctx, node, vni)
    }

    #[inline(always)]
    fn enter(ctx: &TcContext, room: &mut Room<Self>) -> Option<u32> {
        let tunnel = tunnel(ctx);
        if tunnel == NO_TUNNEL {
            return None;
        }
        room.node = (tunnel as u32).to_be_bytes();
        Some((tunnel >> 32) as u32)
    }
}

impl Routed for Addr6 {
    const AF: u8 = 10;

    #[inline(always)]
    fn neighbour(skb: &mut Skb<'_>, ifindex: u32) -> Option<Verdict> {
        l2::neighbour(skb, &Maps, ifindex)
    }

    #[inline(always)]
    fn ask(fib: &mut bpf_fib_lookup, ip: &Ip<Self>) {
        fib.__bindgen_anon_3.ipv6_src = *ip.src.words();
        fib.__bindgen_anon_4.ipv6_dst = *ip.dst.words();
    }

    #[inline(always)]
    fn next_hop(fib: &bpf_fib_lookup) -> bpf_redir_neigh {
        // SAFETY: zeroes are a value of this C structure.
        let mut next_hop: bpf_redir_neigh = unsafe { core::mem::zeroed() };
        next_hop.nh_family = Self::AF.into();
        // SAFETY: after a lookup the union holds the next hop's address.
        next_hop.__bindgen_anon_1.ipv6_nh = unsafe { fib.__bindgen_anon_4.ipv6_dst };
        next_hop
    }

    #[inline(always)]
    fn set_tunnel_key(ctx: &TcContext, node: Addr4, vni: u32) -> Result<(), DropReason> {
        if Maps.tunnels_ipv6() { set_tunnel_key6(ctx, vni) } else { set_tunnel_key(ctx, node, vni) }
    }

    #[inline(always)]
    fn enter(ctx: &TcContext, room: &mut Room<Self>) -> Option<u32> {
        if Maps.tunnels_ipv6() {
            let vni = tunnel6(ctx, &mut room.node);
            return (vni != NO_TUNNEL6).then_some(vni);
        }
        let tunnel = tunnel(ctx);
        if tunnel == NO_TUNNEL {
            return None;
        }
        room.node = Self::of_node((tunnel as u32).to_be_bytes());
        Some((tunnel >> 32) as u32)
    }
}

#[inline(always)]
fn pod_ingress<A: Routed>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    let ifindex = ifindex(ctx);
    act::<A>(ctx, pod::from_pod::<A, _, _>(&mut Skb::new::<A>(ctx), &Maps, ifindex))
}

#[inline(always)]
fn pod_egress<A: Routed>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    act::<A>(ctx, pod::to_pod::<A, _, _>(&mut Skb::new::<A>(ctx), &Maps))
}

#[inline(always)]
fn netdev_ingress<A: Routed>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    let mut skb = Skb::new::<A>(ctx);
    let decision = match A::neighbour(&mut skb, ifindex(ctx)) {
        Some(verdict) => Ok(verdict),
        None => netdev::from_netdev::<A, _, _>(&mut skb, &Maps),
    };
    act::<A>(ctx, decision)
}

#[inline(always)]
fn netdev_egress<A: Routed>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    act::<A>(ctx, netdev::to_netdev::<A, _, _>(&mut Skb::new::<A>(ctx), &Maps))
}

#[inline(always)]
fn overlay_ingress<A: Routed>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    // The inner destination MAC is whatever the sender's pod used: without this the stack would
    // take the packet for another host's.
    // SAFETY: the context is the kernel's.
    unsafe { bpf_skb_change_type(ctx.skb.skb, PACKET_HOST) };
    act::<A>(ctx, overlay::from_overlay::<A, _, _>(&mut Skb::new::<A>(ctx), &Maps, |room| A::enter(ctx, room)))
}

#[inline(always)]
fn overlay_egress<A: Routed>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    // SAFETY: the context is the kernel's.
    if unsafe { (*ctx.skb.skb).mark } == MARK_TUNNEL {
        // From a pod, of either family, with its key. The mark must not choose a route for the outer packet.
        // SAFETY: as above.
        unsafe { (*ctx.skb.skb).mark = 0 };
        return DONE;
    }
    act::<A>(ctx, overlay::to_overlay::<A, _, _>(&mut Skb::new::<A>(ctx), &Maps))
}

#[inline(always)]
fn act<A: Routed>(ctx: &TcContext, decision: Result<Verdict, DropReason>) -> i32
where
    Maps: Tables<A>,
{
    match decision.and_then(|verdict| perform::<A>(ctx, verdict)) {
        Ok(action) => action,
        Err(reason) => {
            count_drop(reason, u64::from(ctx.len()));
            SHOT
        }
    }
}

#[inline(always)]
fn perform<A: Routed>(ctx: &TcContext, verdict: Verdict) -> Result<i32, DropReason>
where
    Maps: Tables<A>,
{
    match verdict.action {
        Action::Pass => Ok(NEXT),
        // SAFETY: the helper notes where the packet goes after the program.
        Action::Pod => Ok(unsafe { bpf_redirect_peer(verdict.to, 0) } as i32),
        Action::Overlay => tunnel_to::<A>(ctx, verdict, Maps.overlay_vni(), overlay_ifindex()),
        Action::Dsr => tunnel_to::<A>(ctx, verdict, Maps.dsr_vni(), dsr_ifindex()),
        Action::DsrNodePort => tunnel_to::<A>(ctx, verdict, Maps.dsr_vni() | DSR_NODE_PORT, dsr_ifindex()),
        Action::Encapsulate => A::set_tunnel_key(ctx, verdict.node(), Maps.overlay_vni()).map(|()| NEXT),
        Action::Route => route::<A>(ctx, Unroutable::ToStack),
        Action::Answer => Ok(answer(ctx)),
        Action::Forward => match route::<A>(ctx, Unroutable::Drop) {
            Err(DropReason::TooBig) => refuse::<A>(ctx).map(|()| answer(ctx)),
            routed => routed,
        },
        Action::ForwardPassed => match route::<A>(ctx, Unroutable::Drop) {
            Err(DropReason::TooBig) => refuse::<A>(ctx).and_then(|()| route::<A>(ctx, Unroutable::Drop)),
            routed => routed,
        },
    }
}

/// Back where it came from.
#[inline(always)]
fn answer(ctx: &TcContext) -> i32 {
    // SAFETY: the helper notes where the packet goes after the program.
    unsafe { bpf_redirect(ifindex(ctx), 0) as i32 }
}

#[inline(always)]
fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is the kernel's.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// Through the tunnel behind a device.
#[inline(always)]
fn tunnel_to<A: Routed>(ctx: &TcContext, verdict: Verdict, vni: u32, ifindex: u32) -> Result<i32, DropReason> {
    A::set_tunnel_key(ctx, verdict.node(), vni)?;
    // SAFETY: the context is the kernel's.
    unsafe { (*ctx.skb.skb).mark = MARK_TUNNEL };
    // SAFETY: the helper notes where the packet goes after the program.
    Ok(unsafe { bpf_redirect(ifindex, 0) } as i32)
}

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn set_tunnel_key(ctx: &TcContext, node: Addr4, vni: u32) -> Result<(), DropReason> {
    // SAFETY: zeroes are a value of this C structure.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    key.tunnel_id = vni;
    // The kernel takes the address in host order (include/uapi/linux/bpf.h).
    key.__bindgen_anon_1.remote_ipv4 = u32::from_be_bytes(node);
    key.tunnel_ttl = 64;
    // SAFETY: the key lives on our stack and is larger than the size that is passed.
    let result = unsafe { bpf_skb_set_tunnel_key(ctx.skb.skb, &mut key, TUNNEL_KEY_BYTES, BPF_F_ZERO_CSUM_TX.into()) };
    if result == 0 { Ok(()) } else { Err(DropReason::TunnelKey) }
}

/// To the node in the room. Not inlined, as above.
#[inline(never)]
fn set_tunnel_key6(ctx: &TcContext, vni: u32) -> Result<(), DropReason> {
    // SAFETY: zeroes are a value of this C structure.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    key.tunnel_id = vni;
    key.tunnel_ttl = 64;
    Maps.with_room(|room: &mut Room<Addr6>| {
        key.__bindgen_anon_1.remote_ipv6 = *room.node.words();
        Ok(())
    })?;
    let flags = u64::from(BPF_F_ZERO_CSUM_TX | BPF_F_TUNINFO_IPV6);
    // SAFETY: the key lives on our stack and is larger than the size that is passed.
    let result = unsafe { bpf_skb_set_tunnel_key(ctx.skb.skb, &mut key, TUNNEL_KEY_BYTES, flags) };
    if result == 0 { Ok(()) } else { Err(DropReason::TunnelKey) }
}

/// No network identifier.
const NO_TUNNEL6: u32 = u32::MAX;

/// The network identifier that an encapsulated packet came with; the address becomes `node`, which is no stack's. Not inlined, for the sake of
/// the caller's stack.
#[inline(never)]
fn tunnel6(ctx: &TcContext, node: &mut Addr6) -> u32 {
    // SAFETY: zeroes are a value of this C structure.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    let flags = u64::from(BPF_F_TUNINFO_IPV6);
    // SAFETY: the key lives on our stack and is larger than the size that is passed.
    let result = unsafe { bpf_skb_get_tunnel_key(ctx.skb.skb, &mut key, TUNNEL_KEY_BYTES, flags) };
    if result == 0 {
        // SAFETY: the helper filled the structure; the union holds an address either way.
        *node = Addr6::from_words(unsafe { key.__bindgen_anon_1.remote_ipv6 });
        return key.tunnel_id;
    }
    match test_tunnel6() {
        (0, _) => NO_TUNNEL6,
        (vni, test) => {
            *node = test;
            vni
        }
    }
}

/// More than a network identifier and an address.
const NO_TUNNEL: u64 = u64::MAX;

/// The network identifier and address that an encapsulated packet came with, in one word: of what it would write through a
/// pointer LLVM may return the pointer too, and verifiers refuse one to the stack. Not inlined, for the sake of the caller's.
#[inline(never)]
fn tunnel(ctx: &TcContext) -> u64 {
    // SAFETY: zeroes are a value of this C structure.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    // SAFETY: the key lives on our stack and is larger than the size that is passed.
    let result = unsafe { bpf_skb_get_tunnel_key(ctx.skb.skb, &mut key, TUNNEL_KEY_BYTES, 0) };
    if result != 0 {
        return match test_tunnel() {
            (0, _) => NO_TUNNEL,
            (vni, node) => u64::from(vni) << 32 | u64::from(node),
        };
    }
    // SAFETY: the helper filled the structure; the union holds an address either way.
    let remote = unsafe { key.__bindgen_anon_1.remote_ipv4 };
    u64::from(key.tunnel_id) << 32 | u64::from(remote)
}

/// Turns a packet that was translated and does not fit where its route leads into its answer.
#[inline(always)]
fn refuse<A: Routed>(ctx: &TcContext) -> Result<(), DropReason>
where
    Maps: Tables<A>,
{
    Maps.with_room(|room| mtu::refuse(&mut Skb::new::<A>(ctx), &Maps, room)).map(drop)
}

/// What becomes of a packet for which the FIB cannot say where to send it: no route, a blackhole, or it is too long for
/// the route.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unroutable {
    /// The stack answers with an ICMP error, or cuts it.
    ToStack,
    /// The stack would refuse its source: it is this node's, or nobody's.
    Drop,
}

/// Past the host's stack to the next hop that its routes name. [`DropReason::TooBig`]: the room says what fits. Not inlined,
/// for the sake of the caller's stack.
#[inline(never)]
fn route<A: Routed>(ctx: &TcContext, unroutable: Unroutable) -> Result<i32, DropReason>
where
    Maps: Tables<A>,
{
    Maps.with_room(|Room { ip, mtu, .. }: &mut Room<A>| {
        let mut skb = Skb::new::<A>(ctx);
        let Frame::Ip = header::frame(&mut skb, ip)? else { return Ok(NEXT) };
        // SAFETY: zeroes are a value of this C structure.
        let mut fib: bpf_fib_lookup = unsafe { core::mem::zeroed() };
        fib.family = A::AF;
        fib.l4_protocol = ip.proto;
        fib.ifindex = ifindex(ctx);
        A::ask(&mut fib, ip);
        let bytes = mtu::bytes(&skb, ip);
        // Before 5.12 only what is no segment yet is compared, with what the next hop's device takes if its neighbour is
        // known (2c0a10af688c).
        fib.__bindgen_anon_1.tot_len = if bytes > MAX_BYTES { MAX_BYTES } else { bytes } as u16;
        // SAFETY: the parameters live on our stack and have the size that is passed.
        let result = unsafe { fib_lookup(ctx.as_ptr(), &mut fib, size_of::<bpf_fib_lookup>() as i32, 0) };
        if result != i64::from(BPF_FIB_LKUP_RET_SUCCESS) && result != i64::from(BPF_FIB_LKUP_RET_NO_NEIGH) {
            if unroutable == Unroutable::Drop {
                if result != i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED) {
                    return Err(DropReason::NoRoute);
                }
                // What fits is written over what was asked, since 5.12 (e1850ea9bd9e).
                // SAFETY: both fields of the union are a word.
                let fits = u32::from(unsafe { fib.__bindgen_anon_1.mtu_result });
                *mtu = if fits < bytes { fits } else { mtu::guess::<A, _>(&Maps, bytes) };
                return Err(DropReason::TooBig);
            }
            Maps.count(Counter::ToStack, u64::from(ctx.len()));
            return Ok(NEXT);
        }
        nat::decrement_ttl(&mut skb, ip)?;
        let counter = if unroutable == Unroutable::Drop { Counter::ToOutside } else { Counter::ToNode };
        Maps.count(counter, u64::from(ctx.len()));
        let mut next_hop = A::next_hop(&fib);
        // SAFETY: the parameters live on our stack and have the size that is passed.
        let action = unsafe { bpf_redirect_neigh(fib.ifindex, &mut next_hop, size_of::<bpf_redir_neigh>() as i32, 0) };
        Ok(action as i32)
    })
}
