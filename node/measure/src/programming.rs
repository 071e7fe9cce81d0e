//! Cold load and one change among many, by the datapath alone; [`crate::comparison`] has the peers.

use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::Result;

use crate::figure::Report;
use crate::pair::{Ebpf, Pair, backends, service};
use crate::stats::{millis, percentile, short};

/// Backends of each service where endpoints are many.
const MANY: u32 = 50;

/// # Errors
/// When the datapath refuses.
pub fn run(report: &mut Report, smoke: bool) -> Result<()> {
    let (services, of_many, rounds) = if smoke { (100, 10, 10) } else { (50_000, 5_000, 2_000) };
    let pair = Pair::new()?;
    let ebpf = Ebpf::open(&pair.client)?;
    let all: Vec<_> = (0..services).map(|n| service(n, &backends())).collect();
    let start = Instant::now();
    ebpf.put(&all)?;
    let count = short(services);
    report.add(format!("cold_load_{count}_s"), "s", start.elapsed().as_secs_f64(), None);
    let mut changes = Vec::new();
    for round in 0..rounds {
        let one = service(round * 7 % services, &[other(round), other(round + 1)]);
        let start = Instant::now();
        ebpf.datapath.put_service(&one)?;
        changes.push(start.elapsed());
    }
    for (fraction, name) in [(0.5, "p50"), (0.99, "p99")] {
        report.add(format!("change_{count}_{name}_ms"), "ms", millis(percentile(&mut changes, fraction)), None);
    }
    drop(ebpf);

    let ebpf = Ebpf::open(&pair.client)?;
    let of = |n: u32| -> Vec<_> { (0..MANY).map(|slot| other(n * MANY + slot)).collect() };
    let all: Vec<_> = (0..of_many).map(|n| service(n, &of(n))).collect();
    let start = Instant::now();
    ebpf.put(&all)?;
    let (name, seconds) = (short(of_many * MANY), start.elapsed().as_secs_f64());
    report.add(format!("cold_load_{name}_endpoints_s"), "s", seconds, None);
    Ok(())
}

/// The n-th of many addresses that nobody has.
fn other(n: u32) -> (Ipv4Addr, u16) {
    (Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + n), 8080)
}
