use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use xebec_client::{Change, Client, Error, EventRecorder, EventType, Informer, Informers, chain, is_not_found};
use xebec_types::core::{Namespace, Node, Pod};
use xebec_types::policy::PodDisruptionBudget;
use xebec_types::{object, pod as pods};

use crate::cluster::{Cluster, NodeChange, PodInfo};
use crate::decide::Search;
use crate::diagnosis::Diagnosis;
use crate::framework::{Plugin, Plugins};
use crate::preempt::{Budget, Preemption, preempt};
use crate::queue::Queue;
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
}

type Synced = (Arc<Informer<Node>>, Arc<Informer<Namespace>>);

struct Bound {
    pod: Arc<PodInfo>,
    node: Arc<str>,
    result: Result<(), Error>,
}

impl Scheduler {
    pub fn new(client: Client, informers: &Informers, config: Config) -> Self {
        let (sender, news) = mpsc::unbounded_channel();
        let nodes = informers.informer::<Node>();
        let namespaces = informers.informer::<Namespace>();
        let pods = informers.informer::<Pod>();
        // Nodes first: pods that come before their node need a placeholder.
        forward(&nodes, &sender, News::Node);
        forward(&namespaces, &sender, News::Namespace);
        forward(&pods, &sender, News::Pod);
        Self {
            recorder: EventRecorder::new(client.clone(), &config.scheduler_name, ""),
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
            synced: (nodes, namespaces),
            binds: JoinSet::new(),
            reports: JoinSet::new(),
            report_slots: Arc::new(Semaphore::new(REPORTS_MAX)),
            unconfirmed: VecDeque::new(),
        }
    }

    pub async fn run(&mut self) {
        let (nodes, namespaces) = self.synced.clone();
        nodes.synced().await;
        namespaces.synced().await;
        self.pods.synced().await;
        loop {
            while let Ok(news) = self.news.try_recv() {
                self.learn(news);
            }
            while let Some(bound) = self.binds.try_join_next() {
                self.finish(bound.ok());
            }
            while self.reports.try_join_next().is_some() {}
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
                self.cluster.put_pod(pod.clone(), &node, true);
                let (client, pod) = (self.client.clone(), pod.clone());
                self.binds.spawn(async move {
                    let result = bind::bind(&client, &pod, &node).await;
                    Bound { pod, node, result }
                });
            }
            Err(diagnosis) => self.refuse(pod, &diagnosis),
        }
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
            self.recorder.record(&*victim.pod, EventType::Normal, "Preempted", message);
            let (client, scheduler) = (self.client.clone(), self.config.scheduler_name.clone());
            self.reports.spawn(async move {
                if let Err(error) = bind::evict(&client, &victim, &scheduler).await
                    && !is_not_found(&error)
                {
                    tracing::warn!(pod = victim.full_name(), error = chain(&error), "pod not preempted");
                }
            });
        }
        self.nominated.insert(pod.uid.clone(), (pod.clone(), node.clone()));
        Some(node)
    }

    fn refuse(&mut self, pod: &Arc<PodInfo>, diagnosis: &Diagnosis) {
        let message = diagnosis.message();
        let node = self.preempt(pod);
        self.queue.park(&pod.uid, diagnosis.plugins(), Instant::now());
        self.recorder.record(&*pod.pod, EventType::Warning, "FailedScheduling", message.clone());
        let (client, slots, pod) = (self.client.clone(), self.report_slots.clone(), pod.clone());
        self.reports.spawn(async move {
            let Ok(_slot) = slots.acquire().await else { return };
            if let Err(error) = bind::report_unschedulable(&client, &pod.pod, &message, node.as_deref()).await
                && !is_not_found(&error)
            {
                tracing::debug!(pod = pod.full_name(), error = chain(&error), "condition not written");
            }
        });
    }

    fn finish(&mut self, bound: Option<Bound>) {
        let Some(Bound { pod, node, result }) = bound else { return };
        let now = Instant::now();
        match result {
            Ok(()) => {
                let message = format!("Successfully assigned {} to {node}", pod.full_name());
                self.recorder.record(&*pod.pod, EventType::Normal, "Scheduled", message);
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
                    self.recorder.record(&*pod.pod, EventType::Warning, "FailedScheduling", message);
                }
            }
        }
    }

    /// Frees what was assumed for a pod.
    fn give_up(&mut self, pod: &PodInfo, now: Instant) {
        self.cluster.remove_pod(&pod.uid);
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
        let next = self.queue.tick(now).into_iter().chain(self.unconfirmed.front().map(|(until, _)| *until));
        next.min().unwrap_or(now + IDLE_MAX)
    }

    fn learn(&mut self, news: News) {
        match news {
            News::Pod(change) => self.learn_pod(&change),
            News::Node(change) => self.learn_node(&change),
            News::Namespace(change) => self.learn_namespace(&change),
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
        } else if !change.old.as_ref().is_some_and(|old| same_for_placement(old, pod)) {
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
        if self.cluster.remove_pod(uid).is_some() {
            self.queue.wake(freed(), Instant::now());
        }
    }
}

/// What the end of a pod on a node may change for others.
fn freed() -> Plugins {
    [Plugin::NodeResourcesFit, Plugin::NodePorts, Plugin::InterPodAffinity, Plugin::PodTopologySpread].into()
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
        [Plugin::NodeAffinity, Plugin::PodTopologySpread, Plugin::InterPodAffinity]
            .into_iter()
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
