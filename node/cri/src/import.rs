//! Images from a file: `docker save` archives and OCI layouts, straight into containerd's content store.
//!
//! containerd's CRI plugin sees an image once containerd's image store has its name, and unpacks it when a container first needs it.

mod archive;
mod content;
pub mod decoders;
mod docker;
mod oci;

use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{CreateImageRequest, Image, UpdateImageRequest};
use containerd_client::types::Descriptor;
use serde_json::Value;
use tonic::transport::Channel;

use self::archive::Archive;
#[cfg(feature = "testing")]
pub(crate) use self::archive::digest_of;
use self::content::Content;
use crate::{Error, Result, request};

/// Where the archive comes from; gzip is recognised in both.
pub enum Source {
    File(PathBuf),
    /// Standard input, a socket: spooled to an unnamed file, because a docker-archive may name its layers last.
    Stream(Box<dyn std::io::Read + Send>),
}

/// An image that the node now has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub name: String,
    /// Of the manifest or index.
    pub digest: String,
}

/// A blob in the content store: the part of an OCI descriptor that matters here.
#[derive(Clone, Debug)]
struct Blob {
    media_type: String,
    digest: String,
    size: u64,
}

impl Blob {
    fn descriptor(&self) -> Descriptor {
        let size = self.size.try_into().unwrap_or(i64::MAX);
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size,
            annotations: Default::default(),
        }
    }

    fn json(&self) -> Value {
        serde_json::json!({"mediaType": self.media_type, "digest": self.digest, "size": self.size})
    }
}

/// Imports every named image of an archive. An archive without names is an error unless `name` gives one.
pub async fn import(channel: Channel, source: Source, name: Option<&str>) -> Result<Vec<Imported>> {
    let archive =
        tokio::task::spawn_blocking(|| Archive::open(source)).await.map_err(|e| Error::Archive(e.to_string()))??;
    let content = Content::open(channel.clone()).await?;
    let images = store(&archive, &content, name).await;
    let mut imported = Vec::new();
    if let Ok(images) = &images {
        for (name, blob) in images {
            register(channel.clone(), name, blob, &content).await?;
            visible(channel.clone(), name).await?;
            imported.push(Imported { name: name.clone(), digest: blob.digest.clone() });
        }
    }
    content.close().await;
    images.map(|_| imported)
}

async fn store(archive: &Archive, content: &Content, name: Option<&str>) -> Result<Vec<(String, Blob)>> {
    // docker 25 and later write both forms; the docker manifest has the tags as the user gave them.
    let images = if archive.has(docker::MANIFEST) {
        docker::store(archive, content, name).await?
    } else if archive.has(oci::INDEX) {
        oci::store(archive, content, name).await?
    } else {
        return Err(Error::Archive(
            "not an image archive: it has neither manifest.json (docker save) nor index.json (OCI layout)".to_owned(),
        ));
    };
    if images.is_empty() {
        return Err(Error::Archive("the archive names no image: give it a name".to_owned()));
    }
    Ok(images)
}

/// Creates the name, or moves it to the new content.
async fn register(channel: Channel, name: &str, blob: &Blob, content: &Content) -> Result<()> {
    let image = Image { name: name.to_owned(), target: Some(blob.descriptor()), ..Default::default() };
    let mut images = ImagesClient::new(channel);
    let create = CreateImageRequest { image: Some(image.clone()), source_date_epoch: None };
    match images.create(request(create, content.lease())).await {
        Err(status) if status.code() == tonic::Code::AlreadyExists => {
            let update = UpdateImageRequest { image: Some(image), update_mask: None, source_date_epoch: None };
            images.update(request(update, content.lease())).await.map_err(Error::rpc("update image", name))?;
        }
        other => {
            other.map_err(Error::rpc("create image", name))?;
        }
    }
    Ok(())
}

/// containerd's CRI plugin learns of a name through an event of its own: wait until it answers with the image.
async fn visible(channel: Channel, name: &str) -> Result<()> {
    let images = crate::ImageClient::new(channel);
    for pause in [1_u64, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1000, 2000] {
        if images.status(name).await?.is_some() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    Err(Error::Archive(format!("containerd has {name}, but its CRI plugin does not see it")))
}

/// `-` is standard input.
pub fn source(path: &Path) -> Source {
    if path == Path::new("-") { Source::Stream(Box::new(std::io::stdin())) } else { Source::File(path.to_owned()) }
}

#[cfg(test)]
mod tests;
