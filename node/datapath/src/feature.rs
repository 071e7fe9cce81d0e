//! What the kernel lacks, and what is done instead. Found by trying, when the programs were loaded.

use crate::{Datapath, object::Helpers};

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
        let programs = self.programs();
        all(programs.has_tcx(), programs.helpers(), self.config().netns_cookie != 0)
    }
}

/// `netns_cookie`: the kernel tells a namespace's cookie.
pub fn all(tcx: bool, helpers: Helpers, netns_cookie: bool) -> Vec<Feature> {
    vec![
        Feature { name: "tcx", present: tcx, instead: "clsact filters" },
        Feature {
            name: "bpf_set_retval",
            present: helpers.set_retval,
            instead: "a connection to a service without backends fails with EPERM, not ECONNREFUSED",
        },
        Feature {
            name: "bpf_xdp_get_buff_len",
            present: helpers.xdp_buff_len,
            instead: "no XDP (--xdp): from_netdev balances alone",
        },
        Feature {
            name: "bpf_ktime_get_coarse_ns",
            present: helpers.coarse_clock,
            instead: "the precise clock, which takes longer to read for each packet of a flow",
        },
        Feature {
            name: "fib_mtu",
            present: helpers.fib_mtu,
            instead: "a packet is compared with what its next hop's device takes, segments of TCP are not",
        },
        Feature {
            name: "netns_cookie",
            present: netns_cookie,
            instead: "NodePorts are not served on 127.0.0.1, and a process of the node can bind them; session affinity \
                      takes the pods of this node whose packets are translated for one client",
        },
    ]
}
