//! Attach and detach of pods: address, devices, datapath, in that order and back.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::time::Instant;
use xebec_netlink::Netns;

use crate::ipam::{Ipam, Record};
use crate::names::is_host_device;
use crate::{EndpointInfo, Error, Node, PodRequest, Result, host_device, pod};

/// The datapath, as this crate sees it. Both must be idempotent.
#[async_trait]
pub trait Endpoints: Send + Sync + 'static {
    /// Returns once packets from and to all addresses of the pod are handled.
    async fn attach(&self, endpoint: &EndpointInfo) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
    /// For each address of a pod.
    async fn detach(&self, ip: IpAddr) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// What an attached pod got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub endpoint: EndpointInfo,
    /// The pod's addresses, each with its gateway.
    pub addresses: Vec<(IpAddr, IpAddr)>,
    pub mtu: u32,
}

/// Requests of one container wait for each other; those of different ones rarely.
const SHARDS: usize = 64;

pub struct PodNetwork {
    node: Node,
    endpoints: Arc<dyn Endpoints>,
    ipam: Mutex<Ipam>,
    /// When each first address of a pod was given out by this process; older ones have no entry.
    since: Mutex<HashMap<IpAddr, Instant>>,
    shards: [tokio::sync::Mutex<()>; SHARDS],
}

