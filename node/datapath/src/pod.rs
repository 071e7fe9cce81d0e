//! Pods of this node: their map entries and the programs on their veth pairs.

use std::{collections::HashMap, net::Ipv4Addr, path::Path};

use xebec_abi::{Addr4, Pod4, limits::PODS_MAX, names};

use crate::{
    Datapath,
    error::{Error, Result},
    hook::{Hook, interface},
    lock,
    table::Table,
};

/// What the datapath needs to know about a pod on this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PodEndpoint {
    pub ip: Ipv4Addr,
    /// Host side of its veth pair, in the node's network namespace.
    pub host_ifindex: u32,
    pub pod_mac: [u8; 6],
    pub host_mac: [u8; 6],
    /// `SO_NETNS_COOKIE` of the pod's network namespace, 0 if unknown: session affinity then
    /// differs between the socket hooks and the per-packet path.
    pub netns_cookie: u64,
}

impl Datapath {
    /// Attaches the programs to the pod's veth pair, then makes the pod reachable. Twice is once;
    /// an address that moved to another interface is replaced.
    pub fn attach_pod(&self, pod: &PodEndpoint) -> Result<()> {
        let mut pods = lock(&self.pods);
        let known = pods.known.len();
        if !pods.known.contains_key(&pod.ip.octets()) && known >= PODS_MAX as usize {
            return Err(Error::TooManyPods { count: known + 1 });
        }
        self.attach_device(Hook::FromPod, pod.host_ifindex)?;
        self.attach_device(Hook::ToPod, pod.host_ifindex)?;
        pods.put(pod)
    }

    /// Makes the pod unreachable and detaches its programs. False if it was not attached.
    pub fn detach_pod(&self, ip: Ipv4Addr) -> Result<bool> {
        let mut pods = lock(&self.pods);
        let Some(pod) = pods.remove(ip)? else { return Ok(false) };
        if !pods.known.values().any(|other| other.ifindex == pod.ifindex) {
            self.detach_device(Hook::FromPod, pod.ifindex)?;
            self.detach_device(Hook::ToPod, pod.ifindex)?;
        }
        Ok(true)
    }

    /// The pods that are attached.
    pub fn pods(&self) -> Vec<PodEndpoint> {
        lock(&self.pods).known.iter().map(endpoint).collect()
    }

    /// Puts the programs of this agent on every adopted pod; forgets pods whose interface is gone.
    pub(crate) fn adopt_pods(&self) -> Result<()> {
        for pod in self.pods() {
            let attached = self
                .attach_device(Hook::FromPod, pod.host_ifindex)
                .and_then(|()| self.attach_device(Hook::ToPod, pod.host_ifindex));
            // It may go at any moment, also between the two.
            match attached {
                Err(_) if interface(pod.host_ifindex).is_err() => {
                    tracing::info!(ip = %pod.ip, ifindex = pod.host_ifindex, "pod interface is gone");
                    lock(&self.pods).remove(pod.ip)?;
                    self.detach_device(Hook::FromPod, pod.host_ifindex)?;
                    self.detach_device(Hook::ToPod, pod.host_ifindex)?;
                }
                attached => attached?,
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Pods {
    table: Table<Addr4, Pod4>,
    known: HashMap<Addr4, Pod4>,
}

impl Pods {
    pub fn open(directory: &Path) -> Result<Self> {
        let table = Table::open(directory, names::PODS4)?;
        let known = table.entries()?.into_iter().collect();
        Ok(Self { table, known })
    }

    /// Entries and their limit.
    pub fn fill(&self) -> (u64, u64) {
        (self.known.len() as u64, u64::from(PODS_MAX))
    }

    fn put(&mut self, pod: &PodEndpoint) -> Result<()> {
        let value = Pod4 {
            ifindex: pod.host_ifindex,
            identity: 0,
            pod_mac: pod.pod_mac,
            host_mac: pod.host_mac,
            pad: 0,
            netns_cookie: pod.netns_cookie,
        };
        self.table.put(&pod.ip.octets(), &value)?;
        self.known.insert(pod.ip.octets(), value);
        Ok(())
    }

    fn remove(&mut self, ip: Ipv4Addr) -> Result<Option<Pod4>> {
        self.table.remove(&ip.octets())?;
        Ok(self.known.remove(&ip.octets()))
    }
}

fn endpoint((addr, pod): (&Addr4, &Pod4)) -> PodEndpoint {
    PodEndpoint {
        ip: (*addr).into(),
        host_ifindex: pod.ifindex,
        pod_mac: pod.pod_mac,
        host_mac: pod.host_mac,
        netns_cookie: pod.netns_cookie,
    }
}
