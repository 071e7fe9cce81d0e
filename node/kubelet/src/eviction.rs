//! Node pressure: what a node is short of, what it gives back first, and which pod has to go.
//!
//! Images that nothing uses are removed before a pod is evicted for disk; one pod is evicted in a round, and the next
//! round looks again. Critical pods stay.

mod rank;
mod threshold;

use std::sync::Arc;
use std::time::Duration;

use xebec_types::core::Pod;
use xebec_types::pod as api_pod;

use crate::ended::Ended;
use crate::kubelet::Kubelet;
use crate::machine;
use crate::pod::PodRef;

pub use threshold::{InvalidThreshold, Thresholds};
use threshold::{Observation, Signal, Threshold};

/// Upstream looks as often.
const PERIOD: Duration = Duration::from_secs(10);

/// What the node's conditions say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
}

pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    let mut ticker = tokio::time::interval(PERIOD);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        relieve(&kubelet).await;
    }
}

/// What the node is short of now.
pub(crate) fn pressure(kubelet: &Kubelet) -> Pressure {
    let crossed = crossed(kubelet);
    let memory = |signal: Signal| signal == Signal::MemoryAvailable;
    Pressure {
        memory: crossed.iter().any(|(threshold, _)| memory(threshold.signal)),
        disk: crossed.iter().any(|(threshold, _)| !memory(threshold.signal)),
    }
}

fn crossed(kubelet: &Kubelet) -> Vec<(Threshold, Observation)> {
    if !kubelet.machine.real {
        return Vec::new();
    }
    let root = &kubelet.config.root_dir;
    kubelet.config.eviction_hard.crossed(|signal| {
        let (capacity, available) = match signal {
            Signal::MemoryAvailable => {
                let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
                (bytes(kubelet.machine.memory), bytes(machine::available_memory_bytes()))
            }
            Signal::NodefsAvailable => machine::filesystem(root)?,
            Signal::NodefsInodesFree => machine::inodes(root)?,
            // containerd's images lie next to the kubelet's files or on a filesystem that the runtime names.
            Signal::ImagefsAvailable => machine::filesystem(kubelet.image_filesystem.get().unwrap_or(root))?,
        };
        (capacity > 0).then_some(Observation { capacity, available })
    })
}

/// One round.
async fn relieve(kubelet: &Arc<Kubelet>) {
    kubelet.learn_image_filesystem().await;
    let short = crossed(kubelet);
    let Some((threshold, _)) = short.first() else { return };
    if threshold.signal != Signal::MemoryAvailable && crate::image_gc::remove_unused(kubelet).await > 0 {
        // Perhaps that was enough: the next round tells.
        return;
    }
    let Some((threshold, observed)) = crossed(kubelet).into_iter().next() else { return };
    evict_one(kubelet, &threshold, observed).await;
}

async fn evict_one(kubelet: &Arc<Kubelet>, threshold: &Threshold, observed: Observation) {
    let stats = kubelet.runtime.container_stats().await.unwrap_or_default();
    let pods: Vec<Arc<Pod>> = kubelet.pods().into_iter().filter(|pod| may_go(pod)).collect();
    let Some((pod, usage)) = rank::first(&pods, &stats, threshold.signal) else {
        tracing::warn!(signal = threshold.signal.name(), "the node is short of it, and no pod can be evicted");
        return;
    };
    let resource = threshold.signal.resource();
    let message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. {usage}",
        threshold.limit, observed.available
    );
    let reference = PodRef::of(&pod);
    tracing::info!(pod = %reference, signal = threshold.signal.name(), message, "evicted");
    kubelet.recorder.pod_warning(&pod, "Evicted", &message);
    kubelet.end_pod(&reference.uid, Ended { reason: "Evicted", message, evicted: true });
}

/// Upstream never evicts static and critical pods, and one that ends already is on its way.
fn may_go(pod: &Pod) -> bool {
    const CRITICAL_PRIORITY: i32 = 2_000_000_000;
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    priority < CRITICAL_PRIORITY && !api_pod::is_terminating(pod) && !api_pod::is_terminal(pod)
}

#[cfg(test)]
mod tests;
