mod pre_bind;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use xebec_client::{Change, Client, Error, EventRecorder, EventType, Informer, Informers, chain, is_not_found};
use xebec_types::core::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use xebec_types::device::{DeviceClass, ResourceClaim, ResourceSlice};
use xebec_types::policy::PodDisruptionBudget;
use xebec_types::storage::{CSINode, StorageClass};
use xebec_types::time::Timestamp;
use xebec_types::{object, pod as pods};

use crate::claim_binder::ClaimBinder;
use crate::cluster::{self, Cluster, NodeChange, PodInfo};
use crate::decide::Search;
use crate::diagnosis::Diagnosis;
use crate::framework::{Plugin, Plugins};
use crate::plugins::volume_binding;
use crate::preempt::{Budget, Preemption, preempt};
use crate::queue::Queue;
use crate::volume_binder::VolumeBinder;
use crate::workload::Workloads;
use crate::{Config, bind};

/// The loop looks around at least this often.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Decisions between two looks at what else happened.
const BURST: usize = 16;
/// Reports of unschedulable pods that are written at once.
const REPORTS_MAX: usize = 16;

pub struct Scheduler {
    client: Client,
    config: Config,
    recorder: EventRecorder,
    cluster: Cluster,
    queue: Queue,
    search: Search,
    workloads: Workloads,
    budgets: Arc<Informer<PodDisruptionBudget>>,
    /// Pods that were promised room on a node, until they are there.
    nominated: HashMap<Arc<str>, (Arc<PodInfo>, Arc<str>)>,
    pods: Arc<Informer<Pod>>,
    news: mpsc::UnboundedReceiver<News>,
    synced: Synced,
    binds: JoinSet<Bound>,
    volume_binder: VolumeBinder,
    claim_binder: ClaimBinder,
    reports: JoinSet<()>,
    report_slots: Arc<Semaphore>,
    /// Bound pods that are still assumed, oldest first.
    unconfirmed: VecDeque<(Instant, Arc<PodInfo>)>,
}

/// What informers tell.
enum News {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Namespace(Change<Namespace>),
    Claim(Change<PersistentVolumeClaim>),
    Volume(Change<PersistentVolume>),
    Class(Change<StorageClass>),
    CsiNode(Change<CSINode>),
    ResourceClaim(Change<ResourceClaim>),
    DeviceClass(Change<DeviceClass>),
    ResourceSlice(Change<ResourceSlice>),
}

/// Informers that are waited for, beside that of pods.
#[derive(Clone)]
struct Synced {
    nodes: Arc<Informer<Node>>,
    namespaces: Arc<Informer<Namespace>>,
    claims: Arc<Informer<PersistentVolumeClaim>>,
    volumes: Arc<Informer<PersistentVolume>>,
    classes: Arc<Informer<StorageClass>>,
    csi_nodes: Arc<Informer<CSINode>>,
    resource_claims: Arc<Informer<ResourceClaim>>,
    device_classes: Arc<Informer<DeviceClass>>,
    resource_slices: Arc<Informer<ResourceSlice>>,
}

impl Synced {
    async fn wait(&self) {
        tokio::join!(self.nodes.synced(), self.namespaces.synced(), self.claims.synced());
        tokio::join!(self.volumes.synced(), self.classes.synced(), self.csi_nodes.synced());
        tokio::join!(self.resource_claims.synced(), self.device_classes.synced(), self.resource_slices.synced());
    }
}

struct Bound {
    pod: Arc<PodInfo>,
    node: Arc<str>,
    result: Result<(), Error>,
}

