//! Makes the ResourceClaims that pods ask for by template, and takes back what pods that are done had: upstream's `resourceclaim`.
//!
//! The scheduler allocates and reserves; a reservation ends here, and with the last one the allocation. Every write carries the version it was decided on.

mod claim;
mod pod;

use crate::Context;
use crate::control::{self, Reconcile, Written};
pub use claim::{ClaimStep, step as claim_step};
pub use pod::{PodStep, base_name, step as pod_step};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use xebec_client::{
    Api, Change, Client, DeleteParams, Error, EventRecorder, Informer, Key, Outcome, Patch, PatchParams, PostParams,
    Workqueue, chain, is_not_found,
};
use xebec_types::core::Pod;
use xebec_types::device::{self, ResourceClaim, ResourceClaimTemplate};
use xebec_types::{annotation, object};

/// Pods by `namespace/claim`.
const BY_CLAIM: &str = "resourceclaim";
/// Claims by the uid of the pod that they were made for.
const BY_POD: &str = "pod";

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let pods = context.informers.informer();
    let claims = context.informers.informer();
    let makes = Pods {
        client: context.client.clone(),
        pods: Arc::clone(&pods),
        claims: Arc::clone(&claims),
        recorder: context.recorder("resource_claim"),
        written: Written::default(),
        queue: Workqueue::new(),
    };
    let takes_back = Claims { client: context.client.clone(), pods, claims, queue: Workqueue::new() };
    let makes = Arc::new(makes);
    watch(&makes, &takes_back.queue);
    tokio::join!(makes.pods.synced(), makes.claims.synced());
    tokio::join!(control::run(&*makes, &stop), control::run(&takes_back, &stop));
}

fn watch(makes: &Arc<Pods>, claims: &Workqueue<Key>) {
    makes.pods.add_index(BY_CLAIM, |pod| {
        let namespace = object::namespace(&pod.metadata);
        claims_of(pod).map(|claim| format!("{namespace}/{claim}")).collect()
    });
    makes.claims.add_index(BY_POD, |claim| device::owning_pod(claim).map(|pod| pod.uid.clone()).into_iter().collect());
    let (pods_queue, claims_queue) = (makes.queue.clone(), claims.clone());
    makes.pods.on_change(move |change: &Change<Pod>| {
        let Some(pod) = change.object().filter(|pod| !device::pod_claims(pod).is_empty()) else { return };
        if change.is_deletion() || device::is_done(pod) {
            let namespace = object::namespace(&pod.metadata);
            claims_of(pod).for_each(|claim| claims_queue.add(Key::new(namespace, claim)));
        }
        if !change.is_deletion() {
            pods_queue.add(change.key());
        }
    });
    let (makes_weak, claims_queue) = (Arc::downgrade(makes), claims.clone());
    makes.claims.on_change(move |change: &Change<ResourceClaim>| {
        let Some(makes) = makes_weak.upgrade() else { return };
        if let Some(pod) = change.object().and_then(|claim| device::owning_pod(claim)) {
            makes.written.observe(&pod.uid, change);
        }
        let key = change.key();
        makes.pods.by_index(BY_CLAIM, &key.to_string()).iter().for_each(|pod| makes.queue.add(Key::of(&pod.metadata)));
        if let Some(pod) = change.object().and_then(|claim| device::owning_pod(claim)) {
            makes.queue.add(Key::new(&key.namespace, &pod.name));
        }
        if !change.is_deletion() {
            claims_queue.add(key);
        }
    });
}

/// The claims of a pod that have a name by now.
fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    device::pod_claims(pod).iter().filter_map(|claim| device::claim_name(pod, claim))
}

/// Makes claims for pods.
struct Pods {
    client: Client,
    pods: Arc<Informer<Pod>>,
    claims: Arc<Informer<ResourceClaim>>,
    recorder: EventRecorder,
    /// Claims that were made, by the uid of their pod.
    written: Written<String>,
    queue: Workqueue<Key>,
}

impl Reconcile for Pods {
    const KIND: &'static str = "pod";
    const WORKERS: usize = 4;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get_key(key) else { return Ok(Outcome::Done) };
        if self.written.is_waiting(&object::uid(&pod.metadata).to_owned()) {
            return Ok(Outcome::Retry);
        }
        let owned = self.claims.by_index(BY_POD, object::uid(&pod.metadata));
        let PodStep { make, mut found, reserve } = pod_step(&pod, &owned, |name| self.claims.get(&key.namespace, name));
        for (claim, template) in make {
            match self.make(&pod, &claim, &template).await {
                Ok(name) => found.push((claim, name)),
                Err(error) => {
                    let message = format!("PodResourceClaim {claim}: {}", chain(&error));
                    self.recorder.warning(&*pod, "FailedResourceClaimCreation", message);
                    self.tell(&pod, &found).await?;
                    return Err(error.into());
                }
            }
        }
        self.tell(&pod, &found).await?;
        for claim in reserve {
            let mut consumers: Vec<_> = device::reserved_for(&claim).to_vec();
            consumers.push(device::consumer(&pod));
            let version = &claim.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "status": {"reservedFor": consumers}});
            write_status(&self.client, &claim, patch).await?;
        }
        Ok(Outcome::Done)
    }
}

