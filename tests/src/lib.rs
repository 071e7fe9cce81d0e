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

/// Polls until `poll` gives a value; panics with its last reason after `seconds`.
#[track_caller]
pub fn eventually<T>(what: &str, seconds: u64, mut poll: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match poll() {
            Ok(value) => return value,
            Err(reason) if Instant::now() > deadline => panic!("{what}: not after {seconds} s: {reason}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
