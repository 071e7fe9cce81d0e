//! Pod to pod, on one node and across two, each beside what the kernel does without us.
//!
//! On one node the peer is a veth pair between two namespaces. A pod's packet crosses two pairs, its own and the other
//! pod's: that extra step is inherent, and part of the figure. Across nodes the peer is two nodes on the same bridge
//! whose kernels forward between the same kind of pods, over a VXLAN device or by plain routes.

mod kernel;
mod own;

use anyhow::{Result, anyhow};
use xebec_podnet::{Routing, VXLAN_PORT};

use crate::figure::Report;
use crate::netns::{Switch, raw_pair};
use crate::stats::median;
use crate::traffic::{METRICS, Path, Rates, interleaved};

pub fn run(report: &mut Report, smoke: bool) -> Result<()> {
    let (seconds, rounds) = if smoke { (0.1, 1) } else { (0.25, 25) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (name, routing) in [("vxlan", Routing::Vxlan { port: VXLAN_PORT }), ("native", Routing::Native)] {
        let switch = runtime.block_on(Switch::new())?;
        let own = runtime.block_on(own::Cluster::new(&switch, routing)).map_err(|error| anyhow!("{error}"))?;
        let kernel = runtime.block_on(kernel::Cluster::new(&switch, routing))?;
        let [one, two] = &own.nodes;
        let from = &one.pods[0];
        if name == "vxlan" {
            let (near, far, ip) = runtime.block_on(raw_pair())?;
            let raw = Path { client: &near.netns, server: &far.netns, ip };
            let same = Path { client: &from.scratch.netns, server: &one.pods[1].scratch.netns, ip: one.pods[1].ip };
            add(report, "same_node", "raw veth pair", &interleaved(&[same, raw], seconds, rounds)?);
        }
        let cross = Path { client: &from.scratch.netns, server: &two.pods[0].scratch.netns, ip: two.pods[0].ip };
        let peer = format!("kernel {name}");
        let rates = interleaved(&[cross, kernel.path()], seconds, rounds)?;
        add(report, &format!("cross_node_{name}"), &peer, &rates);
    }
    Ok(())
}

/// The median of each side, and of the rounds' ratios.
fn add(report: &mut Report, path: &str, peer: &str, rounds: &[Vec<Rates>]) {
    for (metric, unit, pick) in METRICS {
        let side = |side: usize| median(rounds.iter().map(|round| pick(&round[side])));
        report.add(format!("{metric}_{path}"), unit, side(0), Some((peer, side(1))));
        let ratio = median(rounds.iter().map(|round| 100.0 * pick(&round[0]) / pick(&round[1])));
        report.add(format!("{metric}_{path}_ratio"), "%", ratio, None);
    }
}
