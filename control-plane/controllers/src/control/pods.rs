//! The pods of workloads: who owns them, what was asked for and not seen yet, and the Events that
//! tell of them. As upstream's `PodControllerRefManager` and `RealPodControl`.

use crate::control::{self, Claim, Expectations};
use std::sync::Arc;
use std::time::Duration;
use xebec_client::informer::Object;
use xebec_client::kube::api::Preconditions;
use xebec_client::kube::core::{NamespaceResourceScope, Status};
use xebec_client::{
    Api, Change, Client, DeleteParams, Error, EventRecorder, Informer, Key, PostParams, Workqueue, chain, is_not_found,
};
use xebec_clock::Clock;
use xebec_types::core::Pod;
use xebec_types::time::{self, Timestamp};
use xebec_types::{ObjectMeta, object, pod};

/// Objects by their controller's uid; orphans by `orphan/<namespace>`.
pub(crate) const BY_CONTROLLER: &str = "controller";

/// A kind that makes pods.
pub(crate) trait Owner: Object + Resource {
    /// What its pods carry until they are accounted for.
    const FINALIZER: Option<&'static str> = None;

    /// Whether the pod falls under this owner's selector.
    fn selects(&self, pod: &Pod) -> bool;

    /// Whether a selected pod without an owner is worth having.
    fn wants(&self, _pod: &Pod) -> bool {
        true
    }
}

/// What every owned kind and every owner is here.
pub(crate) trait Resource:
    xebec_client::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Object
{
}

impl<K: xebec_client::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Object> Resource for K {}

pub(crate) struct Pods<O> {
    pub client: Client,
    pub pods: Arc<Informer<Pod>>,
    pub owners: Arc<Informer<O>>,
    pub recorder: EventRecorder,
    pub expectations: Arc<Expectations>,
    clock: Clock,
}

