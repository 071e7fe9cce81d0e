//! containerd's content store under a lease, so that nothing is collected between the first blob and the image's name.

use std::collections::HashMap;

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{CreateRequest, DeleteRequest, InfoRequest, WriteAction, WriteContentRequest};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::Blob;
use super::archive::{Archive, Extent, digest_of};
use crate::{Error, Result, request};

const CHUNK_BYTES: usize = 1 << 20;

pub(super) struct Content {
    client: ContentClient<Channel>,
    leases: LeasesClient<Channel>,
    lease: String,
}

impl Content {
    pub async fn open(channel: Channel) -> Result<Self> {
        let mut leases = LeasesClient::new(channel.clone());
        let nanos = std::time::UNIX_EPOCH.elapsed().map(|d| d.as_nanos()).unwrap_or_default();
        let lease = format!("xebec-import-{}-{nanos}", std::process::id());
        // An import that dies leaves a lease that containerd drops by itself after this time.
        let expire = an_hour_from_now();
        let create = CreateRequest {
            id: lease.clone(),
            labels: HashMap::from([("containerd.io/gc.expire".to_owned(), expire)]),
        };
        leases.create(request(create, None)).await.map_err(Error::rpc("create lease", &lease))?;
        Ok(Self { client: ContentClient::new(channel), leases, lease })
    }

    pub fn lease(&self) -> Option<&str> {
        Some(&self.lease)
    }

    pub async fn close(&self) {
        let delete = DeleteRequest { id: self.lease.clone(), sync: false };
        if let Err(status) = self.leases.clone().delete(request(delete, None)).await {
            tracing::debug!(lease = self.lease, error = status.message(), "delete lease");
        }
    }

    /// A document; `children` keep what it refers to alive.
    pub async fn put(&self, media_type: &str, bytes: Vec<u8>, children: &[(&str, &Blob)]) -> Result<Blob> {
        let blob = Blob { media_type: media_type.to_owned(), digest: digest_of(&bytes), size: bytes.len() as u64 };
        let labels = gc_labels(children);
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let message = self.message(&blob, WriteAction::Commit, 0, bytes, labels);
        let _ = sender.send(message).await;
        drop(sender);
        self.write(&blob, receiver).await?;
        Ok(blob)
    }

    /// A file of the archive, in chunks.
    pub async fn copy(&self, archive: &Archive, extent: Extent, blob: &Blob) -> Result<()> {
        if self.has(&blob.digest).await {
            return Ok(());
        }
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let feed = async {
            let mut position = 0;
            loop {
                let bytes = archive.chunk(extent, position, CHUNK_BYTES)?;
                let (length, offset) = (bytes.len() as u64, position.try_into().unwrap_or(i64::MAX));
                let action = if position + length >= extent.size { WriteAction::Commit } else { WriteAction::Write };
                let message = self.message(blob, action, offset, bytes, HashMap::new());
                // The receiver is gone when the write failed: its own error tells why.
                if sender.send(message).await.is_err() || action == WriteAction::Commit {
                    drop(sender);
                    return Ok(());
                }
                position += length;
            }
        };
        let (written, fed): (Result<()>, Result<()>) = tokio::join!(self.write(blob, receiver), feed);
        fed.and(written)
    }

    async fn has(&self, digest: &str) -> bool {
        self.client.clone().info(request(InfoRequest { digest: digest.to_owned() }, self.lease())).await.is_ok()
    }

    fn message(
        &self,
        blob: &Blob,
        action: WriteAction,
        offset: i64,
        data: Vec<u8>,
        labels: HashMap<String, String>,
    ) -> WriteContentRequest {
        WriteContentRequest {
            action: action.into(),
            r#ref: format!("{}-{}", self.lease, blob.digest),
            total: blob.size.try_into().unwrap_or(i64::MAX),
            expected: blob.digest.clone(),
            offset,
            data,
            labels,
        }
    }

    async fn write(&self, blob: &Blob, messages: tokio::sync::mpsc::Receiver<WriteContentRequest>) -> Result<()> {
        let done = async {
            let mut answers =
                self.client.clone().write(request(ReceiverStream::new(messages), self.lease())).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        };
        match done.await {
            Err(status) if tonic::Status::code(&status) == tonic::Code::AlreadyExists => Ok(()),
            other => other.map_err(Error::rpc("write content", &blob.digest)),
        }
    }
}

/// containerd's garbage collector follows these labels from an image to its blobs.
fn gc_labels(children: &[(&str, &Blob)]) -> HashMap<String, String> {
    children.iter().map(|(key, blob)| (format!("containerd.io/gc.ref.content.{key}"), blob.digest.clone())).collect()
}

fn an_hour_from_now() -> String {
    let later = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    later.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}
