//! Pods of this node: their map entries and the programs on their veth pairs.

mod rate;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    path::Path,
};

use xebec_abi::{Addr4, Addr6, LocalPod, limits::PODS_MAX, names, pod_flag};

use rate::Rates;

use crate::{
    Datapath, Drift, DriftKind,
    error::{Error, Result},
    family::Family,
    hook::{Hook, interface},
    lock,
    table::Table,
};

/// What the datapath needs to know about one address of a pod on this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PodEndpoint {
    pub ip: IpAddr,
    /// Host side of its veth pair, in the node's network namespace.
    pub host_ifindex: u32,
    pub pod_mac: [u8; 6],
    pub host_mac: [u8; 6],
    /// `SO_NETNS_COOKIE` of the pod's network namespace, 0 if unknown: session affinity then
    /// differs between the socket hooks and the per-packet path.
    pub netns_cookie: u64,
}

impl Datapath {
    /// Attaches the programs to the pod's veth pair, then makes the pod reachable at this address; a pod with several
    /// is attached once for each. Twice is once; an address that moved to another interface is replaced.
    pub fn attach_pod(&self, pod: &PodEndpoint) -> Result<()> {
        let mut pods = lock(&self.pods);
        let known = pods.known.keys().filter(|ip| ip.is_ipv6() == pod.ip.is_ipv6()).count();
        if !pods.known.contains_key(&pod.ip) && known >= PODS_MAX as usize {
            return Err(Error::TooManyPods { count: known + 1 });
        }
        self.attach_all(Hook::POD, pod.host_ifindex)?;
        pods.put(pod)
    }

    /// Makes the pod unreachable at this address; its programs go with the last one. False if it was not attached.
    pub fn detach_pod(&self, ip: IpAddr) -> Result<bool> {
        let mut pods = lock(&self.pods);
        let Some(pod) = pods.remove(ip)? else { return Ok(false) };
        if !pods.known.values().any(|other| other.ifindex == pod.ifindex) {
            self.detach_pod_device(pod.ifindex)?;
        }
        Ok(true)
    }

    /// Limits how fast packets go into the pod that has this address, over all of its addresses; `None` is no limit. False
    /// if it was so already, or if no pod has the address.
    pub fn limit_pod(&self, ip: IpAddr, bytes_per_s: Option<u64>) -> Result<bool> {
        lock(&self.pods).limit(ip, bytes_per_s)
    }

    /// The pods that are attached.
    pub fn pods(&self) -> Vec<PodEndpoint> {
        lock(&self.pods).known.iter().map(endpoint).collect()
    }

    /// Puts the programs of this agent on every adopted pod; forgets pods whose interface is gone.
    pub(crate) fn adopt_pods(&self) -> Result<()> {
        for pod in self.pods() {
            // It may go at any moment, also between two of them.
            match self.attach_all(Hook::POD, pod.host_ifindex) {
                Err(_) if interface(pod.host_ifindex).is_err() => {
                    tracing::info!(ip = %pod.ip, ifindex = pod.host_ifindex, "pod interface is gone");
                    lock(&self.pods).remove(pod.ip)?;
                    self.detach_pod_device(pod.host_ifindex)?;
                }
                attached => attached?,
            }
        }
        Ok(())
    }

    fn detach_pod_device(&self, ifindex: u32) -> Result<()> {
        self.wanted(Hook::POD).try_for_each(|hook| self.detach_device(hook, ifindex))
    }
}

#[derive(Debug)]
pub(crate) struct Pods {
    ipv4: Table<Addr4, LocalPod>,
    ipv6: Table<Addr6, LocalPod>,
    known: HashMap<IpAddr, LocalPod>,
    rates: Rates,
}

impl Pods {
    pub fn open(directory: &Path) -> Result<Self> {
        let ipv4 = Table::open(directory, Addr4::PODS)?;
        let ipv6 = Table::open(directory, Addr6::PODS)?;
        let mut known: HashMap<_, _> = entries(&ipv4)?.collect();
        known.extend(entries(&ipv6)?);
        let mut rates = Rates::open(directory)?;
        rates.retain(|ifindex| known.values().any(|pod: &LocalPod| pod.ifindex == ifindex))?;
        Ok(Self { ipv4, ipv6, known, rates })
    }

