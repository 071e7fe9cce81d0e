//! The object without a node, for tests and benchmarks of programs by `BPF_PROG_TEST_RUN`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    path::Path,
};

use aya::{
    Ebpf,
    programs::{ProgramType, SchedClassifier},
    sys::{BpfHelper, is_helper_supported},
};
use ipnet::{Ipv4Net, Ipv6Net};
use xebec_abi::{
    MapId,
    config::{global, migrating},
};

use crate::{
    Capacity, Config, Dsr, Error, Feature, Hook, LoadBalancer, MapLayout, Network, Result, Routing, XdpMode, feature,
    layout::Records, object, sys, xdp,
};

/// What an agent has just done that outlives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// A map of the new layout has a pin beside the old one's.
    Staged(&'static str),
    /// Programs are loaded, and pinned is whatever they need.
    Loaded,
    /// A link has this program.
    Linked(&'static str),
    /// The new map is what the old one is.
    Copied(&'static str),
    /// The new map has the old one's pin.
    Renamed(&'static str),
    /// The new map decides.
    Decided(&'static str),
    /// Nothing is pinned that only a migration needs.
    Ended,
}

/// Is told of what an agent does while it opens the datapath.
#[derive(Default)]
pub struct Observer(Option<Box<dyn Fn(Done) + Send + Sync>>);

impl Observer {
    pub fn new(see: impl Fn(Done) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(see)))
    }

    pub(crate) fn see(&self, done: Done) {
        if let Some(see) = &self.0 {
            see(done);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// Makes a pinned map one of a layout that no version has.
pub fn forget_layout(directory: &Path, map: &'static str) -> Result<()> {
    let failed = |source| Error::Map { operation: "open", map, source };
    Records::read(directory)?.note(&sys::open_pin(&directory.join(map)).map_err(failed)?, map, 1)
}

/// The node's, in [`config`].
pub const NODE_IP: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 11);
pub const NODE_IP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);

/// Loads every program with maps of its own, pinned nowhere and attached to nothing.
pub fn load(config: &Config) -> Result<Ebpf> {
    Ok(object::load_adapted(config)?.0)
}

/// As [`crate::Datapath::features`], of a node that is not there.
pub fn features(config: &Config) -> Result<Vec<Feature>> {
    let (ebpf, helpers) = object::load_adapted(config)?;
    let from_pod = object::descriptor(&ebpf, Hook::FromPod)?;
    Ok(feature::all(object::has_tcx(from_pod.as_fd()), helpers, config.netns_cookie != 0))
}

/// Does the kernel have what the programs of XDP need?
pub fn has_xdp() -> Result<bool> {
    let supported = is_helper_supported(ProgramType::Xdp, BpfHelper::BPF_FUNC_xdp_get_buff_len);
    supported.map_err(|source| Error::Program { program: "xdp_netdev", source: Box::new(source) })
}

/// [`load`], and the programs of XDP if the kernel has it.
pub fn load_with_xdp(config: &Config) -> Result<Ebpf> {
    load_behind(config, None)
}

/// [`load_with_xdp`], for packets that came with the network identifier and from the address of a tunnel: in test runs they
/// have none.
pub fn load_behind(config: &Config, tunnel: Option<(u32, IpAddr)>) -> Result<Ebpf> {
    let node = |node| match node {
        IpAddr::V4(node) => (global::TEST_TUNNEL_NODE, vec![u32::from(node)]),
        IpAddr::V6(node) => (global::TEST_TUNNEL_NODE6, object::words(&node.octets())),
    };
    let further = tunnel.map(|(vni, end)| [(global::TEST_TUNNEL_VNI, vec![vni]), node(end)]);
    load_with(config, further.as_ref().map_or(&[], |further| &further[..]))
}

/// [`load`], as while every map of flows is replaced by one of another layout.
pub fn load_migrating(config: &Config) -> Result<Ebpf> {
    let maps = [MapId::Ct4, MapId::Nat4, MapId::Ct6, MapId::Nat6];
    let mask = maps.into_iter().fold(0, |mask, map| mask | migrating(map));
    Ok(object::load_adapted_with(config, None, &[(global::MIGRATING, vec![mask])])?.0)
}

fn load_with(config: &Config, further: &[object::GlobalValue]) -> Result<Ebpf> {
    let (mut ebpf, _) = object::load_adapted_with(config, None, further)?;
    if has_xdp()? {
        for mode in XdpMode::ALL {
            xdp::load_program(&mut ebpf, mode)?;
        }
    }
    Ok(ebpf)
}

pub fn classifier<'a>(ebpf: &'a Ebpf, program: &'static str) -> Result<&'a SchedClassifier> {
    object::classifier(ebpf, program)
}

/// The seed that the programs of this node hash flows with.
pub fn hash_seed(config: &Config) -> u32 {
    object::hash_seed(config)
}

/// A node of both families, with an overlay and direct server return.
pub fn config() -> Config {
    let cidr = |addr: [u8; 4], len| Ipv4Net::new_assert(addr.into(), len);
    let cidr6 = Ipv6Net::new_assert;
    let v6 = |first, subnet, last| Ipv6Addr::new(first, 0xdb8, 0, subnet, 0, 0, 0, last);
    Config {
        node_name: "test".into(),
        bpffs: "/sys/fs/bpf".into(),
        cgroup_pods: "/sys/fs/cgroup".into(),
        cgroup_node: "/sys/fs/cgroup".into(),
        ipv4: Some(Network {
            node_ip: NODE_IP,
            pod_cidr: cidr([10, 244, 1, 0], 24),
            cluster_cidr: cidr([10, 244, 0, 0], 16),
            service_cidr: cidr([10, 96, 0, 0], 12),
            gateway: Ipv4Addr::new(10, 244, 1, 1),
        }),
        ipv6: Some(Network {
            node_ip: NODE_IP6,
            pod_cidr: cidr6(v6(0xfd10, 1, 0), 64),
            cluster_cidr: cidr6(v6(0xfd10, 0, 0), 48),
            service_cidr: cidr6(v6(0xfd96, 0, 0), 112),
            gateway: v6(0xfd10, 1, 1),
        }),
        routing: Routing::Vxlan { ifindex: 1, vni: 7 },
        pod_mtu: 1_450,
        uplinks: Vec::new(),
        netns_cookie: 1,
        snat_ports: Config::SNAT_PORTS,
        load_balancer: LoadBalancer { dsr: Some(Dsr { ifindex: 1, vni: 7 }), ..LoadBalancer::default() },
        capacity: Capacity::default(),
        map_layout: MapLayout::default(),
    }
}
