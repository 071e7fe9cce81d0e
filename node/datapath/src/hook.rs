//! Where programs attach.

use std::{
    fs::File,
    os::fd::AsRawFd,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{PoisonError, RwLockReadGuard},
};

use nix::net::if_::if_indextoname;

use crate::{
    Config, Datapath,
    error::{Error, Result},
    link::{self, Target},
    lock,
    object::Programs,
    sys::AttachType,
    testing::Done,
    xdp,
};

/// One program and its attachment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hook {
    Sock4Connect,
    Sock4Sendmsg,
    Sock4Recvmsg,
    Sock4Getpeername,
    Sock6Connect,
    Sock6Sendmsg,
    Sock6Recvmsg,
    Sock6Getpeername,
    Sock4PostBind,
    Sock6PostBind,
    SockOps,
    FromPod,
    ToPod,
    FromNetdev,
    ToNetdev,
    FromOverlay,
    ToOverlay,
    /// Those of IPv6, behind those of IPv4 on the same device.
    FromPod6,
    ToPod6,
    FromNetdev6,
    ToNetdev6,
    FromOverlay6,
    ToOverlay6,
}

impl Hook {
    pub const SOCKET: [Self; 11] = [
        Self::Sock4Recvmsg,
        Self::Sock4Getpeername,
        Self::Sock6Recvmsg,
        Self::Sock6Getpeername,
        // Those that translate answers are in place before those that translate requests.
        Self::Sock4Connect,
        Self::Sock4Sendmsg,
        Self::Sock6Connect,
        Self::Sock6Sendmsg,
        Self::Sock4PostBind,
        Self::Sock6PostBind,
        Self::SockOps,
    ];
    pub const DEVICE: [Self; 12] = [
        Self::FromPod,
        Self::ToPod,
        Self::FromNetdev,
        Self::ToNetdev,
        Self::FromOverlay,
        Self::ToOverlay,
        Self::FromPod6,
        Self::ToPod6,
        Self::FromNetdev6,
        Self::ToNetdev6,
        Self::FromOverlay6,
        Self::ToOverlay6,
    ];
    pub(crate) const POD: [Self; 4] = [Self::FromPod, Self::FromPod6, Self::ToPod, Self::ToPod6];
    pub(crate) const NETDEV: [Self; 4] = [Self::FromNetdev, Self::FromNetdev6, Self::ToNetdev, Self::ToNetdev6];
    pub(crate) const OVERLAY: [Self; 4] = [Self::FromOverlay, Self::FromOverlay6, Self::ToOverlay, Self::ToOverlay6];

    /// The program, named by its attachment.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Sock4Connect => "sock4_connect",
            Self::Sock4Sendmsg => "sock4_sendmsg",
            Self::Sock4Recvmsg => "sock4_recvmsg",
            Self::Sock4Getpeername => "sock4_getpeername",
            Self::Sock6Connect => "sock6_connect",
            Self::Sock6Sendmsg => "sock6_sendmsg",
            Self::Sock6Recvmsg => "sock6_recvmsg",
            Self::Sock6Getpeername => "sock6_getpeername",
            Self::Sock4PostBind => "sock4_post_bind",
            Self::Sock6PostBind => "sock6_post_bind",
            Self::SockOps => "sock_ops",
            Self::FromPod => "from_pod",
            Self::ToPod => "to_pod",
            Self::FromNetdev => "from_netdev",
            Self::ToNetdev => "to_netdev",
            Self::FromOverlay => "from_overlay",
            Self::ToOverlay => "to_overlay",
            Self::FromPod6 => "from_pod6",
            Self::ToPod6 => "to_pod6",
            Self::FromNetdev6 => "from_netdev6",
            Self::ToNetdev6 => "to_netdev6",
            Self::FromOverlay6 => "from_overlay6",
            Self::ToOverlay6 => "to_overlay6",
        }
    }

    /// Does traffic depend on it? Without the others something is not measured.
    pub(crate) const fn is_required(self) -> bool {
        !matches!(self, Self::SockOps)
    }

    /// Is it about IPv6 packets of devices?
    pub(crate) const fn is_device6(self) -> bool {
        matches!(
            self,
            Self::FromPod6 | Self::ToPod6 | Self::FromNetdev6 | Self::ToNetdev6 | Self::FromOverlay6 | Self::ToOverlay6
        )
    }

    /// Does a node with this configuration run it? What pods send with IPv4 is checked on a node without it too.
    pub(crate) fn is_wanted(self, config: &Config) -> bool {
        match self {
            Self::ToPod | Self::FromNetdev | Self::ToNetdev | Self::FromOverlay | Self::ToOverlay => {
                config.ipv4.is_some()
            }
            hook => config.ipv6.is_some() || !hook.is_device6(),
        }
    }

    pub(crate) const fn attach_type(self) -> AttachType {
        match self {
            Self::Sock4Connect => AttachType::Inet4Connect,
            Self::Sock4Sendmsg => AttachType::Udp4Sendmsg,
            Self::Sock4Recvmsg => AttachType::Udp4Recvmsg,
            Self::Sock4Getpeername => AttachType::Inet4Getpeername,
            Self::Sock6Connect => AttachType::Inet6Connect,
            Self::Sock6Sendmsg => AttachType::Udp6Sendmsg,
            Self::Sock6Recvmsg => AttachType::Udp6Recvmsg,
            Self::Sock6Getpeername => AttachType::Inet6Getpeername,
            Self::Sock4PostBind => AttachType::Inet4PostBind,
            Self::Sock6PostBind => AttachType::Inet6PostBind,
            Self::SockOps => AttachType::SockOps,
            Self::FromPod
            | Self::FromNetdev
            | Self::FromOverlay
            | Self::FromPod6
            | Self::FromNetdev6
            | Self::FromOverlay6 => AttachType::TcxIngress,
            Self::ToPod | Self::ToNetdev | Self::ToOverlay | Self::ToPod6 | Self::ToNetdev6 | Self::ToOverlay6 => {
                AttachType::TcxEgress
            }
        }
    }
}

