//! The embedded object: loading it against pinned maps, configuring it, testing it.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Mutex,
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramType, SchedClassifier, TestRun, TestRunOptions},
    sys::{BpfHelper, is_helper_supported},
};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use xebec_abi::{
    config::{HAIRPIN_IP, HAIRPIN_IP6, dsr_vni, global},
    names::{self, PINNED_MAPS, WHOLE4, WHOLE6},
};

use crate::{
    Config, Drift, DriftKind, MapLayout, Network4, Network6, Routing,
    clsact::{self, Clsact},
    error::{Error, Result},
    hook::{Hook, interface},
    link::{self, Attachment, Target},
    lock,
    migrate::{Migration, OLD_MAPS},
    sys::{self, AttachType},
    xdp,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xebec-datapath.o"));
/// For the time in which maps of flows are replaced.
static BRIDGE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xebec-bridge.o"));
/// Also for that time.
static REHEARSAL: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xebec-rehearsal.o"));

/// Linux action: go on to the next program, then to the host's stack (`TCX_NEXT`,
/// include/uapi/linux/bpf.h).
const TCX_NEXT: u32 = u32::MAX;

/// How programs attach to devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcAttach {
    /// TCX where the kernel has it.
    Probe,
    Clsact,
}

/// The loaded programs.
#[derive(Debug)]
pub struct Programs {
    fds: HashMap<Hook, OwnedFd>,
    /// Every pinned map.
    maps: Vec<(&'static str, OwnedFd)>,
    helpers: Helpers,
    /// What attaches clsact filters; `None` with TCX, whose links need only descriptors.
    clsact: Option<Mutex<Clsact>>,
    xdp: xdp::Programs,
}

impl Programs {
    /// Loads the programs and tests them.
    pub fn load(config: &Config, directory: &Path, tc: TcAttach, migration: &Migration) -> Result<Self> {
        let bridged = Some((global::MIGRATING, vec![migration.mask()])).filter(|_| migration.mask() != 0);
        let (mut ebpf, helpers) = load_adapted_with(config, Some((directory, migration)), bridged.as_slice())?;
        self_test(&ebpf, config)?;
        let xdp = if bridged.is_some() { xdp::load_pass(config) } else { xdp::load(&mut ebpf, config) };
        let mut fds = HashMap::new();
        for hook in wanted(config) {
            match descriptor(&ebpf, hook) {
                // `load` has said why.
                Err(_) if !hook.is_required() => {}
                fd => drop(fds.insert(hook, fd?)),
            }
        }
        let tcx = tc == TcAttach::Probe && fds.get(&Hook::FromPod).is_some_and(|fd| has_tcx(fd.as_fd()));
        let pinned = PINNED_MAPS.iter().chain([&names::LAYOUTS]);
        let maps = pinned.map(|name| Ok((*name, open_map(directory, name)?))).collect::<Result<_>>()?;
        let own = crate::config::node_directory(&config.bpffs, &config.node_name);
        let clsact = (!tcx).then(|| Clsact::new(ebpf, &own).map(Mutex::new)).transpose()?;
        Ok(Self { fds, maps, helpers, clsact, xdp })
    }

    pub fn xdp(&self) -> &xdp::Programs {
        &self.xdp
    }

    /// How these attach.
    pub fn tc(&self) -> TcAttach {
        if self.clsact.is_some() { TcAttach::Clsact } else { TcAttach::Probe }
    }

    /// False if exactly this program was there already. A clsact filter is replaced in any case: what program it runs
    /// cannot be told cheaply.
    pub fn attach(&self, hook: Hook, target: &Target<'_>, pin: &Path) -> Result<bool> {
        if let (Some(clsact), Target::Device { name, ifindex }) = (&self.clsact, target) {
            return clsact::attach(&mut lock(clsact), hook, name, *ifindex);
        }
        let fd = match self.fds.get(&hook) {
            None if !hook.is_required() => return Ok(false),
            fd => fd.ok_or(Error::NoProgram { program: hook.program() })?,
        };
        link::attach(Attachment::of(hook), fd.as_fd(), target, pin)
    }

    pub fn has_tcx(&self) -> bool {
        self.clsact.is_none()
    }

    pub fn helpers(&self) -> Helpers {
        self.helpers
    }