impl PodNetwork {
    /// Opens the address records in `state_dir`, attaches the pods that still exist to the datapath again, and removes
    /// what certainly belongs to none: records whose namespace and device are both gone, and devices without a record.
    pub async fn open(node: Node, state_dir: &Path, endpoints: Arc<dyn Endpoints>) -> Result<Self> {
        let pod_cidrs: Vec<_> = node.networks.iter().map(|network| network.pod_cidr).collect();
        let ipam = Ipam::open(&state_dir.join("addresses"), &pod_cidrs)?;
        let shards = std::array::from_fn(|_| tokio::sync::Mutex::new(()));
        let network = Self { node, endpoints, ipam: Mutex::new(ipam), since: Mutex::new(HashMap::new()), shards };
        network.attach_existing().await?;
        network.remove_strays(&network.records()).await?;
        Ok(network)
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The pods of this node, by address.
    pub fn records(&self) -> Vec<Record> {
        self.ipam().records().cloned().collect()
    }

    /// Gives the pod its network. A repeated request, which a runtime makes after a crash, keeps the address.
    pub async fn add(&self, request: &PodRequest) -> Result<Attachment> {
        let _turn = self.turn(&request.container).await;
        let known = self.find(&request.container, &request.ifname);
        let record = match known {
            Some(record) => {
                self.disconnect(&record).await?;
                record
            }
            None => self.allocate(request)?,
        };
        match self.connect(&record).await {
            Ok(endpoint) => {
                tracing::info!(namespace = record.namespace, name = record.name, ip = %record.ip,
                    ifindex = endpoint.host_ifindex, "pod attached");
                let gateway = |ip| Some((ip, self.node.network_of(ip)?.gateway()));
                let addresses = record.ips().filter_map(gateway).collect();
                Ok(Attachment { endpoint, addresses, mtu: self.node.pod_mtu })
            }
            Err(error) => {
                if let Err(undo) = self.remove(&record).await {
                    tracing::warn!(
                        pod = label(&record),
                        error = crate::error::chain(&undo),
                        "half-made pod not removed"
                    );
                }
                Err(error)
            }
        }
    }

    /// Takes the pod's network away. Unknown containers are success: the runtime repeats DEL.
    pub async fn del(&self, container: &str, ifname: &str) -> Result<()> {
        let _turn = self.turn(container).await;
        let record = self.find(container, ifname);
        match record {
            Some(record) => {
                self.remove(&record).await?;
                tracing::info!(namespace = record.namespace, name = record.name, ip = %record.ip, "pod detached");
                Ok(())
            }
            None => Ok(self.node.handle.link_del(&host_device(container, ifname)).await?),
        }
    }

    /// Whether the pod's network is as ADD left it.
    pub async fn check(&self, container: &str, ifname: &str) -> Result<()> {
        let record = self.find(container, ifname);
        let Some(record) = record else {
            return Err(Error::NotAttached { container: container.to_owned(), ifname: ifname.to_owned() });
        };
        match pod::fault(&self.node, &record).await? {
            Some(what) => Err(Error::Check { what, pod: label(&record) }),
            None => Ok(()),
        }
    }

    /// Removes the pods that are not in `live`, the sandboxes that the runtime listed at `listed_at`, and host devices
    /// without a record. Returns how many.
    pub async fn collect_garbage(&self, live: &HashSet<String>, listed_at: Instant) -> Result<usize> {
        let records = self.records();
        let mut collected = 0;
        for record in records.iter().filter(|record| !live.contains(&record.container)) {
            let newer = self.since().get(&record.ip).is_some_and(|since| *since >= listed_at);
            if !newer {
                self.del(&record.container, &record.ifname).await?;
                collected += 1;
            }
        }
        Ok(collected + self.remove_strays(&records).await?)
    }

    /// Removes host devices without a record. The record of a pod is there before its device, so a device that was
    /// listed before the records were read, and has none, belongs to nobody.
    async fn remove_strays(&self, earlier: &[Record]) -> Result<usize> {
        let links = self.node.handle.links().await?;
        let device = |record: &Record| host_device(&record.container, &record.ifname);
        let known: HashSet<String> = earlier.iter().chain(&self.records()).map(device).collect();
        let mut removed = 0;
        for link in links.iter().filter(|link| is_host_device(&link.name) && !known.contains(&link.name)) {
            self.node.handle.link_del_index(link.index).await?;
            removed += 1;
        }
        Ok(removed)
    }

    async fn attach_existing(&self) -> Result<()> {
        for record in self.records() {
            let name = host_device(&record.container, &record.ifname);
            let link = self.node.handle.link_by_name(&name).await?;
            let cookie = Netns::open(&record.netns).and_then(|netns| netns.cookie());
            match (link, cookie) {
                (Some(link), Ok(cookie)) => {
                    self.attach(&record, &EndpointInfo::new(&record, link.index, cookie)).await?;
                }
                // The device dies with its namespace: without either the pod is gone, as after a reboot.
                (None, Err(_)) => {
                    tracing::info!(pod = label(&record), ip = %record.ip, "address of a pod that is gone released");
                    self.remove(&record).await?;
                }
                // Half made or half gone: the runtime's DEL, or the garbage collection, will tell.
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) async fn connect(&self, record: &Record) -> Result<EndpointInfo> {
        let made = pod::create(&self.node, record).await;
        let endpoint = made.map_err(|source| Error::Pod { pod: label(record), source })?;
        self.attach(record, &endpoint).await?;
        Ok(endpoint)
    }

    /// The datapath forgets the pod before its devices go, and the devices before its address is free.
    async fn disconnect(&self, record: &Record) -> Result<()> {
        for ip in record.ips() {
            let detached = self.endpoints.detach(ip).await;
            detached.map_err(|source| Error::Datapath { operation: "detach", pod: label(record), source })?;
        }
        let deleted = pod::delete(&self.node, record).await;
        deleted.map_err(|source| Error::Pod { pod: label(record), source })
    }

    async fn remove(&self, record: &Record) -> Result<()> {
        self.disconnect(record).await?;
        self.since().remove(&record.ip);
        self.ipam().release(record.ip, Instant::now())
    }

    async fn attach(&self, record: &Record, endpoint: &EndpointInfo) -> Result<()> {
        let attached = self.endpoints.attach(endpoint).await;
        attached.map_err(|source| Error::Datapath { operation: "attach", pod: label(record), source })
    }

    fn allocate(&self, request: &PodRequest) -> Result<Record> {
        let now = Instant::now();
        let PodRequest { container, ifname, netns, namespace, name, uid } = request.clone();
        let wanted = Record {
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            secondary_ip: None,
            container,
            ifname,
            netns,
            namespace,
            name,
            uid,
        };
        let record = self.ipam().allocate(wanted, now)?;
        self.since().insert(record.ip, now);
        Ok(record)
    }

    pub(crate) async fn turn(&self, container: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        container.hash(&mut hasher);
        self.shards[hasher.finish() as usize % SHARDS].lock().await
    }

    pub(crate) fn find(&self, container: &str, ifname: &str) -> Option<Record> {
        self.ipam().find(container, ifname).cloned()
    }

    fn ipam(&self) -> std::sync::MutexGuard<'_, Ipam> {
        self.ipam.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn label(record: &Record) -> String {
    format!("{}/{}", record.namespace, record.name)
}
