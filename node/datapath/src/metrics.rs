//! The counters of the programs and the fill of the maps, for Prometheus.

use std::fmt::Write;

use xebec_abi::names;

use crate::{Datapath, Result, lock};

impl Datapath {
    /// In the Prometheus text format. What cannot be read is left out and said in the log.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        for part in [Self::render_drops, Self::render_packets, Self::render_map_errors, Self::render_maps] {
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

    fn render_maps(&self, text: &mut String) -> Result<()> {
        let (frontends, backends, members) = lock(&self.services).fill()?;
        let (conntrack, nat) = self.garbage.fill()?;
        let pods = lock(&self.pods).fill();
        let fills = [
            (names::LB4_FRONTENDS, frontends),
            (names::LB4_BACKENDS, backends),
            (names::LB4_MEMBERS, members),
            (names::CT4, conntrack),
            (names::NAT4, nat),
            (names::PODS4, pods),
            (names::L2_ANNOUNCED4, self.announcements.fill()?),
        ];
        let (name, limit) = ("xebec_datapath_map_entries", "xebec_datapath_map_max_entries");
        head(text, name, "Entries of each map.", "gauge");
        for (map, (entries, _)) in &fills {
            line(text, name, &[("map", map)], *entries);
        }
        head(text, limit, "Entries that fit.", "gauge");
        for (map, (_, max)) in &fills {
            line(text, limit, &[("map", map)], *max);
        }
        Ok(())
    }
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
}
