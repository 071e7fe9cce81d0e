//! The cgroups of nodes and clusters, in every hierarchy that the machine has mounted.

use std::fs;
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xebec_agent::process::Process;

/// The common parent of all of them, relative to a hierarchy's root.
pub const PARENT: &str = "xebec";

/// Mount points of cgroup hierarchies: the unified one first, then version 1's.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of = |kind: &str| {
        mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .filter(|fields| fields.get(2) == Some(&kind))
            .filter_map(|fields| fields.get(1).map(PathBuf::from))
            .collect::<Vec<_>>()
    };
    [of("cgroup2"), of("cgroup")].concat()
}

/// Where cgroup2 is mounted.
pub fn unified() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find_map(|fields| (fields.get(2) == Some(&"cgroup2")).then(|| fields.get(1).map(PathBuf::from))?)
}

/// Kills every process below `cgroup` (relative to a hierarchy's root), then removes the directories
/// in every hierarchy. Done when nothing is left; a process that cannot be killed is an error. False if there was none.
pub fn remove(cgroup: &Path) -> Result<bool> {
    let roots: Vec<_> = hierarchies().into_iter().map(|root| root.join(cgroup)).filter(|path| path.is_dir()).collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        for root in &roots {
            kill(root);
        }
        let errors: Vec<_> = roots.iter().filter_map(|root| remove_tree(root).err()).collect();
        let Some(error) = errors.into_iter().next() else { return Ok(!roots.is_empty()) };
        if Instant::now() > deadline {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Removes the cgroup in every hierarchy where nothing is in it. True if it was removed anywhere.
pub fn remove_unused(cgroup: &Path) -> Result<bool> {
    let mut removed = false;
    for root in hierarchies() {
        match fs::remove_dir(root.join(cgroup)) {
            Ok(()) => removed = true,
            // EBUSY: processes or cgroups are there. /proc/self/mounts may name what is hidden behind another mount.
            Err(error) if matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

fn kill(root: &Path) {
    // cgroup.kill (Linux 5.14) ends a subtree in one write; it is not there in version 1 or before.
    if fs::write(root.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for directory in tree(root) {
        let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter_map(|line| line.parse().ok()).filter_map(Process::find) {
            // A process that has ended meanwhile is what we want.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Every directory below `root` and itself, children first.
fn tree(root: &Path) -> Vec<PathBuf> {
    let children = fs::read_dir(root).into_iter().flatten().flatten();
    let mut all: Vec<_> = children
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|entry| tree(&entry.path()))
        .collect();
    all.push(root.to_path_buf());
    all
}

fn remove_tree(root: &Path) -> Result<()> {
    tree(root).iter().try_for_each(|directory| match fs::remove_dir(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
}
