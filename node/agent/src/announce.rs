//! Load balancers' addresses that this node speaks for on its own network.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use xebec_client::{Informer, Informers, Key, chain};
use xebec_datapath::Datapath;
use xebec_services::announce::{announced, candidates};
use xebec_types::core::{Node, Service};
use xebec_types::discovery::EndpointSlice;
use xebec_types::{label, object};

/// Changes that come together are one.
const GATHER: Duration = Duration::from_millis(20);
/// Pause between attempts when a write fails.
const RETRY: Duration = Duration::from_secs(1);

/// Follows Services, slices and nodes for ever. Nothing is let go before their first full lists.
pub async fn follow(informers: Informers, own: String, datapath: Arc<Datapath>) {
    let mut view = View {
        services: informers.informer(),
        slices: informers.informer(),
        nodes: informers.informer(),
        balanced: BTreeSet::new(),
        own,
    };
    let (mut services, mut slices) = (view.services.subscribe(), view.slices.subscribe());
    let mut nodes = view.nodes.subscribe();
    tokio::join!(view.services.synced(), view.slices.synced(), view.nodes.synced());
    view.balanced.extend(view.services.list().iter().filter(|s| is_balanced(s)).map(|s| Key::of(&s.metadata)));
    let mut known = None;
    loop {
        let addresses = view.addresses();
        if known.as_ref() != Some(&addresses) {
            if let Err(error) = datapath.announce(&addresses) {
                tracing::warn!(error = chain(&error), "load balancers' addresses not announced");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            tracing::info!(addresses = addresses.len(), "announcing load balancers' addresses");
            known = Some(addresses);
        }
        loop {
            tokio::select! {
                keys = services.changed() => if view.note(keys) { break },
                _ = slices.changed(), if !view.balanced.is_empty() => break,
                _ = nodes.changed(), if !view.balanced.is_empty() => break,
            }
        }
        tokio::time::sleep(GATHER).await;
    }
}

struct View {
    services: Arc<Informer<Service>>,
    slices: Arc<Informer<EndpointSlice>>,
    nodes: Arc<Informer<Node>>,
    /// Few among many Services.
    balanced: BTreeSet<Key>,
    own: String,
}

impl View {
    /// True if a load balancer came, changed or went.
    fn note(&mut self, keys: BTreeSet<Key>) -> bool {
        let mut changed = false;
        for key in keys {
            if self.services.get_key(&key).is_some_and(|service| is_balanced(&service)) {
                self.balanced.insert(key);
                changed = true;
            } else {
                changed |= self.balanced.remove(&key);
            }
        }
        changed
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        let nodes = self.nodes.list();
        let candidates = candidates(nodes.iter().map(|node| &**node));
        let mut addresses = BTreeSet::new();
        for service in self.balanced.iter().filter_map(|key| self.services.get_key(key)) {
            let slices = self.slices.list_namespace(object::namespace(&service.metadata));
            let name = service.metadata.name.as_deref();
            let of_service = |slice: &&Arc<EndpointSlice>| object::label(&slice.metadata, label::SERVICE_NAME) == name;
            let slices: Vec<&EndpointSlice> = slices.iter().filter(of_service).map(|slice| &**slice).collect();
            addresses.extend(announced(&service, &slices, &candidates, &self.own));
        }
        addresses
    }
}

fn is_balanced(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
}
