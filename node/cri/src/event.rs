//! containerd's Events service. 1.6 has no CRI `GetContainerEvents`; this stream exists in every version.

use std::time::Duration;

use containerd_client::events::{TaskDelete, TaskExit, TaskOom, TaskStart};
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::services::v1::events_client::EventsClient;
use prost::Message;
use tokio::sync::mpsc;
use tonic::transport::Channel;

use crate::NAMESPACE;

/// What happened to a container or sandbox (a sandbox is a container to containerd).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stream is up, for the first time or again: anything may have happened before.
    Connected,
    Started {
        container_id: String,
    },
    /// The main process exited (an exec's exit is not an event).
    Exited {
        container_id: String,
        exit_status: u32,
    },
    OutOfMemory {
        container_id: String,
    },
    Deleted {
        container_id: String,
    },
}

/// Subscribes for as long as `sender` has a receiver, and again whenever containerd went away.
pub async fn watch(channel: Channel, sender: mpsc::Sender<Event>) {
    let mut pause = Duration::from_millis(20);
    while !sender.is_closed() {
        match subscribe(channel.clone(), &sender).await {
            Ok(()) => pause = Duration::from_millis(20),
            Err(error) => {
                tracing::debug!(error = error.message(), "containerd events");
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        }
        tokio::time::sleep(pause).await;
    }
}

async fn subscribe(channel: Channel, sender: &mpsc::Sender<Event>) -> Result<(), tonic::Status> {
    let filters = ["/tasks/start", "/tasks/exit", "/tasks/oom", "/tasks/delete"]
        .map(|topic| format!("topic==\"{topic}\",namespace=={NAMESPACE}"));
    let request = SubscribeRequest { filters: filters.to_vec() };
    let mut stream = EventsClient::new(channel).subscribe(request).await?.into_inner();
    if sender.send(Event::Connected).await.is_err() {
        return Ok(());
    }
    while let Some(envelope) = stream.message().await? {
        let Some(event) = envelope.event.and_then(|any| decode(&envelope.topic, &any.value)) else { continue };
        if sender.send(event).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn decode(topic: &str, bytes: &[u8]) -> Option<Event> {
    Some(match topic {
        "/tasks/start" => Event::Started { container_id: TaskStart::decode(bytes).ok()?.container_id },
        "/tasks/exit" => {
            let exit = TaskExit::decode(bytes).ok()?;
            // `id` is the exec's id when an exec ended.
            (exit.id == exit.container_id)
                .then_some(Event::Exited { container_id: exit.container_id, exit_status: exit.exit_status })?
        }
        "/tasks/oom" => Event::OutOfMemory { container_id: TaskOom::decode(bytes).ok()?.container_id },
        "/tasks/delete" => {
            let delete = TaskDelete::decode(bytes).ok()?;
            (delete.id.is_empty() || delete.id == delete.container_id)
                .then_some(Event::Deleted { container_id: delete.container_id })?
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
