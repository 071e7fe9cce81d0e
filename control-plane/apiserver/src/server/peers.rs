//! Servers on one store: `default/kubernetes` leads to those that live.
//!
//! Each server renews a record of its address in the store, as upstream's lease endpoint reconciler does; an address whose
//! record has not been renewed for a while is taken out of the endpoints by whoever sees it first. Clocks are not compared.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use xebec_store::cache::{At, Filter, Query};
use xebec_store::{Expect, Op, Outcome, Revision, Txn};

use super::LocalService;
use super::hooks::ensure;
use crate::app::App;
use crate::bootstrap;
use crate::user::UserInfo;

const RENEW: Duration = Duration::from_secs(5);
/// As upstream's `DefaultEndpointReconcilerTTL`.
const DEAD_AFTER: Duration = Duration::from_secs(15);
const RECORDS: &str = "masterleases/servers";

/// Announces this server until it stops, and then takes it back.
pub async fn run(app: Arc<App>) {
    let own = SocketAddr::new(app.config.advertise_address, app.config.advertise_port);
    let service = LocalService::new(app.clone(), UserInfo::loopback());
    let mut peers = Peers { app, own, last: None, seen: Seen::default() };
    while !peers.app.stop.is_cancelled() {
        if let Err(problem) = peers.round(&service, true).await {
            tracing::warn!(problem, "announce this server");
        }
        let stop = peers.app.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RENEW) => {}
        }
    }
    if let Err(problem) = peers.round(&service, false).await {
        tracing::warn!(problem, "take back the announcement of this server");
    }
}

struct Peers {
    app: Arc<App>,
    own: SocketAddr,
    /// When this server last wrote its record.
    last: Option<Revision>,
    seen: Seen,
}

impl Peers {
    async fn round(&mut self, service: &LocalService, stays: bool) -> Result<(), String> {
        self.renew(stays).await.map_err(|error| xebec_store::chain(&error))?;
        let records = self.records().await.map_err(|error| xebec_store::chain(&error))?;
        let (mut live, dead) = self.seen.divide(&records, Instant::now());
        live.retain(|address| stays || *address != self.own);
        for (address, revision) in dead {
            tracing::info!(%address, "a server is gone");
            let txn = Txn { key: key(address), expect: Expect::Revision(revision), op: Op::Delete };
            self.app.store.txn(txn).await.map_err(|error| xebec_store::chain(&error))?;
        }
        for object in bootstrap::endpoints(&live) {
            ensure(service, &object).await?;
        }
        Ok(())
    }

    /// Writes the own record, or removes it.
    async fn renew(&mut self, stays: bool) -> xebec_store::Result<()> {
        let key = key(self.own);
        let record = json!({ "metadata": { "name": self.own.to_string() } }).to_string();
        loop {
            let expect = self.last.map_or(Expect::Absent, Expect::Revision);
            let op = match (stays, self.last) {
                (true, _) => Op::Put(record.clone().into()),
                (false, Some(_)) => Op::Delete,
                (false, None) => return Ok(()),
            };
            match self.app.store.txn(Txn { key: key.clone(), expect, op }).await? {
                Outcome::Committed(revision) => {
                    self.last = Some(revision);
                    return Ok(());
                }
                // Of a previous life of this server, or removed by a peer that had not heard of it.
                Outcome::Conflict(entry) => self.last = entry.map(|entry| entry.mod_revision),
            }
        }
    }

    async fn records(&self) -> xebec_store::Result<Vec<(SocketAddr, Revision)>> {
        let query = Query { resource: RECORDS, filter: Filter::all(), at: At::Consistent, ..Query::default() };
        let objects = self.app.cache.list(&query).await?.objects;
        Ok(objects.iter().filter_map(|o| Some((o.name().parse().ok()?, o.revision()))).collect())
    }
}

fn key(address: SocketAddr) -> String {
    xebec_store::cache::key(RECORDS, None, &address.to_string())
}

/// Which revision of a record was seen last, and since when.
#[derive(Default)]
struct Seen(HashMap<SocketAddr, (Revision, Instant)>);

impl Seen {
    /// Those who renew, in order, and those who have not for too long.
    fn divide(
        &mut self,
        records: &[(SocketAddr, Revision)],
        now: Instant,
    ) -> (Vec<SocketAddr>, Vec<(SocketAddr, Revision)>) {
        self.0.retain(|address, _| records.iter().any(|(recorded, _)| recorded == address));
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for &(address, revision) in records {
            let seen = self.0.entry(address).or_insert((revision, now));
            if seen.0 != revision {
                *seen = (revision, now);
            }
            match now.duration_since(seen.1) < DEAD_AFTER {
                true => live.push(address),
                false => dead.push((address, revision)),
            }
        }
        live.sort();
        (live, dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_renew_is_dead_after_a_while() {
        let (a, b) = (SocketAddr::from(([10, 0, 0, 1], 6443)), SocketAddr::from(([10, 0, 0, 2], 6443)));
        let (mut seen, start) = (Seen::default(), Instant::now());
        let mut check = |seconds, records: &[(SocketAddr, u64)], live: &[SocketAddr], dead: &[SocketAddr]| {
            let records: Vec<_> = records.iter().map(|(address, at)| (*address, Revision(*at))).collect();
            let found = seen.divide(&records, start + Duration::from_secs(seconds));
            let buried: Vec<_> = found.1.iter().map(|(address, _)| *address).collect();
            assert_eq!((found.0.as_slice(), buried.as_slice()), (live, dead), "after {seconds} s");
        };
        check(0, &[(b, 2), (a, 1)], &[a, b], &[]);
        check(14, &[(a, 3), (b, 2)], &[a, b], &[]);
        check(15, &[(a, 3), (b, 2)], &[a], &[b]);
        check(16, &[(a, 3)], &[a], &[]);
        // It comes back under the revision of its new record.
        check(17, &[(a, 3), (b, 9)], &[a, b], &[]);
    }
}
