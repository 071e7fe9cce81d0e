//! The API as controllers, scheduler and nodes see it: a client, shared informers, work queues,
//! events, leader election and the way a node joins.
//!
//! [`Client`] is `kube::Client`: it runs over TLS ([`connection`]) or over any tower service, so
//! that code in the server's own process takes the same road as a remote client.

pub mod bootstrap;
pub mod connection;
pub mod event;
pub mod identity;
pub mod informer;
pub mod leader;
pub mod node;
pub mod retry;
pub mod workqueue;

pub use connection::{ConnectError, Connection};
pub use event::{EventRecorder, EventType};
pub use informer::{Change, Informer, Informers, Key, Snapshot, Subscription};
pub use kube::api::{DeleteParams, ListParams, ObjectList, Patch, PatchParams, PostParams, PropagationPolicy};
pub use kube::{self, Api, Client, Error, Resource, ResourceExt};
pub use workqueue::{Outcome, Workqueue};

/// Whether the server answered that there is no such object.
#[must_use]
pub fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.is_not_found())
}

/// Whether the server answered that the object exists.
#[must_use]
pub fn is_already_exists(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.is_already_exists())
}

/// Whether the object had changed since it was read.
#[must_use]
pub fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.is_conflict())
}

/// An error and its causes on one line. A refusal by the server is told in the server's words, once.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    for cause in std::iter::successors(Some(error), |&e| e.source()) {
        if !text.is_empty() {
            text.push_str(": ");
        }
        if let Some(Error::Api(status)) = cause.downcast_ref::<Error>() {
            text.push_str(&status.message);
            break;
        }
        text.push_str(&cause.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("write the lease")]
    struct Outer(#[source] Error);

    #[test]
    fn a_refusal_is_told_once() {
        let status = kube::core::Status::failure("leases \"x\" is forbidden", "Forbidden");
        let error = Outer(Error::Api(status.boxed()));
        assert_eq!(chain(&error), "write the lease: leases \"x\" is forbidden");
    }
}
