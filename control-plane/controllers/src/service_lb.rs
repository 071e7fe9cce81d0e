//! Addresses for Services of type LoadBalancer, from the server's pools. Which node speaks for an address is the nodes'
//! own decision.

mod pool;
mod step;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use xebec_client::{Api, Error, Informer, Outcome, Patch, PatchParams, Workqueue, chain, is_conflict, is_not_found};
use xebec_types::core::Service;
use xebec_types::object;

use crate::{Context, control};
pub use pool::{AddressPool, InvalidPool};
pub use step::{CLASS, Plan, Refusal, Write, step};

/// Changes of several Services make one plan.
const GATHER: Duration = Duration::from_millis(20);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    if context.config.load_balancer_pools.is_empty() {
        // Another implementation may give addresses.
        return stop.cancelled().await;
    }
    let services: Arc<Informer<Service>> = context.informers.informer();
    let queue: Workqueue<()> = Workqueue::new();
    let sink = queue.clone();
    services.on_change(move |change| {
        let concerns = |service: &Option<Arc<Service>>| service.as_ref().is_some_and(|service| is_balanced(service));
        if concerns(&change.old) || concerns(&change.new) {
            sink.add_after((), GATHER);
        }
    });
    services.synced().await;
    queue.add(());
    let sync = |()| {
        let (context, services) = (&context, &services);
        async move {
            match sync(context, services).await {
                Ok(()) => Outcome::Done,
                Err(error) => {
                    tracing::debug!(error = chain(&error), "load balancers' addresses not written");
                    Outcome::Retry
                }
            }
        }
    };
    queue.run(1, &stop, sync).await;
}

fn is_balanced(service: &Service) -> bool {
    let typed = service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    typed || status.is_some_and(|status| status.ingress.as_ref().is_some_and(|ingress| !ingress.is_empty()))
}

async fn sync(context: &Context, services: &Informer<Service>) -> Result<(), Error> {
    let plan = step(&services.list(), &context.config.load_balancer_pools);
    let recorder = context.recorder("service-controller");
    for Refusal { service, reason } in &plan.refusals {
        recorder.warning(&**service, "AllocationFailed", reason);
    }
    let client = &context.client;
    let writes = plan.writes.into_iter().map(|write| async move {
        let meta = &write.service.metadata;
        let api: Api<Service> = Api::namespaced(client.clone(), object::namespace(meta));
        let ingress: Vec<_> = write.address.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
        // Of this version only: a newer one is another plan's.
        let patch = json!({ "metadata": { "resourceVersion": meta.resource_version },
            "status": { "loadBalancer": { "ingress": ingress } } });
        match api.patch_status(object::name(meta), &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(error),
            _ => Ok(()),
        }
    });
    control::in_parallel(writes).await.into_iter().collect()
}
