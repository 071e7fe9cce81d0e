//! The task tree of a kubelet.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_client::informer::Selection;
use xebec_client::{Change, Client, EventRecorder, Informer, Informers};
use xebec_types::core::Pod;
use xebec_types::object;
use xebec_types::pod as api_pod;

use crate::config::Config;
use crate::ended::Ended;
use crate::image_gc::ImageUse;
use crate::images::Images;
use crate::machine::Machine;
use crate::node;
use crate::objects::{ApiObjects, Objects};
use crate::pod::PodRef;
use crate::probe::Probes;
use crate::qos::Amount;
use crate::recorder::Recorder;
use crate::reviews::{ApiReviews, Reviews};
use crate::runtime::{Containerd, Runtime};
use crate::status_manager::{ApiPods, PodApi};
use crate::worker::{self, Desired, Handle, Pending, Room};
use crate::{eviction, gc, image_gc, logs, pleg, server};

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("create {path}")]
    Directory {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("listen on {address}")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("configure TLS")]
    Tls(#[source] crate::tls::TlsError),
}

/// What pod workers, the server and the collector share.
pub struct Kubelet {
    pub(crate) config: Config,
    pub(crate) machine: Machine,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) pod_api: Arc<dyn PodApi>,
    pub(crate) reviews: Arc<dyn Reviews>,
    pub(crate) recorder: Recorder,
    pub(crate) images: Images,
    pub(crate) probes: Arc<Probes>,
    pub(crate) image_use: ImageUse,
    /// Where the runtime keeps images, once it has said so.
    pub(crate) image_filesystem: OnceLock<PathBuf>,
    workers: Arc<Mutex<HashMap<String, Handle>>>,
    /// What pods may use, by UID.
    grants: Mutex<HashMap<String, Amount>>,
}

impl Kubelet {
    pub(crate) fn new(
        config: Config,
        machine: Machine,
        runtime: Arc<dyn Runtime>,
        objects: Arc<dyn Objects>,
        pod_api: Arc<dyn PodApi>,
        reviews: Arc<dyn Reviews>,
        recorder: Recorder,
    ) -> Arc<Self> {
        let workers: Arc<Mutex<HashMap<String, Handle>>> = Arc::default();
        let to_wake = Arc::clone(&workers);
        let wake = Arc::new(move |uid: &str| {
            if let Some(handle) = to_wake.lock().unwrap_or_else(PoisonError::into_inner).get(uid) {
                handle.wake.notify_one();
            }
        });
        let images = Images::new(Arc::clone(&runtime), Arc::clone(&objects), recorder.clone());
        let probes = Probes::new(Arc::clone(&runtime), recorder.clone(), wake);
        let (image_use, image_filesystem) = (ImageUse::default(), OnceLock::new());
        Arc::new(Self {
            config,
            machine,
            runtime,
            objects,
            pod_api,
            reviews,
            recorder,
            images,
            probes,
            image_use,
            image_filesystem,
            workers,
            grants: Mutex::default(),
        })
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Handle>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a pod again.
    pub(crate) fn wake(&self, uid: &str) {
        if let Some(handle) = self.locked().get(uid) {
            handle.wake.notify_one();
        }
    }

    /// Ends a pod for good; its object stays and says why.
    pub(crate) fn end_pod(&self, uid: &str, ended: Ended) {
        if let Some(handle) = self.locked().get(uid) {
            handle.ended.send_replace(Some(ended));
            handle.wake.notify_one();
        }
    }

    pub(crate) async fn learn_image_filesystem(&self) {
        if self.image_filesystem.get().is_some() {
            return;
        }
        let info = self.runtime.image_fs_info().await.unwrap_or_default();
        if let Some(mount) = info.into_iter().find_map(|usage| usage.fs_id) {
            // A second answer is the same.
            let _ = self.image_filesystem.set(mount.mountpoint.into());
        }
    }

    pub(crate) fn remove_worker(&self, uid: &str) {
        self.probes.remove(uid);
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.locked().remove(uid);
    }

    #[cfg(test)]
    pub(crate) fn forget_workers(&self) {
        self.locked().clear();
    }

    /// Grants resources to a pod that has none yet: it was admitted by the scheduler.
    pub(crate) fn note_grant(&self, uid: &str, amount: Amount) {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), amount);
    }

    /// Grants other resources to a pod if they fit beside what others were granted.
    pub(crate) fn regrant(&self, uid: &str, wanted: Amount) -> Result<(), Pending> {
        let over = |pod: &Arc<Pod>| api_pod::is_terminal(pod);
        let ended: HashSet<String> = self.pods().iter().filter(|p| over(p)).map(|p| PodRef::of(p).uid).collect();
        // Of two pods that want the same room one is first.
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        let others = || grants.iter().filter(|(known, _)| *known != uid && !ended.contains(*known)).map(|(_, a)| a);
        let room = Room {
            allocatable_milli_cpu: self.machine.allocatable_milli_cpu(&self.config),
            allocatable_memory_bytes: self.machine.allocatable_memory_bytes(&self.config),
            used_milli_cpu: others().filter_map(|a| a.cpu_request).sum(),
            used_memory_bytes: others().filter_map(|a| a.memory_request).sum(),
        };
        worker::admit(wanted, room)?;
        grants.insert(uid.to_owned(), wanted);
        Ok(())
    }

    /// Whether the pod has a worker.
    pub(crate) fn known(&self, uid: &str) -> bool {
        self.locked().contains_key(uid)
    }

    /// The pods that have workers, as the API wants them.
    pub(crate) fn pods(&self) -> Vec<Arc<Pod>> {
        self.locked().values().map(|handle| Arc::clone(&handle.desired.borrow().pod)).collect()
    }

    pub(crate) fn find_pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let same =
            |pod: &Arc<Pod>| object::namespace(&pod.metadata) == namespace && object::name(&pod.metadata) == name;
        // A pod that is being replaced by one of its name: the one that is not gone.
        let pods = self.pods();
        pods.iter()
            .find(|pod| same(pod) && !object::is_being_deleted(&pod.metadata))
            .or_else(|| pods.iter().find(|p| same(p)))
            .cloned()
    }

    /// Hands a pod to its worker; the first time there is none.
    pub(crate) fn update(self: &Arc<Self>, pod: Arc<Pod>, gone: bool) {
        let uid = object::uid(&pod.metadata).to_owned();
        let mut workers = self.locked();
        match workers.get(&uid) {
            Some(handle) => {
                handle.desired.send_replace(Desired { pod, gone });
            }
            None if gone => {}
            None => {
                workers.insert(uid, worker::spawn(Arc::clone(self), pod, gone));
            }
        }
    }
}

