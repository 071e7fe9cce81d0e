//! What controllers share: the loop over a queue, owner references, adoption, expectations, batches.

pub(crate) mod hash;
pub(crate) mod pods;
pub(crate) mod reconcile;

pub(crate) use pods::Resource;
pub(crate) use reconcile::{Reconcile, after, outcome, run};

use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use xebec_client::informer::Object;
use xebec_client::{Api, Change, Client, Error, Informer, Patch, PatchParams, PostParams};
use xebec_types::core::{Pod, PodTemplateSpec};
use xebec_types::{ObjectMeta, OwnerReference, object};

/// A controller that has not seen its own writes by then acts on what it sees: client-go's
/// `ExpectationsTimeout`.
const EXPECTATIONS_TIMEOUT: Duration = Duration::from_secs(300);
const STALE_FOR_MOST: Duration = Duration::from_secs(5);
/// Requests that one batch keeps in flight.
const IN_FLIGHT: usize = 64;

/// The reference that makes `owner` the controller of what carries it.
pub(crate) fn controller_ref<K: xebec_client::Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object::name(owner.meta()).into(),
        uid: object::uid(owner.meta()).into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The pod that a workload makes from its template.
pub(crate) fn pod_from_template(template: &PodTemplateSpec, owner_name: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{owner_name}-")),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// What a controller should do about an object that could be its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    Own,
    Adopt,
    Release,
    Ignore,
}

/// Ownership follows the selector: matching orphans are adopted, owned strays are let go. Nothing
/// changes hands while the owner is being deleted.
pub(crate) fn claim(meta: &ObjectMeta, owner: &ObjectMeta, selected: bool) -> Claim {
    let deleting = object::is_being_deleted(owner);
    match object::controller_of(meta) {
        Some(r) if r.uid != object::uid(owner) => Claim::Ignore,
        Some(_) if selected => Claim::Own,
        Some(_) if deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if !selected || deleting || object::is_being_deleted(meta) => Claim::Ignore,
        None => Claim::Adopt,
    }
}

pub(crate) async fn adopt<K: Resource, O: Resource>(client: &Client, object: &K, owner: &O) -> Result<(), Error> {
    adopt_with(client, object, owner, None).await
}

/// Adopts an object and gives it a finalizer.
pub(crate) async fn adopt_with<K: Resource, O: Resource>(
    client: &Client,
    object: &K,
    owner: &O,
    finalizer: Option<&str>,
) -> Result<(), Error> {
    let mut owners = object.meta().owner_references.clone().unwrap_or_default();
    owners.retain(|o| o.uid != object::uid(owner.meta()));
    owners.push(controller_ref(owner));
    let mut change = json!({"ownerReferences": owners});
    if let Some(finalizer) = finalizer.filter(|f| !object::has_finalizer(object.meta(), f)) {
        let known = object.meta().finalizers.iter().flatten().map(String::as_str);
        change["finalizers"] = known.chain([finalizer]).collect();
    }
    write_ownership(client, object, change).await
}

pub(crate) async fn release<K: Resource>(client: &Client, object: &K, owner_uid: &str) -> Result<(), Error> {
    release_with(client, object, owner_uid, None).await
}

/// Lets an object go, and takes its owner's finalizer off.
pub(crate) async fn release_with<K: Resource>(
    client: &Client,
    object: &K,
    owner_uid: &str,
    finalizer: Option<&str>,
) -> Result<(), Error> {
    let mut owners = object.meta().owner_references.clone().unwrap_or_default();
    owners.retain(|o| o.uid != owner_uid);
    let mut change = json!({"ownerReferences": owners});
    if let Some(finalizer) = finalizer {
        let kept = object.meta().finalizers.iter().flatten().filter(|f| *f != finalizer);
        change["finalizers"] = kept.map(String::as_str).collect();
    }
    match write_ownership(client, object, change).await {
        // Gone, or changed: the next event brings the truth.
        Err(error) if xebec_client::is_not_found(&error) => Ok(()),
        other => other,
    }
}