impl Datapath {
    /// Attaches to everything the configuration names and to the adopted pods. Pods come before the
    /// devices that lead to them: a packet never meets half a path.
    pub(crate) fn attach_hooks(&self) -> Result<()> {
        self.adopt_pods()?;
        if let Some(ifindex) = self.config.tunnel() {
            self.attach_all(Hook::OVERLAY, ifindex)?;
        }
        for ifindex in &self.config.uplinks {
            self.attach_all(Hook::NETDEV, *ifindex)?;
        }
        for (name, path) in cgroups(&self.config) {
            for hook in Hook::SOCKET {
                self.attach_cgroup(hook, name, path)?;
            }
        }
        // Last: it passes what it leaves alone on to the others.
        *lock(&self.xdp) = xdp::attach_all(self.programs().xdp(), &self.config, &self.directory.join(link::DIRECTORY))?;
        Ok(())
    }

    /// Attaches those of the hooks that the node runs; detaches the others, of a family that it has no more.
    pub(crate) fn attach_all(&self, hooks: [Hook; 4], ifindex: u32) -> Result<()> {
        for hook in hooks {
            if hook.is_wanted(&self.config) {
                self.attach_device(hook, ifindex)?;
            } else {
                self.detach_device(hook, ifindex)?;
            }
        }
        Ok(())
    }

    /// Those of the hooks that the node runs.
    pub(crate) fn wanted(&self, hooks: [Hook; 4]) -> impl Iterator<Item = Hook> {
        hooks.into_iter().filter(|hook| hook.is_wanted(&self.config))
    }

    /// False if it was attached already.
    pub(crate) fn attach_device(&self, hook: Hook, ifindex: u32) -> Result<bool> {
        let name = interface(ifindex)?;
        let target = Target::Device { ifindex, name: &name };
        self.attach(hook, &name, &target)
    }

    pub(crate) fn detach_device(&self, hook: Hook, ifindex: u32) -> Result<()> {
        self.programs().detach(hook, ifindex, &self.directory.join(link::DIRECTORY))
    }

    /// False if it was attached already.
    pub(crate) fn attach_cgroup(&self, hook: Hook, name: &str, path: &Path) -> Result<bool> {
        let failed = |source| Error::Link {
            operation: "attach",
            program: hook.program(),
            target: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        // A cgroup's id is its inode number (cgroup_id() in include/linux/cgroup.h).
        let id = file.metadata().map_err(failed)?.ino();
        let target = Target::Cgroup { id, fd: file.as_raw_fd().cast_unsigned(), path };
        self.attach(hook, name, &target)
    }

    fn attach(&self, hook: Hook, name: &str, target: &Target<'_>) -> Result<bool> {
        let pin = self.directory.join(link::DIRECTORY).join(format!("{name}-{}", hook.program()));
        let attached = self.programs().attach(hook, target, &pin);
        self.observer.see(Done::Linked(hook.program()));
        attached
    }

    pub(crate) fn programs(&self) -> RwLockReadGuard<'_, Programs> {
        // A poisoned lock: whoever panicked had put all programs there, or none.
        self.programs.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cgroups to attach to: the node's covers the pods' when it is an ancestor.
pub(crate) fn cgroups(config: &Config) -> Vec<(&'static str, &Path)> {
    let mut cgroups = vec![("cgroup", config.cgroup_node.as_path())];
    if !config.cgroup_pods.starts_with(&config.cgroup_node) {
        cgroups.push(("cgroup-pods", config.cgroup_pods.as_path()));
    }
    cgroups
}

/// The name of a device, in the calling thread's network namespace.
pub(crate) fn interface(ifindex: u32) -> Result<String> {
    let name = if_indextoname(ifindex).map(|name| name.to_string_lossy().into_owned());
    match name {
        Ok(name) if !name.is_empty() => Ok(name),
        // nix 0.31 takes the null pointer that says "no such device" for a name.
        _ => Err(Error::Interface { ifindex, source: std::io::Error::from_raw_os_error(libc::ENXIO) }),
    }
}
