//! libFuzzer over one target of `tests/fuzz`: `XEBEC_FUZZ_TARGET` names it, and without it the names of all are printed. With `XEBEC_FUZZ_SEEDS` its seeds
//! are written into that directory first, by the process that is going to read them: each has keys of its own, and a token is good for one of them.

#![no_main]

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process;
use std::sync::{LazyLock, Mutex, PoisonError};

use xebec_fuzz::{TARGETS, Target, target, write_seeds};

/// What threads have that serve requests (tokio's default): what is nested too deep for them is at fault.
const STACK_BYTES: libc::rlim_t = 2 << 20;
/// Enough for libFuzzer to write an input down.
const SIGNAL_STACK_BYTES: usize = 1 << 20;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    target(&std::env::var("XEBEC_FUZZ_TARGET").unwrap_or_default()).unwrap_or_else(|error| fail(&error))
});
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

libfuzzer_sys::fuzz_target!(init: begin(), |bytes: &[u8]| {
    if panic::catch_unwind(AssertUnwindSafe(|| (TARGET.run)(bytes))).is_err() {
        fail(&*LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner));
    }
});

fn begin() {
    if std::env::var_os("XEBEC_FUZZ_TARGET").is_none() {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        process::exit(0);
    }
    // libfuzzer-sys ends the process at every panic, but parsers panic whose callers catch it (`cel`).
    panic::set_hook(Box::new(|info| {
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
    if let Some(dir) = std::env::var_os("XEBEC_FUZZ_SEEDS")
        && let Err(error) = write_seeds(&TARGET, Path::new(&dir))
    {
        eprintln!("write seeds into {}: {error}", dir.display());
        process::exit(1);
    }
    bound_stack();
}

/// Tells what an input did, and ends so that libFuzzer keeps it.
fn fail(why: &dyn std::fmt::Display) -> ! {
    eprintln!("{why}");
    process::abort()
}

/// An overflow of the stack is met early, and has another stack to be told on.
fn bound_stack() {
    let stack = Box::leak(vec![0_u8; SIGNAL_STACK_BYTES].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    let limit = libc::rlimit { rlim_cur: STACK_BYTES, rlim_max: STACK_BYTES };
    // SAFETY: the stack lives as long as the process; the zeroed action is the default one (`SIG_DFL`) with an empty mask.
    // libFuzzer's handler keeps the flag of the action that it replaces (`FuzzerUtilPosix.cpp`).
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_ONSTACK;
        libc::setrlimit(libc::RLIMIT_STACK, &raw const limit);
        libc::sigaltstack(&raw const stack, std::ptr::null_mut());
        libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut());
    }
}
