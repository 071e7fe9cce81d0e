//! The same services by iptables, nftables, IPVS and eBPF: what programming them costs, and what using one does.
//!
//! Each way has namespaces of its own, and all are measured in turn, so that what else the machine does falls on all
//! of them alike.

use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::figure::Report;
use crate::packet_filter::Services;
use crate::pair::{Ebpf, Pair, backends, service, service_address};
use crate::peer::Peer;
use crate::stats::{median, micros, millis, percentile, short};
use crate::svg::{Chart, Series};
use crate::traffic::{Path, Rates, connects};

/// The way without a service between client and server.
const DIRECT: &str = "direct";
const EBPF: &str = "eBPF";

pub struct Options {
    /// How many services, once for each.
    pub services: Vec<u32>,
    pub smoke: bool,
}

/// What is measured of each way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
}

const METRICS: [Metric; 9] = [
    Metric { name: "cold_load", title: "Programming all services", unit: "ms" },
    Metric { name: "change", title: "Adding one service to them", unit: "ms" },
    Metric { name: "connect_p50", title: "connect(), p50", unit: "us" },
    Metric { name: "connect_p99", title: "connect(), p99", unit: "us" },
    Metric { name: "connect_p999", title: "connect(), p99.9", unit: "us" },
    Metric { name: "rr", title: "Transactions on one connection", unit: "/s" },
    Metric { name: "crr", title: "Connections with a transaction each", unit: "/s" },
    Metric { name: "stream", title: "Bulk transfer", unit: "Gbit/s" },
    Metric { name: "cpu_per_connection", title: "Processor time per connection", unit: "us" },
];

/// One value: of a metric, with so many services, by one way.
struct Cell {
    metric: &'static str,
    services: u32,
    way: &'static str,
    value: f64,
}

#[derive(Default)]
pub struct Comparison {
    cells: Vec<Cell>,
}

/// Measures every way that this host has.
///
/// # Errors
/// When the eBPF datapath or a connection fails; a peer that fails is left out of the report with a line.
pub fn run(report: &mut Report, options: &Options) -> Result<Comparison> {
    let (peers, left_out) = Peer::available()?;
    left_out.into_iter().for_each(|line| report.leave_out(line));
    let mut comparison = Comparison::default();
    let mut random = StdRng::seed_from_u64(report.host().seed.into());
    for &count in &options.services {
        comparison.measure(report, &peers, count, options.smoke, &mut random)?;
        comparison.figures(report, count);
    }
    Ok(comparison)
}

/// A client and a server, and what is between them.
struct Way {
    name: &'static str,
    services: u32,
    ebpf: Option<Ebpf>,
    pair: Pair,
}

impl Way {
    fn targets(&self, chosen: &[u32]) -> Vec<SocketAddrV4> {
        if self.name == DIRECT {
            return self.pair.direct(chosen);
        }
        chosen.iter().map(|n| service_address(n % self.services)).collect()
    }

    /// Runs `measure` as a process whose sockets this way translates.
    fn inside<T>(&self, measure: impl FnOnce() -> Result<T>) -> Result<T> {
        let _entered = self.ebpf.as_ref().map(|ebpf| ebpf.cgroup.enter()).transpose()?;
        measure().with_context(|| self.name)
    }
}

