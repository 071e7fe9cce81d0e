//! Memory-backed directories.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::VolumeError;

/// A directory on another device than its parent is a mount.
fn is_mount(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

/// Mounts a tmpfs on `path` unless one is there.
pub(super) fn ensure(path: &Path, size_bytes: Option<i64>) -> Result<(), VolumeError> {
    if is_mount(path) {
        return Ok(());
    }
    let options = size_bytes.map(|size| format!("size={size}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, options.as_deref())
        .map_err(|errno| VolumeError::io("mount tmpfs on", path)(errno.into()))
}

/// Unmounts everything at or below `path`, deepest first. The thread's own mount namespace counts: tests have one each.
pub fn unmount_below(path: &Path) {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(unescape);
    let mut below: Vec<String> = points.filter(|point| Path::new(point).starts_with(path)).collect();
    below.sort_unstable_by_key(|point| std::cmp::Reverse(point.len()));
    for point in below {
        if let Err(errno) = umount2(point.as_str(), MntFlags::MNT_DETACH) {
            tracing::warn!(point, %errno, "unmount");
        }
    }
}

/// `/proc/mounts` writes blanks in octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}