    /// Each map's name, entries and limit.
    pub fn fill(&self) -> [(&'static str, (u64, u64)); 3] {
        let count = |ipv6| self.known.keys().filter(|ip| ip.is_ipv6() == ipv6).count() as u64;
        let counts = [(Addr4::PODS, count(false)), (Addr6::PODS, count(true)), (names::POD_RATES, self.rates.len())];
        counts.map(|(map, count)| (map, (count, u64::from(PODS_MAX))))
    }

    /// Makes the maps hold what they should; returns what they did not.
    pub fn repair(&self) -> Result<Vec<Drift>> {
        let mut found = restore(&self.ipv4, &self.known)?;
        found.extend(restore(&self.ipv6, &self.known)?);
        found.extend(self.rates.repair()?);
        Ok(found)
    }

    /// The devices of all pods, each once.
    pub fn devices(&self) -> BTreeSet<u32> {
        self.known.values().map(|pod| pod.ifindex).collect()
    }

    fn put(&mut self, pod: &PodEndpoint) -> Result<()> {
        let value = LocalPod {
            ifindex: pod.host_ifindex,
            identity: 0,
            pod_mac: pod.pod_mac,
            host_mac: pod.host_mac,
            flags: if self.rates.knows(pod.host_ifindex) { pod_flag::LIMITED } else { 0 },
            netns_cookie: pod.netns_cookie,
        };
        self.write(pod.ip, value)
    }

    fn write(&mut self, ip: IpAddr, value: LocalPod) -> Result<()> {
        match ip {
            IpAddr::V4(ip) => self.ipv4.put(&ip.octets(), &value)?,
            IpAddr::V6(ip) => self.ipv6.put(&ip.into(), &value)?,
        }
        self.known.insert(ip, value);
        Ok(())
    }

    /// The bucket is there before packets look for it, and goes after they do.
    fn limit(&mut self, ip: IpAddr, bytes_per_s: Option<u64>) -> Result<bool> {
        let Some(ifindex) = self.known.get(&ip).map(|pod| pod.ifindex) else { return Ok(false) };
        let mut changed = match bytes_per_s {
            Some(bytes_per_s) => self.rates.put(ifindex, bytes_per_s)?,
            None => false,
        };
        let flags = if bytes_per_s.is_some() { pod_flag::LIMITED } else { 0 };
        let others = self.known.iter().filter(|(_, pod)| pod.ifindex == ifindex && pod.flags != flags);
        for (ip, pod) in others.map(|(ip, pod)| (*ip, *pod)).collect::<Vec<_>>() {
            self.write(ip, LocalPod { flags, ..pod })?;
            changed = true;
        }
        if bytes_per_s.is_none() {
            self.rates.remove(ifindex)?;
        }
        Ok(changed)
    }

    fn remove(&mut self, ip: IpAddr) -> Result<Option<LocalPod>> {
        match ip {
            IpAddr::V4(ip) => self.ipv4.remove(&ip.octets())?,
            IpAddr::V6(ip) => self.ipv6.remove(&ip.into())?,
        };
        let removed = self.known.remove(&ip);
        if let Some(pod) = &removed
            && !self.known.values().any(|other| other.ifindex == pod.ifindex)
        {
            self.rates.remove(pod.ifindex)?;
        }
        Ok(removed)
    }
}

fn entries<A: Family>(table: &Table<A, LocalPod>) -> Result<impl Iterator<Item = (IpAddr, LocalPod)> + use<A>> {
    Ok(table.entries()?.into_iter().map(|(addr, pod)| (addr.ip(), pod)))
}

fn restore<A: Family>(table: &Table<A, LocalPod>, known: &HashMap<IpAddr, LocalPod>) -> Result<Vec<Drift>> {
    let desired = known.iter().filter_map(|(ip, pod)| Some((A::of(*ip)?, *pod))).collect();
    let drift = |addr: A| Drift::new(DriftKind::MapEntry, format_args!("{} {}", A::PODS, addr.ip()));
    Ok(table.restore(&desired)?.into_iter().map(drift).collect())
}

fn endpoint((ip, pod): (&IpAddr, &LocalPod)) -> PodEndpoint {
    PodEndpoint {
        ip: *ip,
        host_ifindex: pod.ifindex,
        pod_mac: pod.pod_mac,
        host_mac: pod.host_mac,
        netns_cookie: pod.netns_cookie,
    }
}