    /// Pins the maps again whose files are gone.
    pub fn repair_pins(&self, directory: &Path) -> Result<Vec<Drift>> {
        let mut found = Vec::new();
        for (name, map) in &self.maps {
            let path = directory.join(name);
            if !path.exists() {
                sys::pin(map.as_fd(), &path).map_err(|source| Error::Pin { operation: "pin", path, source })?;
                found.push(Drift::new(DriftKind::Pin, name));
            }
        }
        Ok(found)
    }

    /// A device that is gone took its links and filters with it; then only the pin is left to remove.
    pub fn detach(&self, hook: Hook, ifindex: u32, links: &Path) -> Result<()> {
        if self.clsact.is_none() {
            return link::detach_device(links, hook, ifindex);
        }
        if let Ok(name) = interface(ifindex) {
            clsact::detach(hook, &name);
        }
        Ok(())
    }
}

fn open_map(directory: &Path, name: &'static str) -> Result<OwnedFd> {
    sys::open_pin(&directory.join(name)).map_err(|source| Error::Map { operation: "open", map: name, source })
}

/// A kernel with TCX looks for the device and does not find it; one without does not know the attach type.
pub fn has_tcx(from_pod: BorrowedFd<'_>) -> bool {
    let attempt = sys::link_create(from_pod, i32::MAX.cast_unsigned(), AttachType::TcxIngress, 0);
    attempt.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
}

/// Runs a program in the kernel on a packet that it must leave alone, before it meets any other.
fn self_test(ebpf: &Ebpf, config: &Config) -> Result<()> {
    // An ARP request, padded to Ethernet's minimum.
    let mut arp = [0u8; 60];
    arp[..6].fill(0xff);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    for hook in Hook::DEVICE.into_iter().filter(|hook| hook.is_wanted(config)) {
        let program = hook.program();
        let failed = |reason: String| Error::SelfTest { program, reason };
        let mut out = [0u8; 60];
        let options = TestRunOptions { data_in: Some(&arp), data_out: Some(&mut out), ..Default::default() };
        let result = classifier(ebpf, program)?.test_run(options).map_err(|error| failed(error.to_string()))?;
        if result.return_value != TCX_NEXT || out != arp {
            return Err(failed(format!("an ARP request got action {}", result.return_value)));
        }
    }
    Ok(())
}

/// What the programs may call, and what it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Helpers {
    /// `bpf_set_retval` is 5.18's (b44123b4a3dc); before it a refused connection is EPERM.
    pub set_retval: bool,
    /// `bpf_ktime_get_coarse_ns` is 5.11's (d05512618056).
    pub coarse_clock: bool,
    /// Since 5.12 `bpf_fib_lookup` compares a length with what a route takes, and says that (2c0a10af688c, e1850ea9bd9e).
    pub fib_mtu: bool,
    /// `bpf_xdp_get_buff_len` is 5.18's, as are XDP's other helpers for frames of several buffers.
    pub xdp_buff_len: bool,
}

/// Loads what this kernel can run.
pub fn load_adapted(config: &Config) -> Result<(Ebpf, Helpers)> {
    load_adapted_with(config, None, &[])
}

/// [`load_adapted`], with further globals.
pub fn load_adapted_with(
    config: &Config,
    pins: Option<(&Path, &Migration)>,
    further: &[GlobalValue],
) -> Result<(Ebpf, Helpers)> {
    let clock = is_helper_supported(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_ktime_get_coarse_ns);
    // `bpf_check_mtu` came in the same series (34b2021cc616).
    let mtu = is_helper_supported(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_check_mtu);
    let xdp = is_helper_supported(ProgramType::Xdp, BpfHelper::BPF_FUNC_xdp_get_buff_len);
    // A kernel that cannot be asked has the other clock too, and balances without XDP.
    let helpers = Helpers {
        set_retval: true,
        coarse_clock: clock.unwrap_or(false),
        fib_mtu: mtu.unwrap_or(false),
        xdp_buff_len: xdp.unwrap_or(false),
    };
    match load(config, pins, helpers, further) {
        Err(Error::Program { program, .. }) if program.starts_with("sock") => {
            let helpers = Helpers { set_retval: false, ..helpers };
            Ok((load(config, pins, helpers, further)?, helpers))
        }
        loaded => Ok((loaded?, helpers)),
    }
}

/// Entries of the maps that are allocated whole, of a family that the node does not have.
const ABSENT_ENTRIES: u32 = 1;

