//! An OCI image layout: blobs are stored as they are, from `index.json` down.

use serde::Deserialize;
use serde_json::Value;

use super::archive::Archive;
use super::content::Content;
use super::{Blob, Error, Result};
use crate::reference::normalize;

pub(super) const INDEX: &str = "index.json";

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: std::collections::HashMap<String, String>,
}

impl Descriptor {
    pub fn path(&self) -> String {
        format!("blobs/{}", self.digest.replacen(':', "/", 1))
    }

    fn blob(&self) -> Blob {
        Blob { media_type: self.media_type.clone(), digest: self.digest.clone(), size: self.size }
    }

    /// containerd writes the full name; others only the `ref.name`, which may be a full name or a tag.
    pub fn name(&self) -> Option<String> {
        let full = self.annotations.get("io.containerd.image.name");
        let reference =
            self.annotations.get("org.opencontainers.image.ref.name").filter(|name| name.contains(['/', ':']));
        full.or(reference).map(|name| normalize(name))
    }
}

pub(super) async fn store(archive: &Archive, content: &Content, name: Option<&str>) -> Result<Vec<(String, Blob)>> {
    let index = document(archive, INDEX)?;
    let mut images = Vec::new();
    for descriptor in descriptors(&index, "manifests", INDEX)? {
        let Some(name) = name.map(normalize).or_else(|| descriptor.name()) else { continue };
        images.push((name, tree(archive, content, &descriptor, 0).await?));
    }
    Ok(images)
}

pub(super) fn document(archive: &Archive, path: &str) -> Result<Value> {
    parse(path, &archive.document(path)?)
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what.to_owned(), source })
}

pub(super) fn descriptors(document: &Value, key: &str, what: &str) -> Result<Vec<Descriptor>> {
    match document.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(list) => serde_json::from_value(list.clone())
            .map_err(|source| Error::Json { what: format!("{what}: {key}"), source }),
    }
}

/// Stores a manifest or index with everything below it, children first.
async fn tree(archive: &Archive, content: &Content, descriptor: &Descriptor, depth: u32) -> Result<Blob> {
    let path = descriptor.path();
    let bytes = archive.document(&path)?;
    let document: Value = parse(&path, &bytes)?;
    let (mut blobs, mut keys) = (Vec::new(), Vec::new());
    for (i, child) in descriptors(&document, "manifests", &path)?.iter().enumerate() {
        // An archive may hold one platform of a multi-platform index.
        if depth < 4 && archive.has(&child.path()) {
            blobs.push(Box::pin(tree(archive, content, child, depth + 1)).await?);
            keys.push(format!("m.{i}"));
        }
    }
    let config: Option<Descriptor> =
        document.get("config").map(|c| parse(&path, c.to_string().as_bytes())).transpose()?;
    let config = config.map(|c| ("config".to_owned(), c));
    let layers =
        descriptors(&document, "layers", &path)?.into_iter().enumerate().map(|(i, layer)| (format!("l.{i}"), layer));
    for (key, child) in config.into_iter().chain(layers) {
        let blob = child.blob();
        content.copy(archive, archive.extent(&child.path())?, &blob).await?;
        blobs.push(blob);
        keys.push(key);
    }
    let children: Vec<(&str, &Blob)> = keys.iter().map(String::as_str).zip(&blobs).collect();
    let media_type = match document.get("mediaType").and_then(Value::as_str) {
        Some(media_type) => media_type,
        None => &descriptor.media_type,
    };
    let blob = content.put(media_type, bytes, &children).await?;
    if blob.digest != descriptor.digest {
        return Err(Error::Archive(format!("{path} does not have the digest of its name")));
    }
    Ok(blob)
}
