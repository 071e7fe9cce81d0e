//! The programs: maps, contexts that implement the logic's traits, and entry points.
//!
//! A program per hook, with the logic inlined; no tail calls. What is off is removed by the
//! verifier, because configuration is frozen `.rodata`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(target_arch = "bpf", allow(unsafe_code))] // Helpers and maps of the kernel.

#[cfg(all(target_arch = "bpf", feature = "bridge"))]
mod bridge;
#[cfg(all(target_arch = "bpf", not(feature = "bridge")))]
#[path = "no_bridge.rs"]
mod bridge;
#[cfg(target_arch = "bpf")]
mod config;
#[cfg(target_arch = "bpf")]
mod device;
#[cfg(target_arch = "bpf")]
mod map;
#[cfg(target_arch = "bpf")]
mod skb;
#[cfg(target_arch = "bpf")]
mod sock_ops;
#[cfg(target_arch = "bpf")]
mod socket;
#[cfg(target_arch = "bpf")]
mod xdp;

/// Helpers that the kernel gives to programs with a GPL-compatible licence only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Nothing here panics: `xtask bpf check` refuses an object that refers to this.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
