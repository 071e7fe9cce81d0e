//! `xebec down`: nothing that `up` made is left, whatever state the parts are in.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::Layout;
use super::{cgroup, mount, underlay};
use xebec_agent::process::Process;

/// Ends the cluster's processes and removes what they and `up` made.
///
/// # Errors
/// Names what could not be removed; a second call goes on where this one stopped.
pub async fn run(layout: &Layout, keep_data: bool) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("xebec down removes namespaces, mounts and cgroups: run it as root");
    }
    end_supervisor(layout)?;
    let shim_sockets = shim_sockets(&layout.run());
    for role in roles()?.iter().filter_map(|name| name.strip_prefix(&format!("{}-", layout.id()))) {
        cgroup::remove(&layout.cgroup(role)).with_context(|| format!("end the processes of {role}"))?;
    }
    remove_empty_parent()?;
    for socket in shim_sockets {
        // A shim that ended in order has removed its socket itself.
        let _ = fs::remove_file(socket);
    }
    underlay::remove(layout).await?;
    mount::remove_dir(&layout.run())?;
    if keep_data {
        mount::unmount_all(layout.dir())?;
    } else {
        mount::remove_dir(layout.dir())?;
    }
    Ok(())
}

fn end_supervisor(layout: &Layout) -> Result<()> {
    let Some(process) = Process::load(&layout.supervisor_lock()) else { return Ok(()) };
    let pid = Pid::from_raw(process.pid);
    let deadline = Instant::now() + Duration::from_secs(2);
    // It may end between the look and the signal.
    let _ = kill(pid, Signal::SIGTERM);
    while Process::find(process.pid) == Some(process) {
        if Instant::now() > deadline {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if Instant::now() > deadline + Duration::from_secs(5) {
            bail!("the supervisor (process {pid}) does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The names below `xebec/` in every hierarchy, of every cluster on the machine.
fn roles() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for root in cgroup::hierarchies() {
        let directory = root.join("xebec");
        if !directory.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The last cluster on the machine takes the common parent with it.
fn remove_empty_parent() -> Result<()> {
    for root in cgroup::hierarchies() {
        match fs::remove_dir(root.join("xebec")) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {}
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty) => {}
            Err(error) => return Err(error).with_context(|| format!("remove {}/xebec", root.display())),
        }
    }
    Ok(())
}

/// The sockets of this cluster's shims. containerd puts them in a directory that all containerds of a
/// machine share, so only those named by our own bundles may go.
fn shim_sockets(run: &Path) -> Vec<PathBuf> {
    let bundles = |node: PathBuf| {
        let tasks = node.join("containerd/io.containerd.runtime.v2.task/k8s.io");
        fs::read_dir(tasks).into_iter().flatten().flatten().map(|entry| entry.path().join("address"))
    };
    let nodes = fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.path());
    nodes
        .flat_map(bundles)
        .filter_map(|address| fs::read_to_string(address).ok())
        .filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from))
        .collect()
}
