//! The node's own devices and sysctls.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use xebec_netlink::{Handle, Link, LinkSpec, MacAddr, Netns, Vxlan};

use crate::ipam::gateway;
use crate::{Error, HOST_DEVICE, Result, VXLAN_DEVICE, vxlan_mac};

/// Outer IPv4 header (20), UDP (8), VXLAN (8) and the inner Ethernet header (14), which the device's MTU excludes.
pub const VXLAN_OVERHEAD: u32 = 20 + 8 + 8 + 14;
/// The same with an outer IPv6 header (40).
pub const VXLAN6_OVERHEAD: u32 = VXLAN_OVERHEAD + 20;

/// Linux's own default port, which keeps clear of hardware and of overlays on IANA's 4789.
pub const VXLAN_PORT: u16 = 8472;

#[derive(Clone, Debug)]
pub struct Config {
    /// The node's network namespace: the agent's own.
    pub netns: Netns,
    /// Address records live here.
    pub state_dir: PathBuf,
    /// One of each family that pods have, the primary first.
    pub networks: Vec<Network>,
    pub routing: Routing,
}

/// What a node has of one IP family. Both are of that family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub node_ip: IpAddr,
    pub pod_cidr: IpNet,
}

impl Network {
    pub fn gateway(&self) -> IpAddr {
        gateway(self.pod_cidr)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    Vxlan {
        port: u16,
    },
    /// By the network's routes. `tunnel` is the port of a VXLAN device that is there for other things than pods' packets.
    Native {
        tunnel: Option<u16>,
    },
}

impl Routing {
    /// Of the VXLAN device, if there is to be one.
    pub(crate) fn port(self) -> Option<u16> {
        match self {
            Self::Vxlan { port } => Some(port),
            Self::Native { tunnel } => tunnel,
        }
    }
}

/// The node's devices, ready for pods.
#[derive(Clone, Debug)]
pub struct Node {
    pub handle: Handle,
    /// One of each family that pods have, the primary first.
    pub networks: Vec<Network>,
    pub routing: Routing,
    /// The devices with the node's addresses, in the order of `networks`.
    pub uplinks: Vec<Link>,
    /// `xb_host`.
    pub host: Link,
    /// `xb_vxlan`, when the routing is VXLAN.
    pub vxlan: Option<Link>,
    /// `xb_vxlan`, whatever it is for.
    pub tunnel: Option<Link>,
    pub pod_mtu: u32,
}

/// The MTU of pods, so that a full packet still fits the uplink after encapsulation, by packets of the family of
/// `overlay_ip`.
pub fn pod_mtu(routing: Routing, overlay_ip: IpAddr, uplink_mtu: u32) -> u32 {
    match routing {
        Routing::Vxlan { .. } => tunnel_mtu(overlay_ip, uplink_mtu),
        Routing::Native { .. } => uplink_mtu,
    }
}

fn tunnel_mtu(overlay_ip: IpAddr, uplink_mtu: u32) -> u32 {
    uplink_mtu.saturating_sub(if overlay_ip.is_ipv4() { VXLAN_OVERHEAD } else { VXLAN6_OVERHEAD })
}

impl Node {
    /// Makes the devices, or brings those of an earlier run in line. Twice is once.
    pub async fn prepare(config: &Config) -> Result<Self> {
        let handle = Handle::in_netns(&config.netns)?;
        let mut networks = config.networks.clone();
        networks.iter_mut().for_each(|network| network.pod_cidr = network.pod_cidr.trunc());
        let mut uplinks = Vec::with_capacity(networks.len());
        for network in &networks {
            uplinks.push(uplink(&handle, network.node_ip).await?);
        }
        let mtu = uplinks.iter().map(|uplink| uplink.mtu).min().ok_or(Error::NoFamily)?;
        let overlay_ip = overlay_ip(&networks)?;
        let pod_mtu = pod_mtu(config.routing, overlay_ip, mtu);
        let host = host_device(&handle, pod_mtu, None).await?;
        let tunnel = match config.routing.port() {
            Some(port) => Some(vxlan_device(&handle, port, overlay_ip, tunnel_mtu(overlay_ip, mtu), None).await?),
            None => {
                handle.link_del(VXLAN_DEVICE).await?;
                None
            }
        };
        let vxlan = tunnel.clone().filter(|_| matches!(config.routing, Routing::Vxlan { .. }));
        let node = Self { handle, networks, routing: config.routing, uplinks, host, vxlan, tunnel, pod_mtu };
        // Before the addresses: a device may have IPv6 switched off.
        node.ensure_sysctls()?;
        node.handle.ensure_addrs(node.host.index, &node.gateways()).await?;
        Ok(node)
    }

    /// What the node has of the family of `ip`.
    pub fn network_of(&self, ip: IpAddr) -> Option<&Network> {
        self.networks.iter().find(|network| network.node_ip.is_ipv4() == ip.is_ipv4())
    }