impl<O: Owner> Pods<O> {
    pub(crate) fn new(context: &crate::Context, component: &str) -> Self {
        let pods = context.informers.informer::<Pod>();
        pods.add_index(BY_CONTROLLER, |pod| controller_index(&pod.metadata));
        Self {
            client: context.client.clone(),
            pods,
            owners: context.informers.informer(),
            recorder: context.recorder(component),
            expectations: Arc::default(),
            clock: context.config.clock.clone(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        time::at(self.clock.now())
    }

    pub(crate) async fn synced(&self) {
        tokio::join!(self.pods.synced(), self.owners.synced());
    }

    /// Queues owners when they change, and `gather` after their pods do.
    pub(crate) fn watch(&self, queue: &Workqueue<Key>, gather: Duration) {
        let (sink, expectations) = (queue.clone(), Arc::clone(&self.expectations));
        self.owners.on_change(move |change| {
            if let (Some(old), None) = (&change.old, &change.new) {
                expectations.forget(object::uid(old.meta()));
            }
            sink.add(change.key());
        });
        let (sink, expectations) = (queue.clone(), Arc::clone(&self.expectations));
        let owners = Arc::clone(&self.owners);
        let kind = O::kind(&());
        self.pods.on_change(move |change| {
            observe(&expectations, change);
            for pod in [&change.old, &change.new].into_iter().flatten() {
                let namespace = object::namespace(&pod.metadata);
                match object::controller_of(&pod.metadata) {
                    Some(owner) if owner.kind == kind => sink.add_after(Key::new(namespace, &owner.name), gather),
                    Some(_) => {}
                    None => {
                        let selecting = owners.list_namespace(namespace).into_iter().filter(|owner| owner.selects(pod));
                        selecting.for_each(|owner| sink.add_after(Key::of(owner.meta()), gather));
                    }
                }
            }
        });
    }

    /// The owner's pods, after adopting and releasing.
    pub(crate) async fn claimed(&self, owner: &O) -> Result<Vec<Arc<Pod>>, Error> {
        let uid = object::uid(owner.meta());
        let mut pods = self.pods.by_index(BY_CONTROLLER, uid);
        pods.extend(self.pods.by_index(BY_CONTROLLER, &orphans(object::namespace(owner.meta()))));
        let mut own = Vec::with_capacity(pods.len());
        let mut may_adopt = None;
        for pod in pods {
            match control::claim(&pod.metadata, owner.meta(), owner.selects(&pod)) {
                Claim::Own => own.push(pod),
                Claim::Adopt if owner.wants(&pod) => {
                    let may = match may_adopt {
                        Some(may) => may,
                        None => *may_adopt.insert(still_there(&self.client, owner).await?),
                    };
                    if may {
                        control::adopt_with(&self.client, &*pod, owner, O::FINALIZER).await?;
                        own.push(pod);
                    }
                }
                Claim::Release => control::release_with(&self.client, &*pod, uid, O::FINALIZER).await?,
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        Ok(own)
    }

    /// Creates a pod that was expected beforehand.
    pub(crate) async fn create(&self, owner: &O, pod: &Pod) -> Result<(), Error> {
        match self.api(owner).create(&PostParams::default(), pod).await {
            Ok(pod) => {
                let name = object::name(&pod.metadata);
                self.recorder.normal(owner, "SuccessfulCreate", format!("Created pod: {name}"));
                Ok(())
            }
            // The namespace is going away and so is the owner.
            Err(Error::Api(status)) if is_terminating_namespace(&status) => {
                self.expectations.creation_observed(object::uid(owner.meta()));
                Ok(())
            }
            Err(error) => {
                self.recorder.warning(owner, "FailedCreate", format!("Error creating: {}", message(&error)));
                Err(error)
            }
        }
    }

    /// Creates `count` pods in growing batches, expecting each.
    pub(crate) async fn create_many(&self, owner: &O, count: usize, mut pod: impl FnMut() -> Pod) -> Result<(), Error> {
        let uid = object::uid(owner.meta());
        self.expectations.expect_creations(uid, count);
        let (created, result) = control::slow_start(count, || {
            let pod = pod();
            async move { self.create(owner, &pod).await }
        })
        .await;
        // A creation that failed or was not tried will not be seen.
        (created..count).for_each(|_| self.expectations.creation_observed(uid));
        result
    }

    /// Deletes pods side by side, expecting each; the first error if any.
    pub(crate) async fn delete_many(&self, owner: &O, victims: &[Arc<Pod>]) -> Result<(), Error> {
        if victims.is_empty() {
            return Ok(());
        }
        let uids = victims.iter().map(|pod| object::uid(&pod.metadata));
        self.expectations.expect_deletions(object::uid(owner.meta()), uids);
        let work = victims.iter().cloned().map(|pod| async move { self.delete(owner, &pod).await });
        control::in_parallel(work).await.into_iter().collect()
    }

    async fn delete(&self, owner: &O, pod: &Pod) -> Result<(), Error> {
        let name = object::name(&pod.metadata);
        match self.api(owner).delete(name, &exactly(&pod.metadata)).await {
            Ok(_) => {
                self.recorder.normal(owner, "SuccessfulDelete", format!("Deleted pod: {name}"));
                Ok(())
            }
            Err(error) => {
                let uid = object::uid(&pod.metadata);
                self.expectations.deletion_observed(object::uid(owner.meta()), uid);
                if is_not_found(&error) {
                    return Ok(());
                }
                self.recorder.warning(owner, "FailedDelete", format!("Error deleting: {}", message(&error)));
                Err(error)
            }
        }
    }

    pub(crate) fn api(&self, owner: &O) -> Api<Pod> {
        Api::namespaced(self.client.clone(), object::namespace(owner.meta()))
    }
}

/// Deletion of this object and of no other that took its name.
pub(crate) fn exactly(meta: &ObjectMeta) -> DeleteParams {
    let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

pub(crate) fn controller_index(meta: &ObjectMeta) -> Vec<String> {
    vec![match object::controller_of(meta) {
        Some(owner) => owner.uid.clone(),
        None => orphans(object::namespace(meta)),
    }]
}

pub(crate) fn orphans(namespace: &str) -> String {
    format!("orphan/{namespace}")
}

/// Asks the server: an informer may still show an owner whose deletion set its dependents free.
pub(crate) async fn still_there<O: Resource>(client: &Client, owner: &O) -> Result<bool, Error> {
    let api: Api<O> = Api::namespaced(client.clone(), object::namespace(owner.meta()));
    let fresh = api.get_opt(object::name(owner.meta())).await?;
    Ok(fresh.is_some_and(|f| f.meta().uid == owner.meta().uid && !object::is_being_deleted(f.meta())))
}

fn observe(expectations: &Expectations, change: &Change<Pod>) {
    let Some(pod) = change.object() else { return };
    let Some(owner) = object::controller_of(&pod.metadata) else { return };
    if change.old.is_none() {
        expectations.creation_observed(&owner.uid);
    }
    if change.new.is_none() || pod::is_terminating(pod) {
        expectations.deletion_observed(&owner.uid, object::uid(&pod.metadata));
    }
}

/// The server's words without the reason that `Display` adds.
pub(crate) fn message(error: &Error) -> String {
    match error {
        Error::Api(status) => status.message.clone(),
        other => chain(other),
    }
}

pub(crate) fn is_terminating_namespace(status: &Status) -> bool {
    is_forbidden_for(status, "NamespaceTerminating")
}

/// Whether the nodes' datapath has no room for a Service or EndpointSlice.
pub(crate) fn is_out_of_room(error: &Error) -> bool {
    matches!(error, Error::Api(status) if is_forbidden_for(status, "DatapathCapacityExceeded"))
}

fn is_forbidden_for(status: &Status, reason: &str) -> bool {
    let causes = status.details.iter().flat_map(|d| &d.causes);
    status.reason == "Forbidden" && causes.into_iter().any(|cause| cause.reason == reason)
}
