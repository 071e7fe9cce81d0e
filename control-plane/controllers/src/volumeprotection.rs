//! Keeps claims that pods use and volumes that are bound: upstream's `pvc-protection` and `pv-protection`.

use crate::Context;
use crate::control::{self, Reconcile};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use xebec_client::{Api, Change, Error, Informer, Key, Outcome, PostParams, Workqueue, is_not_found};
use xebec_types::core::{PersistentVolume, PersistentVolumeClaim, Pod};
use xebec_types::{ObjectMeta, object, pod};

const OF_CLAIM: &str = "kubernetes.io/pvc-protection";
const OF_VOLUME: &str = "kubernetes.io/pv-protection";
/// Pods by `namespace/claim`.
const BY_CLAIM: &str = "claim";

pub(crate) async fn run_claims(context: Context, stop: CancellationToken) {
    let controller = Claims {
        claims: context.informers.informer(),
        pods: context.informers.informer(),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    tokio::join!(controller.claims.synced(), controller.pods.synced());
    control::run(&controller, &stop).await;
}

pub(crate) async fn run_volumes(context: Context, stop: CancellationToken) {
    let controller = Volumes { volumes: context.informers.informer(), queue: Workqueue::new(), context };
    let queue = controller.queue.clone();
    controller.volumes.on_change(move |change| queue.add(change.key()));
    controller.volumes.synced().await;
    control::run(&controller, &stop).await;
}

/// The finalizers to write, if they change: those of a living object have `own`, those of a deleted one that nobody uses do not.
#[must_use]
pub fn step(meta: &ObjectMeta, own: &str, in_use: bool) -> Option<Vec<String>> {
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    match (object::is_being_deleted(meta), object::has_finalizer(meta, own)) {
        (true, true) if !in_use => finalizers.retain(|f| f != own),
        (false, false) => finalizers.push(own.into()),
        _ => return None,
    }
    Some(finalizers)
}

struct Claims {
    context: Context,
    claims: Arc<Informer<PersistentVolumeClaim>>,
    pods: Arc<Informer<Pod>>,
    queue: Workqueue<Key>,
}

impl Claims {
    fn watch(&self) {
        self.pods.add_index(BY_CLAIM, |pod| {
            claims_of(pod).into_iter().map(|claim| format!("{}/{claim}", object::namespace(&pod.metadata))).collect()
        });
        let queue = self.queue.clone();
        self.claims.on_change(move |change| queue.add(change.key()));
        let queue = self.queue.clone();
        self.pods.on_change(move |change: &Change<Pod>| {
            if let Some(pod) = change.old.as_ref().filter(|_| change.new.as_ref().is_none_or(|pod| !uses(pod))) {
                let namespace = object::namespace(&pod.metadata);
                claims_of(pod).iter().for_each(|claim| queue.add(Key::new(namespace, claim)));
            }
        });
    }
}

/// The claims that a pod names, or that are made for it.
pub(crate) fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let claim = |volume: &xebec_types::core::Volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(claim.claim_name.clone());
        }
        volume.ephemeral.as_ref().map(|_| format!("{}-{}", object::name(&pod.metadata), volume.name))
    };
    volumes.filter_map(claim).collect()
}

/// A pod that no node has, or that ended, uses nothing.
fn uses(pod: &Pod) -> bool {
    let gone = pod::is_terminating(pod) && pod.metadata.deletion_grace_period_seconds == Some(0);
    !pod::node_name(pod).is_empty() && !pod::is_terminal(pod) && !gone
}

impl Reconcile for Claims {
    const KIND: &'static str = "persistentvolumeclaim";
    const WORKERS: usize = 2;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(claim) = self.claims.get_key(key) else { return Ok(Outcome::Done) };
        let in_use = || self.pods.by_index(BY_CLAIM, &key.to_string()).iter().any(|pod| uses(pod));
        let in_use = object::is_being_deleted(&claim.metadata) && in_use();
        let Some(finalizers) = step(&claim.metadata, OF_CLAIM, in_use) else { return Ok(Outcome::Done) };
        let mut updated = PersistentVolumeClaim::clone(&claim);
        updated.metadata.finalizers = Some(finalizers);
        let api = Api::namespaced(self.context.client.clone(), &key.namespace);
        settled(api.replace(&key.name, &PostParams::default(), &updated).await)
    }
}

struct Volumes {
    context: Context,
    volumes: Arc<Informer<PersistentVolume>>,
    queue: Workqueue<Key>,
}

impl Reconcile for Volumes {
    const KIND: &'static str = "persistentvolume";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(volume) = self.volumes.get_key(key) else { return Ok(Outcome::Done) };
        let in_use = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        let Some(finalizers) = step(&volume.metadata, OF_VOLUME, in_use) else { return Ok(Outcome::Done) };
        let mut updated = PersistentVolume::clone(&volume);
        updated.metadata.finalizers = Some(finalizers);
        let api = Api::all(self.context.client.clone());
        settled(api.replace(&key.name, &PostParams::default(), &updated).await)
    }
}

fn settled<K>(written: Result<K, Error>) -> Result<Outcome, Error> {
    match written {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(Outcome::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(meta: Value, in_use: bool, expected: Option<&[&str]>) {
        let meta: ObjectMeta = serde_json::from_value(meta).expect("metadata");
        let expected = expected.map(|f| f.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(step(&meta, OF_CLAIM, in_use), expected);
    }

    #[test]
    fn the_finalizer_goes_when_nobody_uses_what_is_deleted() {
        let deleted = "2026-01-01T00:00:00Z";
        check(json!({}), false, Some(&[OF_CLAIM]));
        check(json!({"finalizers": [OF_CLAIM]}), true, None);
        check(json!({"finalizers": [OF_CLAIM, "x"], "deletionTimestamp": deleted}), true, None);
        check(json!({"finalizers": [OF_CLAIM, "x"], "deletionTimestamp": deleted}), false, Some(&["x"]));
        check(json!({"deletionTimestamp": deleted}), false, None);
    }

    #[test]
    fn only_pods_on_nodes_use_their_claims() {
        let check = |node: &str, phase: &str, expected: bool| {
            let volumes =
                json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "e", "ephemeral": {}}]);
            let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "volumes": volumes}, "status": {"phase": phase}});
            let mut pod = pod;
            pod["spec"]["containers"] = json!([]);
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            assert_eq!(claims_of(&pod), ["c", "p-e"]);
            assert_eq!(uses(&pod), expected);
        };
        check("n", "Running", true);
        check("", "Pending", false);
        check("n", "Succeeded", false);
    }
}
