//! What every store promises, what each adds, and the watch cache on top of them.

#![allow(clippy::unwrap_used)]

mod backup;
mod cache;
mod contract;
mod crash;
mod embedded;
mod etcd;
mod etcd_process;
mod reload;
mod rng;

use xebec_store::{Expect, Op, Outcome, Revision, Store, Txn};

fn put(key: &str, expect: Expect, value: impl Into<bytes::Bytes>) -> Txn {
    Txn { key: key.to_owned(), expect, op: Op::Put(value.into()) }
}

fn delete(key: &str, at: Revision) -> Txn {
    Txn { key: key.to_owned(), expect: Expect::Revision(at), op: Op::Delete }
}

#[track_caller]
fn committed(outcome: Outcome) -> Revision {
    match outcome {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(entry) => panic!("conflict with {entry:?}"),
    }
}

async fn create(store: &dyn Store, key: &str, value: &str) -> Revision {
    committed(store.txn(put(key, Expect::Absent, value.to_owned())).await.unwrap())
}
