//! The program that a device's driver runs.

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup,
        xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    },
    btf_maps::PerCpuArray,
    helpers::{
        bpf_fib_lookup as fib_lookup, bpf_jiffies64, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
    },
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use xebec_abi::{Addr4, Addr6};
use xebec_logic::{
    Csum, Family, Host, Packet, Room, Settings, Tables, csum,
    xdp::{self, Grow, Hop, Macs},
};

use crate::{
    map::{Maps, Stored, count_drop},
    skb::{bounded, load_words, store_words},
};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Frames may have several buffers: everything that is looked at is in the first.
#[xdp(frags)]
pub fn xdp_netdev(ctx: XdpContext) -> u32 {
    balance(&ctx)
}

/// For devices without XDP of their own. Not for several buffers: for a program that is, kernels copy a socket buffer
/// without the length of its Ethernet header (6.18, `skb_pp_cow_data`), and the programs behind misread it.
#[xdp]
pub fn xdp_generic(ctx: XdpContext) -> u32 {
    balance(&ctx)
}

#[inline(always)]
fn balance(ctx: &XdpContext) -> u32 {
    match (Frame { ctx }).load::<2>(12).map(u16::from_be_bytes) {
        Some(Addr4::ETHERTYPE) => send::<Addr4>(ctx),
        Some(Addr6::ETHERTYPE) => send::<Addr6>(ctx),
        _ => XDP_PASS,
    }
}

/// What is left alone goes to the stack, unchanged. Not inlined: each family has the whole stack.
#[inline(never)]
fn send<A: Early>(ctx: &XdpContext) -> u32
where
    Maps: Tables<A>,
{
    let sent = Maps.with_room(|room: &mut Room<A>| {
        let mut frame = Frame { ctx };
        // A family that the node does not have.
        if Maps.node_ip() == A::UNSPECIFIED || xdp::decide(&mut frame, &Maps, room).is_none() {
            return Ok(XDP_PASS);
        }
        let Some(macs) = next_hop(ctx, &room.hop) else { return Ok(XDP_PASS) };
        match xdp::rewrite(&mut frame, &Maps, room, macs) {
            Ok(()) => Ok(XDP_TX),
            Err(reason) => {
                count_drop(reason, room.touch.bytes);
                Ok(XDP_DROP)
            }
        }
    });
    sent.unwrap_or(XDP_PASS)
}

/// A family, as the program needs it.
trait Early: Stored {
    fn next_hops() -> &'static NextHops<Self>;
    /// Mixes addresses that differ in their last bytes.
    fn place(src: &Self, dst: &Self) -> u32;
    /// Sets the addresses to look up.
    fn ask(fib: &mut bpf_fib_lookup, hop: &Hop<Self>);
}

impl Early for Addr4 {
    #[inline(always)]
    fn next_hops() -> &'static NextHops<Self> {
        &NEXT_HOPS4
    }

    #[inline(always)]
    fn place(src: &Self, dst: &Self) -> u32 {
        u32::from_be_bytes(*dst) ^ u32::from_be_bytes(*src).rotate_left(3)
    }

    #[inline(always)]
    fn ask(fib: &mut bpf_fib_lookup, hop: &Hop<Self>) {
        fib.family = AF_INET;
        fib.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(hop.src);
        fib.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(hop.dst);
    }
}

impl Early for Addr6 {
    #[inline(always)]
    fn next_hops() -> &'static NextHops<Self> {
        &NEXT_HOPS6
    }

    /// Of clients whose last bytes are alike, the networks differ.
    #[inline(always)]
    fn place(src: &Self, dst: &Self) -> u32 {
        let ([_, _, _, src], [_, network, _, dst]) = (*src.words(), *dst.words());
        u32::from_be(dst) ^ u32::from_be(network) ^ u32::from_be(src).rotate_left(3)
    }

    #[inline(always)]
    fn ask(fib: &mut bpf_fib_lookup, hop: &Hop<Self>) {
        if hop.is_overlay() && !Maps.tunnels_ipv6() {
            fib.family = AF_INET;
            fib.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(hop.src.to_node());
            fib.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(hop.dst.to_node());
        } else {
            fib.family = AF_INET6;
            fib.__bindgen_anon_3.ipv6_src = *hop.src.words();
            fib.__bindgen_anon_4.ipv6_dst = *hop.dst.words();
        }
    }
}

/// The addresses of a frame to the next hop, if the hop is behind the device that the packet came by and has room for
/// it, and its address is known: `from_netdev` resolves it, fragments the packet, or uses another device.
#[inline(always)]
fn next_hop<A: Early>(ctx: &XdpContext, hop: &Hop<A>) -> Option<Macs> {
    let ifindex = ctx.ingress_ifindex() as u32;
    // SAFETY: the helper has no arguments.
    let now = unsafe { bpf_jiffies64() };
    let known = A::next_hops().get_ptr_mut(A::place(&hop.src, &hop.dst) % NEXT_HOPS)?;
    // SAFETY: the slot is this CPU's, and the program is not preempted by itself.
    let known = unsafe { &mut *known };
    if !known.is_for(hop, ifindex) || now.wrapping_sub(known.asked) > NEXT_HOP_JIFFIES {
        let macs = ask(ctx, hop, ifindex)?;
        *known = NextHop { asked: now, ifindex, src: hop.src, dst: hop.dst, bytes: hop.bytes, proto: hop.proto, macs };
    }
    Some(known.macs)
}

