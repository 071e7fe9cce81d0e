//! The pod network of the node: devices, then the datapath on them, then the CNI plugin in front.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::mpsc;
use xebec_datapath::{Datapath, XdpMode};
use xebec_netlink::{Handle, Netns};
use xebec_podnet::{Network as NodeNetwork, Node, PodNetwork, VXLAN_PORT, cni};
use xebec_services::Forwarding;

use crate::endpoints::DatapathEndpoints;
use crate::{Config, Routing, plugin};

/// The VXLAN network identifier of every cluster: clusters are told apart by their underlays.
const VNI: u32 = 1;

pub struct Network {
    pub pods: Arc<PodNetwork>,
    pub datapath: Arc<Datapath>,
    pub server: cni::Server,
    /// The sandboxes that are attached, as they are.
    pub attached: mpsc::UnboundedReceiver<String>,
}

/// # Errors
/// Names the step that failed.
pub async fn open(config: &Config, pod_cidrs: &[IpNet]) -> Result<Network, Box<dyn std::error::Error + Send + Sync>> {
    check_overlay(config.routing, &config.cluster_cidrs, pod_cidrs)?;
    let netns = Netns::current()?;
    let state_dir = config.data_dir.join("podnet");
    let node = Node::prepare(&xebec_podnet::Config {
        netns: netns.clone(),
        state_dir: state_dir.clone(),
        networks: pod_cidrs.iter().map(|cidr| node_network(config, *cidr)).collect::<Result<_, _>>()?,
        routing: match config.routing {
            Routing::Vxlan => xebec_podnet::Routing::Vxlan { port: VXLAN_PORT },
            Routing::Native => xebec_podnet::Routing::Native { tunnel: tunnel(config) },
        },
    })
    .await?;
    let datapath = Arc::new(Datapath::open(datapath_config(config, &netns, &node).await?)?);
    let (told, attached) = mpsc::unbounded_channel();
    let endpoints = Arc::new(DatapathEndpoints { datapath: Arc::clone(&datapath), attached: told });
    let pods = Arc::new(PodNetwork::open(node, &state_dir, endpoints).await?);
    let server = cni::Server::bind(&config.cni_socket(), Arc::clone(&pods))?;
    // Last: containerd reports the network ready once the configuration is there.
    plugin::install(&config.cni_bin_dir, &config.cni_conf_dir, &config.cni_socket())?;
    Ok(Network { pods, datapath, server, attached })
}

/// Nodes whose pods have no IPv4 run the overlay over IPv6, all others over IPv4: the two do not meet.
fn check_overlay(routing: Routing, cluster_cidrs: &[IpNet], pod_cidrs: &[IpNet]) -> Result<(), String> {
    let ipv4 = |cidrs: &[IpNet]| cidrs.iter().copied().find(|cidr| cidr.addr().is_ipv4());
    match (routing, ipv4(cluster_cidrs), pod_cidrs) {
        (Routing::Vxlan, Some(cluster), [pods, ..]) if ipv4(pod_cidrs).is_none() => Err(format!(
            "the overlay of a cluster with IPv4 pods (--cluster-cidr {cluster}) runs over IPv4, and this node has the podCIDR \
             {pods} alone: delete the Node and join it again with an empty --data-dir, or use --routing native"
        )),
        _ => Ok(()),
    }
}

/// The port of the tunnel that direct server return needs where nothing else does.
fn tunnel(config: &Config) -> Option<u16> {
    (config.load_balancer.forwarding == Forwarding::Dsr).then_some(VXLAN_PORT)
}

/// Why there is no direct server return on a node, if there is none.
pub fn no_direct_return(node: &Node) -> Option<&'static str> {
    let why = "with native routing the tunnel is there with --forwarding-mode dsr alone, on every node";
    node.tunnel.is_none().then_some(why)
}

/// The podCIDR with the node's address of its family.
fn node_network(config: &Config, pod_cidr: IpNet) -> Result<NodeNetwork, String> {
    let node_ip = config.node_ips.iter().find(|ip| ip.is_ipv4() == pod_cidr.addr().is_ipv4());
    let node_ip = *node_ip.ok_or_else(|| {
        format!("the node has the podCIDR {pod_cidr} and no address of that family: give both in --node-ip")
    })?;
    Ok(NodeNetwork { node_ip, pod_cidr })
}

