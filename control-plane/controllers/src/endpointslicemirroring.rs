//! Mirrors Endpoints that people write by hand into EndpointSlices, as upstream's
//! `endpointslicemirroring` controller: whoever routes traffic reads slices only.

mod step;

use crate::control::{self, Reconcile, Written, pods};
use crate::{Context, endpointslice};
use std::sync::Arc;
use std::time::Duration;
pub use step::{Plan, step};
use tokio_util::sync::CancellationToken;
use xebec_client::{Api, DeleteParams, Error, EventRecorder, Informer, Key, Outcome, Workqueue, is_not_found};
use xebec_types::core::{Endpoints, Service};
use xebec_types::discovery::EndpointSlice;
use xebec_types::object;

const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        services: context.informers.informer(),
        recorder: context.recorder("endpoint-slice-mirroring-controller"),
        endpoints: context.informers.informer(),
        slices: context.informers.informer(),
        written: Arc::default(),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    let Controller { services, endpoints, slices, .. } = &controller;
    tokio::join!(services.synced(), endpoints.synced(), slices.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    services: Arc<Informer<Service>>,
    endpoints: Arc<Informer<Endpoints>>,
    slices: Arc<Informer<EndpointSlice>>,
    recorder: EventRecorder,
    written: Arc<Written<Key>>,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "endpoints";
    const WORKERS: usize = 2;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        if self.written.is_waiting(key) {
            return Ok(Outcome::After(LOOK_AGAIN));
        }
        let mirrored = self.mirror(key).await;
        if let (Err(error), Some(endpoints)) = (&mirrored, self.endpoints.get_key(key))
            && !xebec_client::is_conflict(error)
        {
            let message = format!("Error updating Endpoint Slices for Endpoints {key}: {}", pods::message(error));
            self.recorder.warning(&*endpoints, "FailedToUpdateEndpointSlices", message);
        }
        mirrored.map(|()| Outcome::Done)
    }
}

impl Controller {
    fn watch(&self) {
        self.slices
            .add_index(endpointslice::BY_SERVICE, |slice| endpointslice::service_of(slice).into_iter().collect());
        let sink = self.queue.clone();
        self.services.on_change(move |change| sink.add(change.key()));
        let sink = self.queue.clone();
        self.endpoints.on_change(move |change| sink.add(change.key()));
        let (sink, written) = (self.queue.clone(), Arc::clone(&self.written));
        self.slices.on_change(move |change| {
            let Some(slice) = change.object().filter(|slice| step::is_ours(slice)) else { return };
            if let Some(service) = endpointslice::service_key(slice) {
                written.observe(&service, change);
                sink.add(service);
            }
        });
    }

    async fn mirror(&self, key: &Key) -> Result<(), Error> {
        let index = format!("{}/{}", key.namespace, key.name);
        let mut slices = self.slices.by_index(endpointslice::BY_SERVICE, &index);
        slices.retain(|slice| step::is_ours(slice));
        let (service, endpoints) = (self.services.get_key(key), self.endpoints.get_key(key));
        let plan = step(service.as_deref(), endpoints.as_deref(), &slices);
        let api: Api<EndpointSlice> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let api = &api;
        let wrote = |slice: &EndpointSlice| self.written.wrote(key, slice, &self.slices);
        let wrote = &wrote;
        let puts = plan.put.into_iter().map(|slice| async move {
            let known = slice.metadata.name.as_ref().and_then(|name| self.slices.get(&key.namespace, name));
            match endpointslice::write(api, &slice, known.as_deref(), wrote).await {
                Err(Error::Api(status)) if pods::is_terminating_namespace(&status) => Ok(()),
                written => written,
            }
        });
        let written = control::in_parallel(puts).await.into_iter().collect::<Result<(), Error>>();
        // What takes the room of others must go first.
        if !written.as_ref().err().is_none_or(pods::is_out_of_room) {
            return written;
        }
        for slice in plan.delete {
            match api.delete(object::name(&slice.metadata), &DeleteParams::default()).await {
                Err(error) if !is_not_found(&error) => return Err(error),
                _ => {}
            }
        }
        written
    }
}
