//! What the programs cost per packet, by `BPF_PROG_TEST_RUN`: without device and stack.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use xebec_datapath::cost::{self, Cost};
use xebec_netlink::{MacAddr, Neighbour, Route};

use crate::figure::Report;
use crate::netns::{Scratch, connect};

const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 11);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);

/// # Errors
/// When the programs cannot be loaded or run.
pub fn run(report: &mut Report, smoke: bool) -> Result<()> {
    let runs = if smoke { 20 } else { 4_000 };
    for cost in cost::per_packet(runs)?.into_iter().chain(early(runs)?) {
        report.add(format!("{}_ns", cost.name), "ns", cost.time.as_nanos() as f64, None);
    }
    Ok(())
}

/// XDP, which asks the FIB: in a namespace that has a route to everywhere.
fn early(runs: u32) -> Result<Vec<Cost>> {
    let (node, gateway) = (Scratch::new()?, Scratch::new()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ifindex = runtime.block_on(route(&node, &gateway))?;
    node.netns.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
    Ok(node.netns.run(|| cost::early(ifindex, runs))??)
}

async fn route(node: &Scratch, gateway: &Scratch) -> Result<u32> {
    connect((node, NODE), (gateway, GATEWAY)).await?;
    let handle = node.handle()?;
    let (dev, ip) = (handle.link("eth0").await?.index, IpAddr::V4(GATEWAY));
    handle.neigh_add(Neighbour { dev, ip, mac: MacAddr([2, 0, 0, 0, 0, 1]) }).await?;
    handle.route_add(&Route::default4().via(ip)).await?;
    Ok(dev)
}
