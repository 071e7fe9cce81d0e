//! A packet in a socket buffer.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::{bpf_csum_update, bpf_l4_csum_replace, bpf_skb_change_tail, bpf_skb_ecn_set_ce, bpf_skb_pull_data},
    programs::TcContext,
};
use xebec_logic::{Csum, Family, Packet};

const ETHERNET_AND_TCP_BYTES: u32 = 14 + 20;

const IPV4_END: usize = 14 + 20;

pub struct Skb<'a> {
    ctx: &'a TcContext,
}

impl<'a> Skb<'a> {
    /// Makes the headers (without options) of an IP family readable: they may lie outside the linear part of the buffer.
    #[inline(always)]
    pub fn new<A: Family>(ctx: &'a TcContext) -> Self {
        let mut skb = Self { ctx };
        let headers = ETHERNET_AND_TCP_BYTES + A::HEADER_BYTES as u32;
        if ctx.data() + headers as usize > ctx.data_end() {
            skb.pull_up_to(headers);
        }
        skb
    }

    #[inline(always)]
    fn pull_up_to(&mut self, bytes: u32) {
        let len = self.ctx.len();
        let bytes = if len < bytes { len } else { bytes };
        // SAFETY: the context is the kernel's. A failure leaves the buffer as it was; loads beyond
        // its linear part then fail.
        unsafe { bpf_skb_pull_data(self.ctx.skb.skb, bytes) };
    }
}

/// An offset that the verifier sees is below 512. LLVM knows the bounds of offsets and would remove a
/// plain mask, but the verifier forgets them when they go through the stack.
#[inline(always)]
pub fn bounded(mut offset: usize) -> usize {
    // Those of Ethernet and IPv4 headers are constants.
    if offset >= IPV4_END {
        // SAFETY: one register is masked.
        unsafe { core::arch::asm!("{0} &= 511", inout(reg) offset, options(pure, nomem)) };
    }
    offset
}

/// # Safety
/// The words are in a packet, before its end.
#[inline(always)]
pub unsafe fn load_words<const N: usize>(start: usize, words: &mut [u32; N]) {
    for (index, word) in words.iter_mut().enumerate() {
        // SAFETY: as the caller says; the instruction needs no alignment, which LLVM would make four loads of.
        unsafe {
            core::arch::asm!(
                "{0} = *(u32 *)({1} + 0)",
                out(wreg) *word,
                in(reg) start + index * 4,
                options(pure, readonly, nostack),
            );
        }
    }
}

/// # Safety
/// The words are in a packet, before its end, and may be written.
#[inline(always)]
pub unsafe fn store_words<const N: usize>(start: usize, words: &[u32; N]) {
    for (index, word) in words.iter().enumerate() {
        // SAFETY: as in `load_words`.
        unsafe {
            core::arch::asm!(
                "*(u32 *)({0} + 0) = {1}",
                in(reg) start + index * 4,
                in(wreg) *word,
                options(nostack),
            );
        }
    }
}

impl Packet for Skb<'_> {
    #[inline(always)]
    fn bytes(&self) -> u64 {
        u64::from(self.ctx.len())
    }

    #[inline(always)]
    fn segment_bytes(&self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.ctx.skb.skb).gso_size }
    }

    #[inline(always)]
    fn pull(&mut self, bytes: u32) -> bool {
        if self.ctx.data() + bytes as usize <= self.ctx.data_end() {
            return true;
        }
        // SAFETY: as above.
        self.ctx.len() >= bytes && unsafe { bpf_skb_pull_data(self.ctx.skb.skb, bytes) } == 0
    }

    #[inline(always)]
    fn resize(&mut self, bytes: u32) -> Option<()> {
        // What grows must be linear (`__skb_grow`, net/core/skbuff.c).
        let len = self.ctx.len();
        if len < bytes && !self.pull(len) {
            return None;
        }
        // SAFETY: the context is the kernel's. The call may move the packet; nothing here keeps a pointer to it.
        let result = unsafe { bpf_skb_change_tail(self.ctx.skb.skb, bytes, 0) };
        (result == 0 && self.pull(bytes)).then_some(())
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let start = self.ctx.data() + bounded(offset);
        if start + N > self.ctx.data_end() {
            return None;
        }
        // SAFETY: the comparison above proves that the range is inside the packet's linear part;
        // an array of bytes needs no alignment and accepts any bytes.
        Some(unsafe { *(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        let start = self.ctx.data() + bounded(offset);
        if start + N > self.ctx.data_end() {
            return None;
        }
        // SAFETY: as in `load`. The verifier makes the buffer private to us before the program
        // runs, because the program writes to it.
        unsafe { *(start as *mut [u8; N]) = bytes };
        Some(())
    }

    #[inline(always)]
    fn load_words<const N: usize>(&self, offset: usize, words: &mut [u32; N]) -> Option<()> {
        let start = self.ctx.data() + bounded(offset);
        if start + N * 4 > self.ctx.data_end() {
            return None;
        }
        // SAFETY: the comparison above proves that the words are inside the packet's linear part.
        unsafe { load_words(start, words) };
        Some(())
    }

    #[inline(always)]
    fn store_words<const N: usize>(&mut self, offset: usize, words: &[u32; N]) -> Option<()> {
        let start = self.ctx.data() + bounded(offset);
        if start + N * 4 > self.ctx.data_end() {
            return None;
        }
        // SAFETY: as in `load_words` and `store`.
        unsafe { store_words(start, words) };
        Some(())
    }

    #[inline(always)]
    fn add_csum(&mut self, offset: usize, diff: u32, csum: Csum, optional: bool) -> Option<()> {
        let pseudo = match csum {
            Csum::Data => false,
            Csum::Pseudo => true,
            Csum::Pseudo6 => !self.has_frame_csum(),
        };
        let pseudo = if pseudo { BPF_F_PSEUDO_HDR } else { 0 };
        let zero = if optional { BPF_F_MARK_MANGLED_0 } else { 0 };
        // SAFETY: the context is the kernel's. Size 0 in the flags says that `to` is a difference.
        // The call may move the packet; nothing here keeps a pointer to it.
        let result = unsafe {
            bpf_l4_csum_replace(self.ctx.skb.skb, offset as u32, 0, u64::from(diff), u64::from(pseudo | zero))
        };
        (result == 0).then_some(())
    }

    #[inline(always)]
    fn mark_congestion(&mut self) -> bool {
        // SAFETY: the context is the kernel's. The call may move the packet; nothing here keeps a pointer to it.
        unsafe { bpf_skb_ecn_set_ce(self.ctx.skb.skb) == 1 }
    }

    #[inline(always)]
    fn add_frame_csum(&mut self, diff: u32) {
        // SAFETY: the context is the kernel's. An error says that there is none.
        unsafe { bpf_csum_update(self.ctx.skb.skb, diff) };
    }
}

impl Skb<'_> {
    /// Has the device summed up the whole packet (`CHECKSUM_COMPLETE`)? `bpf_l4_csum_replace` would change that sum for
    /// a pseudo-header, which is wrong for IPv6: `BPF_F_IPV6` says so since 6.16, and older kernels refuse the flag.
    #[inline(always)]
    fn has_frame_csum(&self) -> bool {
        // SAFETY: the context is the kernel's; zero changes nothing. An error says that there is none.
        unsafe { bpf_csum_update(self.ctx.skb.skb, 0) >= 0 }
    }
}