impl Scheduler {
    pub fn new(client: Client, informers: &Informers, config: Config) -> Self {
        let (sender, news) = mpsc::unbounded_channel();
        let synced = Synced {
            nodes: informers.informer(),
            namespaces: informers.informer(),
            claims: informers.informer(),
            volumes: informers.informer(),
            classes: informers.informer(),
            csi_nodes: informers.informer(),
            resource_claims: informers.informer(),
            device_classes: informers.informer(),
            resource_slices: informers.informer(),
        };
        let pods = informers.informer::<Pod>();
        // Nodes first: pods that come before their node need a placeholder.
        forward(&synced.nodes, &sender, News::Node);
        forward(&synced.namespaces, &sender, News::Namespace);
        forward(&synced.claims, &sender, News::Claim);
        forward(&synced.volumes, &sender, News::Volume);
        forward(&synced.classes, &sender, News::Class);
        forward(&synced.csi_nodes, &sender, News::CsiNode);
        forward(&synced.resource_claims, &sender, News::ResourceClaim);
        forward(&synced.device_classes, &sender, News::DeviceClass);
        forward(&synced.resource_slices, &sender, News::ResourceSlice);
        forward(&pods, &sender, News::Pod);
        Self {
            recorder: EventRecorder::new(client.clone(), &config.scheduler_name, "", config.clock.clone()),
            client,
            config,
            cluster: Cluster::default(),
            queue: Queue::default(),
            search: Search::new(1),
            workloads: Workloads::new(informers),
            budgets: informers.informer(),
            nominated: HashMap::new(),
            pods,
            news,
            synced,
            binds: JoinSet::new(),
            volume_binder: VolumeBinder::default(),
            claim_binder: ClaimBinder::default(),
            reports: JoinSet::new(),
            report_slots: Arc::new(Semaphore::new(REPORTS_MAX)),
            unconfirmed: VecDeque::new(),
        }
    }

