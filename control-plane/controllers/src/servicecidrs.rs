//! Keeps ServiceCIDRs until no address of theirs is in use, as upstream's `service-cidr-controller` (KEP-1880).

mod step;

use crate::Context;
use crate::control::{self, Reconcile};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
pub use step::{Action, step};
use tokio_util::sync::CancellationToken;
use xebec_client::informer::Selection;
use xebec_client::{
    Api, Error, EventRecorder, Informer, Key, Outcome, Patch, PatchParams, Workqueue, chain, is_not_found,
};
use xebec_types::networking::{IPAddress, ServiceCIDR};
use xebec_types::{ObjectMeta, object};

/// On the addresses that the API server hands out to Services (`networking/v1.LabelManagedBy`).
const ALLOCATED: &str = "ipaddress.kubernetes.io/managed-by=ipallocator.k8s.io";

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        ranges: context.informers.informer(),
        addresses: context.informers.selected(&Selection::labels(ALLOCATED)),
        recorder: context.recorder("service-cidr-controller"),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    tokio::join!(controller.ranges.synced(), controller.addresses.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    ranges: Arc<Informer<ServiceCIDR>>,
    addresses: Arc<Informer<IPAddress>>,
    recorder: EventRecorder,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "servicecidr";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(range) = self.ranges.get_key(key) else { return Ok(Outcome::Done) };
        let addresses: Vec<IpAddr> = self.addresses.read().iter().filter_map(|a| address(&a.metadata)).collect();
        match step(&range, &self.ranges.list(), &addresses, self.context.now()) {
            Action::None => Ok(Outcome::Done),
            Action::Wait(wait) => Ok(Outcome::After(wait)),
            action => self.write(&range, action).await.map(|()| Outcome::Done),
        }
    }
}

impl Controller {
    fn watch(&self) {
        // A range that comes or goes can free others from being needed.
        let (sink, all) = (self.queue.clone(), Arc::clone(&self.ranges));
        self.ranges.on_change(move |change| {
            sink.add(change.key());
            all.read().iter().for_each(|range| sink.add(Key::of(&range.metadata)));
        });
        let (sink, all) = (self.queue.clone(), Arc::clone(&self.ranges));
        self.addresses.on_change(move |change| {
            let Ok(address) = change.key().name.parse::<IpAddr>() else { return };
            let snapshot = all.read();
            let holds = |range: &&Arc<ServiceCIDR>| networks(range).iter().any(|net| net.contains(&address));
            snapshot.iter().filter(holds).for_each(|range| sink.add(Key::of(&range.metadata)));
        });
    }

    async fn write(&self, range: &ServiceCIDR, action: Action) -> Result<(), Error> {
        let api: Api<ServiceCIDR> = Api::all(self.context.client.clone());
        let (name, params) = (object::name(&range.metadata), PatchParams::default());
        let written = match &action {
            Action::SetFinalizers(finalizers) => {
                let version = &range.metadata.resource_version;
                let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
                api.patch(name, &params, &Patch::Merge(patch)).await
            }
            Action::SetCondition(condition) => {
                let patch = json!({"status": {"conditions": [condition]}});
                api.patch_status(name, &params, &Patch::<Value>::Merge(patch)).await
            }
            Action::None | Action::Wait(_) => return Ok(()),
        };
        match written {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => {
                if matches!(action, Action::SetCondition(_)) {
                    tracing::debug!(name, error = chain(&error), "status of a ServiceCIDR not written");
                    let message = "The ServiceCIDR Status can not be set to Ready=True";
                    self.recorder.warning(range, "KubernetesServiceCIDRError", message);
                }
                Err(error)
            }
        }
    }
}

fn address(meta: &ObjectMeta) -> Option<IpAddr> {
    object::name(meta).parse().ok()
}

fn networks(range: &ServiceCIDR) -> Vec<IpNet> {
    let cidrs = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| cidr.parse().ok()).collect()
}