    /// The node's own addresses in the pod network, all on [`HOST_DEVICE`].
    pub(crate) fn gateways(&self) -> Vec<IpNet> {
        self.networks.iter().map(|network| IpNet::from(network.gateway())).collect()
    }

    /// Returns the names of those that had other values.
    pub(crate) fn ensure_sysctls(&self) -> Result<Vec<String>> {
        let mut values: Vec<(String, &str)> = Vec::new();
        for (network, uplink) in self.networks.iter().zip(&self.uplinks) {
            values.extend(match network.node_ip {
                IpAddr::V4(_) => self.sysctls4(uplink),
                IpAddr::V6(_) => self.sysctls6(uplink)?,
            });
        }
        let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        Ok(self.handle.netns().sysctls(&values)?.into_iter().map(str::to_owned).collect())
    }

    fn sysctls4(&self, uplink: &Link) -> Vec<(String, &'static str)> {
        let mut values = vec![
            ("ipv4/ip_forward".to_owned(), "1"),
            // The kernel takes the stricter of `all` and the device's own value (ip-sysctl.rst): with `all` at 0 our
            // devices are free of the filter, and the machine's others keep theirs.
            ("ipv4/conf/all/rp_filter".to_owned(), "0"),
            // Never ask for a neighbour on the underlay with the gateway's address as the sender.
            (format!("ipv4/conf/{}/arp_announce", uplink.name), "2"),
        ];
        values.extend(self.own_devices().map(|device| (format!("ipv4/conf/{device}/rp_filter"), "0")));
        values
    }

    fn sysctls6(&self, uplink: &Link) -> Result<Vec<(String, &'static str)>> {
        let mut values = Vec::new();
        // A node whose own default route comes from router advertisements would lose it as a router: 1 means that
        // they are taken unless the node forwards, 2 that they are taken anyway (ip-sysctl.rst).
        let accept_ra = format!("ipv6/conf/{}/accept_ra", uplink.name);
        if self.handle.netns().sysctl_get(&accept_ra)? == "1" {
            values.push((accept_ra, "2"));
        }
        // Whatever the machine's default for new devices.
        values.extend(self.own_devices().map(|device| (format!("ipv6/conf/{device}/disable_ipv6"), "0")));
        values.push(("ipv6/conf/all/forwarding".to_owned(), "1"));
        Ok(values)
    }

    fn own_devices(&self) -> impl Iterator<Item = &'static str> + use<> {
        [HOST_DEVICE].into_iter().chain(self.tunnel.is_some().then_some(VXLAN_DEVICE))
    }

    /// Where the tunnel of this node ends.
    pub(crate) fn overlay_ip(&self) -> Result<IpAddr> {
        overlay_ip(&self.networks)
    }

    /// Removes what [`Node::prepare`] and the pods left in the namespace, for a host that leaves its cluster: routes and
    /// devices. Returns what that was, such as `route 10.244.2.0/24`. Sysctls stay: others may need them too.
    pub async fn remove(netns: &Netns) -> Result<Vec<String>> {
        let handle = Handle::in_netns(netns)?;
        let mut removed = Vec::new();
        for route in handle.route_list().await? {
            if route.protocol == crate::ROUTE_PROTOCOL {
                handle.route_del(&route).await?;
                removed.push(format!("route {}", route.dst));
            }
        }
        for link in handle.links().await? {
            if [HOST_DEVICE, VXLAN_DEVICE].contains(&link.name.as_str()) || crate::names::is_host_device(&link.name) {
                handle.link_del_index(link.index).await?;
                removed.push(format!("device {}", link.name));
            }
        }
        Ok(removed)
    }
}

/// It runs over IPv4 for pods of both families, and over IPv6 only where pods have no IPv4.
fn overlay_ip(networks: &[Network]) -> Result<IpAddr> {
    let mut ips = networks.iter().map(|network| network.node_ip);
    ips.clone().find(IpAddr::is_ipv4).or_else(|| ips.next()).ok_or(Error::NoFamily)
}

async fn uplink(handle: &Handle, node_ip: IpAddr) -> Result<Link> {
    for link in handle.links().await? {
        let addresses = handle.addr_list(link.index).await?;
        if addresses.iter().any(|address| address.addr() == node_ip) {
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
    node_ip: IpAddr,
    mtu: u32,
    index: Option<u32>,
) -> Result<Link> {
    let spec = LinkSpec::vxlan(VXLAN_DEVICE, Vxlan::CollectMetadata { port, zero_csum6: node_ip.is_ipv6() });
    let spec = spec.mac(vxlan_mac(node_ip)).mtu(mtu).up();
    Ok(handle.ensure_link(&index.map_or(spec.clone(), |index| spec.index(index))).await?)
}
