//! Keeps EndpointSlices in step with pods, as upstream's `endpointslice` controller.
//!
//! This is the first hop of withdrawal: a pod that is deleted, or stops being ready, leaves its
//! slices with the next sync, which starts at once.

pub(crate) mod endpoint;
mod step;

use crate::Context;
use crate::control::{self, Reconcile, Written, pods};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
pub use step::{MANAGED_BY, Plan, step};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xebec_client::{
    Api, Change, DeleteParams, Error, EventRecorder, Informer, Key, Outcome, PostParams, Workqueue, is_not_found,
};
use xebec_types::core::{Node, Pod, Service};
use xebec_types::discovery::EndpointSlice;
use xebec_types::{label, object, pod};

/// Slices by `namespace/service`.
pub(crate) const BY_SERVICE: &str = "service";
/// New backends of a Service that changed within this time wait as long for others.
const GATHER: Duration = Duration::from_millis(50);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        services: context.informers.informer(),
        pods: context.informers.informer(),
        nodes: context.informers.informer(),
        slices: context.informers.informer(),
        recorder: context.recorder("endpoint-slice-controller"),
        written: Arc::default(),
        pace: Arc::default(),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    let Controller { services, pods, nodes, slices, .. } = &controller;
    tokio::join!(services.synced(), pods.synced(), nodes.synced(), slices.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    services: Arc<Informer<Service>>,
    pods: Arc<Informer<Pod>>,
    nodes: Arc<Informer<Node>>,
    slices: Arc<Informer<EndpointSlice>>,
    recorder: EventRecorder,
    written: Arc<Written<Key>>,
    pace: Arc<Pace>,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "service";
    const WORKERS: usize = 5;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        if self.written.is_waiting(key) {
            return Ok(Outcome::After(LOOK_AGAIN));
        }
        // Slices of a Service that is gone are the garbage collector's.
        let Some(service) = self.services.get_key(key) else { return Ok(Outcome::Done) };
        let plan = self.plan(&service);
        self.pace.note(key);
        let applied = self.apply(key, plan).await;
        if let Err(error) = &applied
            && !xebec_client::is_conflict(error)
        {
            let message = format!("Error updating Endpoint Slices for Service {key}: {}", pods::message(error));
            self.recorder.warning(&*service, "FailedToUpdateEndpointSlices", message);
        }
        applied.map(|()| Outcome::Done)
    }
}

impl Controller {
    fn watch(&self) {
        self.slices.add_index(BY_SERVICE, |slice| service_of(slice).into_iter().collect());
        let (queue, pace) = (self.queue.clone(), Arc::clone(&self.pace));
        self.services.on_change(move |change| {
            if change.is_deletion() {
                pace.forget(&change.key());
            }
            queue.add(change.key());
        });
        let (queue, written) = (self.queue.clone(), Arc::clone(&self.written));
        self.slices.on_change(move |change| {
            if let Some(service) = change.object().and_then(|slice| service_key(slice)) {
                written.observe(&service, change);
            }
            for slice in [&change.old, &change.new].into_iter().flatten() {
                if let (true, Some(service)) = (is_ours(slice), service_key(slice)) {
                    queue.add(service);
                }
            }
        });
        let (queue, services) = (self.queue.clone(), Arc::clone(&self.services));
        let pace = Arc::clone(&self.pace);
        self.pods.on_change(move |change| {
            let is_urgent = is_withdrawal(change);
            for key in affected(&services, change) {
                let wait = if is_urgent { Duration::ZERO } else { pace.wait(&key) };
                queue.add_after(key, wait);
            }
        });
        // A node that changes its zone changes the endpoints on it.
        let (queue, services) = (self.queue.clone(), Arc::clone(&self.services));
        self.nodes.on_change(move |change| {
            let zone = |node: &Option<Arc<Node>>| {
                let node = node.as_ref()?;
                object::label(&node.metadata, label::TOPOLOGY_ZONE).map(String::from)
            };
            if zone(&change.old) != zone(&change.new) {
                services.read().iter().for_each(|s| queue.add(Key::of(&s.metadata)));
            }
        });
    }

    fn plan(&self, service: &Service) -> Plan {
        let namespace = object::namespace(&service.metadata);
        let pods = selected(&self.pods, service);
        let index = format!("{namespace}/{}", object::name(&service.metadata));
        let mut slices = self.slices.by_index(BY_SERVICE, &index);
        slices.retain(|slice| is_ours(slice) && !object::is_being_deleted(&slice.metadata));
        if object::is_being_deleted(&service.metadata) || (slices.is_empty() && unselective(service)) {
            return Plan::default();
        }
        step(service, &pods, &slices, |node| {
            let node = self.nodes.get("", node)?;
            object::label(&node.metadata, label::TOPOLOGY_ZONE).map(String::from)
        })
    }

