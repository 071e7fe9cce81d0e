use std::sync::Arc;

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{Error, Result, Revision, Store};

/// Shares one read of the store's revision among all who ask while the previous one is under way.
pub struct Barrier {
    requests: mpsc::UnboundedSender<oneshot::Sender<Result<Revision>>>,
}

impl Barrier {
    pub fn start(store: Arc<dyn Store>, tasks: &mut JoinSet<()>) -> Self {
        let (requests, mut queue) = mpsc::unbounded_channel::<oneshot::Sender<Result<Revision>>>();
        tasks.spawn(async move {
            let mut waiting = Vec::new();
            while queue.recv_many(&mut waiting, usize::MAX).await > 0 {
                let mut result = store.current_revision().await;
                for reply in waiting.drain(..) {
                    // A failed read is reported to one; the others are told to try again.
                    let answer = match &result {
                        Ok(revision) => Ok(*revision),
                        Err(_) => std::mem::replace(&mut result, Err(Error::Closed)),
                    };
                    let _gone = reply.send(answer);
                }
            }
        });
        Self { requests }
    }

    /// A revision not older than any write acknowledged before the call.
    pub async fn current_revision(&self) -> Result<Revision> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(reply).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}
