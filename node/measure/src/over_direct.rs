//! What connect() through a service costs more than connect() to its backend.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::figure::Report;
use crate::pair::{Ebpf, Pair, backends, service, service_address};
use crate::stats::{micros, percentile, short};
use crate::traffic::connects;

/// # Errors
/// When the datapath or a connection fails.
pub fn run(report: &mut Report, smoke: bool) -> Result<()> {
    let (sizes, samples, rounds) = if smoke { ([1, 100], 100, 1) } else { ([1, 50_000], 2_000, 10) };
    let mut random = StdRng::seed_from_u64(report.host().seed.into());
    for size in sizes {
        let pair = Pair::new()?;
        let ebpf = Ebpf::open(&pair.client)?;
        let all: Vec<_> = (0..size).map(|n| service(n, &backends())).collect();
        ebpf.put(&all)?;
        let _inside = ebpf.cgroup.enter()?;
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let numbers: Vec<u32> = (0..samples).map(|_| random.random()).collect();
            let services = numbers.iter().map(|number| service_address(number % size));
            // One after the other, so that what else the machine does falls on both.
            let both: Vec<SocketAddrV4> =
                pair.direct(&numbers).into_iter().zip(services).flat_map(<[_; 2]>::from).collect();
            for times in connects(&pair.client.netns, &both)?.chunks_exact(2) {
                direct.push(times[0]);
                through.push(times[1]);
            }
        }
        let p50 = |times: &mut Vec<Duration>| micros(percentile(times, 0.5));
        let (direct, through) = (p50(&mut direct), p50(&mut through));
        let name = format!("connect_over_direct_p50_us_{}", short(size));
        report.add(name, "us", through - direct, Some(("direct", direct)));
    }
    Ok(())
}
