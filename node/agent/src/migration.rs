//! Maps that had another layout when the agent started: what became of them is told of the Node.

use std::path::PathBuf;

use xebec_client::event::node_reference;
use xebec_client::{EventRecorder, EventType};
use xebec_datapath::{MapLayout, Migrated};

use crate::Config;

/// While it is in the agent's run directory, its flows have a layout that exists to try migration with.
pub const REHEARSAL: &str = "rehearse-map-layout";

impl Config {
    /// Where a file makes agents that start give the maps of flows the layout that exists to try migration with.
    pub fn rehearsal(run_dir: &std::path::Path) -> PathBuf {
        run_dir.join(REHEARSAL)
    }

    pub(crate) fn map_layout(&self) -> MapLayout {
        if Self::rehearsal(&self.run_dir).exists() { MapLayout::Rehearsal } else { MapLayout::Current }
    }
}

/// An Event for those that were converted, and one for those that were lost.
pub fn tell(recorder: &EventRecorder, node_name: &str, migrated: &[Migrated]) {
    for (kind, reason, message) in events(migrated) {
        recorder.record_ref(node_reference(node_name), kind, reason, message);
    }
}

fn events(migrated: &[Migrated]) -> Vec<(EventType, &'static str, String)> {
    let mut events = Vec::new();
    let converted: Vec<String> = migrated
        .iter()
        .filter_map(|Migrated { map, entries }| entries.map(|entries| format!("{map} ({entries} entries)")))
        .collect();
    if !converted.is_empty() {
        let message = format!("maps of another layout were converted: {}", converted.join(", "));
        events.push((EventType::Normal, "DatapathMigrated", message));
    }
    let lost: Vec<&str> =
        migrated.iter().filter(|migrated| migrated.entries.is_none()).map(|migrated| migrated.map).collect();
    if !lost.is_empty() {
        let maps = lost.join(", ");
        let message = format!("maps begin anew, because this version does not know the layout that they had: {maps}");
        events.push((EventType::Warning, "DatapathReplaced", message));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_converted_and_what_was_lost_are_told_apart() {
        let of = |map, entries| Migrated { map, entries };
        assert!(events(&[]).is_empty());
        let told = events(&[of("xb_ct4", Some(3)), of("xb_pods4", None), of("xb_nat4", Some(0))]);
        let texts: Vec<_> = told.iter().map(|(_, reason, message)| format!("{reason}: {message}")).collect();
        assert_eq!(
            texts,
            [
                "DatapathMigrated: maps of another layout were converted: xb_ct4 (3 entries), xb_nat4 (0 entries)",
                "DatapathReplaced: maps begin anew, because this version does not know the layout that they had: xb_pods4",
            ]
        );
    }
}
