//! Addresses for Services of type LoadBalancer, from the server's flags and from LoadBalancerIPPools. Which node speaks
//! for an address is the nodes' own decision.

mod kind;
mod pool;
mod range;
mod step;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use xebec_client::retry::Backoff;
use xebec_client::{
    Api, Client, Error, Informer, ListParams, Outcome, Patch, PatchParams, Workqueue, chain, is_conflict, is_not_found,
};
use xebec_types::core::Service;
use xebec_types::object;

use crate::{Context, control};
pub use kind::LoadBalancerIPPool;
pub use pool::{FINALIZER, Fault, Pool, pools};
pub use range::{AddressRange, InvalidRange};
pub use step::{CLASS, Plan, Refusal, Write, step};

/// Changes of several Services make one plan.
const GATHER: Duration = Duration::from_millis(20);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    if stop.run_until_cancelled(define(&context)).await.is_none() {
        return;
    }
    let controller =
        Controller { services: context.informers.informer(), pools: context.informers.informer(), context };
    let queue: Workqueue<()> = Workqueue::new();
    let sink = queue.clone();
    controller.services.on_change(move |change| {
        let concerns = |service: &Option<Arc<Service>>| service.as_ref().is_some_and(|service| is_balanced(service));
        if concerns(&change.old) || concerns(&change.new) {
            sink.add_after((), GATHER);
        }
    });
    let sink = queue.clone();
    controller.pools.on_change(move |_| sink.add_after((), GATHER));
    tokio::join!(controller.services.synced(), controller.pools.synced());
    queue.add(());
    let sync = |()| {
        let controller = &controller;
        async move {
            match controller.sync().await {
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

/// So many failures, over three seconds, are more than a start takes.
const DEFINE_TRIES: u32 = 6;

/// Makes LoadBalancerIPPool a kind, and waits until it is served.
async fn define(context: &Context) {
    let (mut backoff, mut failures) = (Backoff::reconnect(), 0);
    while let Err(error) = try_define(context).await {
        failures += 1;
        let error = chain(&error);
        if failures == DEFINE_TRIES {
            tracing::warn!(error, "LoadBalancerIPPool is not served: load balancers get no addresses");
        } else {
            tracing::debug!(error, "LoadBalancerIPPool is not served yet");
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn try_define(context: &Context) -> Result<(), Error> {
    let definition = kind::definition();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let manager = PatchParams::apply("xebec").force();
    let request = xebec_client::kube::core::Request::new(path);
    let request = request.patch(&kind::definition_name(), &manager, &Patch::Apply(&definition));
    let _: Value = context.client.request(request.map_err(Error::BuildRequest)?).await?;
    let pools: Api<LoadBalancerIPPool> = Api::all(context.client.clone());
    pools.list(&ListParams::default().limit(1)).await.map(drop)
}

struct Controller {
    context: Context,
    services: Arc<Informer<Service>>,
    pools: Arc<Informer<LoadBalancerIPPool>>,
}

impl Controller {
    async fn sync(&self) -> Result<(), Error> {
        let config = &self.context.config;
        let networks: Vec<_> = config.cluster_cidrs.iter().chain(&config.service_cidrs).copied().collect();
        let pools = pools(&config.load_balancer_pools, &self.pools.list(), &networks);
        let plan = step(&self.services.list(), &pools);
        let recorder = self.context.recorder("service-controller");
        for Refusal { service, reason } in &plan.refusals {
            recorder.warning(&**service, "AllocationFailed", reason);
        }
        // A pool that nobody keeps could go before its addresses have come back.
        for pool in &pools {
            self.keep(pool).await?;
        }
        let client = &self.context.client;
        let writes = plan.writes.into_iter().map(|write| set_address(client.clone(), write));
        control::in_parallel(writes).await.into_iter().collect::<Result<(), _>>()?;
        for pool in &pools {
            self.tell(pool, &plan.taken).await?;
        }
        Ok(())
    }

    /// Has a pool wait, when it is deleted, for its addresses.
    async fn keep(&self, pool: &Pool) -> Result<(), Error> {
        let Some(pool) = &pool.object else { return Ok(()) };
        let meta = &pool.metadata;
        if object::is_being_deleted(meta) || object::has_finalizer(meta, FINALIZER) {
            return Ok(());
        }
        let finalizers: Vec<_> = meta.finalizers.iter().flatten().map(String::as_str).chain([FINALIZER]).collect();
        self.finalize(pool, &finalizers).await
    }

    /// Writes the status of a pool, or lets it go if it is deleted and its addresses are back.
    async fn tell(&self, pool: &Pool, taken: &BTreeSet<IpAddr>) -> Result<(), Error> {
        let Some(known) = &pool.object else { return Ok(()) };
        let (meta, status) = (&known.metadata, pool.status(taken, self.context.now()));
        if object::is_being_deleted(meta) && !step::is_held(pool, &self.services.list()) {
            let others = meta.finalizers.iter().flatten().map(String::as_str).filter(|name| *name != FINALIZER);
            return self.finalize(known, &others.collect::<Vec<_>>()).await;
        }
        if status == known.status {
            return Ok(());
        }
        let api: Api<LoadBalancerIPPool> = Api::all(self.context.client.clone());
        let patch = Patch::Merge(json!({ "status": status }));
        settled(api.patch_status(object::name(meta), &PatchParams::default(), &patch).await)
    }

    async fn finalize(&self, pool: &LoadBalancerIPPool, finalizers: &[&str]) -> Result<(), Error> {
        let api: Api<LoadBalancerIPPool> = Api::all(self.context.client.clone());
        let meta = &pool.metadata;
        let patch = json!({ "metadata": { "resourceVersion": meta.resource_version, "finalizers": finalizers } });
        settled(api.patch(object::name(meta), &PatchParams::default(), &Patch::Merge(patch)).await)
    }
}

async fn set_address(client: Client, write: Write) -> Result<(), Error> {
    let meta = &write.service.metadata;
    let api: Api<Service> = Api::namespaced(client, object::namespace(meta));
    let ingress: Vec<_> = write.addresses.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
    // Of this version only: a newer one is another plan's.
    let patch = json!({ "metadata": { "resourceVersion": meta.resource_version },
        "status": { "loadBalancer": { "ingress": ingress } } });
    settled(api.patch_status(object::name(meta), &PatchParams::default(), &Patch::Merge(patch)).await)
}

/// An object that is gone, or is another one by now, is for the next plan.
fn settled<T>(written: Result<T, Error>) -> Result<(), Error> {
    match written {
        Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_balanced(service: &Service) -> bool {
    let typed = service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    typed || status.is_some_and(|status| status.ingress.as_ref().is_some_and(|ingress| !ingress.is_empty()))
}
