//! The embedded object: loading it against pinned maps, configuring it, testing it.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Mutex,
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, SchedClassifier, TestRun, TestRunOptions},
};
use ipnet::Ipv4Net;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use xebec_abi::{config::global, names::PINNED_MAPS};

use crate::{
    Config, Routing, clsact,
    error::{Error, Result},
    hook::{Hook, interface},
    link::{self, Target},
    lock,
    sys::{self, AttachType},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xebec-datapath.o"));

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
    /// What attaches clsact filters; `None` with TCX, whose links need only descriptors.
    clsact: Option<Mutex<Ebpf>>,
}

impl Programs {
    /// Loads the programs and tests them.
    pub fn load(config: &Config, directory: &Path, tc: TcAttach) -> Result<Self> {
        let (ebpf, _) = load_adapted(config, Some(directory))?;
        self_test(&ebpf)?;
        let mut fds = HashMap::new();
        for hook in Hook::SOCKET.into_iter().chain(Hook::DEVICE) {
            fds.insert(hook, descriptor(&ebpf, hook)?);
        }
        let tcx = tc == TcAttach::Probe && fds.get(&Hook::FromPod).is_some_and(|fd| has_tcx(fd.as_fd()));
        Ok(Self { fds, clsact: (!tcx).then(|| Mutex::new(ebpf)) })
    }

    /// How these attach.
    pub fn tc(&self) -> TcAttach {
        if self.clsact.is_some() { TcAttach::Clsact } else { TcAttach::Probe }
    }

    pub fn attach(&self, hook: Hook, target: &Target<'_>, pin: &Path) -> Result<()> {
        if let (Some(ebpf), Target::Device { name, .. }) = (&self.clsact, target) {
            return clsact::attach(&mut lock(ebpf), hook, name);
        }
        let fd = self.fds.get(&hook).ok_or(Error::NoProgram { program: hook.program() })?;
        link::attach(hook, fd.as_fd(), target, pin)
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

/// A kernel with TCX looks for the device and does not find it; one without does not know the attach type.
pub fn has_tcx(from_pod: BorrowedFd<'_>) -> bool {
    let attempt = sys::link_create(from_pod, i32::MAX.cast_unsigned(), AttachType::TcxIngress);
    attempt.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
}

/// Runs a program in the kernel on a packet that it must leave alone, before it meets any other.
fn self_test(ebpf: &Ebpf) -> Result<()> {
    // An ARP request, padded to Ethernet's minimum.
    let mut arp = [0u8; 60];
    arp[..6].fill(0xff);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    for hook in Hook::DEVICE {
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

/// Loads what this kernel can run, and says whether the programs may call `bpf_set_retval`: it is 5.18's (b44123b4a3dc);
/// before it a refused connection is EPERM.
pub fn load_adapted(config: &Config, directory: Option<&Path>) -> Result<(Ebpf, bool)> {
    match load(config, directory, true) {
        Err(Error::Program { program, .. }) if program.starts_with("sock") => {
            Ok((load(config, directory, false)?, false))
        }
        loaded => Ok((loaded?, true)),
    }
}

/// Creates or opens the maps and loads every program. Without a directory nothing is pinned.
pub fn load(config: &Config, directory: Option<&Path>, set_retval: bool) -> Result<Ebpf> {
    if OBJECT.is_empty() {
        return Err(Error::NotBuilt);
    }
    let globals = globals(config, set_retval);
    let mut loader = EbpfLoader::new();
    loader.allow_unsupported_maps();
    for (name, value) in &globals {
        loader.override_global(name, value, true);
    }
    if let Some(directory) = directory {
        for name in PINNED_MAPS {
            loader.map_pin_path(name, directory.join(name));
        }
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| Error::Object(Box::new(error)))?;
    for hook in Hook::SOCKET.into_iter().chain(Hook::DEVICE) {
        let program = hook.program();
        let loaded = match ebpf.program_mut(program) {
            Some(Program::SchedClassifier(classifier)) => classifier.load(),
            Some(Program::CgroupSockAddr(sock_addr)) => sock_addr.load(),
            Some(Program::CgroupSock(sock)) => sock.load(),
            Some(Program::SockOps(sock_ops)) => sock_ops.load(),
            _ => return Err(Error::NoProgram { program }),
        };
        loaded.map_err(|source| Error::Program { program, source: Box::new(source) })?;
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

fn globals(config: &Config, set_retval: bool) -> [(&'static str, u32); 16] {
    let (overlay, vni) = match config.routing {
        Routing::Vxlan { ifindex, vni } => (ifindex, vni),
        Routing::Native => (0, 0),
    };
    [
        (global::NODE_IP, addr(config.node_ip)),
        (global::GATEWAY_IP, addr(config.gateway)),
        (global::HAIRPIN_IP, u32::from_ne_bytes(xebec_abi::config::HAIRPIN_IP)),
        (global::CLUSTER_ADDR, addr(config.cluster_cidr.network())),
        (global::CLUSTER_MASK, mask(config.cluster_cidr)),
        (global::SERVICE_ADDR, addr(config.service_cidr.network())),
        (global::SERVICE_MASK, mask(config.service_cidr)),
        (global::NODE_PREFIX_LEN, u32::from(config.pod_cidr.prefix_len())),
        (global::OVERLAY_IFINDEX, overlay),
        (global::OVERLAY_VNI, vni),
        (global::SNAT_PORT_MIN, u32::from(*config.snat_ports.start())),
        (global::SNAT_PORT_MAX, u32::from(*config.snat_ports.end())),
        (global::HAS_SET_RETVAL, u32::from(set_retval)),
        (global::HASH_SEED, hash_seed(config)),
        (global::NODE_NETNS[0], config.netns_cookie as u32),
        (global::NODE_NETNS[1], (config.netns_cookie >> 32) as u32),
    ]
}

/// Differs between nodes, so that they do not all choose the same backend.
pub fn hash_seed(config: &Config) -> u32 {
    addr(config.node_ip).wrapping_mul(0x9e37_79b1)
}

/// The bytes of an address as a `u32` of this machine, which is how programs compare them.
fn addr(addr: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(addr.octets())
}

fn mask(cidr: Ipv4Net) -> u32 {
    addr(cidr.netmask())
}

pub fn require_bpffs(path: &Path) -> Result<()> {
    match statfs(path) {
        Ok(stat) if stat.filesystem_type() == BPF_FS_MAGIC => Ok(()),
        _ => Err(Error::NotBpffs { path: path.to_owned() }),
    }
}
