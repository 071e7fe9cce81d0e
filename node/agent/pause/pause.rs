//! The program of the pause container: holds a pod's namespaces and, where the pod shares its
//! process namespace, reaps orphans. `build.rs` compiles it without `std` and without libc, so that
//! the image of every sandbox is a few kilobytes.

#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};

const EXIT_GROUP: usize = 231;
const RT_SIGPROCMASK: usize = 14;
const RT_SIGTIMEDWAIT: usize = 128;
const WAIT4: usize = 61;

const SIGINT: usize = 2;
const SIGTERM: usize = 15;
const SIGCHLD: usize = 17;
const WNOHANG: usize = 1;

/// A mask with every signal in it.
static ALL: u64 = !0;

// The kernel enters with the stack pointer 16-byte aligned and no return address (System V ABI,
// AMD64 supplement, 3.4.1); the call restores what a compiled function expects.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "call {run}", "ud2", run = sym run)
}

extern "C" fn run() -> ! {
    let all = &raw const ALL as usize;
    // PID 1 of a namespace only gets the signals that it asks for: block all, then wait for them.
    syscall4(RT_SIGPROCMASK, 0, all, 0, 8);
    loop {
        match syscall4(RT_SIGTIMEDWAIT, all, 0, 0, 8) {
            SIGINT | SIGTERM => {
                syscall4(EXIT_GROUP, 0, 0, 0, 0);
            }
            SIGCHLD => while (syscall4(WAIT4, usize::MAX, 0, WNOHANG, 0) as isize) > 0 {},
            _ => {}
        }
    }
}

fn syscall4(number: usize, a: usize, b: usize, c: usize, d: usize) -> usize {
    let result;
    // SAFETY: the four calls above take a pointer to `ALL`, null or integers, and write no memory.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