impl Comparison {
    fn measure(
        &mut self,
        report: &mut Report,
        peers: &[Peer],
        count: u32,
        smoke: bool,
        random: &mut StdRng,
    ) -> Result<()> {
        let mut ways = vec![Way { name: DIRECT, services: count, ebpf: None, pair: Pair::new()? }];
        for peer in peers {
            match self.load_peer(*peer, count, smoke) {
                Ok(way) => ways.push(way),
                Err(error) => {
                    report.leave_out(format!("{} with {count} services is left out: {error:#}", peer.name()));
                }
            }
        }
        ways.push(self.load_ebpf(count, smoke)?);

        let (samples, rounds, seconds) = if smoke { (100, 1, 0.05) } else { (2_000, 5, 0.3) };
        let mut times = vec![Vec::new(); ways.len()];
        let mut rates: Vec<Vec<Rates>> = vec![Vec::new(); ways.len()];
        for _ in 0..rounds {
            // More numbers than services: they choose servers too.
            let chosen: Vec<u32> = (0..samples).map(|_| random.random()).collect();
            for (way, times) in ways.iter().zip(&mut times) {
                let targets = way.targets(&chosen);
                times.extend(way.inside(|| connects(&way.pair.client.netns, &targets))?);
            }
            for (way, rates) in ways.iter().zip(&mut rates) {
                let path = Path { client: &way.pair.client.netns, dial: way.targets(&chosen[..1])[0] };
                rates.push(way.inside(|| path.rates(seconds))?);
            }
        }
        for ((way, mut times), rates) in ways.iter().zip(times).zip(rates) {
            for (name, fraction) in [("connect_p50", 0.5), ("connect_p99", 0.99), ("connect_p999", 0.999)] {
                self.add(name, count, way.name, micros(percentile(&mut times, fraction)));
            }
            let of = |pick: fn(&Rates) -> f64| median(rates.iter().map(pick));
            self.add("rr", count, way.name, of(|rates| rates.transactions_per_s));
            self.add("crr", count, way.name, of(|rates| rates.connections_per_s));
            self.add("stream", count, way.name, of(|rates| rates.gigabits_per_s));
            self.add("cpu_per_connection", count, way.name, of(|rates| rates.cpu_us_per_connection));
        }
        Ok(())
    }

    fn load_peer(&mut self, peer: Peer, count: u32, smoke: bool) -> Result<Way> {
        let pair = Pair::new()?;
        let services = Services { count, backends: backends() };
        let cold = timed(|| peer.load(&pair.client.netns, &services))?;
        let mut changes = Vec::new();
        for n in 0..if smoke { 1 } else { 3 } {
            changes.push(timed(|| peer.add(&pair.client.netns, &services, count + n))?);
        }
        self.add("cold_load", count, peer.name(), millis(cold));
        self.add("change", count, peer.name(), millis(percentile(&mut changes, 0.5)));
        Ok(Way { name: peer.name(), services: count, ebpf: None, pair })
    }

    fn load_ebpf(&mut self, count: u32, smoke: bool) -> Result<Way> {
        let pair = Pair::new()?;
        let ebpf = Ebpf::open(&pair.client)?;
        let all: Vec<_> = (0..count).map(|n| service(n, &backends())).collect();
        let cold = timed(|| ebpf.put(&all))?;
        let mut changes = Vec::new();
        for n in 0..if smoke { 10 } else { 200 } {
            let one = service(count + n, &backends());
            changes.push(timed(|| Ok(ebpf.datapath.put_service(&one)?))?);
        }
        self.add("cold_load", count, EBPF, millis(cold));
        self.add("change", count, EBPF, millis(percentile(&mut changes, 0.5)));
        Ok(Way { name: EBPF, services: count, ebpf: Some(ebpf), pair })
    }

    fn add(&mut self, metric: &'static str, services: u32, way: &'static str, value: f64) {
        self.cells.push(Cell { metric, services, way, value });
    }

    fn value(&self, metric: &str, services: u32, way: &str) -> Option<f64> {
        let mut found = self.cells.iter().filter(|cell| cell.metric == metric && cell.services == services);
        found.find(|cell| cell.way == way).map(|cell| cell.value)
    }

