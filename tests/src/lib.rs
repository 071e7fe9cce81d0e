//! A harness for tests that need a whole cluster: `xebec up` in a directory of its own, real kubectls.
//!
//! Every wait polls for what it waits for and has an end; nothing is left behind, also after a panic.

mod cluster;
mod kubectl;
mod servers;

pub use cluster::{Cluster, Options, required, text};
pub use kubectl::Kubectl;
pub use servers::{Etcd, Place, Process};

use std::time::{Duration, Instant};

/// How much longer than on an ordinary machine everything may take: `XEBEC_PATIENCE`, 1 by default. An emulated machine
/// is ten times slower.
pub fn patient(seconds: u64) -> u64 {
    let factor =
        std::env::var("XEBEC_PATIENCE").map_or(1, |factor| factor.parse().expect("XEBEC_PATIENCE is a number"));
    seconds * factor
}

/// Polls until `poll` gives a value; panics with its last reason after `seconds`, or more if the machine is slow.
#[track_caller]
pub fn eventually<T>(what: &str, seconds: u64, mut poll: impl FnMut() -> Result<T, String>) -> T {
    let seconds = patient(seconds);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match poll() {
            Ok(value) => return value,
            Err(reason) if Instant::now() > deadline => panic!("{what}: not after {seconds} s: {reason}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
