//! The peer across nodes: the kernel alone forwards between pods, over a VXLAN device or by routes.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use xebec_netlink::{Netns, Peer};
use xebec_podnet::{Routing, VXLAN_PORT, pod_mtu};

use crate::netns::{Scratch, Switch};
use crate::peer::feed;

const UPLINK_MTU: u32 = 1500;

/// Two nodes with a pod each.
pub struct Cluster {
    pods: [Scratch; 2],
    _nodes: [Scratch; 2],
}

fn node_ip(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, 1, 11 + index)
}

fn gateway(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 245, index, 1)
}

fn pod_ip(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 245, index, 2)
}

impl Cluster {
    pub async fn new(switch: &Switch, routing: Routing) -> Result<Self> {
        let cluster = Self { pods: [Scratch::new()?, Scratch::new()?], _nodes: [Scratch::new()?, Scratch::new()?] };
        for index in [0, 1] {
            let (node, pod) = (&cluster._nodes[usize::from(index)], &cluster.pods[usize::from(index)]);
            switch.plug(node, node_ip(index)).await?;
            node.handle()?.link_add_veth("pod", Peer::new("eth0").netns(&pod.netns)).await?;
            node.netns.sysctls(&[("ipv4/ip_forward", "1")])?;
            feed(&node.netns, "ip", &["-batch", "-"], &node_setup(routing, index))?;
            feed(&pod.netns, "ip", &["-batch", "-"], &pod_setup(routing, index))?;
        }
        Ok(cluster)
    }

    /// The first node's pod, and the second's with its address.
    pub fn ends(&self) -> (&Netns, &Netns, Ipv4Addr) {
        (&self.pods[0].netns, &self.pods[1].netns, pod_ip(1))
    }
}

/// What `ip -batch` reads on a node.
fn node_setup(routing: Routing, index: u8) -> String {
    let (other, mtu) = (1 - index, pod_mtu(routing, IpAddr::V4(node_ip(index)), UPLINK_MTU));
    let (node, remote) = (node_ip(index), node_ip(other));
    let (own, via) = (gateway(index), gateway(other));
    let mut batch = format!("link set pod mtu {mtu} up\naddress add {own}/24 dev pod\n");
    batch += &match routing {
        Routing::Vxlan { .. } => format!(
            "link add vxlan type vxlan id 1 local {node} remote {remote} dev eth0 dstport {VXLAN_PORT} nolearning\n\
             link set vxlan mtu {mtu} up\nroute add {via}/32 dev vxlan\nroute add 10.245.{other}.0/24 via {via} dev vxlan\n"
        ),
        Routing::Native { .. } => format!("route add 10.245.{other}.0/24 via {remote}\n"),
    };
    batch
}

fn pod_setup(routing: Routing, index: u8) -> String {
    let (mtu, ip, gateway) = (pod_mtu(routing, IpAddr::V4(node_ip(index)), UPLINK_MTU), pod_ip(index), gateway(index));
    format!(
        "link set lo up\nlink set eth0 mtu {mtu} up\naddress add {ip}/24 dev eth0\nroute add default via {gateway}\n"
    )
}
