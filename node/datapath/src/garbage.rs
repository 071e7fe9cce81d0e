//! Deletes conntrack and NAT entries that nobody uses.

use std::{path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use xebec_abi::{Flow4, FlowKey4, FlowState, names, proto};

use crate::{Datapath, Result, clock::boot_ns, lock, table::Table};

/// Between two collections.
const PERIOD: Duration = Duration::from_secs(30);

/// What a collection did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Collected {
    pub conntrack: usize,
    pub nat: usize,
}

impl Datapath {
    /// Collects garbage until told to stop.
    pub async fn maintain(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            let datapath = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || datapath.collect_garbage()).await {
                Ok(Ok(collected)) => tracing::debug!(?collected, "collected flows"),
                Ok(Err(error)) => tracing::warn!(%error, "collecting flows failed"),
                Err(error) => tracing::warn!(%error, "collecting flows panicked"),
            }
        }
    }

    /// Deletes idle flows and the backends of replaced services.
    pub fn collect_garbage(&self) -> Result<Collected> {
        let now = boot_ns();
        lock(&self.services).delete_retired(now)?;
        Ok(Collected { conntrack: collect(&self.garbage.conntrack, now)?, nat: collect(&self.garbage.nat, now)? })
    }
}

#[derive(Debug)]
pub(crate) struct Flows {
    conntrack: Table<FlowKey4, Flow4>,
    nat: Table<FlowKey4, Flow4>,
}

impl Flows {
    pub fn open(directory: &Path) -> Result<Self> {
        Ok(Self { conntrack: Table::open(directory, names::CT4)?, nat: Table::open(directory, names::NAT4)? })
    }
}

/// How long an idle flow stays: as Linux's own conntrack does
/// (`nf_conntrack_tcp_timeout_*`, `nf_conntrack_udp_timeout*`), but TCP half as long as a day.
fn lifetime(proto: u8, state: FlowState) -> Duration {
    Duration::from_secs(match (proto, state) {
        (proto::TCP, FlowState::CLOSING) => 60,
        (proto::TCP, FlowState::OPEN) => 12 * 3600,
        (proto::TCP, _) => 120,
        (proto::UDP, FlowState::OPEN) => 180,
        _ => 60,
    })
}

/// Both entries of a flow are candidates only when both are idle: an answer keeps its request.
fn collect(table: &Table<FlowKey4, Flow4>, now_ns: u64) -> Result<usize> {
    let idle = |key: &FlowKey4, flow: &Flow4| {
        let lifetime = lifetime(key.proto, flow.state).as_nanos() as u64;
        now_ns.saturating_sub(flow.seen_ns) > lifetime
    };
    let mut collected = 0;
    for (key, flow) in table.entries()? {
        if !idle(&key, &flow) {
            continue;
        }
        // Looked at again just before it goes: it may have been used since the map was read.
        if table.get(&key)?.is_some_and(|flow| idle(&key, &flow)) && table.remove(&key)? {
            collected += 1;
        }
    }
    Ok(collected)
}
