//! How soon a server is ready over a store that holds much.

use std::sync::Arc;
use std::time::Instant;

use xebec_store::{Expect, Op, Store, Txn, embedded};

use crate::{Bench, Failure, figure, resident_mb};

/// Writes that wait for the disk together.
const TOGETHER: usize = 512;

pub async fn run(objects: usize) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let before = resident_mb();
    Bench::start(dir.path()).await?.server.shutdown().await;
    let store = Arc::new(open(dir.path()).await?);
    let blob = "x".repeat(900);
    for start in (0..objects).step_by(TOGETHER) {
        let writes = (start..objects.min(start + TOGETHER)).map(|i| {
            let value = format!(
                r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"c{i}","namespace":"default","uid":"{i:032}","creationTimestamp":"2026-01-01T00:00:00Z"}},"data":{{"blob":"{blob}"}}}}"#
            );
            let key = format!("/registry/core/configmaps/default/c{i}");
            store.txn(Txn { key, expect: Expect::Absent, op: Op::Put(value.into()) })
        });
        futures::future::try_join_all(writes).await?;
    }
    drop(store);
    drop(open(dir.path()).await?);
    let start = Instant::now();
    let bench = Bench::start(dir.path()).await?;
    figure(&format!("ready with {objects} objects"), format!("{:.2?}", start.elapsed()), "<= 5 s");
    figure("resident memory more than before", format!("{:.0} MB", resident_mb() - before), "-");
    bench.server.shutdown().await;
    Ok(())
}

/// Opens the store once the tasks of the server that had it have let go of it.
async fn open(dir: &std::path::Path) -> Result<embedded::Embedded, Failure> {
    loop {
        match embedded::open(dir.join("store")).await {
            Err(xebec_store::Error::Locked { .. }) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            opened => return Ok(opened?),
        }
    }
}
