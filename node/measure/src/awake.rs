//! Processors that do not sleep while figures are taken.

use std::fs::{File, OpenOptions};
use std::io::Write;

/// The kernel's request for processors that answer at once (Documentation/power/pm_qos_interface.rst).
const REQUEST: &str = "/dev/cpu_dma_latency";

/// Keeps every processor out of idle states until it is dropped: to wake one takes longer than what is measured, in a
/// virtual machine 10 µs, and which connection has to wake one is chance.
pub struct Awake {
    /// The request lasts as long as the file is open.
    _request: Option<File>,
}

impl Awake {
    /// Where the kernel has no such request a line says so: figures are then those of processors that sleep.
    pub fn keep() -> Self {
        match request() {
            Ok(file) => Self { _request: Some(file) },
            Err(error) => {
                eprintln!("processors may sleep between connections, which makes figures larger: {REQUEST}: {error}");
                Self { _request: None }
            }
        }
    }
}

/// Zero microseconds.
fn request() -> std::io::Result<File> {
    let mut file = OpenOptions::new().write(true).open(REQUEST)?;
    file.write_all(&0u32.to_ne_bytes())?;
    Ok(file)
}
