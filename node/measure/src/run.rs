//! What a run makes on the host, under names that say whose it is, and what an earlier run left there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use xebec_agent::process::Process;
use xebec_netlink::{NETNS_DIR, Netns};

use crate::awake::Awake;

/// Of network namespaces, cgroups and directories.
const PREFIX: &str = "xbbench-";
/// On disk, as a server's store is.
const TEMPORARY: &str = "/var/tmp";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name that nothing else has: `xbbench-PID-START-N`, with the start time, because pids come again.
pub fn name() -> String {
    static OWN: OnceLock<String> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let pid = own_pid();
        format!("{PREFIX}{pid}-{}", start_time(pid).unwrap_or_default())
    });
    format!("{own}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

/// Refuses early what would fail late, removes what runs left that were killed, and keeps the processors awake for as
/// long as the caller holds what it gets.
///
/// # Errors
/// Without root, or without cgroup2.
pub fn prepare() -> Result<Awake> {
    if !nix::unistd::geteuid().is_root() {
        bail!("network namespaces and eBPF need root");
    }
    let root = unified()?;
    for name in abandoned(Path::new(NETNS_DIR)) {
        Netns::delete(&name)?;
    }
    for name in abandoned(&root) {
        let path = root.join(name);
        fs::remove_dir(&path).with_context(|| format!("remove the cgroup {}", path.display()))?;
    }
    let temporary = Path::new(TEMPORARY);
    for name in abandoned(temporary) {
        let path = temporary.join(name);
        // EINVAL: no filesystem is mounted there.
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(Awake::keep())
}

/// Names in `directory` of runs whose process is gone.
fn abandoned(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_abandoned(name)).collect()
}

fn is_abandoned(name: &str) -> bool {
    let mut parts = name.strip_prefix(PREFIX).into_iter().flat_map(|rest| rest.split('-'));
    let (Some(Ok(pid)), Some(Ok(start))) = (parts.next().map(str::parse), parts.next().map(str::parse::<u64>)) else {
        return false;
    };
    start_time(pid) != Some(start)
}

fn start_time(pid: i32) -> Option<u64> {
    Process::find(pid).map(Process::start_time)
}

/// Where cgroup2 is mounted.
///
/// # Errors
/// When it is not.
pub fn unified() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut found = fields.filter(|fields| fields.get(2) == Some(&"cgroup2"));
    found.find_map(|fields| fields.get(1).map(PathBuf::from)).context("cgroup2 is not mounted")
}

/// A directory that goes with the value.
pub struct Directory(PathBuf);

impl Directory {
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let path = Path::new(TEMPORARY).join(name());
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    /// With a bpf filesystem on it.
    ///
    /// # Errors
    /// When it cannot be made or mounted.
    pub fn bpffs() -> Result<Self> {
        let directory = Self::new()?;
        let flags = MsFlags::empty();
        mount(Some("bpffs"), &directory.0, Some("bpf"), flags, None::<&str>)
            .with_context(|| format!("mount a bpffs at {}", directory.0.display()))?;
        Ok(directory)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // EINVAL: no filesystem is mounted there.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}

/// A cgroup of the unified hierarchy that goes with the value.
pub struct Cgroup {
    path: PathBuf,
    /// Where this process was.
    home: PathBuf,
}

impl Cgroup {
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let root = unified()?;
        let own = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let cgroup = Self { path: root.join(name()), home: root.join(own) };
        fs::create_dir(&cgroup.path).with_context(|| format!("create the cgroup {}", cgroup.path.display()))?;
        Ok(cgroup)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves this process in, so that the cgroup's programs see what its sockets do, until the value is dropped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> Result<Entered<'_>> {
        move_to(&self.path).with_context(|| format!("join the cgroup {}", self.path.display()))?;
        Ok(Entered(self))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("remove the cgroup {}: {error}", self.path.display());
        }
    }
}

pub struct Entered<'a>(&'a Cgroup);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Err(error) = move_to(&self.0.home) {
            eprintln!("go back to the cgroup {}: {error}", self.0.home.display());
        }
    }
}

fn move_to(cgroup: &Path) -> std::io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: bool) {
        assert_eq!(is_abandoned(name), expected, "{name}");
    }

    #[test]
    fn only_names_of_runs_whose_process_is_gone_are_abandoned() {
        check(&name(), false);
        let (pid, start) = (own_pid(), start_time(own_pid()).expect("our own start time"));
        check(&format!("xbbench-{pid}-{start}-7"), false);
        // The pid is somebody else's by now.
        check(&format!("xbbench-{pid}-{}-7", start + 1), true);
        check(&format!("xbbench-{}-{start}-7", i32::MAX), true);
        check("xbbench-", false);
        check("xb-12ab34-node-1", false);
    }
}
