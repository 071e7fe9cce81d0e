//! One watch that survives the loss of its connection: it starts again after the last revision that it delivered.

use std::time::Duration;

use etcd_client::{Client, EventType, WatchOptions, WatchResponse, WatchStream};
use futures::{StreamExt, stream};
use tokio::time;

use super::{MESSAGE_BYTES_MAX, error::unavailable, revision};
use crate::{Change, Error, Event, EventStream, Result, Revision};

const RETRY: Duration = Duration::from_millis(50);
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

struct Follower {
    client: Client,
    prefix: String,
    after: Revision,
    stream: Option<WatchStream>,
}

pub fn follow(client: Client, prefix: &str, after: Revision) -> EventStream {
    let follower = Follower { client, prefix: prefix.to_owned(), after, stream: None };
    stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(events) => Some((Ok(events), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Follower {
    async fn next(&mut self) -> Result<Vec<Event>> {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => match time::timeout(OPEN_TIMEOUT, self.open()).await {
                    Ok(Ok(stream)) => self.stream.insert(stream),
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "etcd watch cannot start");
                        time::sleep(RETRY).await;
                        continue;
                    }
                    Err(_) => continue,
                },
            };
            match stream.message().await {
                Ok(Some(response)) => {
                    if let Some(events) = self.read(&response)? {
                        return Ok(events);
                    }
                }
                ended => {
                    if let Err(error) = ended {
                        tracing::info!(%error, after = %self.after, "etcd watch was interrupted");
                    }
                    self.stream = None;
                    time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn open(&self) -> Result<WatchStream, etcd_client::Error> {
        let options = WatchOptions::new().with_prefix().with_start_revision(self.after.0 as i64 + 1);
        let mut client = self.client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        client.watch(self.prefix.as_str(), Some(options)).await
    }

    fn read(&mut self, response: &WatchResponse) -> Result<Option<Vec<Event>>> {
        if response.compact_revision() > 0 {
            let compacted = Revision(response.compact_revision() as u64);
            return Err(Error::Compacted { requested: self.after, compacted });
        }
        let current = revision(response.header());
        if response.created() && current < self.after {
            // Another or a restored etcd: the revisions that were seen are not its own.
            return Err(Error::Future { requested: self.after, current });
        }
        if response.canceled() {
            tracing::info!(reason = response.cancel_reason(), after = %self.after, "etcd watch was cancelled");
            self.stream = None;
            return Ok(None);
        }
        let events = response.events().iter().map(event).collect::<Result<Vec<_>>>()?;
        let Some(last) = events.last() else { return Ok(None) };
        self.after = last.revision;
        Ok(Some(events))
    }
}

fn event(event: &etcd_client::Event) -> Result<Event> {
    let kv = event.kv().ok_or(Error::Closed)?;
    let key = kv.key_str().map_err(|error| unavailable("read a key that is not UTF-8", error))?;
    let change = match event.event_type() {
        EventType::Put => {
            Change::Put { value: kv.value().to_vec().into(), create_revision: Revision(kv.create_revision() as u64) }
        }
        EventType::Delete => Change::Delete,
    };
    Ok(Event { key: key.into(), revision: Revision(kv.mod_revision() as u64), change })
}
