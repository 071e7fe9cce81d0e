//! Which pod has which address.
//!
//! On disk, `DIR/<address>` is one record per pod, named after its first address, written whole and renamed into place:
//! a crash leaves either the record or none. Records come before devices and outlive them, so that whatever a crash
//! leaves behind has a record by which it is found.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{Error, Result};

/// How long a released address stays unused, so that connections and caches of others forget its last pod.
pub const QUARANTINE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Of the cluster's primary family.
    pub ip: IpAddr,
    /// Of the other family, in a dual-stack cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_ip: Option<IpAddr>,
    pub container: String,
    pub ifname: String,
    pub netns: PathBuf,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl Record {
    /// The primary family's first.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [self.ip].into_iter().chain(self.secondary_ip)
    }
}

#[derive(Debug)]
pub struct Ipam {
    dir: PathBuf,
    /// One for each podCIDR, the primary family's first.
    pools: Vec<Pool>,
    /// By the first address.
    records: BTreeMap<IpAddr, Record>,
}

/// The first address: the node's own in the pod network.
pub fn gateway(pod_cidr: IpNet) -> IpAddr {
    nth(pod_cidr, 1)
}

impl Ipam {
    /// Opens what is in `dir`. Records outside the podCIDRs stay until their pods go.
    pub fn open(dir: &Path, pod_cidrs: &[IpNet]) -> Result<Self> {
        let pools: Vec<Pool> = pod_cidrs.iter().map(|pod_cidr| Pool::new(*pod_cidr)).collect::<Result<_>>()?;
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        let mut ipam = Self { dir: dir.to_owned(), pools, records: BTreeMap::new() };
        ipam.load()?;
        Ok(ipam)
    }

    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    pub fn find(&self, container: &str, ifname: &str) -> Option<&Record> {
        self.records.values().find(|record| record.container == container && record.ifname == ifname)
    }

    /// An address of each family for `record` (whose own do not count); recorded on disk before it returns.
    pub fn allocate(&mut self, record: Record, now: Instant) -> Result<Record> {
        let mut ips = Vec::with_capacity(self.pools.len());
        for pool in &mut self.pools {
            ips.push(pool.next_free(now)?);
        }
        let ip = *ips.first().ok_or(Error::NoFamily)?;
        let record = Record { ip, secondary_ip: ips.get(1).copied(), ..record };
        self.write(&record)?;
        self.take(record.clone());
        Ok(record)
    }

    /// Gives back every address of the record whose first is `ip`. Absent is success.
    pub fn release(&mut self, ip: IpAddr, now: Instant) -> Result<()> {
        let path = self.path(ip);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path)(error)),
            _ => {}
        }
        for ip in self.records.remove(&ip).iter().flat_map(Record::ips) {
            self.pools.iter_mut().for_each(|pool| pool.release(ip, now));
        }
        Ok(())
    }

    fn take(&mut self, record: Record) {
        for ip in record.ips() {
            self.pools.iter_mut().for_each(|pool| pool.take(ip));
        }
        self.records.insert(record.ip, record);
    }

    fn load(&mut self) -> Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed("list", &self.dir))? {
            let path = entry.map_err(failed("list", &self.dir))?.path();
            let ip: Option<IpAddr> = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(ip) = ip else {
                // What a crash in the middle of `write` leaves.
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                continue;
            };
            let bytes = fs::read(&path).map_err(failed("read", &path))?;
            match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) if record.ip == ip => {
                    let written = path.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                    found.push((written, record));
                }
                // A machine that lost power may leave an empty file; no pod outlives that.
                _ => {
                    tracing::warn!(path = %path.display(), "unreadable address record dropped");
                    fs::remove_file(&path).map_err(failed("remove", &path))?;
                }
            }
        }
        // The turn goes on after the newest.
        found.sort_by_key(|(written, _)| *written);
        found.into_iter().for_each(|(_, record)| self.take(record));
        Ok(())
    }

    fn write(&self, record: &Record) -> Result<()> {
        let path = self.path(record.ip);
        let temporary = path.with_extension("tmp");
        let bytes = serde_json::to_vec(record).map_err(|e| failed("write", &path)(e.into()))?;
        fs::write(&temporary, bytes).map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("rename to", &path))
    }

    fn path(&self, ip: IpAddr) -> PathBuf {
        self.dir.join(ip.to_string())
    }
}

/// The addresses of one podCIDR.
#[derive(Debug)]
struct Pool {
    pod_cidr: IpNet,
    used: BTreeSet<IpAddr>,
    /// Oldest first.
    released: VecDeque<(Instant, IpAddr)>,
    /// The place in the network of the address given out last: they are given out in turn.
    last: u128,
}

impl Pool {
    fn new(pod_cidr: IpNet) -> Result<Self> {
        let pod_cidr = pod_cidr.trunc();
        if pod_cidr.max_prefix_len() - pod_cidr.prefix_len() < 2 {
            return Err(Error::PodCidrTooSmall(pod_cidr));
        }
        Ok(Self { pod_cidr, used: BTreeSet::new(), released: VecDeque::new(), last: GATEWAY })
    }

    fn next_free(&mut self, now: Instant) -> Result<IpAddr> {
        self.forget_old_releases(now);
        let first = GATEWAY + 1;
        // The last address of an IPv4 network is the broadcast address.
        let end = bits(self.pod_cidr.broadcast()) - bits(self.pod_cidr.network());
        let last = if self.pod_cidr.addr().is_ipv4() { end - 1 } else { end };
        let start = match self.last + 1 {
            next if (first..=last).contains(&next) => next,
            _ => first,
        };
        let is_free = |ip: &IpAddr| !self.used.contains(ip) && !self.released.iter().any(|(_, other)| other == ip);
        let mut turn = (start..=last).chain(first..start).map(|number| nth(self.pod_cidr, number));
        turn.find(is_free).ok_or_else(|| Error::Exhausted {
            pod_cidr: self.pod_cidr,
            used: self.used.len(),
            quarantined: self.released.len(),
            quarantine_seconds: QUARANTINE.as_secs(),
        })
    }

    /// What is outside takes nothing.
    fn take(&mut self, ip: IpAddr) {
        if self.pod_cidr.contains(&ip) {
            self.last = bits(ip) - bits(self.pod_cidr.network());
            self.used.insert(ip);
        }
    }

    fn release(&mut self, ip: IpAddr, now: Instant) {
        if self.used.remove(&ip) {
            self.released.push_back((now, ip));
        }
    }

    fn forget_old_releases(&mut self, now: Instant) {
        while self.released.front().is_some_and(|(at, _)| now.duration_since(*at) >= QUARANTINE) {
            self.released.pop_front();
        }
    }
}

/// The gateway's place in its network.
const GATEWAY: u128 = 1;

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The address `number` places after the network's own.
fn nth(net: IpNet, number: u128) -> IpAddr {
    let bits = bits(net.network()).wrapping_add(number);
    match net {
        IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(bits).into(),
    }
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { operation, path: path.clone(), source }
}

#[cfg(test)]
mod tests;
