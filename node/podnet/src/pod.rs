//! One pod's devices.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use xebec_netlink::{Handle, Link, LinkSpec, MacAddr, Neighbour, Netns, Peer, Result, Route};

use crate::ipam::Record;
use crate::{Node, ROUTE_PROTOCOL, host_device};

/// What the container runtime asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRequest {
    /// The sandbox's id.
    pub container: String,
    pub ifname: String,
    pub netns: PathBuf,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What the datapath must know of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointInfo {
    /// One of each family, the cluster's primary first.
    pub ips: Vec<IpAddr>,
    pub host_ifindex: u32,
    pub host_device: String,
    pub pod_mac: MacAddr,
    pub host_mac: MacAddr,
    /// 0 where the kernel does not tell it.
    pub netns_cookie: u64,
    pub container: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl EndpointInfo {
    pub(crate) fn new(record: &Record, host_ifindex: u32, netns_cookie: Option<u64>) -> Self {
        let host_device = host_device(&record.container, &record.ifname);
        Self {
            ips: record.ips().collect(),
            host_ifindex,
            pod_mac: pod_mac(&host_device),
            host_mac: host_mac(&host_device),
            host_device,
            netns_cookie: netns_cookie.unwrap_or_default(),
            container: record.container.clone(),
            namespace: record.namespace.clone(),
            name: record.name.clone(),
            uid: record.uid.clone(),
        }
    }
}

/// The kernel gives a new pair its carrier within a millisecond, unless many devices change at the same time.
const CARRIER_TIMEOUT: Duration = Duration::from_millis(100);

/// Makes the pod's devices and routes.
///
/// Netlink round trips: one for the pair, one for both ends' indices, one wave for each end and family. The pod's end
/// comes up last, so that it sends from its first packet on; the host's end is waited for.
pub async fn create(node: &Node, record: &Record) -> Result<EndpointInfo> {
    let netns = Netns::open(&record.netns)?;
    let (pod, cookie) = Handle::in_netns_with_cookie(&netns)?;
    let name = host_device(&record.container, &record.ifname);
    let peer = Peer::new(&name).mac(host_mac(&name)).mtu(node.pod_mtu).netns(node.handle.netns());
    let spec = LinkSpec::veth(&record.ifname, peer).mac(pod_mac(&name)).mtu(node.pod_mtu);
    match pod.link_add(&spec).await {
        // A pair of that name can only be what a crash in the middle of an earlier request left.
        Err(error) if error.is_exists() => {
            node.handle.link_del(&name).await?;
            pod.link_add(&spec).await?;
        }
        outcome => outcome?,
    }
    let (inside, outside) = tokio::try_join!(pod.link(&record.ifname), node.handle.link(&name))?;
    prepare_ipv6(&netns, &record.ifname, record)?;
    configure_host(node, &outside, record, &name).await?;
    configure_pod(node, &pod, &inside, record, &name).await?;
    if !node.handle.link_wait_operational(&name, CARRIER_TIMEOUT).await? {
        tracing::warn!(namespace = record.namespace, name = record.name, device = name, "no carrier yet");
    }
    Ok(EndpointInfo::new(record, outside.index, cookie))
}

/// Deletes both ends, and with them the pod's routes and neighbours. Absent is success.
pub async fn delete(node: &Node, record: &Record) -> Result<()> {
    node.handle.link_del(&host_device(&record.container, &record.ifname)).await
}

/// The first thing of the pod that is not as [`create`] left it.
pub async fn fault(node: &Node, record: &Record) -> Result<Option<&'static str>> {
    let name = host_device(&record.container, &record.ifname);
    let Some(outside) = node.handle.link_by_name(&name).await? else { return Ok(Some("the host device")) };
    if !outside.up {
        return Ok(Some("the state of the host device"));
    }
    let routes = node.handle.route_list().await?;
    if record.ips().any(|ip| !routes.contains(&host_route(ip, outside.index))) {
        return Ok(Some("the host route"));
    }
    let pod = Handle::in_netns(&Netns::open(&record.netns)?)?;
    let Some(inside) = pod.link_by_name(&record.ifname).await? else { return Ok(Some("the pod's device")) };
    let addresses = pod.addr_list(inside.index).await?;
    if record.ips().any(|ip| !addresses.contains(&IpNet::from(ip))) {
        return Ok(Some("the address"));
    }
    let routes = pod.route_list().await?;
    if record.ips().filter_map(|ip| default_route(node, ip, inside.index)).any(|route| !routes.contains(&route)) {
        return Ok(Some("the default route"));
    }
    Ok(None)
}

async fn configure_pod(node: &Node, pod: &Handle, inside: &Link, record: &Record, host_name: &str) -> Result<()> {
    // One socket: the kernel takes the requests in this order, so the address is there when the route needs it.
    tokio::try_join!(biased; pod.link_set_up("lo"), pod.link_set_up(&record.ifname))?;
    for ip in record.ips() {
        let Some(network) = node.network_of(ip) else { continue };
        let gateway = Neighbour { dev: inside.index, ip: network.gateway(), mac: host_mac(host_name) };
        let route = default_route_over(network.gateway(), inside.index);
        tokio::try_join!(
            biased;
            pod.addr_add(inside.index, IpNet::from(ip)),
            pod.neigh_add(gateway),
            pod.route_add(&route),
        )?;
    }
    Ok(())
}

/// IPv6 of a pod's device: it is on, whatever the machine's default, and nobody tells it routes.
fn prepare_ipv6(netns: &Netns, device: &str, record: &Record) -> Result<()> {
    if record.ips().all(|ip| ip.is_ipv4()) {
        return Ok(());
    }
    let [disable, ra] = ["disable_ipv6", "accept_ra"].map(|name| format!("ipv6/conf/{device}/{name}"));
    netns.sysctls(&[(&disable, "0"), (&ra, "0")]).map(drop)
}

/// The host's side: up, with a neighbour and a route for each of the pod's addresses. Twice is once.
pub async fn configure_host(node: &Node, outside: &Link, record: &Record, name: &str) -> Result<()> {
    prepare_ipv6(node.handle.netns(), name, record)?;
    node.handle.link_set_up(name).await?;
    for ip in record.ips() {
        let route = host_route(ip, outside.index);
        tokio::try_join!(
            biased;
            node.handle.neigh_add(neighbour(ip, outside.index, name)),
            node.handle.route_replace(&route),
        )?;
    }
    Ok(())
}

/// `None` for an address of a family that the node has not got any more.
fn default_route(node: &Node, ip: IpAddr, dev: u32) -> Option<Route> {
    Some(default_route_over(node.network_of(ip)?.gateway(), dev))
}

fn default_route_over(gateway: IpAddr, dev: u32) -> Route {
    let route = if gateway.is_ipv4() { Route::default4() } else { Route::default6() };
    route.via(gateway).dev(dev).onlink()
}

/// The pod as the host's device `name` of index `dev` sees it.
pub fn neighbour(ip: IpAddr, dev: u32, name: &str) -> Neighbour {
    Neighbour { dev, ip, mac: pod_mac(name) }
}

pub fn host_route(ip: IpAddr, dev: u32) -> Route {
    let route = Route::new(IpNet::from(ip)).dev(dev).protocol(ROUTE_PROTOCOL);
    // Routes of IPv6 have no scope.
    if ip.is_ipv4() { route.link_scope() } else { route }
}

fn pod_mac(host_name: &str) -> MacAddr {
    MacAddr::local(format!("pod {host_name}").as_bytes())
}

fn host_mac(host_name: &str) -> MacAddr {
    MacAddr::local(format!("host {host_name}").as_bytes())
}
