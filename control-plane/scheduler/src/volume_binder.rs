//! Brings about what the volumes of a pod need before the pod can be bound: upstream's `SchedulerVolumeBinder`.
//!
//! Volumes that were chosen are made their claims', and claims whose volumes are to be made are told the node; the
//! persistent volume controller and provisioners do the rest, and the pod waits until its claims are bound.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use xebec_client::{Api, Client, Error, Key, Patch, PatchParams, chain};
use xebec_types::core::{PersistentVolume, PersistentVolumeClaim};
use xebec_types::{ObjectMeta, annotation, object, volume};

use crate::cluster::{Cluster, NodeInfo, Plan, PodInfo, Volumes};

/// Upstream's `bindTimeoutSeconds`.
const BIND_MAX: Duration = Duration::from_secs(600);

#[derive(Default)]
pub struct VolumeBinder {
    writes: JoinSet<Written>,
    /// By the uid of the pod.
    awaiting: HashMap<Arc<str>, Awaiting>,
}

/// A plan that is written, or why not.
pub struct Written {
    pod: Arc<PodInfo>,
    result: Result<HashMap<Key, u64>, Error>,
}

struct Awaiting {
    pod: Arc<PodInfo>,
    until: Instant,
    /// The versions that claims got by what was written; older ones do not show it.
    versions: HashMap<Key, u64>,
}

/// What came of a pod's volumes.
pub type Settled = (Arc<PodInfo>, Result<(), String>);

#[derive(PartialEq, Eq, Debug)]
enum Progress {
    Waits,
    Bound,
    Fails(String),
}

/// A change of one object, from the version that the plan was made on.
enum Write {
    Volume(String, Value),
    Claim(Key, Value),
}

impl VolumeBinder {
    pub fn start(&mut self, client: &Client, pod: Arc<PodInfo>, plan: &Plan, volumes: &Volumes) {
        let writes = writes(plan, volumes);
        let client = client.clone();
        self.writes.spawn(async move {
            let result = write(&client, writes).await;
            Written { pod, result }
        });
    }

    /// The next plan that is written; None if none is being written.
    pub async fn written(&mut self) -> Option<Written> {
        self.writes.join_next().await.and_then(Result::ok)
    }

    /// From here on the pod waits for its claims. An error is the pod's failure.
    pub fn learn(&mut self, written: Written, now: Instant) -> Option<Settled> {
        let Written { pod, result } = written;
        match result {
            Ok(versions) => {
                self.awaiting.insert(pod.uid.clone(), Awaiting { pod, until: now + BIND_MAX, versions });
                None
            }
            Err(error) => Some((pod, Err(chain(&error)))),
        }
    }

    /// Pods that need not wait any longer.
    pub fn settle(&mut self, cluster: &Cluster, now: Instant) -> Vec<Settled> {
        let mut settled = Vec::new();
        self.awaiting.retain(|uid, awaiting| {
            let plan = cluster.volumes.plan_of(uid);
            let progress = match plan.and_then(|plan| Some((plan, cluster.node(cluster.find_node(&plan.node)?)))) {
                Some((plan, node)) => progress(plan, &awaiting.versions, &cluster.volumes, node),
                None => Progress::Fails("the node is gone".to_owned()),
            };
            let outcome = match progress {
                Progress::Bound => Ok(()),
                Progress::Fails(why) => Err(why),
                Progress::Waits if awaiting.until <= now => Err("timed out waiting for the condition".to_owned()),
                Progress::Waits => return true,
            };
            settled.push((awaiting.pod.clone(), outcome));
            false
        });
        settled
    }

    pub fn forget(&mut self, uid: &str) {
        self.awaiting.remove(uid);
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.awaiting.values().map(|awaiting| awaiting.until).min()
    }
}

fn writes(plan: &Plan, volumes: &Volumes) -> Vec<Write> {
    let binding = |(key, name): &(Key, String)| {
        let (claim, known) = (volumes.claim(key)?, volumes.volume(name)?);
        let mut bound = PersistentVolume::clone(known);
        volume::refer(&mut bound, claim).then(|| {
            let patch = json!({
                "metadata": {
                    "resourceVersion": known.metadata.resource_version,
                    "annotations": bound.metadata.annotations,
                },
                "spec": {"claimRef": bound.spec.and_then(|spec| spec.claim_ref)},
            });
            Write::Volume(name.clone(), patch)
        })
    };
    let provision = |key: &Key| {
        let claim = volumes.claim(key)?;
        let known = object::annotation(&claim.metadata, annotation::SELECTED_NODE);
        (known != Some(&*plan.node)).then(|| {
            let patch = json!({"metadata": {
                "resourceVersion": claim.metadata.resource_version,
                "annotations": {annotation::SELECTED_NODE: &*plan.node},
            }});
            Write::Claim(key.clone(), patch)
        })
    };
    plan.bindings.iter().filter_map(binding).chain(plan.provisions.iter().filter_map(provision)).collect()
}

async fn write(client: &Client, writes: Vec<Write>) -> Result<HashMap<Key, u64>, Error> {
    let mut versions = HashMap::new();
    for write in writes {
        match write {
            Write::Volume(name, patch) => {
                let api: Api<PersistentVolume> = Api::all(client.clone());
                api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            }
            Write::Claim(key, patch) => {
                let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &key.namespace);
                let written = api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
                versions.insert(key, version(&written.metadata));
            }
        }
    }
    Ok(versions)
}

fn progress(plan: &Plan, versions: &HashMap<Key, u64>, volumes: &Volumes, node: &NodeInfo) -> Progress {
    let mut waits = false;
    for key in plan.claims() {
        let name = &key.name;
        let Some(claim) = volumes.claim(key) else {
            return Progress::Fails(format!("persistentvolumeclaim {name:?} not found"));
        };
        if let Some(wanted) = volume::wanted(claim).filter(|_| volume::is_bound(claim)) {
            match volumes.volume(wanted) {
                Some(volume) if !volume::reaches(volume, node.name(), |label| node.label(label)) => {
                    let why = format!("pv {wanted:?} node affinity doesn't match node {:?}", node.name());
                    return Progress::Fails(why);
                }
                Some(_) => {}
                None => waits = true, // The watch of volumes lags behind that of claims.
            }
            continue;
        }
        let shows_the_write = versions.get(key).is_none_or(|written| version(&claim.metadata) >= *written);
        let selected = object::annotation(&claim.metadata, annotation::SELECTED_NODE);
        if plan.provisions.contains(key) && shows_the_write && selected != Some(&*plan.node) {
            // A provisioner that cannot serve the node takes the annotation off.
            return Progress::Fails(format!("provisioning failed for PVC {name:?}"));
        }
        waits = true;
    }
    if waits { Progress::Waits } else { Progress::Bound }
}

fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}
