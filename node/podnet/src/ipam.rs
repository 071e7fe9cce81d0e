//! Which pod has which address.
//!
//! On disk, `DIR/<address>` is one record per address in use, written whole and renamed into place: a crash leaves
//! either the record or none. Records come before devices and outlive them, so that whatever a crash leaves behind has
//! a record by which it is found.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{Error, Result};

/// How long a released address stays unused, so that connections and caches of others forget its last pod.
pub const QUARANTINE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub ip: Ipv4Addr,
    pub container: String,
    pub ifname: String,
    pub netns: PathBuf,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

#[derive(Debug)]
pub struct Ipam {
    dir: PathBuf,
    pod_cidr: Ipv4Net,
    used: BTreeMap<Ipv4Addr, Record>,
    /// Oldest first.
    released: VecDeque<(Instant, Ipv4Addr)>,
    /// Addresses are given out in turn, from the one after this.
    last: Ipv4Addr,
}

/// The first address: the node's own in the pod network.
pub fn gateway(pod_cidr: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(pod_cidr.network().to_bits().wrapping_add(1))
}

impl Ipam {
    /// Opens what is in `dir`. Records outside `pod_cidr` stay until their pods go.
    pub fn open(dir: &Path, pod_cidr: Ipv4Net) -> Result<Self> {
        let pod_cidr = pod_cidr.trunc();
        if pod_cidr.prefix_len() > 30 {
            return Err(Error::PodCidrTooSmall(pod_cidr));
        }
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        let mut ipam = Self {
            dir: dir.to_owned(),
            pod_cidr,
            used: BTreeMap::new(),
            released: VecDeque::new(),
            last: gateway(pod_cidr),
        };
        ipam.load()?;
        Ok(ipam)
    }

    pub fn pod_cidr(&self) -> Ipv4Net {
        self.pod_cidr
    }

    pub fn gateway(&self) -> Ipv4Addr {
        gateway(self.pod_cidr)
    }

    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.used.values()
    }

    pub fn find(&self, container: &str, ifname: &str) -> Option<&Record> {
        self.used.values().find(|record| record.container == container && record.ifname == ifname)
    }

    /// An address for `record` (whose own `ip` does not count); recorded on disk before it returns.
    pub fn allocate(&mut self, record: Record, now: Instant) -> Result<Record> {
        self.forget_old_releases(now);
        let ip = self.next_free().ok_or_else(|| Error::Exhausted {
            pod_cidr: self.pod_cidr,
            used: self.used.len(),
            quarantined: self.released.len(),
            quarantine_seconds: QUARANTINE.as_secs(),
        })?;
        let record = Record { ip, ..record };
        self.write(&record)?;
        self.last = ip;
        self.used.insert(ip, record.clone());
        Ok(record)
    }

    /// Absent is success.
    pub fn release(&mut self, ip: Ipv4Addr, now: Instant) -> Result<()> {
        let path = self.path(ip);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path)(error)),
            _ => {}
        }
        if self.used.remove(&ip).is_some() {
            self.released.push_back((now, ip));
        }
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        let mut newest = SystemTime::UNIX_EPOCH;
        for entry in fs::read_dir(&self.dir).map_err(failed("list", &self.dir))? {
            let path = entry.map_err(failed("list", &self.dir))?.path();
            let Some(ip) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) else {
                // What a crash in the middle of `write` leaves.
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                continue;
            };
            let bytes = fs::read(&path).map_err(failed("read", &path))?;
            match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) if record.ip == ip => {
                    let written = path.metadata().and_then(|meta| meta.modified()).unwrap_or(newest);
                    if written >= newest && self.pod_cidr.contains(&ip) {
                        (newest, self.last) = (written, ip);
                    }
                    self.used.insert(ip, record);
                }
                // A machine that lost power may leave an empty file; no pod outlives that.
                _ => {
                    tracing::warn!(path = %path.display(), "unreadable address record dropped");
                    fs::remove_file(&path).map_err(failed("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    fn write(&self, record: &Record) -> Result<()> {
        let path = self.path(record.ip);
        let temporary = path.with_extension("tmp");
        let bytes = serde_json::to_vec(record).map_err(|e| failed("write", &path)(e.into()))?;
        fs::write(&temporary, bytes).map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("rename to", &path))
    }

    fn next_free(&self) -> Option<Ipv4Addr> {
        let first = self.gateway().to_bits() + 1;
        let last = self.pod_cidr.broadcast().to_bits() - 1;
        let start = match self.last.to_bits() + 1 {
            next if (first..=last).contains(&next) => next,
            _ => first,
        };
        (start..=last)
            .chain(first..start)
            .map(Ipv4Addr::from_bits)
            .find(|ip| !self.used.contains_key(ip) && !self.released.iter().any(|(_, released)| released == ip))
    }

    fn forget_old_releases(&mut self, now: Instant) {
        while self.released.front().is_some_and(|(at, _)| now.duration_since(*at) >= QUARANTINE) {
            self.released.pop_front();
        }
    }

    fn path(&self, ip: Ipv4Addr) -> PathBuf {
        self.dir.join(ip.to_string())
    }
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { operation, path: path.clone(), source }
}

#[cfg(test)]
mod tests;
