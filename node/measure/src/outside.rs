//! From outside through one node to a backend on another: by direct server return beside masquerade, in the same run.
//!
//! Both are NodePorts of the same backend, so that the ways differ in nothing else: with masquerade an answer passes the
//! node that was dialled, without it goes from the backend's node to the client.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Result, anyhow};
use xebec_podnet::{Routing, VXLAN_PORT};

use crate::figure::Report;
use crate::netns::{Scratch, Switch};
use crate::pods::{add, own};
use crate::traffic::{Path, Server, interleaved};

/// With pods behind an overlay, and behind routes with a tunnel beside them.
const ROUTINGS: [(&str, Routing); 2] = [
    ("outside_dsr", Routing::Vxlan { port: VXLAN_PORT }),
    ("outside_dsr_native", Routing::Native { tunnel: Some(VXLAN_PORT) }),
];

const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 31, 1, 200);
const DIRECT: u16 = 30_080;
const MASQUERADED: u16 = 30_081;

/// # Errors
/// When namespaces, devices or the datapath cannot be made, or traffic does not flow.
pub fn run(report: &mut Report, smoke: bool) -> Result<()> {
    let (seconds, rounds) = if smoke { (0.1, 1) } else { (0.25, 25) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (name, routing) in ROUTINGS {
        let switch = runtime.block_on(Switch::new())?;
        let client = Scratch::new()?;
        runtime.block_on(switch.plug(&client, CLIENT))?;
        let cluster = runtime.block_on(own::Cluster::new(&switch, routing)).map_err(|error| anyhow!("{error}"))?;
        let pod = &cluster.nodes[1].pods[0];
        let server = Server::start(&pod.scratch.netns, &[(pod.ip, 0)])?;
        for (port, is_direct) in [(DIRECT, true), (MASQUERADED, false)] {
            cluster.expose(port, server.addresses()[0], is_direct)?;
        }
        let path = |port| Path { client: &client.netns, dial: SocketAddrV4::new(own::NODES[0], port) };
        add(report, name, "masquerade", &interleaved(&[path(DIRECT), path(MASQUERADED)], seconds, rounds)?);
    }
    Ok(())
}