    /// In the order in which they were measured first.
    fn ways(&self) -> Vec<&'static str> {
        [DIRECT, Peer::Iptables.name(), Peer::Nft.name(), Peer::Ipvs.name(), EBPF]
            .into_iter()
            .filter(|way| self.cells.iter().any(|cell| cell.way == *way))
            .collect()
    }

    fn sizes(&self) -> Vec<u32> {
        let mut sizes: Vec<u32> = Vec::new();
        for cell in &self.cells {
            if !sizes.contains(&cell.services) {
                sizes.push(cell.services);
            }
        }
        sizes
    }

    /// Ours beside each of the others.
    fn figures(&self, report: &mut Report, count: u32) {
        for metric in METRICS {
            let Some(own) = self.value(metric.name, count, EBPF) else { continue };
            for way in self.ways().into_iter().filter(|way| *way != EBPF) {
                if let Some(value) = self.value(metric.name, count, way) {
                    report.add(format!("{}_{count}_services", metric.name), metric.unit, own, Some((way, value)));
                }
            }
        }
    }

    /// A table for each number of services, a column for each way.
    pub fn markdown(&self) -> String {
        let (mut text, ways) = (String::new(), self.ways());
        // Writing to a string cannot fail.
        for count in self.sizes() {
            let _ = writeln!(text, "\n{count} services\n\n| | unit | {} |", ways.join(" | "));
            let _ = writeln!(text, "|---|---|{}", "---|".repeat(ways.len()));
            for metric in METRICS {
                let value = |way: &&str| self.value(metric.name, count, way).map_or_else(String::new, number);
                let values: Vec<_> = ways.iter().map(value).collect();
                let _ = writeln!(text, "| {} | {} | {} |", metric.title, metric.unit, values.join(" | "));
            }
        }
        text
    }

    /// A chart for each metric, by its file name.
    pub fn charts(&self) -> Vec<(String, String)> {
        let sizes = self.sizes();
        let draw = |metric: &Metric| {
            let values = |way| sizes.iter().map(|count| self.value(metric.name, *count, way)).collect();
            let series: Vec<_> = self.ways().into_iter().map(|name| Series { name, values: values(name) }).collect();
            let chart = Chart {
                title: format!("{} ({})", metric.title, metric.unit),
                groups: sizes.iter().map(|count| format!("{} services", short(*count))).collect(),
                series: series.into_iter().filter(|series| series.values.iter().any(Option::is_some)).collect(),
            };
            (format!("{}.svg", metric.name), chart.svg())
        };
        METRICS.iter().map(draw).collect()
    }
}

/// With as many decimals as say something.
pub fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn timed<T>(what: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let start = Instant::now();
    what()?;
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison() -> Comparison {
        let mut comparison = Comparison::default();
        comparison.add("connect_p50", 1, DIRECT, 8.125);
        comparison.add("connect_p50", 1, EBPF, 9.0);
        comparison.add("cold_load", 1, EBPF, 0.25);
        comparison.add("connect_p50", 1000, EBPF, 9.5);
        comparison
    }

    #[test]
    fn a_table_has_the_ways_that_were_measured_and_gaps_where_there_is_no_value() {
        let text = comparison().markdown();
        assert!(text.contains("1 services\n\n| | unit | direct | eBPF |\n|---|---|---|---|\n"), "{text}");
        assert!(text.contains("| connect(), p50 | us | 8.12 | 9.00 |"), "{text}");
        assert!(text.contains("| Programming all services | ms |  | 0.250 |"), "{text}");
        assert!(text.contains("\n1000 services\n"), "{text}");
    }

    #[test]
    fn figures_are_ours_beside_each_other_way() {
        let mut report = Report::new(crate::Host::new(Some(1)));
        comparison().figures(&mut report, 1);
        let json: serde_json::Value = serde_json::from_str(&report.to_json().expect("JSON")).expect("JSON");
        let figures = json["figures"].as_array().expect("figures");
        assert_eq!(figures.len(), 1, "{json}");
        assert_eq!(figures[0]["name"], "connect_p50_1_services");
        assert_eq!((&figures[0]["value"], &figures[0]["peer"]), (&9.0.into(), &DIRECT.into()));
        assert_eq!(json["host"]["seed"], 1);
    }

    #[test]
    fn every_metric_has_a_chart() {
        let charts = comparison().charts();
        assert_eq!(charts.len(), METRICS.len());
        let (name, svg) = &charts[2];
        assert_eq!(name, "connect_p50.svg");
        assert!(svg.contains("direct") && svg.contains("1k services"), "{svg}");
    }
}
