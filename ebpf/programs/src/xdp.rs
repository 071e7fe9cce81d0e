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
use xebec_abi::Addr4;
use xebec_logic::{
    Csum, Packet, csum,
    xdp::{self, Grow, Hop, Macs},
};

use crate::{
    map::{Maps, count_drop},
    skb::bounded,
};

const AF_INET: u8 = 2;

/// Frames may have several buffers: everything that is looked at is in the first.
#[xdp(frags)]
pub fn xdp_netdev(ctx: XdpContext) -> u32 {
    send(&ctx).unwrap_or(XDP_PASS)
}

/// For devices without XDP of their own. Not for several buffers: for a program that is, kernels copy a socket buffer
/// without the length of its Ethernet header (6.18, `skb_pp_cow_data`), and the programs behind misread it.
#[xdp]
pub fn xdp_generic(ctx: XdpContext) -> u32 {
    send(&ctx).unwrap_or(XDP_PASS)
}

/// `None`: to the stack, unchanged.
#[inline(always)]
fn send(ctx: &XdpContext) -> Option<u32> {
    let mut frame = Frame { ctx };
    let (mut ip, mut transport) = xdp::parse(&mut frame, &Maps)?;
    let hop = xdp::decide(&frame, &Maps, &ip, &transport)?;
    let macs = next_hop(ctx, &hop)?;
    let bytes = frame.bytes();
    match xdp::rewrite(&mut frame, &Maps, &mut ip, &mut transport, &hop, macs) {
        Ok(()) => Some(XDP_TX),
        Err(reason) => {
            count_drop(reason, bytes);
            Some(XDP_DROP)
        }
    }
}

/// The addresses of a frame to the next hop, if the hop is behind the device that the packet came by and has room for
/// it, and its address is known: `from_netdev` resolves it, fragments the packet, or uses another device.
#[inline(always)]
fn next_hop(ctx: &XdpContext, hop: &Hop) -> Option<Macs> {
    let ifindex = ctx.ingress_ifindex() as u32;
    // SAFETY: the helper has no arguments.
    let now = unsafe { bpf_jiffies64() };
    // Mixes addresses that differ in their last bytes.
    let index = (u32::from_be_bytes(hop.dst) ^ u32::from_be_bytes(hop.src).rotate_left(3)) % NEXT_HOPS;
    let known = NEXT_HOPS_KNOWN.get_ptr_mut(index)?;
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
struct NextHop {
    asked: u64,
    ifindex: u32,
    src: Addr4,
    dst: Addr4,
    /// A packet of so many bytes fits.
    bytes: u16,
    proto: u8,
    macs: Macs,
}

impl NextHop {
    #[inline(always)]
    fn is_for(&self, hop: &Hop, ifindex: u32) -> bool {
        let same_way = self.ifindex == ifindex && self.dst == hop.dst && self.src == hop.src && self.proto == hop.proto;
        same_way && hop.bytes <= self.bytes
    }
}

#[btf_map(name = "xb_next_hop")]
static NEXT_HOPS_KNOWN: PerCpuArray<NextHop, { NEXT_HOPS as usize }> = PerCpuArray::new();

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn ask(ctx: &XdpContext, hop: &Hop, ifindex: u32) -> Option<Macs> {
    // SAFETY: zeroes are a value of this C structure.
    let mut fib: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    fib.family = AF_INET;
    fib.l4_protocol = hop.proto;
    fib.ifindex = ifindex;
    fib.__bindgen_anon_1.tot_len = hop.bytes;
    fib.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(hop.src);
    fib.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(hop.dst);
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