/// Runs a kubelet over containerd until `cancel`. Pods go on running when it ends.
pub async fn run(
    config: Config,
    client: Client,
    informers: Informers,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    let fifo_dir = config.root_dir.join("fifo");
    let runtime = Containerd::new(config.container_runtime_endpoint.clone(), fifo_dir.clone());
    for path in [config.pods_dir(), config.logs_dir(), fifo_dir] {
        std::fs::create_dir_all(&path).map_err(|source| RunError::Directory { path, source })?;
    }
    run_with(config, Machine::read(), runtime, client, informers, cancel).await
}

/// Runs a kubelet over any runtime: a fake one makes a hollow node.
pub async fn run_with(
    config: Config,
    machine: Machine,
    runtime: Arc<dyn Runtime>,
    client: Client,
    informers: Informers,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    let address = std::net::SocketAddr::new(config.address, config.port);
    let listener = TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
    let port = listener.local_addr().map_err(|source| RunError::Listen { address, source })?.port();
    let tls = crate::tls::server(&config.tls).map_err(RunError::Tls)?;
    let recorder =
        Recorder::Api(EventRecorder::new(client.clone(), "kubelet", &config.node_name, config.tls.clock.clone()));
    let objects = Arc::new(ApiObjects::new(client.clone(), &informers, config.tls.clock.clone()));
    let pods = informers.selected::<Pod>(&Selection::fields(&format!("spec.nodeName={}", config.node_name)));
    let reviews = Arc::new(ApiReviews::new(client.clone(), &config.node_name));
    let pod_api = Arc::new(ApiPods(client.clone()));
    let kubelet = Kubelet::new(config, machine, runtime, objects, pod_api, reviews, recorder);

    // Before the collector runs: a pod without a worker is an orphan to it.
    follow_pods(&kubelet, &pods);
    let mut tasks = JoinSet::new();
    tasks.spawn(server::serve(Arc::clone(&kubelet), listener, tls));
    tasks.spawn(node::lease::run(client.clone(), kubelet.config.node_name.clone()));
    tasks.spawn(node::run(Arc::clone(&kubelet), client, port));
    tasks.spawn(pleg::run(Arc::clone(&kubelet)));
    tasks.spawn(logs::rotation::run(Arc::clone(&kubelet)));
    tasks.spawn(gc::run(Arc::clone(&kubelet), pods));
    tasks.spawn(image_gc::run(Arc::clone(&kubelet)));
    tasks.spawn(eviction::run(Arc::clone(&kubelet)));
    cancel.cancelled().await;
    tasks.shutdown().await;
    kubelet.locked().clear();
    Ok(())
}

/// Feeds the workers from the informer.
fn follow_pods(kubelet: &Arc<Kubelet>, pods: &Informer<Pod>) {
    let sink = Arc::downgrade(kubelet);
    pods.on_change(move |change: &Change<Pod>| {
        let Some(kubelet) = sink.upgrade() else { return };
        match (&change.old, &change.new) {
            // A name that another pod has taken over: the old one is gone.
            (Some(old), Some(new)) if PodRef::of(old).uid != PodRef::of(new).uid => {
                kubelet.update(Arc::clone(old), true);
                kubelet.update(Arc::clone(new), false);
            }
            (_, Some(new)) => kubelet.update(Arc::clone(new), false),
            (Some(old), None) => kubelet.update(Arc::clone(old), true),
            (None, None) => {}
        }
    });
}
