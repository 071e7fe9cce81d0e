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
const TARGETS: [(&str, Target); 27] = [
    ("connect_over_direct_p50_us_1", Target::AtMost(2.0)),
    ("connect_over_direct_p50_us_50k", Target::AtMost(2.0)),
    ("cold_load_50k_s", Target::AtMost(1.0)),
    ("cold_load_250k_endpoints_s", Target::AtMost(2.0)),
    ("change_50k_p99_ms", Target::AtMost(1.0)),
    ("api_to_live_p99_ms", Target::AtMost(20.0)),
    ("same_node_rr_ratio", Target::AtLeast(98.0)),
    ("same_node_crr_ratio", Target::AtLeast(98.0)),
    ("same_node_stream_ratio", Target::AtLeast(98.0)),
    ("cross_node_rr_ratio", Target::AtLeast(98.0)),
    ("cross_node_crr_ratio", Target::AtLeast(98.0)),
    ("cross_node_stream_ratio", Target::AtLeast(98.0)),
    ("cross_node_native_rr_ratio", Target::AtLeast(98.0)),
    ("cross_node_native_crr_ratio", Target::AtLeast(98.0)),
    ("cross_node_native_stream_ratio", Target::AtLeast(98.0)),
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
    ("xdp_established_ns", Target::AtMost(90.0)),
    ("xdp_new_flow_ns", Target::AtMost(192.0)),
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
