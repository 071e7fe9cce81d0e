//! What the kernel lacks, and what is done instead. Found by trying, when the programs were loaded.

use crate::Datapath;

/// Something that newer kernels have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feature {
    pub name: &'static str,
    pub present: bool,
    /// What takes its place where it is absent.
    pub instead: &'static str,
}

impl Datapath {
    /// Every feature that the datapath can do without.
    pub fn features(&self) -> Vec<Feature> {
        vec![
            Feature { name: "tcx", present: self.programs().has_tcx(), instead: "clsact filters" },
            Feature {
                name: "bpf_set_retval",
                present: self.programs().helpers().set_retval,
                instead: "a connection to a service without backends fails with EPERM, not ECONNREFUSED",
            },
            Feature {
                name: "bpf_ktime_get_coarse_ns",
                present: self.programs().helpers().coarse_clock,
                instead: "the precise clock, which takes longer to read for each packet of a flow",
            },
            Feature {
                name: "fib_mtu",
                present: self.programs().helpers().fib_mtu,
                instead: "a packet is compared with what its next hop's device takes, segments of TCP are not",
            },
            Feature {
                name: "netns_cookie",
                present: self.config().netns_cookie != 0,
                instead: "NodePorts are not served on 127.0.0.1",
            },
        ]
    }
}
