//! Pod workers: one task for each pod, level-triggered. It compares what the API wants with what the runtime has and does what is missing.
//!
//! A pod is synced until it is deleted or done, then terminated (its containers stop), then cleaned up; it never goes back.

mod resize;
mod start;
mod sync;
mod terminate;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use xebec_types::core::{Pod, ResourceRequirements};
use xebec_types::pod as api_pod;
use xebec_types::time::{self, Timestamp};

use crate::backoff::Backoff;
use crate::config::Withdrawal;
use crate::ended::{self, Ended};
use crate::env::Facts;
use crate::kubelet::Kubelet;
use crate::observed::Observed;
use crate::pod::{self, PodRef};
use crate::status::{self, Waiting};
use crate::status_manager::StatusWriter;
use crate::volume::Mounted;

/// What the API wants of a pod.
#[derive(Clone, Debug)]
pub struct Desired {
    pub pod: Arc<Pod>,
    /// The object is gone: stop whatever runs.
    pub gone: bool,
}

impl Desired {
    fn terminating(&self) -> bool {
        self.gone || api_pod::is_terminating(&self.pod)
    }

    fn grace(&self) -> Duration {
        // Zero would leave no time for the runtime to tell what happened.
        Duration::from_secs(u64::try_from(pod::grace_period(&self.pod)).unwrap_or(0).max(1))
    }
}

/// The outside of a worker.
#[derive(Clone, Debug)]
pub struct Handle {
    pub desired: watch::Sender<Desired>,
    pub wake: Arc<Notify>,
    /// The node's own verdict.
    pub ended: watch::Sender<Option<Ended>>,
}

/// How often a pod that is as it should be is looked at again: ConfigMaps and tokens are renewed then.
const RESYNC: Duration = Duration::from_secs(45);

pub use resize::{Pending, Resize, Room, admit};
pub(crate) use terminate::{remove, remove_runtime_objects, remove_volumes};

pub struct Worker {
    kubelet: Arc<Kubelet>,
    reference: PodRef,
    desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    ended: watch::Receiver<Option<Ended>>,
    status: StatusWriter,
    start_time: Timestamp,
    /// Why containers are not running.
    waiting: BTreeMap<String, Waiting>,
    backoff: Backoff,
    volumes: Option<HashMap<String, Mounted>>,
    volumes_at: Option<tokio::time::Instant>,
    labels: Option<(BTreeMap<String, String>, BTreeMap<String, String>)>,
    /// The resources that the node has granted, by container.
    grant: Option<BTreeMap<String, ResourceRequirements>>,
    resize: Resize,
    /// The last refusal of a resize that an event told of.
    told: Option<Pending>,
    /// Failed attempts at a sandbox or at volumes, for the pause between them.
    failures: u32,
    /// Nothing runs and nothing will: only deletion is left.
    finished: bool,
    /// Whether load balancers have let go of a pod that is being deleted.
    withdrawal: Option<Withdrawal>,
}

/// Starts a pod's worker; its task ends when nothing of the pod is left.
pub fn spawn(kubelet: Arc<Kubelet>, pod: Arc<Pod>, gone: bool) -> Handle {
    let reference = PodRef::of(&pod);
    let start_time = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or_else(time::now, |t| t.0);
    let known = pod.status.clone().filter(|s| s.start_time.is_some());
    let status = StatusWriter::start(Arc::clone(&kubelet.pod_api), reference.clone(), known);
    let (sender, desired) = watch::channel(Desired { pod, gone });
    let wake = Arc::new(Notify::new());
    let (end, ended) = watch::channel(None);
    let worker = Worker {
        kubelet: Arc::clone(&kubelet),
        reference: reference.clone(),
        desired,
        wake: Arc::clone(&wake),
        ended,
        status,
        start_time,
        waiting: BTreeMap::new(),
        backoff: Backoff::default(),
        volumes: None,
        volumes_at: None,
        labels: None,
        grant: None,
        resize: Resize::default(),
        told: None,
        failures: 0,
        finished: false,
        withdrawal: None,
    };
    tokio::spawn(async move {
        worker.run().await;
        kubelet.remove_worker(&reference.uid);
    });
    Handle { desired: sender, wake, ended: end }
}

impl Worker {
    async fn run(mut self) {
        loop {
            let desired = self.desired.borrow_and_update().clone();
            if desired.terminating() {
                return self.terminate().await;
            }
            self.note_labels(&desired.pod);
            let (mut changes, mut ends) = (self.desired.clone(), self.ended.clone());
            let over = self.finished || self.ended().is_some() || api_pod::is_terminal(&desired.pod);
            let deadline = if over { None } else { self.deadline_left(&desired.pod) };
            let pod = self.allocate(&desired.pod);
            let next = tokio::select! {
                next = self.sync(&pod) => next.min(deadline.unwrap_or(next)),
                // Whatever the sync is at, deletion comes first, and so does the end of a pod.
                _ = async { changes.wait_for(Desired::terminating).await.map(drop) } => continue,
                _ = async { ends.changed().await.map(drop) }, if self.ended().is_none() => continue,
            };
            tokio::select! {
                changed = self.desired.changed() => if changed.is_err() { return },
                () = self.wake.notified() => {}
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// Files of the downward API follow labels and annotations at once.
    fn note_labels(&mut self, pod: &Pod) {
        let now = (pod::labels(pod), pod::annotations(pod));
        if self.labels.as_ref().is_some_and(|before| *before != now) {
            self.volumes_at = None;
        }
        self.labels = Some(now);
    }

    /// Why the node ends the pod, if it does.
    fn ended(&self) -> Option<Ended> {
        self.ended.borrow().clone()
    }

    fn deadline_left(&self, pod: &Pod) -> Option<Duration> {
        ended::deadline_left(pod, self.start_time, time::now())
    }

    fn facts(&self, observed: &Observed) -> Facts {
        let config = &self.kubelet.config;
        let pod = self.desired.borrow().pod.clone();
        let is_on_host = pod::host_network(&pod);
        let ips = if is_on_host { config.node_ips.clone() } else { config.primary_first(observed.ips()) };
        Facts {
            pod_ips: ips.iter().map(ToString::to_string).collect(),
            host_ips: config.node_ips.iter().map(ToString::to_string).collect(),
            node_name: config.node_name.clone(),
            allocatable_milli_cpu: self.kubelet.machine.allocatable_milli_cpu(config),
            allocatable_memory_bytes: self.kubelet.machine.allocatable_memory_bytes(config),
        }
    }

    /// Shows the API what is so.
    fn publish(&self, pod: &Pod, observed: &Observed, terminal: bool) {
        // A phase that is final stays as it is, with the reason that whoever wrote it gave.
        if api_pod::is_terminal(pod) {
            return;
        }
        let (verdicts, ready) = self.kubelet.probes.verdicts(pod, observed);
        let status = status::generate(&status::Inputs {
            pod,
            observed,
            waiting: &self.waiting,
            ready: &ready,
            started: &verdicts.started,
            terminal,
            resize: &self.resize,
            withdrawal: self.withdrawal.as_ref(),
            ended: self.ended().as_ref(),
            pod_ips: &self.kubelet.config.primary_first(observed.ips()),
            node_ips: &self.kubelet.config.node_ips,
            start_time: self.start_time,
            now: time::now(),
        });
        self.status.set(status, pod.status.as_ref());
    }
}

#[cfg(test)]
mod tests;
