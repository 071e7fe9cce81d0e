//! The counters of the programs and the fill of the maps, for Prometheus.

use std::fmt::Write;
use std::net::SocketAddr;

use xebec_abi::latency::BUCKETS;

use crate::{
    Datapath, HalfOpen, Result,
    latency::{Histogram, Observed, upper},
    lock,
};

/// Services with histograms.
const LATENCIES_MAX: usize = 100;

impl Datapath {
    /// In the Prometheus text format. What cannot be read is left out and said in the log.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        for part in [
            Self::render_drops,
            Self::render_packets,
            Self::render_map_errors,
            Self::render_maps,
            Self::render_latencies,
            Self::render_xdp,
        ] {
            if let Err(error) = part(self, &mut text) {
                tracing::warn!(%error, "metrics of the datapath are not whole");
            }
        }
        text
    }

    fn render_drops(&self, text: &mut String) -> Result<()> {
        let drops = self.drops()?;
        for (name, help, value) in [
            ("xebec_datapath_drops_total", "Packets dropped and connections refused.", 0),
            ("xebec_datapath_drop_bytes_total", "Bytes of dropped packets.", 1),
        ] {
            head(text, name, help, "counter");
            for (reason, traffic) in &drops {
                let value = if value == 0 { traffic.packets } else { traffic.bytes };
                line(text, name, &[("reason", reason.label())], value);
            }
        }
        Ok(())
    }

    fn render_packets(&self, text: &mut String) -> Result<()> {
        let name = "xebec_datapath_events_total";
        head(text, name, "What the programs did, by event.", "counter");
        for (counter, traffic) in self.counters()? {
            line(text, name, &[("event", counter.label())], traffic.packets);
        }
        Ok(())
    }

    fn render_map_errors(&self, text: &mut String) -> Result<()> {
        let name = "xebec_datapath_map_errors_total";
        head(text, name, "Map operations that failed in a program.", "counter");
        for (map, errno, count) in self.map_errors()? {
            line(text, name, &[("map", map.label()), ("errno", &errno.to_string())], count);
        }
        Ok(())
    }

    /// The busiest services alone: a histogram is a line for each bucket.
    fn render_latencies(&self, text: &mut String) -> Result<()> {
        type Pick = fn(&Observed) -> &Histogram;
        let services = self.latencies()?;
        let mut services: Vec<_> = services.iter().map(|service| (service.frontend, service.total())).collect();
        services.sort_by_key(|(frontend, total)| (std::cmp::Reverse(total.connect.count()), *frontend));
        services.truncate(LATENCIES_MAX);
        let histograms: [(&str, &str, Pick); 2] = [
            ("xebec_service_connect_seconds", "How long TCP connections to a service took.", |total| &total.connect),
            ("xebec_service_rtt_seconds", "The smoothed round-trip time of closed connections.", |total| &total.rtt),
        ];
        for (name, help, pick) in histograms {
            head(text, name, help, "histogram");
            for (frontend, total) in &services {
                histogram(text, name, *frontend, pick(total));
            }
        }
        let name = "xebec_service_retransmits_total";
        head(text, name, "TCP segments to a service that were sent again.", "counter");
        for (frontend, total) in &services {
            let (ip, port) = (frontend.ip().to_string(), frontend.port().to_string());
            line(text, name, &[("cluster_ip", &ip), ("port", &port)], total.retransmits);
        }
        Ok(())
    }

    fn render_xdp(&self, text: &mut String) -> Result<()> {
        let name = "xebec_datapath_xdp_attached";
        head(
            text,
            name,
            "Devices that are to run xdp_netdev; 0 where tc alone balances, as the device cannot.",
            "gauge",
        );
        for device in self.xdp() {
            let labels = [("device", device.name.as_str()), ("mode", device.wanted.label())];
            line(text, name, &labels, u64::from(device.fault.is_none()));
        }
        Ok(())
    }

    fn render_maps(&self, text: &mut String) -> Result<()> {
        type Pick = fn(&MapUsage) -> Option<u64>;
        let gauges: [(&str, &str, Pick); 4] = [
            ("xebec_datapath_map_entries", "Entries of each map.", |usage| Some(usage.entries)),
            ("xebec_datapath_map_max_entries", "Entries that fit, of maps that grow in the end.", |usage| {
                Some(usage.limit)
            }),
            (
                "xebec_datapath_half_open_flows",
                "Flows of each map whose client has not shown that it got an answer.",
                |usage| Some(usage.half_open?.flows),
            ),
            ("xebec_datapath_half_open_places", "Half-open flows that fit: one more makes the oldest go.", |usage| {
                Some(usage.half_open?.places)
            }),
        ];
        let usage = self.usage()?;
        for (name, help, pick) in gauges {
            head(text, name, help, "gauge");
            for usage in &usage {
                if let Some(value) = pick(usage) {
                    line(text, name, &[("map", usage.map)], value);
                }
            }
        }
        Ok(())
    }

    /// How full each map is.
    pub fn usage(&self) -> Result<Vec<MapUsage>> {
        let of = |(map, (entries, limit))| MapUsage { map, entries, limit, half_open: None };
        let mut usage: Vec<_> = lock(&self.services).fill()?.into_iter().map(of).collect();
        // These grow; one that was too full for a smaller limit has what it has.
        let limits = self.config.capacity.limits();
        for usage in &mut usage {
            usage.limit = usage.limit.max(limits.get(usage.map).copied().unwrap_or_default().into());
        }
        usage.extend(self.garbage.usage(&self.config)?);
        usage.extend(lock(&self.pods).fill().into_iter().map(of));
        usage.extend(self.announcements.fill()?.into_iter().map(of));
        Ok(usage)
    }
}

fn histogram(text: &mut String, name: &str, frontend: SocketAddr, histogram: &Histogram) {
    let (ip, port) = (frontend.ip().to_string(), frontend.port().to_string());
    let mut seen = 0;
    for (bucket, count) in histogram.buckets.iter().enumerate() {
        seen += count;
        // The last one has no end.
        let end = if bucket + 1 == BUCKETS { "+Inf".to_owned() } else { upper(bucket).as_secs_f64().to_string() };
        line(text, &format!("{name}_bucket"), &[("cluster_ip", &ip), ("port", &port), ("le", &end)], seen);
    }
    let labels = format!("cluster_ip=\"{ip}\",port=\"{port}\"");
    let sum = histogram.sum.as_secs_f64();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {seen}");
}

/// How full a map is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapUsage {
    pub map: &'static str,
    pub entries: u64,
    pub limit: u64,
    /// Of the flows of a family that the node has.
    pub half_open: Option<HalfOpen>,
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
}
