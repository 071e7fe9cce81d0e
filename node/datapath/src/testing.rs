//! The object without a node, for tests and benchmarks of programs by `BPF_PROG_TEST_RUN`.

use std::{net::Ipv4Addr, os::fd::AsFd};

use aya::{Ebpf, programs::SchedClassifier};
use ipnet::Ipv4Net;

use crate::{Config, Hook, Result, Routing, object};

/// Loads every program with maps of its own, pinned nowhere and attached to nothing.
pub fn load(config: &Config) -> Result<Ebpf> {
    Ok(object::load_adapted(config, None)?.0)
}

/// What the datapath chooses by, and whether the running kernel has it.
pub fn features(config: &Config) -> Result<[(&'static str, bool); 2]> {
    let (ebpf, set_retval) = object::load_adapted(config, None)?;
    let from_pod = object::descriptor(&ebpf, Hook::FromPod)?;
    Ok([("tcx", object::has_tcx(from_pod.as_fd())), ("bpf_set_retval", set_retval)])
}

pub fn classifier<'a>(ebpf: &'a Ebpf, program: &'static str) -> Result<&'a SchedClassifier> {
    object::classifier(ebpf, program)
}

/// The seed that the programs of this node hash flows with.
pub fn hash_seed(config: &Config) -> u32 {
    object::hash_seed(config)
}

/// A node with an overlay.
pub fn config() -> Config {
    let cidr = |addr: [u8; 4], len| Ipv4Net::new_assert(addr.into(), len);
    Config {
        node_name: "test".into(),
        bpffs: "/sys/fs/bpf".into(),
        cgroup_pods: "/sys/fs/cgroup".into(),
        cgroup_node: "/sys/fs/cgroup".into(),
        node_ip: Ipv4Addr::new(172, 30, 0, 11),
        pod_cidr: cidr([10, 244, 1, 0], 24),
        cluster_cidr: cidr([10, 244, 0, 0], 16),
        service_cidr: cidr([10, 96, 0, 0], 12),
        routing: Routing::Vxlan { ifindex: 1, vni: 7 },
        uplinks: Vec::new(),
        gateway: Ipv4Addr::new(10, 244, 1, 1),
        netns_cookie: 1,
        snat_ports: Config::SNAT_PORTS,
    }
}