/// Writes owners and finalizers of an object, unless it changed since it was read.
async fn write_ownership<K: Resource>(client: &Client, object: &K, mut change: Value) -> Result<(), Error> {
    let meta = object.meta();
    change["uid"] = json!(meta.uid);
    change["resourceVersion"] = json!(meta.resource_version);
    let api: Api<K> = Api::namespaced(client.clone(), object::namespace(meta));
    let patch = Patch::Merge(json!({"metadata": change}));
    api.patch(object::name(meta), &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Writes the status that `object` carries, unless the object changed since it was read or is gone.
pub(crate) async fn write_status<K: Resource + serde::Serialize>(client: &Client, object: &K) -> Result<(), Error> {
    let api: Api<K> = Api::namespaced(client.clone(), object::namespace(object.meta()));
    match api.replace_status(object::name(object.meta()), &PostParams::default(), object).await {
        Err(error) if !xebec_client::is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Writes whose effect the informers have not shown yet, for each owner. A controller that created
/// ten pods must not look at a store that shows four and create six more.
#[derive(Default)]
pub(crate) struct Expectations(Mutex<HashMap<String, Expected>>);

struct Expected {
    creations: i64,
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    pub(crate) fn expect_creations(&self, owner: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.with(owner, |e| e.creations += count);
    }

    pub(crate) fn expect_deletions<'a>(&self, owner: &str, uids: impl Iterator<Item = &'a str>) {
        self.with(owner, |e| e.deletions.extend(uids.map(String::from)));
    }

    /// A creation was seen, or will never be.
    pub(crate) fn creation_observed(&self, owner: &str) {
        if let Some(expected) = self.lock().get_mut(owner) {
            expected.creations -= 1;
        }
    }

    pub(crate) fn deletion_observed(&self, owner: &str, uid: &str) {
        if let Some(expected) = self.lock().get_mut(owner) {
            expected.deletions.remove(uid);
        }
    }

    pub(crate) fn satisfied(&self, owner: &str) -> bool {
        let mut all = self.lock();
        let Some(expected) = all.get(owner) else { return true };
        let seen = expected.creations <= 0 && expected.deletions.is_empty();
        let satisfied = seen || expected.since.elapsed() >= EXPECTATIONS_TIMEOUT;
        if satisfied {
            all.remove(owner);
        }
        satisfied
    }

    pub(crate) fn forget(&self, owner: &str) {
        self.lock().remove(owner);
    }

    fn with(&self, owner: &str, change: impl FnOnce(&mut Expected)) {
        let mut all = self.lock();
        let fresh = || Expected { creations: 0, deletions: HashSet::new(), since: Instant::now() };
        let expected = all.entry(owner.into()).or_insert_with(fresh);
        expected.since = Instant::now();
        change(expected);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes of owned objects that the informer has not shown yet, by owner. Acting on a store without
/// them would do them again.
pub(crate) struct Written<O>(Mutex<HashMap<O, Writes>>);

/// By object: the resourceVersion that was written, and when.
type Writes = HashMap<String, (u64, Instant)>;

impl<O> Default for Written<O> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<O: Clone + Eq + std::hash::Hash> Written<O> {
    pub(crate) fn wrote<K: Object>(&self, owner: &O, object: &K, shown: &Informer<K>) {
        let meta = object.meta();
        let (name, version) = (object::name(meta), version(meta));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The event may have been faster than the answer.
        let known = shown.get(object::namespace(meta), name);
        if known.is_some_and(|known| self::version(known.meta()) >= version) {
            return;
        }
        all.entry(owner.clone()).or_default().insert(name.into(), (version, Instant::now()));
    }

    pub(crate) fn observe<K: Object>(&self, owner: &O, change: &Change<K>) {
        let Some(object) = change.object() else { return };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writes) = all.get_mut(owner) else { return };
        let name = object::name(object.meta());
        let version = version(object.meta());
        if writes.get(name).is_some_and(|(v, _)| change.is_deletion() || version >= *v) {
            writes.remove(name);
        }
        if writes.is_empty() {
            all.remove(owner);
        }
    }

    /// Whether there are writes to wait for. After five seconds the informer is believed anyway.
    pub(crate) fn is_waiting(&self, owner: &O) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writes) = all.get_mut(owner) else { return false };
        writes.retain(|_, (_, at)| at.elapsed() < STALE_FOR_MOST);
        !writes.is_empty()
    }
}

fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

/// Does `count` equal things in batches of 1, 2, 4, … so that a server that refuses one (quota,
/// admission) is not asked a thousand times. Returns how many succeeded and the first error;
/// what follows a failed batch is not attempted.
pub(crate) async fn slow_start<F>(count: usize, mut work: impl FnMut() -> F) -> (usize, Result<(), Error>)
where
    F: Future<Output = Result<(), Error>>,
{
    let (mut done, mut attempted, mut batch) = (0, 0, 1);
    while attempted < count {
        let size = batch.min(count - attempted);
        let results = in_parallel((0..size).map(|_| work())).await;
        attempted += size;
        done += results.iter().filter(|r| r.is_ok()).count();
        if let Some(error) = results.into_iter().find_map(Result::err) {
            return (done, Err(error));
        }
        batch *= 2;
    }
    (done, Ok(()))
}

pub(crate) async fn in_parallel<F: Future>(work: impl Iterator<Item = F>) -> Vec<F::Output> {
    futures::stream::iter(work).buffer_unordered(IN_FLIGHT).collect().await
}

#[cfg(test)]
mod tests;
