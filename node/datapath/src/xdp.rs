//! `xdp_netdev` on uplinks: load balancing before the host's stack has the packet. A device that cannot take it is served
//! by `from_netdev` alone, which decides the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    str::FromStr,
};

use aya::{
    Ebpf,
    programs::{Program, Xdp},
};

use crate::{
    Config, Drift, DriftKind,
    error::{Error, Result, chain},
    hook::interface,
    link::{self, Attachment, Target},
    memlock,
    sys::{self, AttachType},
};

/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE` of include/uapi/linux/if_link.h.
const SKB_MODE: u32 = 1 << 1;
const DRV_MODE: u32 = 1 << 2;

/// `BPF_PROG_TYPE_XDP` of include/uapi/linux/bpf.h, and `r0 = XDP_PASS; exit`.
const PROG_TYPE_XDP: u32 = 6;
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// `BPF_F_XDP_HAS_FRAGS` of include/uapi/linux/bpf.h: as `xdp_netdev`, for a device with a larger MTU takes no other.
const HAS_FRAGS: u32 = 1 << 5;

/// How a device runs the program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum XdpMode {
    /// In its driver.
    Native,
    /// After the driver, for devices whose driver cannot: slower than without, for tests.
    Generic,
}

impl XdpMode {
    pub const ALL: [Self; 2] = [Self::Native, Self::Generic];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Native => "xdp_netdev",
            Self::Generic => "xdp_generic",
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::Native => DRV_MODE,
            Self::Generic => SKB_MODE,
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("XDP is native or generic")]
pub struct InvalidXdpMode;

impl FromStr for XdpMode {
    type Err = InvalidXdpMode;

    fn from_str(text: &str) -> Result<Self, InvalidXdpMode> {
        Self::ALL.into_iter().find(|mode| mode.label() == text).ok_or(InvalidXdpMode)
    }
}

/// What became of a device's mode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XdpDevice {
    pub ifindex: u32,
    pub name: String,
    pub wanted: XdpMode,
    /// Why the program is not in effect, if it is not.
    pub fault: Option<String>,
}

/// A program that leaves everything to the host's stack. The other end of an uplink that is one end of a veth pair needs
/// one: it receives what XDP sends only if it has a program too (`veth_xdp_flush`, drivers/net/veth.c).
pub fn pass() -> Result<OwnedFd> {
    memlock::raise()?;
    load_passing(0)
}

fn load_passing(flags: u32) -> Result<OwnedFd> {
    let failed = |source| Error::Link { operation: "load", program: "XDP_PASS", target: "the kernel".into(), source };
    sys::prog_load(PROG_TYPE_XDP, &PASS, flags).map_err(failed)
}

/// The program of each mode that a device wants, or why the kernel refused it.
pub type Programs = BTreeMap<XdpMode, std::result::Result<OwnedFd, String>>;

/// What is said of a device that is not there: it may come back.
const GONE: &str = "the device is gone";

/// Loads what devices want. A kernel that cannot does without.
pub fn load(ebpf: &mut Ebpf, config: &Config) -> Programs {
    let modes: BTreeSet<XdpMode> = config.load_balancer.xdp.values().copied().collect();
    let load = |mode: XdpMode| {
        let loaded = load_program(ebpf, mode).and_then(|program| descriptor(program, mode));
        (mode, loaded.map_err(|error| format!("the kernel refused the program: {}", chain(&error))))
    };
    modes.into_iter().map(load).collect()
}

/// While maps of flows are replaced: a link keeps its place, as drivers may interrupt the line to give another one, and
/// `from_netdev` balances alone.
pub fn load_pass(config: &Config) -> Programs {
    let modes: BTreeSet<XdpMode> = config.load_balancer.xdp.values().copied().collect();
    let load = |mode| (mode, load_passing(HAS_FRAGS).map_err(|error| chain(&error)));
    modes.into_iter().map(load).collect()
}

/// The program of a mode, loaded or not.
pub fn program(ebpf: &mut Ebpf, mode: XdpMode) -> Result<&mut Xdp> {
    let program = mode.program();
    match ebpf.program_mut(program) {
        Some(Program::Xdp(xdp)) => Ok(xdp),
        _ => Err(Error::NoProgram { program }),
    }
}

pub fn load_program(ebpf: &mut Ebpf, mode: XdpMode) -> Result<&mut Xdp> {
    let (xdp, program) = (program(ebpf, mode)?, mode.program());
    xdp.load().map_err(|source| Error::Program { program, source: Box::new(source) })?;
    Ok(xdp)
}

fn descriptor(xdp: &Xdp, mode: XdpMode) -> Result<OwnedFd> {
    let program = mode.program();
    let fd = xdp.fd().map_err(|source| Error::Program { program, source: Box::new(source) })?;
    let failed =
        |source| Error::Link { operation: "duplicate descriptor of", program, target: "the agent".into(), source };
    fd.as_fd().try_clone_to_owned().map_err(failed)
}

/// Attaches to the devices that want it, and detaches from others: an earlier agent's configuration may have been
/// another one. A device that cannot take the program does without, and says why.
pub fn attach_all(programs: &Programs, config: &Config, links: &Path) -> Result<Vec<XdpDevice>> {
    let mut wanted = BTreeMap::new();
    for (ifindex, mode) in &config.load_balancer.xdp {
        let name = interface(*ifindex)?;
        wanted.insert(pin_name(&name, *mode), (*ifindex, name, *mode));
    }
    detach_others(links, |pin| wanted.get(pin).is_some_and(|(_, _, mode)| matches!(programs.get(mode), Some(Ok(_)))))?;
    let mut devices = Vec::new();
    for (ifindex, name, wanted) in wanted.into_values() {
        let mut device = XdpDevice { ifindex, name, wanted, fault: None };
        if device.attach(programs, links) {
            tracing::info!(device = device.name, mode = %wanted, "XDP is in effect");
        }
        devices.push(device);
    }
    Ok(devices)
}

/// Attaches again where others detached the program; returns where. A device that has refused it is not asked again
/// before the next reload: drivers may interrupt the line to try.
pub fn repair(devices: &mut [XdpDevice], programs: &Programs, links: &Path) -> Vec<Drift> {
    let mut found = Vec::new();
    for device in devices {
        if device.fault.as_ref().is_some_and(|fault| fault != GONE) {
            continue;
        }
        if interface(device.ifindex).is_err() {
            device.fault = Some(GONE.to_owned());
        } else if device.attach(programs, links) {
            let (program, name) = (device.wanted.program(), &device.name);
            found.push(Drift::new(DriftKind::Program, format_args!("{program} at {name}")));
        }
    }
    found
}

impl XdpDevice {
    /// False if the program was attached already, or cannot be.
    fn attach(&mut self, programs: &Programs, links: &Path) -> bool {
        let attached = self.try_attach(programs, links);
        self.fault = attached.as_ref().err().cloned();
        if let Some(reason) = &self.fault {
            tracing::warn!(device = self.name, mode = %self.wanted, reason, "no XDP: from_netdev balances alone");
        }
        attached == Ok(true)
    }

    fn try_attach(&self, programs: &Programs, links: &Path) -> std::result::Result<bool, String> {
        let Self { ifindex, name, wanted, .. } = self;
        // One for every mode that was asked for.
        let Some(program) = programs.get(wanted) else { return Ok(false) };
        let program = program.as_ref().map_err(Clone::clone)?;
        let attachment = Attachment { program: wanted.program(), kind: AttachType::Xdp, flags: wanted.flags() };
        let target = Target::Device { ifindex: *ifindex, name };
        let pin = links.join(pin_name(name, *wanted));
        let attached = link::attach(attachment, program.as_fd(), &target, &pin);
        attached.map_err(|error| format!("the device does not take the program: {}", chain(&error)))
    }
}

/// A mode has its own: a link keeps the one that it was made with.
fn pin_name(device: &str, mode: XdpMode) -> String {
    format!("{device}-{}", mode.program())
}

fn detach_others(links: &Path, keep: impl Fn(&str) -> bool) -> Result<()> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Pin { operation: "remove", path, source }
    };
    for entry in fs::read_dir(links).map_err(failed(links))? {
        let path = entry.map_err(failed(links))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_ours = XdpMode::ALL.iter().any(|mode| name.ends_with(&pin_name("", *mode)));
        if is_ours && !keep(&name) {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    Ok(())
}