async fn datapath_config(
    config: &Config,
    netns: &Netns,
    node: &Node,
) -> Result<xebec_datapath::Config, Box<dyn std::error::Error + Send + Sync>> {
    let cgroup_node = config.cgroup_mount.join(config.cgroup_root.trim_start_matches('/'));
    let cgroup_pods = cgroup_node.join("kubepods");
    fs::create_dir_all(&cgroup_pods)?;
    let handle = Handle::in_netns(netns)?;
    let mut uplinks: Vec<u32> = node.uplinks.iter().map(|link| link.index).collect();
    uplinks.dedup();
    for name in &config.uplinks {
        let index = handle.link(name).await?.index;
        if !uplinks.contains(&index) {
            uplinks.push(index);
        }
    }
    let mut xdp: BTreeMap<u32, XdpMode> =
        config.load_balancer.xdp.iter().flat_map(|mode| uplinks.iter().map(|uplink| (*uplink, *mode))).collect();
    for (name, mode) in &config.load_balancer.xdp_of {
        let index = handle.link(name).await?.index;
        if !uplinks.contains(&index) {
            return Err(format!("--xdp names {name}, which is not an uplink: add --uplink {name}").into());
        }
        xdp.insert(index, *mode);
    }
    Ok(xebec_datapath::Config {
        node_name: config.node_name.clone(),
        bpffs: config.bpffs.clone(),
        cgroup_pods,
        cgroup_node,
        ipv4: ipv4(config, node)?,
        ipv6: ipv6(config, node)?,
        routing: match &node.vxlan {
            Some(device) => xebec_datapath::Routing::Vxlan { ifindex: device.index, vni: VNI },
            None => xebec_datapath::Routing::Native,
        },
        pod_mtu: node.pod_mtu,
        uplinks,
        netns_cookie: netns.cookie()?.unwrap_or_default(),
        snat_ports: config.snat_ports.clone(),
        load_balancer: xebec_datapath::LoadBalancer {
            maglev_table_size: config.load_balancer.maglev_table_size,
            dsr: node.tunnel.as_ref().map(|device| xebec_datapath::Dsr { ifindex: device.index, vni: VNI }),
            xdp,
        },
        capacity: config.capacity,
        map_layout: config.map_layout(),
    })
}

/// What the node has of IPv4; `None` if its pods have none.
fn ipv4(config: &Config, node: &Node) -> Result<Option<xebec_datapath::Network4>, String> {
    let of = |network: &NodeNetwork| match (network.node_ip, network.pod_cidr, network.gateway()) {
        (IpAddr::V4(node_ip), IpNet::V4(pod_cidr), IpAddr::V4(gateway)) => Some((node_ip, pod_cidr, gateway)),
        _ => None,
    };
    let Some((node_ip, pod_cidr, gateway)) = node.networks.iter().find_map(of) else { return Ok(None) };
    let cidr = |cidr: &IpNet| if let IpNet::V4(cidr) = cidr { Some(*cidr) } else { None };
    let cluster_cidr = config.cluster_cidrs.iter().find_map(cidr).ok_or_else(|| lacks("--cluster-cidr", "IPv4"))?;
    let service_cidr =
        config.service_cidrs.iter().find_map(cidr).ok_or_else(|| lacks("--service-cluster-ip-range", "IPv4"))?;
    Ok(Some(xebec_datapath::Network { node_ip, pod_cidr, cluster_cidr, service_cidr, gateway }))
}

/// As [`ipv4`].
fn ipv6(config: &Config, node: &Node) -> Result<Option<xebec_datapath::Network6>, String> {
    let of = |network: &NodeNetwork| match (network.node_ip, network.pod_cidr, network.gateway()) {
        (IpAddr::V6(node_ip), IpNet::V6(pod_cidr), IpAddr::V6(gateway)) => Some((node_ip, pod_cidr, gateway)),
        _ => None,
    };
    let Some((node_ip, pod_cidr, gateway)) = node.networks.iter().find_map(of) else { return Ok(None) };
    let cidr = |cidr: &IpNet| if let IpNet::V6(cidr) = cidr { Some(*cidr) } else { None };
    let cluster_cidr = config.cluster_cidrs.iter().find_map(cidr).ok_or_else(|| lacks("--cluster-cidr", "IPv6"))?;
    let service_cidr =
        config.service_cidrs.iter().find_map(cidr).ok_or_else(|| lacks("--service-cluster-ip-range", "IPv6"))?;
    Ok(Some(xebec_datapath::Network { node_ip, pod_cidr, cluster_cidr, service_cidr, gateway }))
}

fn lacks(flag: &str, family: &str) -> String {
    format!("the node has an {family} podCIDR, and {flag} no {family} range")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_overlay_runs_over_one_family_in_the_whole_cluster() {
        let check = |routing, cluster: &[&str], pods: &[&str]| {
            let nets = |of: &[&str]| of.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
            check_overlay(routing, &nets(cluster), &nets(pods))
        };
        let (four, six) = ("10.244.0.0/16", "fd00:244::/48");
        let (pods4, pods6) = ("10.244.1.0/24", "fd00:244:0:1::/64");
        for (cluster, pods) in [(&[four, six][..], &[pods4, pods6][..]), (&[six], &[pods6]), (&[four, six], &[pods4])] {
            assert_eq!(check(Routing::Vxlan, cluster, pods), Ok(()));
        }
        let refused = check(Routing::Vxlan, &[six, four], &[pods6]).unwrap_err();
        assert!(refused.contains("--cluster-cidr 10.244.0.0/16") && refused.contains(pods6), "{refused}");
        assert_eq!(check(Routing::Native, &[six, four], &[pods6]), Ok(()));
    }
}
