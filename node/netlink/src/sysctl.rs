//! `/proc/sys/net`: the kernel shows the namespace of the thread that opens a file there.

use std::fs;
use std::io;

use crate::{Error, Netns, Result};

impl Netns {
    /// `name` is the path below `/proc/sys/net`: `ipv4/ip_forward`, `ipv4/conf/eth0/rp_filter`.
    pub fn sysctl_get(&self, name: &str) -> Result<String> {
        self.run(|| read(name))?.map_err(|source| failed("read", name, source))
    }

    /// Writes only what differs: `/proc/sys` is read-only in many containers where the values are right already.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.sysctls(&[(name, value)]).map(drop)
    }

    /// Several at the price of one thread. Returns the names of those that were different.
    pub fn sysctls<'a>(&self, values: &[(&'a str, &str)]) -> Result<Vec<&'a str>> {
        self.run(|| {
            let written = values.iter().map(|(name, value)| Ok(ensure(name, value)?.then_some(*name)));
            written.filter_map(Result::transpose).collect()
        })?
    }
}

/// True if it was different.
fn ensure(name: &str, value: &str) -> Result<bool> {
    if read(name).is_ok_and(|actual| actual == value) {
        return Ok(false);
    }
    fs::write(path(name), value).map_err(|source| failed("write", name, source))?;
    Ok(true)
}

fn read(name: &str) -> io::Result<String> {
    fs::read_to_string(path(name)).map(|value| value.trim_end().to_owned())
}

fn path(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}

fn failed(operation: &'static str, name: &str, source: io::Error) -> Error {
    Error::Sysctl { operation, name: name.to_owned(), source }
}
