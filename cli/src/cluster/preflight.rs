//! What a machine must have before anything is made on it: one line each, with what to do.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::cgroup;
use super::spec::StoreKind;

/// # Errors
/// The first thing that is missing and how to get it.
pub fn check(store: StoreKind) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("xebec makes namespaces, mounts and eBPF programs: run it as root");
    }
    if cgroup::unified().is_none() {
        bail!(
            "cgroup2 is not mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified` (or boot with systemd's unified hierarchy)"
        );
    }
    if !Path::new("/sys/fs/bpf").is_dir() {
        bail!("/sys/fs/bpf is missing: the kernel needs CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF");
    }
    let mut programs = vec![("containerd", "containerd"), ("runc", "runc")];
    if store == StoreKind::Etcd {
        programs.push(("etcd", "etcd-server"));
    }
    for (program, package) in programs {
        if on_path(program).is_none() {
            bail!("{program} is not on PATH: `apt-get install {package}`, or the equivalent of this system");
        }
    }
    Ok(())
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}
