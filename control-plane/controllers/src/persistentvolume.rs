//! Binds claims to volumes that are there, as upstream's `persistentvolume-binder`; those that somebody else has to make are announced.
//!
//! Every write carries the version it was decided on: what another writer changed meanwhile is decided again.

mod claim;
mod volume;

use crate::Context;
use crate::control::{self, Reconcile};
pub use claim::{ClaimStep, step as claim_step};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
pub use volume::{VolumeStep, step as volume_step};
use xebec_client::informer::Object;
use xebec_client::{Api, Error, EventRecorder, EventType, Informer, Key, Outcome, PostParams, Workqueue, is_not_found};
use xebec_types::core::{
    Node, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeStatus,
};
use xebec_types::storage::StorageClass;
use xebec_types::{annotation, object, time, volume as volumes};

/// As kube-controller-manager's `--pvclaimbinder-sync-period`.
const RESYNC: Duration = Duration::from_secs(15);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        claims: context.informers.informer(),
        volumes: context.informers.informer(),
        classes: context.informers.informer(),
        nodes: context.informers.informer(),
        recorder: context.recorder("persistentvolume-controller"),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    tokio::join!(
        controller.claims.synced(),
        controller.volumes.synced(),
        controller.classes.synced(),
        controller.nodes.synced()
    );
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    claims: Arc<Informer<PersistentVolumeClaim>>,
    volumes: Arc<Informer<PersistentVolume>>,
    classes: Arc<Informer<StorageClass>>,
    nodes: Arc<Informer<Node>>,
    recorder: EventRecorder,
    /// Claims, and volumes by keys without namespace.
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "persistentvolume";
    // Two claims must not choose the same volume at the same time.
    const WORKERS: usize = 1;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        if key.namespace.is_empty() { self.sync_volume(key).await } else { self.sync_claim(key).await }
    }
}

impl Controller {
    fn watch(&self) {
        let (queue, claims) = (self.queue.clone(), Arc::clone(&self.claims));
        self.volumes.on_change(move |change| {
            queue.add(change.key());
            let name = change.key().name;
            for claim in claims.read().iter() {
                let wanted = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
                // A claim that waits may take it; one that has it may have lost it.
                if wanted.is_empty() || wanted == &*name {
                    queue.add(Key::of(&claim.metadata));
                }
            }
        });
        let (queue, volumes) = (self.queue.clone(), Arc::clone(&self.volumes));
        self.claims.on_change(move |change| {
            let key = change.key();
            queue.add(key.clone());
            for volume in volumes.read().iter() {
                let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
                if claim.is_some_and(|c| {
                    c.name.as_deref() == Some(&*key.name) && c.namespace.as_deref() == Some(&*key.namespace)
                }) {
                    queue.add(Key::of(&volume.metadata));
                }
            }
        });
    }

    async fn sync_claim(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(claim) = self.claims.get_key(key) else { return Ok(Outcome::Done) };
        let class = volumes::class(&claim).and_then(|name| self.classes.get("", name));
        let node =
            object::annotation(&claim.metadata, annotation::SELECTED_NODE).and_then(|name| self.nodes.get("", name));
        let volumes = self.volumes.list();
        match claim_step(&claim, &volumes, class.as_deref(), node.as_deref()) {
            ClaimStep::Bind(volume) => {
                self.bind(&claim, &volume).await?;
                Ok(Outcome::Done)
            }
            ClaimStep::Phase { phase, event } => {
                if let Some((kind, reason, message)) = event {
                    self.recorder.record(&*claim, kind, reason, message);
                }
                self.claim_phase(&claim, phase, None).await?;
                Ok(if phase == "Pending" { Outcome::After(RESYNC) } else { Outcome::Done })
            }
            ClaimStep::Provision { provisioner, message } => {
                self.recorder.record(&*claim, EventType::Normal, "ExternalProvisioning", message);
                if object::annotation(&claim.metadata, annotation::STORAGE_PROVISIONER) != Some(&provisioner) {
                    let mut updated = PersistentVolumeClaim::clone(&claim);
                    updated
                        .metadata
                        .annotations
                        .get_or_insert_default()
                        .insert(annotation::STORAGE_PROVISIONER.into(), provisioner);
                    self.replace(&updated, Some(&key.namespace)).await?;
                    return Ok(Outcome::Done);
                }
                self.claim_phase(&claim, "Pending", None).await?;
                Ok(Outcome::After(RESYNC))
            }
        }
    }

