//! Bounds how many requests run at once, reads and writes apart, as `--max-requests-inflight` does.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use xebec_machinery::Status;

use crate::request_info::{RequestInfo, Verb};
use crate::user::{SYSTEM_MASTERS, UserInfo};

pub struct FlowControl {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl FlowControl {
    pub fn new(reads: usize, writes: usize) -> Self {
        Self { reads: Arc::new(Semaphore::new(reads)), writes: Arc::new(Semaphore::new(writes)) }
    }

    /// A seat for the request, or 429. Long-running requests and `system:masters` need none.
    pub fn admit(&self, info: &RequestInfo, user: &UserInfo) -> Result<Option<OwnedSemaphorePermit>, Status> {
        if is_long_running(info) || user.in_group(SYSTEM_MASTERS) {
            return Ok(None);
        }
        let seats = if info.verb.is_read_only() { &self.reads } else { &self.writes };
        match seats.clone().try_acquire_owned() {
            Ok(seat) => Ok(Some(seat)),
            Err(_) => Err(Status::too_many_requests("Too many requests, please try again later.", 1)),
        }
    }
}

/// Requests that last as long as the client likes: watches and streams.
pub fn is_long_running(info: &RequestInfo) -> bool {
    info.verb == Verb::Watch || matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
}