/// Next hops that a CPU remembers, each where its addresses say.
const NEXT_HOPS: u32 = 1_024;
/// How long: changes of routes, rules and neighbours are followed within a second where a jiffy is a hundredth of one
/// (`CONFIG_HZ`), sooner elsewhere.
const NEXT_HOP_JIFFIES: u64 = 100;

/// What the host's FIB said.
#[repr(C)]
struct NextHop<A> {
    asked: u64,
    ifindex: u32,
    src: A,
    dst: A,
    /// A packet of so many bytes fits.
    bytes: u16,
    proto: u8,
    macs: Macs,
}

impl<A: Family> NextHop<A> {
    #[inline(always)]
    fn is_for(&self, hop: &Hop<A>, ifindex: u32) -> bool {
        let same_way = self.ifindex == ifindex && self.dst == hop.dst && self.src == hop.src && self.proto == hop.proto;
        same_way && hop.bytes <= self.bytes
    }
}

type NextHops<A> = PerCpuArray<NextHop<A>, { NEXT_HOPS as usize }>;

#[btf_map(name = "xb_next_hop4")]
static NEXT_HOPS4: NextHops<Addr4> = PerCpuArray::new();
#[btf_map(name = "xb_next_hop6")]
static NEXT_HOPS6: NextHops<Addr6> = PerCpuArray::new();

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn ask<A: Early>(ctx: &XdpContext, hop: &Hop<A>, ifindex: u32) -> Option<Macs> {
    // SAFETY: zeroes are a value of this C structure.
    let mut fib: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    fib.l4_protocol = hop.proto;
    fib.ifindex = ifindex;
    fib.__bindgen_anon_1.tot_len = hop.bytes;
    A::ask(&mut fib, hop);
    // SAFETY: the parameters live on our stack and have the size that is passed.
    let result = unsafe { fib_lookup(ctx.as_ptr(), &mut fib, size_of::<bpf_fib_lookup>() as i32, 0) };
    if result != i64::from(BPF_FIB_LKUP_RET_SUCCESS) || fib.ifindex != ifindex {
        return None;
    }
    let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (fib.dmac, fib.smac);
    Some([a, b, c, d, e, f, g, h, i, j, k, l])
}

/// A packet in a driver's buffer. Its checksums are complete.
struct Frame<'a> {
    ctx: &'a XdpContext,
}

impl Packet for Frame<'_> {
    #[inline(always)]
    fn bytes(&self) -> u64 {
        // SAFETY: the context is the kernel's.
        unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) }
    }

    /// What a driver has is as the wire had it.
    #[inline(always)]
    fn segment_bytes(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn pull(&mut self, bytes: u32) -> bool {
        self.ctx.data() + bytes as usize <= self.ctx.data_end()
    }

    #[inline(always)]
    fn resize(&mut self, bytes: u32) -> Option<()> {
        let more = bytes as i32 - self.bytes() as i32;
        // SAFETY: the context is the kernel's. The call moves the packet's end; nothing here keeps a pointer to it.
        (unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, more) } == 0 && self.pull(bytes)).then_some(())
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let start = self.ctx.data() + bounded(offset);
        if start + N > self.ctx.data_end() {
            return None;
        }
        // SAFETY: the comparison above proves that the range is inside the packet's first buffer; an array of bytes
        // needs no alignment and accepts any bytes.
        Some(unsafe { *(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        let start = self.ctx.data() + bounded(offset);
        if start + N > self.ctx.data_end() {
            return None;
        }
        // SAFETY: as in `load`; the buffer is the program's alone.
        unsafe { *(start as *mut [u8; N]) = bytes };
        Some(())
    }

    #[inline(always)]
    fn load_words<const N: usize>(&self, offset: usize, words: &mut [u32; N]) -> Option<()> {
        let start = self.ctx.data() + bounded(offset);
        if start + N * 4 > self.ctx.data_end() {
            return None;
        }
        // SAFETY: the comparison above proves that the words are inside the packet's first buffer.
        unsafe { load_words(start, words) };
        Some(())
    }

    #[inline(always)]
    fn store_words<const N: usize>(&mut self, offset: usize, words: &[u32; N]) -> Option<()> {
        let start = self.ctx.data() + bounded(offset);
        if start + N * 4 > self.ctx.data_end() {
            return None;
        }
        // SAFETY: as in `load_words`; the buffer is the program's alone.
        unsafe { store_words(start, words) };
        Some(())
    }

    #[inline(always)]
    fn add_csum(&mut self, offset: usize, diff: u32, _csum: Csum, optional: bool) -> Option<()> {
        csum::apply(self, offset, diff, optional)
    }

    /// Nothing goes into a pod from here.
    #[inline(always)]
    fn mark_congestion(&mut self) -> bool {
        false
    }

    /// A packet in a driver's buffer has no device's sum.
    #[inline(always)]
    fn add_frame_csum(&mut self, _diff: u32) {}
}

impl Grow for Frame<'_> {
    #[inline(always)]
    fn grow(&mut self, bytes: usize) -> Option<()> {
        // SAFETY: the context is the kernel's. The call moves the packet's start; nothing here keeps a pointer to it.
        (unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(bytes as i32)) } == 0).then_some(())
    }
}