    async fn sync_volume(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(volume) = self.volumes.get_key(key) else { return Ok(Outcome::Done) };
        let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        let claim = reference.and_then(|r| {
            self.claims.get(r.namespace.as_deref().unwrap_or_default(), r.name.as_deref().unwrap_or_default())
        });
        match volume_step(&volume, claim.as_deref()) {
            VolumeStep::Phase { phase, message, event } => {
                let changed = self.volume_phase(&volume, phase, &message).await?;
                if let Some((kind, reason)) = event.filter(|_| changed) {
                    self.recorder.record(&*volume, kind, reason, message);
                }
            }
            VolumeStep::Unbind => {
                self.replace(&volume::unbound(&volume), None).await?;
            }
            VolumeStep::Wait => {}
        }
        Ok(Outcome::Done)
    }

    /// Four writes, each of which the next sync takes up again if it fails.
    async fn bind(&self, claim: &Arc<PersistentVolumeClaim>, volume: &Arc<PersistentVolume>) -> Result<(), Error> {
        let mut bound = PersistentVolume::clone(volume);
        if volumes::refer(&mut bound, claim) {
            bound = self.replace(&bound, None).await?.unwrap_or(bound);
        }
        self.volume_phase(&bound, "Bound", "").await?;
        let mut wanted = PersistentVolumeClaim::clone(claim);
        if claim::take(&mut wanted, volume) {
            let namespace = object::namespace(&claim.metadata).to_owned();
            wanted = self.replace(&wanted, Some(&namespace)).await?.unwrap_or(wanted);
        }
        self.claim_phase(&wanted, "Bound", Some(volume)).await
    }

    /// `None` if the object is gone.
    async fn replace<K: Object + Serialize>(&self, object: &K, namespace: Option<&str>) -> Result<Option<K>, Error> {
        let name = object::name(object.meta());
        let url = K::url_path(&(), namespace);
        let body = serde_json::to_vec(object).map_err(Error::SerdeError)?;
        let request = http::Request::put(format!("{url}/{name}")).header("content-type", "application/json").body(body);
        let request =
            request.map_err(|e| Error::BuildRequest(xebec_client::kube::core::request::Error::BuildRequest(e)))?;
        match self.context.client.request(request).await {
            Err(error) if is_not_found(&error) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Whether it had another.
    async fn volume_phase(&self, volume: &PersistentVolume, phase: &str, message: &str) -> Result<bool, Error> {
        let known = volume.status.as_ref();
        let same = |field: Option<&String>, wanted: &str| field.map_or("", String::as_str) == wanted;
        if same(known.and_then(|s| s.phase.as_ref()), phase) && same(known.and_then(|s| s.message.as_ref()), message) {
            return Ok(false);
        }
        let mut updated = volume.clone();
        updated.status = Some(PersistentVolumeStatus {
            phase: Some(phase.into()),
            message: Some(message.to_owned()).filter(|m| !m.is_empty()),
            last_phase_transition_time: Some(time::time(self.context.now())),
            reason: None,
        });
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        match api.replace_status(object::name(&volume.metadata), &PostParams::default(), &updated).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(true),
        }
    }

    async fn claim_phase(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<(), Error> {
        let known = claim.status.clone().unwrap_or_default();
        let mut wanted = PersistentVolumeClaimStatus { phase: Some(phase.into()), ..known.clone() };
        if let Some(spec) = volume.and_then(|v| v.spec.as_ref()) {
            wanted.access_modes.clone_from(&spec.access_modes);
            wanted.capacity.clone_from(&spec.capacity);
        } else if phase == "Pending" {
            (wanted.access_modes, wanted.capacity) = (None, None);
        }
        if claim.status.is_some() && wanted == known {
            return Ok(());
        }
        let updated = PersistentVolumeClaim { status: Some(wanted), ..claim.clone() };
        control::write_status(&self.context.client, &updated).await
    }
}

#[cfg(test)]
#[path = "persistentvolume/step/tests.rs"]
mod tests;
