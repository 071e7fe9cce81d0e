//! Volumes: directories under the pod's own directory, made before a container starts and kept current while it runs.

mod atomic;
mod projected;
mod tmpfs;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use xebec_types::core::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};
use xebec_types::resource;

use crate::config::Config;
use crate::env::Facts;
use crate::objects::{ObjectError, Objects};
use crate::pod::{self, PodRef};

pub use tmpfs::unmount_below;

/// A volume that is ready to be bound into containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    pub path: PathBuf,
    pub read_only: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("{0}")]
    Object(#[from] ObjectError),
    #[error("{operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Invalid(String),
}

impl VolumeError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }
}

/// A volume that could not be mounted, worded as upstream's FailedMount event.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
pub struct MountError {
    pub volume: String,
    pub source: VolumeError,
}

/// The volumes of a pod on a hollow node: names without files.
pub fn hollow(pod: &Pod, config: &Config) -> HashMap<String, Mounted> {
    let path = config.pod_dir(&PodRef::of(pod).uid);
    let volumes = pod::spec(pod).volumes.iter().flatten();
    volumes.map(|volume| (volume.name.clone(), Mounted { path: path.clone(), read_only: false })).collect()
}

/// Makes every volume of the pod, or brings it up to date.
pub async fn mount_all(
    pod: &Pod,
    config: &Config,
    facts: &Facts,
    objects: &dyn Objects,
) -> Result<HashMap<String, Mounted>, MountError> {
    let mut mounted = HashMap::new();
    for volume in pod::spec(pod).volumes.iter().flatten() {
        let one = mount(pod, volume, config, facts, objects).await;
        let one = one.map_err(|source| MountError { volume: volume.name.clone(), source })?;
        mounted.insert(volume.name.clone(), one);
    }
    Ok(mounted)
}

async fn mount(
    pod: &Pod,
    volume: &Volume,
    config: &Config,
    facts: &Facts,
    objects: &dyn Objects,
) -> Result<Mounted, VolumeError> {
    let uid = PodRef::of(pod).uid;
    let dir =
        |plugin: &str| config.pod_dir(&uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(&volume.name);
    if let Some(source) = &volume.empty_dir {
        return empty_dir(pod, source, &dir("empty-dir"));
    }
    if let Some(source) = &volume.host_path {
        return host_path(source);
    }
    let Some(payload) = projected::payload(pod, volume, facts, objects).await? else {
        return Err(VolumeError::Invalid("no volume plugin matched: this kind of volume is not supported".to_owned()));
    };
    let path = dir(payload.plugin);
    fs::create_dir_all(&path).map_err(VolumeError::io("create", &path))?;
    if payload.in_memory {
        tmpfs::ensure(&path, None)?;
    }
    let group = pod::spec(pod).security_context.as_ref().and_then(|c| c.fs_group).and_then(|g| u32::try_from(g).ok());
    atomic::write(&path, &payload.files, group).map_err(VolumeError::io("write", &path))?;
    Ok(Mounted { path, read_only: true })
}

fn empty_dir(pod: &Pod, source: &EmptyDirVolumeSource, path: &Path) -> Result<Mounted, VolumeError> {
    let fresh = !path.exists();
    fs::create_dir_all(path).map_err(VolumeError::io("create", path))?;
    if source.medium.as_deref() == Some("Memory") {
        tmpfs::ensure(path, source.size_limit.as_ref().and_then(resource::value).filter(|size| *size > 0))?;
    }
    let group = pod::spec(pod).security_context.as_ref().and_then(|c| c.fs_group).and_then(|g| u32::try_from(g).ok());
    if fresh {
        chown(path, None, group).map_err(VolumeError::io("chown", path))?;
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(VolumeError::io("chmod", path))?;
    }
    Ok(Mounted { path: path.to_owned(), read_only: false })
}

/// Checks or makes what the type asks for; messages are upstream's.
fn host_path(source: &HostPathVolumeSource) -> Result<Mounted, VolumeError> {
    use std::os::unix::fs::FileTypeExt;
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" if !path.exists() => fs::create_dir_all(path).map_err(VolumeError::io("create", path))?,
        "FileOrCreate" if !path.exists() => drop(fs::File::create(path).map_err(VolumeError::io("create", path))?),
        _ => {}
    }
    let file = fs::metadata(path).map(|m| m.file_type());
    let (fits, what) = match kind {
        "Directory" | "DirectoryOrCreate" => (file.as_ref().is_ok_and(|f| f.is_dir()), "a directory"),
        "File" | "FileOrCreate" => (file.as_ref().is_ok_and(|f| f.is_file()), "a file"),
        "Socket" => (file.as_ref().is_ok_and(|f| f.is_socket()), "a socket file"),
        "CharDevice" => (file.as_ref().is_ok_and(|f| f.is_char_device()), "a character device"),
        "BlockDevice" => (file.as_ref().is_ok_and(|f| f.is_block_device()), "a block device"),
        _ => (true, ""),
    };
    if !fits {
        return Err(VolumeError::Invalid(format!("hostPath type check failed: {} is not {what}", source.path)));
    }
    if kind.is_empty() && file.is_err() {
        // The runtime would do it: a path that does not exist becomes a directory.
        fs::create_dir_all(path).map_err(VolumeError::io("create", path))?;
    }
    Ok(Mounted { path: path.to_owned(), read_only: false })
}

#[cfg(test)]
mod tests;
