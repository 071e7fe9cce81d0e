use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no free pod address in {pod_cidr}: {used} in use, {quarantined} released less than {quarantine_seconds} s ago"
    )]
    Exhausted { pod_cidr: IpNet, used: usize, quarantined: usize, quarantine_seconds: u64 },
    #[error("podCIDR {0} is too small: it needs room for a network address, a gateway and a pod")]
    PodCidrTooSmall(IpNet),
    #[error("{operation} {path}")]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a node needs a podCIDR and an address of its own in one IP family at least")]
    NoFamily,
    #[error("the node leaves its cluster (xebec agent reset)")]
    Leaving,
    #[error("no device has the node address {0}")]
    NoUplink(IpAddr),
    #[error("container {container} has no {ifname}")]
    NotAttached { container: String, ifname: String },
    #[error("{what} of pod {pod} is gone or differs")]
    Check { what: &'static str, pod: String },
    #[error("{operation} pod {pod} in the datapath")]
    Datapath {
        operation: &'static str,
        pod: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("set up the network of pod {pod}")]
    Pod {
        pod: String,
        #[source]
        source: xebec_netlink::Error,
    },
    #[error(transparent)]
    Netlink(#[from] xebec_netlink::Error),
}

/// The whole chain on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
