//! What the figures should be, by their names.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    pub fn met(&self, value: f64) -> bool {
        match *self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "<= {limit}"),
            Self::AtLeast(limit) => write!(f, ">= {limit}"),
        }
    }
}

/// Exact names: a shortened run has other sizes in its names, and so no targets for them.
const TARGETS: [(&str, Target); 24] = [
    ("connect_over_direct_p50_1_services", Target::AtMost(2.0)),
    ("connect_over_direct_p50_1000_services", Target::AtMost(2.0)),
    ("connect_over_direct_p50_10000_services", Target::AtMost(2.0)),
    ("cold_load_50000_services", Target::AtMost(1000.0)),
    ("change_p99_50000_services", Target::AtMost(1.0)),
    ("rr_same_node_ratio", Target::AtLeast(98.0)),
    ("crr_same_node_ratio", Target::AtLeast(98.0)),
    ("stream_same_node_ratio", Target::AtLeast(98.0)),
    ("rr_cross_node_vxlan_ratio", Target::AtLeast(98.0)),
    ("crr_cross_node_vxlan_ratio", Target::AtLeast(98.0)),
    ("stream_cross_node_vxlan_ratio", Target::AtLeast(98.0)),
    ("rr_cross_node_native_ratio", Target::AtLeast(98.0)),
    ("crr_cross_node_native_ratio", Target::AtLeast(98.0)),
    ("stream_cross_node_native_ratio", Target::AtLeast(98.0)),
    ("start_to_readyz", Target::AtMost(1000.0)),
    ("creates", Target::AtLeast(4000.0)),
    ("create_p99", Target::AtMost(10.0)),
    ("list_10000_objects", Target::AtMost(30.0)),
    ("rss_per_1k_object", Target::AtMost(2.0)),
    ("rss_after_ten_lists_of_10000", Target::AtMost(30.0)),
    ("start_to_first_ready_node", Target::AtMost(5000.0)),
    ("start_to_first_running_pod", Target::AtMost(10_000.0)),
    ("server_and_dns_idle_rss", Target::AtMost(60.0)),
    ("agent_idle_rss", Target::AtMost(40.0)),
];

/// Whether and where a figure should be.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, value: f64, expected: Option<bool>) {
        assert_eq!(target(name).map(|target| target.met(value)), expected, "{name} at {value}");
    }

    #[test]
    fn a_limit_itself_meets_the_target() {
        check("creates", 4000.0, Some(true));
        check("creates", 3999.9, Some(false));
        check("create_p99", 10.0, Some(true));
        check("create_p99", 10.1, Some(false));
    }

    #[test]
    fn a_shortened_run_has_no_target_for_what_it_did_not_measure() {
        check("list_200_objects", 1.0, None);
    }
}
