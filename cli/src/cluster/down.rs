//! `xebec down`: nothing that `up` made is left, whatever state the parts are in.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

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
    if let Some(supervisor) = Process::load(&layout.supervisor_lock()) {
        supervisor.stop(Duration::from_secs(2)).await.context("end the supervisor")?;
    }
    let shim_sockets = shim_sockets(&layout.run());
    for role in roles()?.iter().filter_map(|name| name.strip_prefix(&format!("{}-", layout.id()))) {
        cgroup::remove(Path::new(&layout.cgroup(role))).with_context(|| format!("end the processes of {role}"))?;
    }
    // The last cluster on the machine takes the common parent with it.
    cgroup::remove_unused(Path::new(cgroup::PARENT)).with_context(|| format!("remove cgroup {}", cgroup::PARENT))?;
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

/// The names below `xebec/` in every hierarchy, of every cluster on the machine.
fn roles() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for root in cgroup::hierarchies() {
        let directory = root.join(cgroup::PARENT);
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
