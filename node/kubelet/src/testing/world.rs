//! Pods over a real containerd; the API server is a map.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use xebec_cri::testing::{BUSYBOX_IMAGE, Containerd, private_mounts};
use xebec_types::core::{Pod, Service};

use crate::config::Config;
use crate::kubelet::Kubelet;
use crate::machine::Machine;
use crate::objects::{ConfigMapData, ObjectError, Objects, TokenSpec};
use crate::pod::PodRef;
use crate::recorder::Recorder;
use crate::reviews::{Reviews, User};
use crate::runtime::{self, Runtime};
use crate::status_manager::{PodApi, Written};
use crate::{pleg, testing};

#[derive(Default)]
pub struct Api {
    pub statuses: Mutex<BTreeMap<String, Value>>,
    pub deleted: Mutex<BTreeSet<String>>,
}

#[async_trait]
impl PodApi for Api {
    async fn patch_status(&self, pod: &PodRef, patch: Value) -> Result<Written, String> {
        let mut statuses = self.statuses.lock().unwrap();
        let status = statuses.entry(pod.uid.clone()).or_insert_with(|| json!({}));
        for (key, value) in patch["status"].as_object().unwrap() {
            status[key] = value.clone();
        }
        Ok(Written::Done)
    }
    async fn delete(&self, pod: &PodRef) -> Result<Written, String> {
        self.deleted.lock().unwrap().insert(pod.uid.clone());
        Ok(Written::Done)
    }
}

pub struct Fixture;

#[async_trait]
impl Objects for Fixture {
    async fn config_map(&self, _: &str, name: &str) -> Result<ConfigMapData, ObjectError> {
        if name == "gone" {
            return Err(ObjectError::NotFound { kind: "configmap", name: name.into() });
        }
        Ok(ConfigMapData { text: BTreeMap::from([("k".into(), "from-config".into())]), binary: BTreeMap::new() })
    }
    async fn secret(&self, _: &str, _: &str) -> Result<BTreeMap<String, Vec<u8>>, ObjectError> {
        Ok(BTreeMap::from([("password".into(), b"hunter2".to_vec())]))
    }
    async fn token(&self, _: &PodRef, _: &TokenSpec) -> Result<String, ObjectError> {
        Ok("a-token".into())
    }
    async fn services(&self, _: &str) -> Vec<Service> {
        Vec::new()
    }
}

/// `good` is the token of a scraper, who may read metrics and nothing else.
#[async_trait]
impl Reviews for Fixture {
    async fn user(&self, token: &str) -> Result<Option<User>, String> {
        let user = User { name: "system:serviceaccount:monitoring:prometheus".into(), ..User::default() };
        Ok((token == "good").then_some(user))
    }
    async fn may(&self, _: &User, verb: &'static str, subresource: &'static str) -> Result<bool, String> {
        Ok(verb == "get" && subresource == "metrics")
    }
}

pub struct World {
    pub containerd: Containerd,
    pub config: Config,
    pub api: Arc<Api>,
    pub events: Arc<Mutex<Vec<String>>>,
    pub kubelet: Arc<Kubelet>,
    pub tasks: JoinSet<()>,
}

fn kubelet(
    containerd: &Containerd,
    config: &Config,
    api: &Arc<Api>,
    events: &Arc<Mutex<Vec<String>>>,
) -> (Arc<Kubelet>, JoinSet<()>) {
    let runtime: Arc<dyn Runtime> = runtime::Containerd::new(containerd.socket(), containerd.dir.join("fifo"));
    let recorder = Recorder::Kept(Arc::clone(events));
    let api = Arc::clone(api) as Arc<dyn PodApi>;
    let fixture = Arc::new(Fixture);
    let kubelet =
        Kubelet::new(config.clone(), Machine::read(), runtime, Arc::clone(&fixture) as _, api, fixture, recorder);
    let mut tasks = JoinSet::new();
    tasks.spawn(pleg::run(Arc::clone(&kubelet)));
    (kubelet, tasks)
}

impl World {
    pub async fn start() -> Self {
        let containerd = Containerd::start().await;
        let mut config = testing::config(&containerd.dir.join("kubelet"));
        config.container_runtime_endpoint = containerd.socket();
        config.cgroup_root = format!("{}/kubepods", containerd.cgroup);
        config.node_ips = vec!["127.0.0.1".parse().unwrap()];
        config.applied_slices = Some(tokio::sync::watch::channel(9).1);
        let (api, events) = (Arc::default(), Arc::default());
        let (kubelet, tasks) = kubelet(&containerd, &config, &api, &events);
        Self { containerd, config, api, events, kubelet, tasks }
    }

    /// The kubelet dies; its pods do not know.
    pub fn restart_kubelet(&mut self) {
        self.tasks.abort_all();
        self.kubelet.forget_workers();
        (self.kubelet, self.tasks) = kubelet(&self.containerd, &self.config, &self.api, &self.events);
    }

    pub fn apply(&self, pod: &Value) -> Arc<Pod> {
        let pod: Arc<Pod> = Arc::new(serde_json::from_value(pod.clone()).unwrap());
        self.kubelet.update(Arc::clone(&pod), false);
        pod
    }

    pub fn delete(&self, mut pod: Value, grace: i64) {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.apply(&pod);
    }

    pub fn status(&self, uid: &str) -> Value {
        self.api.statuses.lock().unwrap().get(uid).cloned().unwrap_or_default()
    }

    pub async fn until(&self, uid: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let status = self.status(uid);
            if done(&status) {
                return status;
            }
            if Instant::now() > deadline {
                panic!("{uid}: never {what}: {status:#}\n{}", self.events.lock().unwrap().join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn gone(&self, uid: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.kubelet.known(uid) {
            assert!(Instant::now() < deadline, "{uid} was not removed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(self.api.deleted.lock().unwrap().contains(uid), "{uid} was not deleted");
        assert!(!self.config.pod_dir(uid).exists());
        assert!(self.kubelet.runtime.list_pod_sandbox(Some(uid)).await.unwrap().is_empty());
        let left: Vec<_> =
            crate::cgroup::list(&self.config.cgroup_root).into_iter().filter(|(known, _)| known == uid).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    pub fn log(&self, uid: &str, container: &str, attempt: u32) -> String {
        let path: PathBuf =
            self.config.logs_dir().join(format!("ns_{uid}_{uid}")).join(container).join(format!("{attempt}.log"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect::<Vec<_>>().join("\n")
    }

    pub fn saw(&self, event: &str) -> bool {
        self.events.lock().unwrap().iter().any(|e| e.contains(event))
    }
}

/// A pod of the namespace `ns` whose UID is its name.
pub fn pod(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            if container["image"].is_null() {
                container["image"] = BUSYBOX_IMAGE.into();
            }
        }
    }
    json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": spec})
}

pub fn ready(status: &Value) -> bool {
    status["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Runs with a mount namespace of its own, shared by containerd, the kubelet and nobody else.
pub fn run(test: impl Future<Output = ()>) {
    private_mounts();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}
