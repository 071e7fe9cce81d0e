//! A node: kubelet, pod network, services and the eBPF datapath, wired into one task tree.
//!
//! Order at start: join the cluster; register the node; learn its podCIDR; make the devices; open the
//! datapath (which has gone on forwarding meanwhile); then serve the CNI plugin, follow Services and
//! other nodes, start DNS, and report the network ready. Any task that ends ends the agent: its
//! supervisor starts it again, and nothing that pods use depends on it meanwhile.
#![allow(unsafe_code)] // pidfd_open(2) and pidfd_getfd(2), in `process` alone.

mod addresses;
mod announce;
mod bandwidth;
pub mod canary;
mod cidr;
mod config;
mod dns;
mod drift;
mod endpoints;
mod garbage;
mod health;
mod migration;
mod network;
pub mod pause;
mod peers;
mod plugin;
pub mod process;
mod remotes;
pub mod reset;
mod run;
pub mod services;
pub mod status;
mod udp;
mod withdraw;

pub use config::{Config, LoadBalancer, Routing};
pub use run::{Error, run};
pub use xebec_datapath::{Capacity, InvalidXdpMode, TableSize, XdpMode};
pub use xebec_kubelet::eviction::Thresholds;
pub use xebec_services::{Forwarding, NodePortAddresses};
