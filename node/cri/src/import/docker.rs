//! `docker save`: `manifest.json` lists images as a config and layers; the manifest that containerd wants is made here.

use serde::Deserialize;
use serde_json::json;

use super::archive::Archive;
use super::content::Content;
use super::{Blob, Error, Result};
use crate::reference::normalize;

pub(super) const MANIFEST: &str = "manifest.json";

const MEDIA_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const MEDIA_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub layers: Vec<String>,
}

pub(super) async fn store(archive: &Archive, content: &Content, name: Option<&str>) -> Result<Vec<(String, Blob)>> {
    let mut images = Vec::new();
    for entry in entries(archive)? {
        let names: Vec<String> = match (name, &entry.repo_tags) {
            (Some(name), _) => vec![normalize(name)],
            (None, tags) => tags.iter().flatten().map(|tag| normalize(tag)).collect(),
        };
        if names.is_empty() {
            continue;
        }
        let manifest = image(archive, content, &entry).await?;
        images.extend(names.into_iter().map(|name| (name, manifest.clone())));
    }
    Ok(images)
}

/// What the manifest lists.
pub(super) fn entries(archive: &Archive) -> Result<Vec<Entry>> {
    serde_json::from_slice(&archive.document(MANIFEST)?)
        .map_err(|source| Error::Json { what: MANIFEST.to_owned(), source })
}

async fn image(archive: &Archive, content: &Content, entry: &Entry) -> Result<Blob> {
    let config = content.put(MEDIA_CONFIG, archive.document(&entry.config)?, &[]).await?;
    let mut layers = Vec::new();
    for path in &entry.layers {
        let extent = archive.extent(path)?;
        let magic = archive.chunk(extent, 0, 4)?;
        let blob = Blob {
            media_type: layer_media_type(&magic).to_owned(),
            digest: archive.digest(extent)?,
            size: extent.size,
        };
        content.copy(archive, extent, &blob).await?;
        layers.push(blob);
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MEDIA_MANIFEST,
        "config": config.json(),
        "layers": layers.iter().map(Blob::json).collect::<Vec<_>>(),
    });
    let keys: Vec<String> = (0..layers.len()).map(|i| format!("l.{i}")).collect();
    let mut children = vec![("config", &config)];
    children.extend(keys.iter().map(String::as_str).zip(&layers));
    content.put(MEDIA_MANIFEST, manifest.to_string().into_bytes(), &children).await
}

/// Layers are tar files, but some tools write them compressed.
pub(super) fn layer_media_type(magic: &[u8]) -> &'static str {
    match magic {
        [0x1f, 0x8b, ..] => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => "application/vnd.docker.image.rootfs.diff.tar",
    }
}
