//! The cluster's DNS Service. Every node answers for its own pods: the Service has
//! `internalTrafficPolicy: Local`, and an endpoint on each node at the pod network's gateway.

mod step;

use crate::{Context, control};
use std::sync::Arc;
use std::time::Duration;
pub use step::{Plan, step};
use tokio_util::sync::CancellationToken;
use xebec_client::informer::Selection;
use xebec_client::{
    Api, DeleteParams, Error, Informer, Outcome, PostParams, Workqueue, chain, is_already_exists, is_conflict,
    is_not_found,
};
use xebec_types::core::{Node, Service};
use xebec_types::discovery::EndpointSlice;
use xebec_types::{label, namespace, object};

/// Changes of several nodes make one write.
const GATHER: Duration = Duration::from_millis(20);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let only = Selection::labels(&format!("{}={}", label::SERVICE_NAME, step::NAME));
    let controller = Controller {
        services: context.informers.informer(),
        nodes: context.informers.informer(),
        slices: context.informers.selected(&only),
        context,
    };
    let queue: Workqueue<()> = Workqueue::new();
    let sink = queue.clone();
    controller.nodes.on_change(move |change| {
        let view = |node: &Option<Arc<Node>>| node.as_ref().map(|n| step::addresses(n));
        if view(&change.old) != view(&change.new) {
            sink.add_after((), GATHER);
        }
    });
    let sink = queue.clone();
    controller.services.on_change(move |change| {
        let key = change.key();
        if &*key.name == step::NAME && &*key.namespace == namespace::KUBE_SYSTEM {
            sink.add_after((), GATHER);
        }
    });
    let sink = queue.clone();
    controller.slices.on_change(move |_| sink.add_after((), GATHER));
    let Controller { services, nodes, slices, .. } = &controller;
    tokio::join!(services.synced(), nodes.synced(), slices.synced());
    queue.add(());
    let sync = |()| {
        let controller = &controller;
        async move {
            match controller.sync().await {
                Ok(()) => Outcome::Done,
                Err(error) => {
                    tracing::debug!(error = chain(&error), "cluster DNS Service not written");
                    Outcome::Retry
                }
            }
        }
    };
    queue.run(1, &stop, sync).await;
}

struct Controller {
    context: Context,
    services: Arc<Informer<Service>>,
    nodes: Arc<Informer<Node>>,
    slices: Arc<Informer<EndpointSlice>>,
}

impl Controller {
    async fn sync(&self) -> Result<(), Error> {
        let service = self.services.get(namespace::KUBE_SYSTEM, step::NAME);
        let slices = self.slices.list_namespace(namespace::KUBE_SYSTEM);
        let networks = &self.context.config.service_cidrs;
        let plan = step(service.as_deref(), &self.nodes.list(), &slices, networks);
        let client = &self.context.client;
        if let Some(service) = &plan.create {
            let api: Api<Service> = Api::namespaced(client.clone(), namespace::KUBE_SYSTEM);
            settled(api.create(&PostParams::default(), service).await)?;
        }
        let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace::KUBE_SYSTEM);
        let api = &api;
        let puts = plan.put.into_iter().map(|slice| async move {
            let name = object::name(&slice.metadata).to_string();
            if slice.metadata.resource_version.is_some() {
                api.replace(&name, &PostParams::default(), &slice).await?;
                return Ok(());
            }
            settled(api.create(&PostParams::default(), &slice).await)
        });
        control::in_parallel(puts).await.into_iter().collect::<Result<(), Error>>()?;
        for slice in plan.delete {
            let name = object::name(&slice.metadata);
            settled(api.delete(name, &DeleteParams::default()).await)?;
        }
        Ok(())
    }
}

/// What raced is seen again by the informer.
fn settled<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if is_already_exists(&error) || is_not_found(&error) || is_conflict(&error) => Ok(()),
        Err(error) => Err(error),
    }
}
