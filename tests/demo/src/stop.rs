//! A server ends at SIGTERM. As process 1 of a container it has to ask for the signal: one that nobody waits for does not
//! reach such a process (pid_namespaces(7)).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

/// Requests that are being answered.
static BUSY: AtomicUsize = AtomicUsize::new(0);
/// Between two looks at whether they are.
const LOOK: Duration = Duration::from_millis(5);

/// Ends the process at SIGTERM, once no request is being answered.
pub fn on_sigterm() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    if let Err(error) = signals.thread_block() {
        return eprintln!("wait for SIGTERM: {error}");
    }
    std::thread::spawn(move || {
        if let Err(error) = signals.wait() {
            return eprintln!("wait for SIGTERM: {error}");
        }
        while BUSY.load(Ordering::Acquire) > 0 {
            std::thread::sleep(LOOK);
        }
        std::process::exit(0)
    });
}

/// A request, from its last line to the last byte of its answer.
pub struct Busy;

impl Busy {
    pub fn new() -> Self {
        BUSY.fetch_add(1, Ordering::AcqRel);
        Self
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::AcqRel);
    }
}
