//! Image archives as users hand them in: for `tests/fuzz`, which has no containerd to store them in.

use std::io::Cursor;

use super::archive::Archive;
use super::{Source, docker, oci};
use crate::Result;
use crate::reference;

/// Reads an archive as far as its layers.
pub fn archive(bytes: &[u8]) {
    if let Ok(archive) = Archive::open(Source::Stream(Box::new(Cursor::new(bytes.to_vec())))) {
        _ = (docker_archive(&archive).is_ok(), oci_layout(&archive, oci::INDEX, 0).is_ok());
    }
}

fn docker_archive(archive: &Archive) -> Result<()> {
    for entry in docker::entries(archive)? {
        for tag in entry.repo_tags.iter().flatten() {
            _ = (reference::normalize(tag), reference::tag(tag));
        }
        _ = archive.document(&entry.config).is_ok();
        for layer in &entry.layers {
            _ = archive.digest(archive.extent(layer)?).is_ok();
        }
    }
    Ok(())
}

fn oci_layout(archive: &Archive, path: &str, depth: u32) -> Result<()> {
    let document = oci::document(archive, path)?;
    for child in oci::descriptors(&document, "manifests", path)? {
        _ = child.name();
        if depth < 4 {
            oci_layout(archive, &child.path(), depth + 1)?;
        }
    }
    for layer in oci::descriptors(&document, "layers", path)? {
        _ = archive.digest(archive.extent(&layer.path())?).is_ok();
    }
    Ok(())
}