    async fn apply(&self, service: &Key, plan: Plan) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.context.client.clone(), &service.namespace);
        let api = &api;
        // Withdrawals first, and all of them at once.
        let wrote = |slice: &EndpointSlice| self.written.wrote(service, slice, &self.slices);
        let wrote = &wrote;
        let updates = plan.update.into_iter().map(|slice| async move {
            let known = self.slices.get(&service.namespace, object::name(&slice.metadata));
            write(api, &slice, known.as_deref(), wrote).await
        });
        let mut results: Vec<Result<(), Error>> = control::in_parallel(updates).await;
        let creates = plan.create.into_iter().map(|slice| async move {
            match write(api, &slice, None, wrote).await {
                Err(Error::Api(status)) if pods::is_terminating_namespace(&status) => Ok(()),
                written => written,
            }
        });
        results.extend(control::in_parallel(creates).await);
        let deletes = plan.delete.into_iter().map(|slice| async move {
            match api.delete(object::name(&slice.metadata), &DeleteParams::default()).await {
                Err(error) if !is_not_found(&error) => Err(error),
                _ => Ok(()),
            }
        });
        results.extend(control::in_parallel(deletes).await);
        results.into_iter().collect()
    }
}

/// Creates a slice, or replaces the one of its name, which is `known`, and tells of what was written. Of one that the nodes have no room for
/// as much is written as they have: clients must not stay on what is gone, nor go without what fits. That is an error still.
pub(crate) async fn write(
    api: &Api<EndpointSlice>,
    slice: &EndpointSlice,
    known: Option<&EndpointSlice>,
    wrote: impl Fn(&EndpointSlice),
) -> Result<(), Error> {
    let put = async |slice: &EndpointSlice| {
        let params = PostParams::default();
        let written = match &slice.metadata.name {
            Some(name) => api.replace(name, &params, slice).await,
            None => api.create(&params, slice).await,
        };
        written.map(|slice| wrote(&slice))
    };
    let refused = match put(slice).await {
        Err(error) if pods::is_out_of_room(&error) => error,
        written => return written,
    };
    for slice in step::fewer(slice, known) {
        match put(&slice).await {
            Err(error) if pods::is_out_of_room(&error) => {}
            written => return written.and(Err(refused)),
        }
    }
    Err(refused)
}

/// The pods that a Service selects.
pub(crate) fn selected(pods: &Informer<Pod>, service: &Service) -> Vec<Arc<Pod>> {
    let Some(selector) = service.spec.as_ref().and_then(|s| s.selector.as_ref()) else {
        return Vec::new();
    };
    let snapshot = pods.read();
    let in_namespace = snapshot.namespace(object::namespace(&service.metadata));
    in_namespace.filter(|p| object::map_selects(selector, p.metadata.labels.as_ref())).cloned().collect()
}

/// The Services whose endpoints a pod's change can change.
pub(crate) fn affected(services: &Informer<Service>, change: &Change<Pod>) -> Vec<Key> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && !endpoint::differs(old, new)
    {
        return Vec::new();
    }
    let Some(pod) = change.object() else { return Vec::new() };
    let selects = |service: &&Arc<Service>| {
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
        selector.is_some_and(|selector| {
            let pods = [&change.old, &change.new].into_iter().flatten();
            pods.into_iter().any(|p| object::map_selects(selector, p.metadata.labels.as_ref()))
        })
    };
    let snapshot = services.read();
    let in_namespace = snapshot.namespace(object::namespace(&pod.metadata));
    in_namespace.filter(selects).map(|s| Key::of(&s.metadata)).collect()
}

fn unselective(service: &Service) -> bool {
    !service.spec.as_ref().is_some_and(endpoint::has_endpoints)
}

fn is_ours(slice: &EndpointSlice) -> bool {
    object::label(&slice.metadata, label::ENDPOINTSLICE_MANAGED_BY) == Some(MANAGED_BY)
}

pub(crate) fn service_of(slice: &EndpointSlice) -> Option<String> {
    service_key(slice).map(|key| format!("{}/{}", key.namespace, key.name))
}

pub(crate) fn service_key(slice: &EndpointSlice) -> Option<Key> {
    let service = object::label(&slice.metadata, label::SERVICE_NAME)?;
    Some(Key::new(object::namespace(&slice.metadata), service))
}

/// Whether a backend stops taking connections. Nothing waits for company then.
fn is_withdrawal(change: &Change<Pod>) -> bool {
    let takes = |pod: &Pod| pod::is_ready(pod) && pod::is_active(pod);
    change.old.as_ref().is_some_and(|p| takes(p)) && !change.new.as_ref().is_some_and(|p| takes(p))
}

/// Lets a lone change through at once and gathers those that follow closely: a thousand pods that
/// become ready one by one must not write each slice a hundred times.
#[derive(Default)]
struct Pace(Mutex<HashMap<Key, Instant>>);

impl Pace {
    fn wait(&self, service: &Key) -> Duration {
        let last = self.lock().get(service).copied();
        if last.is_some_and(|at| at.elapsed() < GATHER) { GATHER } else { Duration::ZERO }
    }

    fn note(&self, service: &Key) {
        self.lock().insert(service.clone(), Instant::now());
    }

    fn forget(&self, service: &Key) {
        self.lock().remove(service);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
