//! Mirrors Endpoints that people write by hand into EndpointSlices, as upstream's
//! `endpointslicemirroring` controller: whoever routes traffic reads slices only.

mod step;

use crate::control::{self, Written};
use crate::{Context, endpointslice};
use std::sync::Arc;
use std::time::Duration;
pub use step::{Plan, step};
use tokio_util::sync::CancellationToken;
use xebec_client::{Api, DeleteParams, Error, Informer, Key, Outcome, PostParams, Workqueue, chain, is_not_found};
use xebec_types::core::{Endpoints, Service};
use xebec_types::discovery::EndpointSlice;
use xebec_types::object;

const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        services: context.informers.informer(),
        endpoints: context.informers.informer(),
        slices: context.informers.informer(),
        written: Arc::default(),
        context,
    };
    let queue: Workqueue<Key> = Workqueue::new();
    controller.watch(&queue);
    let Controller { services, endpoints, slices, .. } = &controller;
    tokio::join!(services.synced(), endpoints.synced(), slices.synced());
    let sync = |key: Key| {
        let controller = &controller;
        async move {
            if controller.written.is_waiting(&key) {
                return Outcome::After(LOOK_AGAIN);
            }
            match controller.sync(&key).await {
                Ok(()) => Outcome::Done,
                Err(error) => {
                    tracing::debug!(endpoints = %key, error = chain(&error), "sync failed");
                    Outcome::Retry
                }
            }
        }
    };
    queue.run(2, &stop, sync).await;
}

struct Controller {
    context: Context,
    services: Arc<Informer<Service>>,
    endpoints: Arc<Informer<Endpoints>>,
    slices: Arc<Informer<EndpointSlice>>,
    written: Arc<Written<Key>>,
}

impl Controller {
    fn watch(&self, queue: &Workqueue<Key>) {
        self.slices
            .add_index(endpointslice::BY_SERVICE, |slice| endpointslice::service_of(slice).into_iter().collect());
        let sink = queue.clone();
        self.services.on_change(move |change| sink.add(change.key()));
        let sink = queue.clone();
        self.endpoints.on_change(move |change| sink.add(change.key()));
        let (sink, written) = (queue.clone(), Arc::clone(&self.written));
        self.slices.on_change(move |change| {
            let Some(slice) = change.object().filter(|slice| step::is_ours(slice)) else { return };
            if let Some(service) = endpointslice::service_key(slice) {
                written.observe(&service, change);
                sink.add(service);
            }
        });
    }

    async fn sync(&self, key: &Key) -> Result<(), Error> {
        let index = format!("{}/{}", key.namespace, key.name);
        let mut slices = self.slices.by_index(endpointslice::BY_SERVICE, &index);
        slices.retain(|slice| step::is_ours(slice));
        let (service, endpoints) = (self.services.get_key(key), self.endpoints.get_key(key));
        let plan = step(service.as_deref(), endpoints.as_deref(), &slices);
        let api: Api<EndpointSlice> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let api = &api;
        let puts = plan.put.into_iter().map(|slice| async move {
            let written = match &slice.metadata.name {
                Some(name) => api.replace(name, &PostParams::default(), &slice).await,
                None => api.create(&PostParams::default(), &slice).await,
            };
            match written {
                Ok(slice) => self.written.wrote(key, &slice, &self.slices),
                Err(Error::Api(status)) if crate::control::pods::is_terminating_namespace(&status) => {}
                Err(error) => return Err(error),
            }
            Ok(())
        });
        control::in_parallel(puts).await.into_iter().collect::<Result<(), Error>>()?;
        for slice in plan.delete {
            match api.delete(object::name(&slice.metadata), &DeleteParams::default()).await {
                Err(error) if !is_not_found(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
