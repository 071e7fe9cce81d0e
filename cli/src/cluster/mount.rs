//! A node's mount namespace: private, with a bpffs of its own, kept alive by a bind mount.
//!
//! Pins live as long as the namespace, not as long as the agent; when the namespace goes, they go.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::mpsc;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Makes `directory` a mount of its own that propagates nowhere: only there can a mount namespace be
/// bind-mounted (mount_namespaces(7), as for `unshare --mount=FILE`).
///
/// # Errors
/// When the mount is refused.
pub fn ensure_private(directory: &Path) -> Result<()> {
    if !is_mount_point(directory) {
        mount(Some(directory), directory, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("bind-mount {}", directory.display()))?;
    }
    mount(None::<&str>, directory, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)
        .with_context(|| format!("make {} private", directory.display()))
}

/// Creates a mount namespace with an empty bpffs at /sys/fs/bpf and keeps it at `file`; does nothing
/// when there is one already.
///
/// # Errors
/// Names the step that failed.
pub fn ensure_namespace(file: &Path) -> Result<()> {
    if is_mount_point(file) {
        return Ok(());
    }
    fs::write(file, "").with_context(|| format!("create {}", file.display()))?;
    let (ready, made) = mpsc::channel();
    let (done, kept) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let outcome = enter_new_namespace().map(|()| nix::unistd::gettid());
        if ready.send(outcome).is_ok() {
            // The namespace must outlive this thread's use of it until the bind mount holds it.
            let _ = kept.recv();
        }
    });
    let outcome = made.recv().context("the thread that makes a mount namespace ended early")?;
    let bound = outcome.and_then(|tid| {
        let source = format!("/proc/self/task/{tid}/ns/mnt");
        mount(Some(source.as_str()), file, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("keep the mount namespace at {}", file.display()))
    });
    drop(done);
    thread.join().map_err(|_| anyhow!("the thread that makes a mount namespace panicked"))?;
    bound
}

fn enter_new_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).context("unshare the mount namespace")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make / private")?;
    mount(Some("bpffs"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .context("mount bpffs at /sys/fs/bpf; is the kernel built with CONFIG_BPF_SYSCALL?")
}

/// Unmounts everything at and below `directory`, last mount first.
///
/// # Errors
/// When a mount cannot be detached.
pub fn unmount_all(directory: &Path) -> Result<()> {
    for point in mount_points().into_iter().rev().filter(|point| Path::new(point).starts_with(directory)) {
        match umount2(point.as_str(), MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(error).with_context(|| format!("unmount {point}")),
        }
    }
    Ok(())
}

/// Removes a directory tree; nothing is left mounted below it.
///
/// # Errors
/// When something cannot be unmounted or removed.
pub fn remove_dir(directory: &Path) -> Result<()> {
    unmount_all(directory)?;
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn is_mount_point(path: &Path) -> bool {
    mount_points().iter().any(|point| Path::new(point) == path)
}

/// Mount points in the order in which they were mounted (proc_pid_mountinfo(5), field 5).
fn mount_points() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

/// The kernel writes space, tab, newline and backslash as octal escapes.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