/// Why a pod has no claim.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error("resource claim template {name:?}")]
    Template {
        name: String,
        #[source]
        source: Error,
    },
    #[error("create ResourceClaim")]
    Create(#[source] Error),
}

impl From<MakeError> for Error {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Template { source, .. } | MakeError::Create(source) => source,
        }
    }
}

impl Pods {
    /// Makes a claim from a template; the claim's name.
    async fn make(&self, pod: &Pod, claim: &str, template: &str) -> Result<String, MakeError> {
        let namespace = object::namespace(&pod.metadata);
        let templates: Api<ResourceClaimTemplate> = Api::namespaced(self.client.clone(), namespace);
        let failed = |source| MakeError::Template { name: template.to_owned(), source };
        let template = templates.get(template).await.map_err(failed)?;
        let meta = template.spec.metadata.unwrap_or_default();
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.insert(annotation::POD_CLAIM_NAME.into(), claim.to_owned());
        let new = ResourceClaim {
            metadata: xebec_types::ObjectMeta {
                generate_name: Some(base_name(object::name(&pod.metadata), claim)),
                annotations: Some(annotations),
                labels: meta.labels,
                owner_references: Some(vec![control::controller_ref(pod)]),
                ..Default::default()
            },
            spec: template.spec.spec,
            status: None,
        };
        let claims: Api<ResourceClaim> = Api::namespaced(self.client.clone(), namespace);
        let made = claims.create(&PostParams::default(), &new).await.map_err(MakeError::Create)?;
        self.written.wrote(&object::uid(&pod.metadata).to_owned(), &made, &self.claims);
        Ok(object::name(&made.metadata).to_owned())
    }

    /// Tells the pod the names of its claims.
    async fn tell(&self, pod: &Pod, found: &[(String, String)]) -> Result<(), Error> {
        if found.is_empty() {
            return Ok(());
        }
        let status = |(name, claim): &(String, String)| json!({"name": name, "resourceClaimName": claim});
        let statuses: Vec<_> = found.iter().map(status).collect();
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"resourceClaimStatuses": statuses}});
        let api: Api<Pod> = Api::namespaced(self.client.clone(), object::namespace(&pod.metadata));
        let name = object::name(&pod.metadata);
        match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Ends reservations, allocations and claims.
struct Claims {
    client: Client,
    pods: Arc<Informer<Pod>>,
    claims: Arc<Informer<ResourceClaim>>,
    queue: Workqueue<Key>,
}

impl Reconcile for Claims {
    const KIND: &'static str = "resourceclaim";
    const WORKERS: usize = 4;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(claim) = self.claims.get_key(key) else { return Ok(Outcome::Done) };
        let gone = self.gone(&claim).await?;
        let step = claim_step(&claim, &gone, |name| self.pods.get(&key.namespace, name));
        let mut version = claim.metadata.resource_version.clone();
        if let Some(status) = &step.status {
            let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
            let Some(written) = write_status(&self.client, &claim, patch).await? else { return Ok(Outcome::Done) };
            version = written.metadata.resource_version;
        }
        let api: Api<ResourceClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        if let Some(finalizers) = &step.finalizers {
            let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
            api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        if step.delete {
            let preconditions =
                xebec_client::kube::api::Preconditions { uid: claim.metadata.uid.clone(), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match api.delete(&key.name, &params).await {
                Err(error) if !is_not_found(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(Outcome::Done)
    }
}

impl Claims {
    /// The uids of consumers that do not exist. The informer may not know a pod yet that the scheduler has just reserved for: the server is asked.
    async fn gone(&self, claim: &ResourceClaim) -> Result<HashSet<String>, Error> {
        let namespace = object::namespace(&claim.metadata);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut gone = HashSet::new();
        for consumer in device::reserved_for(claim).iter().filter(|consumer| device::is_pod(consumer)) {
            if self.pods.get(namespace, &consumer.name).is_some() {
                continue;
            }
            let known = api.get_metadata_opt(&consumer.name).await?;
            if known.is_none_or(|pod| pod.metadata.uid.as_deref() != Some(&consumer.uid)) {
                gone.insert(consumer.uid.clone());
            }
        }
        Ok(gone)
    }
}

/// Writes the status of a claim; none if the claim is gone.
async fn write_status(
    client: &Client,
    claim: &ResourceClaim,
    patch: serde_json::Value,
) -> Result<Option<ResourceClaim>, Error> {
    let api: Api<ResourceClaim> = Api::namespaced(client.clone(), object::namespace(&claim.metadata));
    let name = object::name(&claim.metadata);
    match api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(written) => Ok(Some(written)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
