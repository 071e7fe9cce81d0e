//! Keeps the older Endpoints in step with pods, as upstream's `endpoint` controller. Nothing of ours
//! reads them; clients still do.

mod step;

use crate::control::{self, Reconcile, pods};
use crate::{Context, endpointslice};
use std::sync::Arc;
use std::time::Duration;
pub use step::step;
use tokio_util::sync::CancellationToken;
use xebec_client::{
    Api, DeleteParams, Error, EventRecorder, Informer, Key, Outcome, PostParams, Workqueue, is_already_exists,
    is_not_found,
};
use xebec_types::core::{EndpointSubset, Endpoints, Pod, Service};

/// Pod events within this time make one sync; slices are what must be fast. It grows with the
/// object, which is written whole for every change.
const GATHER: Duration = Duration::from_millis(100);
const GATHER_PER_ADDRESS: Duration = Duration::from_millis(2);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        services: context.informers.informer(),
        pods: context.informers.informer(),
        endpoints: context.informers.informer(),
        recorder: context.recorder("endpoint-controller"),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    let Controller { services, pods, endpoints, .. } = &controller;
    tokio::join!(services.synced(), pods.synced(), endpoints.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    services: Arc<Informer<Service>>,
    pods: Arc<Informer<Pod>>,
    endpoints: Arc<Informer<Endpoints>>,
    recorder: EventRecorder,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "endpoints";
    const WORKERS: usize = 2;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        self.write(key).await.map(|()| Outcome::Done)
    }
}

impl Controller {
    fn watch(&self) {
        let queue = self.queue.clone();
        self.services.on_change(move |change| queue.add(change.key()));
        let queue = self.queue.clone();
        self.endpoints.on_change(move |change| queue.add_after(change.key(), GATHER));
        let (queue, services) = (self.queue.clone(), Arc::clone(&self.services));
        let endpoints = Arc::clone(&self.endpoints);
        self.pods.on_change(move |change| {
            for key in endpointslice::affected(&services, change) {
                let wait = gather(endpoints.get_key(&key).as_deref());
                queue.add_after(key, wait);
            }
        });
    }

    async fn write(&self, key: &Key) -> Result<(), Error> {
        let api: Api<Endpoints> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let known = self.endpoints.get_key(key);
        let Some(service) = self.services.get_key(key) else {
            return self.remove(&api, key, known.as_deref()).await;
        };
        let pods = endpointslice::selected(&self.pods, &service);
        let Some(desired) = step(&service, &pods, known.as_deref()) else { return Ok(()) };
        let written = match &known {
            Some(_) => api.replace(&key.name, &PostParams::default(), &desired).await,
            None => api.create(&PostParams::default(), &desired).await,
        };
        match written {
            Ok(_) => Ok(()),
            Err(Error::Api(status)) if pods::is_terminating_namespace(&status) => Ok(()),
            Err(error) => {
                if !is_already_exists(&error) && !xebec_client::is_conflict(&error) {
                    let message = pods::message(&error);
                    let message = format!("Failed to update endpoint {key}: {message}");
                    self.recorder.warning(&*service, "FailedToUpdateEndpoint", message);
                }
                Err(error)
            }
        }
    }

    /// Endpoints live and die with their Service, unless somebody else made them.
    async fn remove(&self, api: &Api<Endpoints>, key: &Key, known: Option<&Endpoints>) -> Result<(), Error> {
        if !known.is_some_and(|e| step::is_ours(&e.metadata)) {
            return Ok(());
        }
        match api.delete(&key.name, &DeleteParams::default()).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

fn gather(known: Option<&Endpoints>) -> Duration {
    let subsets = known.iter().flat_map(|e| e.subsets.iter().flatten());
    let size = |s: &EndpointSubset| {
        let lists = [&s.addresses, &s.not_ready_addresses];
        lists.into_iter().flatten().map(Vec::len).sum::<usize>()
    };
    let addresses = u32::try_from(subsets.map(size).sum::<usize>()).unwrap_or(u32::MAX);
    GATHER + GATHER_PER_ADDRESS.saturating_mul(addresses)
}