    pub async fn run(&mut self) {
        self.synced.clone().wait().await;
        self.pods.synced().await;
        loop {
            while let Ok(news) = self.news.try_recv() {
                self.learn(news);
            }
            while let Some(bound) = self.binds.try_join_next() {
                self.finish(bound.ok());
            }
            while self.reports.try_join_next().is_some() {}
            for settled in self.volume_binder.settle(&self.cluster, Instant::now()) {
                self.finish_volumes(settled);
            }
            let next = self.tick();
            let more = self.schedule_some();
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                news = self.news.recv() => match news {
                    Some(news) => self.learn(news),
                    None => return,
                },
                Some(bound) = self.binds.join_next() => self.finish(bound.ok()),
                Some(written) = self.volume_binder.written() => {
                    if let Some(failed) = self.volume_binder.learn(written, Instant::now()) {
                        self.finish_volumes(failed);
                    }
                }
                Some(written) = self.claim_binder.written() => self.finish_claims(written),
                Some(_) = self.reports.join_next() => {}
                () = time::sleep_until(next) => {}
            }
        }
    }

    /// Whether it would do more at once.
    fn schedule_some(&mut self) -> bool {
        for _ in 0..BURST {
            if self.binds.len() >= self.config.binds_max {
                return false; // A binding that finishes goes on.
            }
            let Some(pod) = self.queue.pop(Instant::now()) else { return false };
            self.schedule(&pod);
        }
        true
    }

    fn schedule(&mut self, pod: &Arc<PodInfo>) {
        let selector = if pod.spread.is_empty() { self.workloads.default_selector(pod) } else { None };
        let reserved = self.reserve_for_others(pod);
        let decision = self.search.decide(pod, &mut self.cluster, selector.as_ref());
        reserved.iter().for_each(|uid| {
            self.cluster.remove_pod(uid);
        });
        match decision {
            Ok(decision) => {
                self.nominated.remove(&pod.uid);
                let node = self.cluster.node(decision.node).name().clone();
                tracing::debug!(
                    namespace = pod.namespace,
                    name = pod.name,
                    node = &*node,
                    evaluated = decision.evaluated,
                    feasible = decision.feasible,
                    "pod fits"
                );
                let volumes = volume_binding::pre_filter(pod, &self.cluster).ok().flatten();
                let plan = volumes.and_then(|volumes| volumes.plan(self.cluster.node(decision.node)));
                let Ok(assignment) = self.assign_devices(pod, decision.node) else {
                    // What fitted a moment ago took too long to find again.
                    return self.queue.back_off(&pod.uid, Instant::now());
                };
                self.cluster.put_pod(pod.clone(), &node, true);
                if let Some(plan) = plan.filter(|plan| !plan.is_empty()) {
                    self.cluster.volumes_mut().assume(pod.uid.clone(), plan);
                }
                match assignment {
                    None => self.bind_volumes(pod.clone(), node),
                    Some(assignment) => {
                        self.claim_binder.start(&self.client, pod.clone(), assignment.clone());
                        self.cluster.devices_mut().assume(pod.uid.clone(), assignment);
                    }
                }
            }
            Err(diagnosis) => self.refuse(pod, &diagnosis),
        }
    }

    fn bind(&mut self, pod: Arc<PodInfo>, node: Arc<str>) {
        let client = self.client.clone();
        self.binds.spawn(async move {
            let result = bind::bind(&client, &pod, &node).await;
            Bound { pod, node, result }
        });
    }

    /// Puts pods where they were promised room, so that one of no higher priority does not take it. Returns whom to take off again.
    fn reserve_for_others(&mut self, pod: &PodInfo) -> Vec<Arc<str>> {
        let others =
            self.nominated.values().filter(|(other, _)| other.uid != pod.uid && other.priority >= pod.priority);
        let others: Vec<_> = others.filter(|(other, _)| !self.cluster.contains_pod(&other.uid)).cloned().collect();
        let reserve = |(other, node): (Arc<PodInfo>, Arc<str>)| {
            let uid = other.uid.clone();
            self.cluster.put_pod(other, &node, true);
            uid
        };
        others.into_iter().map(reserve).collect()
    }

    /// Makes others give way, and tells where.
    fn preempt(&mut self, pod: &Arc<PodInfo>) -> Option<Arc<str>> {
        let budgets: Vec<Budget> = self.budgets.read().iter().map(|budget| Budget::new(budget)).collect();
        let Preemption { node, victims } = preempt(pod, &mut self.cluster, &budgets)?;
        tracing::info!(
            namespace = pod.namespace,
            name = pod.name,
            node = &*node,
            victims = victims.len(),
            "preempting"
        );
        for victim in victims.into_iter().filter(|victim| !victim.terminating) {
            let message = format!("Preempted by pod {} on node {node}", pod.uid);
            self.recorder.record(&*victim.pod(), EventType::Normal, "Preempted", message);
            let (client, scheduler, now) = (self.client.clone(), self.config.scheduler_name.clone(), self.now());
            self.reports.spawn(async move {
                if let Err(error) = bind::evict(&client, &victim, &scheduler, now).await
                    && !is_not_found(&error)
                {
                    tracing::warn!(pod = victim.full_name(), error = chain(&error), "pod not preempted");
                }
            });
        }
        self.nominated.insert(pod.uid.clone(), (pod.clone(), node.clone()));
        Some(node)
    }

    fn now(&self) -> Timestamp {
        xebec_types::time::at(self.config.clock.now())
    }

    fn refuse(&mut self, pod: &Arc<PodInfo>, diagnosis: &Diagnosis) {
        let message = diagnosis.message();
        let node = if diagnosis.is_of_pod() { None } else { self.preempt(pod) };
        if !diagnosis.is_of_pod() && node.is_none() {
            self.deallocate(pod);
        }
        self.queue.park(&pod.uid, diagnosis.plugins(), Instant::now());
        self.recorder.record(&*pod.pod(), EventType::Warning, "FailedScheduling", message.clone());
        let (client, slots, pod, now) = (self.client.clone(), self.report_slots.clone(), pod.clone(), self.now());
        self.reports.spawn(async move {
            let Ok(_slot) = slots.acquire().await else { return };
            if let Err(error) = bind::report_unschedulable(&client, &pod.pod(), &message, node.as_deref(), now).await
                && !is_not_found(&error)
            {
                tracing::debug!(pod = pod.full_name(), error = chain(&error), "condition not written");
            }
        });
    }

    fn finish(&mut self, bound: Option<Bound>) {
        let Some(Bound { pod, node, result }) = bound else { return };
        let now = Instant::now();
        self.forget_volumes(&pod.uid, now);
        match result {
            Ok(()) => {
                let message = format!("Successfully assigned {} to {node}", pod.full_name());
                self.recorder.record(&*pod.pod(), EventType::Normal, "Scheduled", message);
                self.queue.remove(&pod.uid);
                if self.cluster.is_assumed(&pod.uid) {
                    self.unconfirmed.push_back((now + self.config.assumed_max, pod));
                }
            }
            Err(error) => {
                tracing::info!(
                    namespace = pod.namespace,
                    name = pod.name,
                    node = &*node,
                    error = chain(&error),
                    "pod not bound"
                );
                if self.cluster.is_assumed(&pod.uid) {
                    self.give_up(&pod, now);
                }
                self.queue.back_off(&pod.uid, now);
                if !is_not_found(&error) {
                    let message = format!("binding rejected: {}", chain(&error));
                    self.recorder.record(&*pod.pod(), EventType::Warning, "FailedScheduling", message);
                }
            }
        }
    }

    /// Frees what was assumed for a pod.
    fn give_up(&mut self, pod: &PodInfo, now: Instant) {
        self.cluster.remove_pod(&pod.uid);
        self.forget_volumes(&pod.uid, now);
        self.forget_devices(&pod.uid, now);
        self.queue.wake(freed(), now);
    }

    /// Does what is due and tells when something will be next.
    fn tick(&mut self) -> Instant {
        let now = Instant::now();
        while let Some((_, pod)) = self.unconfirmed.pop_front_if(|(until, _)| *until <= now) {
            if self.cluster.is_assumed(&pod.uid) {
                tracing::warn!(namespace = pod.namespace, name = pod.name, "binding was never seen");
                self.give_up(&pod, now);
                if let Some(current) = self.pods.get(&pod.namespace, &pod.name) {
                    self.learn_pod(&Change { old: None, new: Some(current) });
                }
            }
        }
        let unconfirmed = self.unconfirmed.front().map(|(until, _)| *until);
        let next = self.queue.tick(now).into_iter().chain(unconfirmed).chain(self.volume_binder.deadline());
        next.min().unwrap_or(now + IDLE_MAX)
    }

    fn learn(&mut self, news: News) {
        match news {
            News::Pod(change) => self.learn_pod(&change),
            News::Node(change) => self.learn_node(&change),
            News::Namespace(change) => self.learn_namespace(&change),
            News::Claim(change) => self.learn_volumes(|volumes| volumes.learn_claim(&change)),
            News::Volume(change) => self.learn_volumes(|volumes| volumes.learn_volume(&change)),
            News::Class(change) => self.learn_volumes(|volumes| volumes.learn_class(&change)),
            News::CsiNode(change) => self.learn_volumes(|volumes| volumes.learn_csi_node(&change)),
            News::ResourceClaim(change) => self.learn_devices(|devices| devices.learn_claim(&change)),
            News::DeviceClass(change) => self.learn_devices(|devices| devices.learn_class(&change)),
            News::ResourceSlice(change) => self.learn_devices(|devices| devices.learn_slice(&change)),
        }
    }

    fn learn_node(&mut self, change: &Change<Node>) {
        let Some(node) = &change.new else {
            if let Some(node) = &change.old {
                self.cluster.remove_node(object::name(&node.metadata));
                self.queue.wake([Plugin::PodTopologySpread].into(), Instant::now());
            }
            return;
        };
        let changed = self.cluster.put_node(node);
        if !changed.is_empty() {
            self.queue.wake(concerns(changed), Instant::now());
        }
    }

    fn learn_namespace(&mut self, change: &Change<Namespace>) {
        let Some(namespace) = change.object() else { return };
        let name = object::name(&namespace.metadata).to_owned();
        if change.is_deletion() {
            self.cluster.namespaces.remove(&name);
        } else {
            self.cluster.namespaces.insert(name, namespace.metadata.labels.clone().unwrap_or_default());
            self.queue.wake([Plugin::InterPodAffinity].into(), Instant::now());
        }
    }

    fn learn_pod(&mut self, change: &Change<Pod>) {
        if let Some(old) = &change.old {
            let uid = object::uid(&old.metadata);
            let still =
                change.new.as_ref().is_some_and(|new| object::uid(&new.metadata) == uid && !pods::is_terminal(new));
            if !still {
                self.forget(uid);
            }
        }
        let Some(pod) = change.new.as_ref().filter(|pod| !pods::is_terminal(pod)) else { return };
        if pods::node_name(pod).is_empty() {
            self.learn_pending(pod);
        } else if change.old.as_ref().is_some_and(|old| same_for_placement(old, pod)) {
            self.cluster.renew_pod(pod);
        } else {
            self.learn_placed(pod);
        }
    }

    fn learn_placed(&mut self, pod: &Arc<Pod>) {
        let info = Cluster::compile(pod);
        self.queue.remove(&info.uid);
        self.nominated.remove(&info.uid);
        let confirmed = self.cluster.is_assumed(&info.uid);
        self.cluster.put_pod(info, pods::node_name(pod), false);
        if !confirmed {
            // Fewer resources may be requested than before, and labels may attract or repel.
            let plugins = [Plugin::InterPodAffinity, Plugin::PodTopologySpread, Plugin::NodeResourcesFit];
            self.queue.wake(plugins.into(), Instant::now());
        }
    }

    fn learn_pending(&mut self, pod: &Arc<Pod>) {
        let uid = object::uid(&pod.metadata);
        let spec = pod.spec.as_ref();
        let ours = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or("default-scheduler");
        let gated = spec.and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
        if ours != self.config.scheduler_name || gated || pods::is_terminating(pod) {
            self.queue.remove(uid);
            return;
        }
        if self.cluster.is_assumed(uid) {
            return; // The watch lags behind the binding.
        }
        self.queue.put(Cluster::compile(pod), Instant::now());
    }

    fn forget(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.nominated.remove(uid);
        self.forget_volumes(uid, Instant::now());
        self.forget_devices(uid, Instant::now());
        if self.cluster.remove_pod(uid).is_some() {
            self.queue.wake(freed(), Instant::now());
        }
    }
}

