//! The pod network of one node: addresses, devices, routes, and the CNI plugin through which the container runtime
//! asks for them.
//!
//! A pod has one veth pair and an address of each IP family that the node has a podCIDR of. Inside, `eth0` holds a /32
//! or /128 for each and a default route over the gateway, whose MAC address is a permanent neighbour: a pod never asks
//! for it. Outside, the device `xb<hash>` has a host route and a permanent neighbour for each address of the pod. The
//! gateway, the first address of the node's podCIDR, is local to the node on `xb_host`. Pods on other nodes are reached
//! over `xb_vxlan` (each packet carries its tunnel key), which runs between the IPv4 addresses of nodes for both
//! families, or by routes over the nodes' own addresses.
//!
//! Order at start: [`Node::prepare`] makes the devices, the caller opens its datapath on them, [`PodNetwork::open`]
//! re-attaches the pods that are there, [`cni::Server`] serves the plugin.

pub mod cni;
mod drift;
mod error;
pub mod ipam;
mod names;
mod network;
mod node;
mod pod;
mod remote;
mod shape;

pub use drift::{Drift, DriftKind};
pub use error::{Error, Result};
pub use names::{HOST_DEVICE, VXLAN_DEVICE, host_device, vxlan_mac};
pub use network::{Attachment, Endpoints, PodNetwork};
pub use node::{Config, Network, Node, Routing, VXLAN_OVERHEAD, VXLAN_PORT, VXLAN6_OVERHEAD, pod_mtu};
pub use pod::{EndpointInfo, PodRequest};
pub use remote::Remote;

/// `RTPROT_*` of every route that this crate makes, so that it finds its own (`ip route show proto 120`).
pub const ROUTE_PROTOCOL: u8 = 120;

#[cfg(test)]
mod tests;