fn absent_families(config: &Config) -> impl Iterator<Item = &'static str> + use<> {
    let ipv4 = if config.ipv4.is_none() { &WHOLE4[..] } else { &[] };
    let ipv6 = if config.ipv6.is_none() { &WHOLE6[..] } else { &[] };
    ipv4.iter().chain(ipv6).copied()
}

/// A node that got a family, or lost one, makes that family's maps anew that are allocated whole: pinned maps keep their size.
pub fn forget_other_sizes(config: &Config, directory: &Path) -> Result<()> {
    let absent: HashSet<_> = absent_families(config).collect();
    for name in WHOLE4.into_iter().chain(WHOLE6) {
        let path = directory.join(name);
        let failed = |source| Error::Map { operation: "resize", map: name, source };
        let Ok(map) = sys::open_pin(&path) else { continue };
        let is_small = sys::map_info(map.as_fd()).map_err(failed)?.max_entries == ABSENT_ENTRIES;
        if is_small != absent.contains(name) {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

fn wanted(config: &Config) -> impl Iterator<Item = Hook> {
    Hook::SOCKET.into_iter().chain(Hook::DEVICE).filter(|hook| hook.is_wanted(config))
}

/// Creates or opens the maps and loads the programs that the node runs. Without a directory nothing is pinned.
fn load(config: &Config, pins: Option<(&Path, &Migration)>, helpers: Helpers, further: &[GlobalValue]) -> Result<Ebpf> {
    let is_bridging = further.iter().any(|(name, _)| *name == global::MIGRATING);
    let object = match config.map_layout {
        MapLayout::Current if is_bridging => BRIDGE,
        MapLayout::Current => OBJECT,
        MapLayout::Rehearsal => REHEARSAL,
    };
    if object.is_empty() {
        return Err(Error::NotBuilt);
    }
    let globals = globals(config, helpers);
    let mut loader = EbpfLoader::new();
    loader.allow_unsupported_maps();
    for (name, value) in globals.iter().chain(further) {
        loader.override_global(name, value.as_slice(), true);
    }
    for name in absent_families(config) {
        loader.map_max_entries(name, ABSENT_ENTRIES);
    }
    for (name, size) in config.capacity.sizes() {
        loader.map_max_entries(name, size);
    }
    for name in OLD_MAPS {
        loader.map_max_entries(name, ABSENT_ENTRIES);
    }
    if let Some((directory, migration)) = pins {
        for name in PINNED_MAPS {
            loader.map_pin_path(name, directory.join(name));
        }
        for (name, pin) in migration.pins(directory) {
            loader.map_pin_path(name, pin);
        }
    }
    let mut ebpf = loader.load(object).map_err(|error| Error::Object(Box::new(error)))?;
    for hook in wanted(config) {
        let program = hook.program();
        let loaded = match ebpf.program_mut(program) {
            Some(Program::SchedClassifier(classifier)) => classifier.load(),
            Some(Program::CgroupSockAddr(sock_addr)) => sock_addr.load(),
            Some(Program::CgroupSock(sock)) => sock.load(),
            Some(Program::SockOps(sock_ops)) => sock_ops.load(),
            _ => return Err(Error::NoProgram { program }),
        };
        match loaded {
            Err(error) if !hook.is_required() => {
                tracing::warn!(program, %error, "the kernel refuses the program: what connections take is not measured");
            }
            loaded => loaded.map_err(|source| Error::Program { program, source: Box::new(source) })?,
        }
    }
    Ok(ebpf)
}

pub fn classifier<'a>(ebpf: &'a Ebpf, program: &'static str) -> Result<&'a SchedClassifier> {
    match ebpf.program(program) {
        Some(Program::SchedClassifier(classifier)) => Ok(classifier),
        _ => Err(Error::NoProgram { program }),
    }
}

pub fn descriptor(ebpf: &Ebpf, hook: Hook) -> Result<OwnedFd> {
    let program = hook.program();
    let failed =
        |source| Error::Link { operation: "duplicate descriptor of", program, target: "the agent".into(), source };
    let fd = match ebpf.program(program) {
        Some(Program::SchedClassifier(classifier)) => classifier.fd(),
        Some(Program::CgroupSockAddr(sock_addr)) => sock_addr.fd(),
        Some(Program::CgroupSock(sock)) => sock.fd(),
        Some(Program::SockOps(sock_ops)) => sock_ops.fd(),
        _ => return Err(Error::NoProgram { program }),
    };
    let fd = fd.map_err(|source| Error::Program { program, source: Box::new(source) })?;
    fd.as_fd().try_clone_to_owned().map_err(failed)
}

/// A global's name and its value: words as they lie in memory.
pub type GlobalValue = (&'static str, Vec<u32>);

fn globals(config: &Config, helpers: Helpers) -> Vec<GlobalValue> {
    let (overlay, vni) = match config.routing {
        Routing::Vxlan { ifindex, vni } => (ifindex, vni),
        Routing::Native => (0, 0),
    };
    let dsr = config.load_balancer.dsr;
    let mut globals = vec![
        (global::DSR_IFINDEX, vec![dsr.map_or(0, |dsr| dsr.ifindex)]),
        (global::DSR_VNI, vec![dsr.and_then(|dsr| dsr_vni(dsr.vni)).unwrap_or(0)]),
        (global::OVERLAY_IFINDEX, vec![overlay]),
        (global::OVERLAY_VNI, vec![vni]),
        (global::POD_MTU, vec![config.pod_mtu]),
        (global::SNAT_PORT_MIN, vec![u32::from(*config.snat_ports.start())]),
        (global::SNAT_PORT_MAX, vec![u32::from(*config.snat_ports.end())]),
        (global::HAS_SET_RETVAL, vec![u32::from(helpers.set_retval)]),
        (global::HAS_COARSE_CLOCK, vec![u32::from(helpers.coarse_clock)]),
        (global::HASH_SEED, vec![hash_seed(config)]),
        (global::NODE_NETNS[0], vec![config.netns_cookie as u32]),
        (global::NODE_NETNS[1], vec![(config.netns_cookie >> 32) as u32]),
    ];
    globals.extend(config.ipv4.iter().flat_map(ipv4_globals));
    globals.extend(config.ipv6.iter().flat_map(ipv6_globals));
    globals
}

fn ipv4_globals(network: &Network4) -> [GlobalValue; 8] {
    let words = |addr: Ipv4Addr| words(&addr.octets());
    [
        (global::NODE_IP, words(network.node_ip)),
        (global::GATEWAY_IP, words(network.gateway)),
        (global::HAIRPIN_IP, words(HAIRPIN_IP.into())),
        (global::CLUSTER_ADDR, words(network.cluster_cidr.network())),
        (global::CLUSTER_MASK, words(network.cluster_cidr.netmask())),
        (global::SERVICE_ADDR, words(network.service_cidr.network())),
        (global::SERVICE_MASK, words(network.service_cidr.netmask())),
        (global::NODE_PREFIX_LEN, vec![u32::from(network.pod_cidr.prefix_len())]),
    ]
}

fn ipv6_globals(network: &Network6) -> [GlobalValue; 9] {
    let words = |addr: Ipv6Addr| words(&addr.octets());
    [
        (global::NODE_IP6, words(network.node_ip)),
        (global::GATEWAY_IP6, words(network.gateway)),
        (global::HAIRPIN_IP6, words(HAIRPIN_IP6.into())),
        (global::CLUSTER_ADDR6, words(network.cluster_cidr.network())),
        (global::CLUSTER_MASK6, words(network.cluster_cidr.netmask())),
        (global::SERVICE_ADDR6, words(network.service_cidr.network())),
        (global::SERVICE_MASK6, words(network.service_cidr.netmask())),
        (global::NODE_PREFIX_MASK6, words(network.pod_cidr.netmask())),
        (global::NODE_PREFIX_LEN6, vec![u32::from(network.pod_cidr.prefix_len())]),
    ]
}

/// Differs between nodes, so that they do not all choose the same backend.
pub fn hash_seed(config: &Config) -> u32 {
    let address = config.node_ips().next();
    let octets = match address {
        Some(IpAddr::V4(addr)) => words(&addr.octets()),
        Some(IpAddr::V6(addr)) => words(&addr.octets()),
        None => Vec::new(),
    };
    octets.into_iter().fold(0, |seed, word| seed ^ word).wrapping_mul(0x9e37_79b1)
}

/// The bytes of an address as words of this machine, which is how programs compare them.
pub fn words(octets: &[u8]) -> Vec<u32> {
    octets.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect()
}

pub fn require_bpffs(path: &Path) -> Result<()> {
    match statfs(path) {
        Ok(stat) if stat.filesystem_type() == BPF_FS_MAGIC => Ok(()),
        _ => Err(Error::NotBpffs { path: path.to_owned() }),
    }
}