/// What the end of a pod on a node may change for others.
fn freed() -> Plugins {
    [
        Plugin::NodeResourcesFit,
        Plugin::NodePorts,
        Plugin::VolumeRestrictions,
        Plugin::NodeVolumeLimits,
        Plugin::InterPodAffinity,
        Plugin::PodTopologySpread,
    ]
    .into()
}

/// The plugins whose answer may be different after this change of a node.
fn concerns(change: NodeChange) -> Plugins {
    let mut plugins = Plugins::default();
    if change == NodeChange::everything() {
        return Plugins::all();
    }
    if change.allocatable {
        plugins.insert(Plugin::NodeResourcesFit);
    }
    if change.labels {
        let by_label = [Plugin::NodeAffinity, Plugin::VolumeBinding, Plugin::VolumeZone, Plugin::DynamicResources];
        by_label
            .into_iter()
            .chain([Plugin::PodTopologySpread, Plugin::InterPodAffinity])
            .for_each(|plugin| plugins.insert(plugin));
    }
    if change.taints {
        [Plugin::TaintToleration, Plugin::NodeUnschedulable, Plugin::PodTopologySpread]
            .into_iter()
            .for_each(|plugin| plugins.insert(plugin));
    }
    plugins
}

/// Most updates of a pod are of its status and change nothing here.
fn same_for_placement(old: &Pod, new: &Pod) -> bool {
    old.metadata.uid == new.metadata.uid
        && old.metadata.labels == new.metadata.labels
        && pods::is_terminating(old) == pods::is_terminating(new)
        && old.spec == new.spec
        && !pods::is_terminal(old)
        // Its node's part in a resize is in the status.
        && cluster::requests(old) == cluster::requests(new)
}

fn forward<K: xebec_client::informer::Object>(
    informer: &Informer<K>,
    news: &mpsc::UnboundedSender<News>,
    wrap: fn(Change<K>) -> News,
) {
    let news = news.clone();
    informer.on_change(move |change| {
        let change = Change { old: change.old.clone(), new: change.new.clone() };
        let _stopped = news.send(wrap(change));
    });
}

#[cfg(test)]
mod fake_api;
#[cfg(test)]
mod tests;
