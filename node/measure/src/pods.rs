//! Pod to pod, on one node and across two, each beside what the kernel does without us.
//!
//! On one node the peer is a veth pair between two namespaces. A pod's packet crosses two pairs, its own and the other
//! pod's: that extra step is inherent, and part of the figure. Across nodes the peer is two nodes on the same bridge
//! whose kernels forward between the same kind of pods, over a VXLAN device or by plain routes.

mod kernel;
pub mod own;

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Result, anyhow};
use xebec_netlink::Netns;
use xebec_podnet::{Routing, VXLAN_PORT};

use crate::figure::Report;
use crate::netns::{Switch, raw_pair};
use crate::stats::median;
use crate::traffic::{METRICS, Path, Rates, Server, interleaved};

/// Across nodes by the routing of `xebec up`, and by the other one.
const ROUTINGS: [(&str, &str, Routing); 2] = [
    ("cross_node", "kernel VXLAN", Routing::Vxlan { port: VXLAN_PORT }),
    ("cross_node_native", "kernel routes", Routing::Native { tunnel: None }),
];

/// Client, server, and the server's address.
type Ends<'a> = (&'a Netns, &'a Netns, Ipv4Addr);

/// # Errors
/// When namespaces, devices or the datapath cannot be made, or traffic does not flow.
pub fn run(report: &mut Report, smoke: bool) -> Result<()> {
    let (seconds, rounds) = if smoke { (0.1, 1) } else { (0.25, 25) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (index, (name, peer, routing)) in ROUTINGS.into_iter().enumerate() {
        let switch = runtime.block_on(Switch::new())?;
        let own = runtime.block_on(own::Cluster::new(&switch, routing)).map_err(|error| anyhow!("{error}"))?;
        let kernel = runtime.block_on(kernel::Cluster::new(&switch, routing))?;
        let [one, two] = &own.nodes;
        let from = &one.pods[0].scratch.netns;
        if index == 0 {
            let (near, far, ip) = runtime.block_on(raw_pair())?;
            let same = (from, &one.pods[1].scratch.netns, one.pods[1].ip);
            let rates = beside(same, (&near.netns, &far.netns, ip), seconds, rounds)?;
            add(report, "same_node", "raw veth pair", &rates);
        }
        let cross = (from, &two.pods[0].scratch.netns, two.pods[0].ip);
        add(report, name, peer, &beside(cross, kernel.ends(), seconds, rounds)?);
    }
    Ok(())
}

fn beside(own: Ends<'_>, peer: Ends<'_>, seconds: f64, rounds: u32) -> Result<Vec<Vec<Rates>>> {
    let servers = [own, peer].map(|(_, server, ip)| Server::start(server, &[(ip, 0)]));
    let [own_server, peer_server] = servers;
    let dial = |server: &Server| -> SocketAddrV4 { server.addresses()[0] };
    let (own_server, peer_server) = (own_server?, peer_server?);
    let paths = [Path { client: own.0, dial: dial(&own_server) }, Path { client: peer.0, dial: dial(&peer_server) }];
    interleaved(&paths, seconds, rounds)
}

/// The median of each side, and of the rounds' ratios.
pub fn add(report: &mut Report, path: &str, peer: &str, rounds: &[Vec<Rates>]) {
    for (metric, unit, pick) in METRICS {
        let side = |side: usize| median(rounds.iter().map(|round| pick(&round[side])));
        report.add(format!("{path}_{metric}"), unit, side(0), Some((peer, side(1))));
        let ratio = median(rounds.iter().map(|round| 100.0 * pick(&round[0]) / pick(&round[1])));
        report.add(format!("{path}_{metric}_ratio"), "%", ratio, Some((peer, 100.0)));
    }
}
