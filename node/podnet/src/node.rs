//! The node's own devices and sysctls.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};
use xebec_netlink::{Handle, Link, LinkSpec, MacAddr, Netns, Vxlan};

use crate::ipam::gateway;
use crate::{Error, HOST_DEVICE, Result, VXLAN_DEVICE, vxlan_mac};

/// Outer IPv4 header (20), UDP (8), VXLAN (8) and the inner Ethernet header (14), which the device's MTU excludes.
pub const VXLAN_OVERHEAD: u32 = 20 + 8 + 8 + 14;

/// Linux's own default port, which keeps clear of hardware and of overlays on IANA's 4789.
pub const VXLAN_PORT: u16 = 8472;

#[derive(Clone, Debug)]
pub struct Config {
    /// The node's network namespace: the agent's own.
    pub netns: Netns,
    /// Address records live here.
    pub state_dir: PathBuf,
    pub node_ip: Ipv4Addr,
    pub pod_cidr: Ipv4Net,
    pub routing: Routing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    Vxlan { port: u16 },
    Native,
}

/// The node's devices, ready for pods.
#[derive(Clone, Debug)]
pub struct Node {
    pub handle: Handle,
    pub node_ip: Ipv4Addr,
    pub pod_cidr: Ipv4Net,
    pub gateway: Ipv4Addr,
    pub routing: Routing,
    /// The device with the node's address.
    pub uplink: Link,
    /// `xb_host`.
    pub host: Link,
    /// `xb_vxlan`, when the routing is VXLAN.
    pub vxlan: Option<Link>,
    pub pod_mtu: u32,
}

/// The MTU of pods, so that a full packet still fits the uplink after encapsulation.
pub fn pod_mtu(routing: Routing, uplink_mtu: u32) -> u32 {
    match routing {
        Routing::Vxlan { .. } => uplink_mtu.saturating_sub(VXLAN_OVERHEAD),
        Routing::Native => uplink_mtu,
    }
}

impl Node {
    /// Makes the devices, or brings those of an earlier run in line. Twice is once.
    pub async fn prepare(config: &Config) -> Result<Self> {
        let handle = Handle::in_netns(&config.netns)?;
        let uplink = uplink(&handle, config.node_ip).await?;
        let pod_mtu = pod_mtu(config.routing, uplink.mtu);
        let gateway = gateway(config.pod_cidr);
        let host = host_device(&handle, pod_mtu, None).await?;
        handle.ensure_addrs(host.index, &[IpNet::from(IpAddr::V4(gateway))]).await?;
        let vxlan = match config.routing {
            Routing::Vxlan { port } => Some(vxlan_device(&handle, port, config.node_ip, pod_mtu, None).await?),
            Routing::Native => {
                handle.link_del(VXLAN_DEVICE).await?;
                None
            }
        };
        ensure_sysctls(&config.netns, &uplink.name, vxlan.is_some())?;
        let (node_ip, pod_cidr, routing) = (config.node_ip, config.pod_cidr.trunc(), config.routing);
        Ok(Self { handle, node_ip, pod_cidr, gateway, routing, uplink, host, vxlan, pod_mtu })
    }

    /// Removes what [`Node::prepare`] and the pods left in the namespace: for `xebec down` on a host that stays.
    pub async fn remove(netns: &Netns) -> Result<()> {
        let handle = Handle::in_netns(netns)?;
        for route in handle.route_list().await? {
            if route.protocol == crate::ROUTE_PROTOCOL {
                handle.route_del(&route).await?;
            }
        }
        for link in handle.links().await? {
            if [HOST_DEVICE, VXLAN_DEVICE].contains(&link.name.as_str()) || crate::names::is_host_device(&link.name) {
                handle.link_del_index(link.index).await?;
            }
        }
        Ok(())
    }
}

async fn uplink(handle: &Handle, node_ip: Ipv4Addr) -> Result<Link> {
    for link in handle.links().await? {
        let addresses = handle.addr_list(link.index).await?;
        if addresses.iter().any(|address| address.addr() == IpAddr::V4(node_ip)) {
            return Ok(link);
        }
    }
    Err(Error::NoUplink(node_ip))
}

/// A dummy device or, on kernels built without that driver, a bridge without ports: it only holds an address.
///
/// One that is made again gets `index`, the one that the datapath knows.
pub(crate) async fn host_device(handle: &Handle, mtu: u32, index: Option<u32>) -> Result<Link> {
    let spec = |spec: LinkSpec| {
        let spec = spec.mac(MacAddr::local(HOST_DEVICE.as_bytes())).mtu(mtu).up();
        index.map_or(spec.clone(), |index| spec.index(index))
    };
    if let Some(link) = handle.link_by_name(HOST_DEVICE).await?
        && link.kind == "bridge"
    {
        return Ok(handle.ensure_link(&spec(LinkSpec::bridge(HOST_DEVICE))).await?);
    }
    match handle.ensure_link(&spec(LinkSpec::dummy(HOST_DEVICE))).await {
        Err(error) if error.is_unsupported() => Ok(handle.ensure_link(&spec(LinkSpec::bridge(HOST_DEVICE))).await?),
        outcome => Ok(outcome?),
    }
}

/// `index` as for [`host_device`].
pub(crate) async fn vxlan_device(
    handle: &Handle,
    port: u16,
    node_ip: Ipv4Addr,
    mtu: u32,
    index: Option<u32>,
) -> Result<Link> {
    let spec = LinkSpec::vxlan(VXLAN_DEVICE, Vxlan::CollectMetadata { port });
    let spec = spec.mac(vxlan_mac(node_ip)).mtu(mtu).up();
    Ok(handle.ensure_link(&index.map_or(spec.clone(), |index| spec.index(index))).await?)
}

/// Returns the names of those that had other values.
pub(crate) fn ensure_sysctls(netns: &Netns, uplink: &str, vxlan: bool) -> Result<Vec<String>> {
    let vxlan_rp_filter = format!("ipv4/conf/{VXLAN_DEVICE}/rp_filter");
    let host_rp_filter = format!("ipv4/conf/{HOST_DEVICE}/rp_filter");
    let uplink_arp_announce = format!("ipv4/conf/{uplink}/arp_announce");
    let mut values = vec![
        ("ipv4/ip_forward", "1"),
        // The kernel takes the stricter of `all` and the device's own value (ip-sysctl.rst): with `all` at 0 our
        // devices are free of the filter, and the machine's others keep theirs.
        ("ipv4/conf/all/rp_filter", "0"),
        (host_rp_filter.as_str(), "0"),
        // Never ask for a neighbour on the underlay with the gateway's address as the sender.
        (uplink_arp_announce.as_str(), "2"),
    ];
    if vxlan {
        values.push((vxlan_rp_filter.as_str(), "0"));
    }
    Ok(netns.sysctls(&values)?.into_iter().map(str::to_owned).collect())
}
