//! What the programs cost per packet, by `BPF_PROG_TEST_RUN`: without device and stack.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::IpNet;
use xebec_datapath::cost::{self, Cost};
use xebec_netlink::{MacAddr, Neighbour, Route};

use crate::figure::Report;
use crate::netns::{Scratch, connect};

const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 11);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const NODE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// # Errors
/// When the programs cannot be loaded or run.
pub fn run(report: &mut Report, smoke: bool) -> Result<()> {
    let runs = if smoke { 20 } else { 4_000 };
    for cost in cost::per_packet(runs)?.into_iter().chain(early(runs)?) {
        report.add(format!("{}_ns", cost.name), "ns", cost.time.as_nanos() as f64, None);
    }
    Ok(())
}

/// XDP, which asks the FIB: in a namespace that has routes to everywhere.
fn early(runs: u32) -> Result<Vec<Cost>> {
    let (node, gateway) = (Scratch::new()?, Scratch::new()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ifindex = runtime.block_on(route(&node, &gateway))?;
    for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        node.netns.sysctl(family, "1")?;
    }
    Ok(node.netns.run(|| cost::early(ifindex, runs))??)
}

async fn route(node: &Scratch, gateway: &Scratch) -> Result<u32> {
    connect((node, NODE), (gateway, GATEWAY)).await?;
    let handle = node.handle()?;
    let dev = handle.link("eth0").await?.index;
    handle.addr_add(dev, IpNet::new(NODE6.into(), 64)?).await?;
    for (route, ip) in [(Route::default4(), GATEWAY.into()), (Route::default6(), GATEWAY6.into())] {
        handle.neigh_add(Neighbour { dev, ip, mac: MacAddr([2, 0, 0, 0, 0, 1]) }).await?;
        handle.route_add(&route.via(ip)).await?;
    }
    Ok(dev)
}
