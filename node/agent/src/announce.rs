//! Load balancers' addresses that this node speaks for on its own network.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use xebec_client::{Informer, Informers, Key, chain};
use xebec_datapath::{Datapath, DriftKind};
use xebec_services::announce::{candidates, heirs, owner};
use xebec_types::core::{Node, Service};
use xebec_types::discovery::EndpointSlice;
use xebec_types::{label, object};

use crate::drift::Upkeep;

/// Changes that come together are one.
const GATHER: Duration = Duration::from_millis(20);
/// Pause between attempts when a write fails.
const RETRY: Duration = Duration::from_secs(1);

/// Other nodes that are asked whether they are there, and those that do not answer.
pub struct Neighbours {
    pub asked: watch::Sender<BTreeSet<IpAddr>>,
    pub silent: watch::Receiver<BTreeSet<IpAddr>>,
}

/// Follows Services, slices and nodes for ever. Nothing is let go before their first full lists.
pub async fn follow(
    informers: Informers,
    own: String,
    datapath: Arc<Datapath>,
    upkeep: Upkeep,
    neighbours: Neighbours,
) {
    let Upkeep { repairs, mut looked } = upkeep;
    let Neighbours { asked, mut silent } = neighbours;
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
    let mut unheard_before = BTreeSet::new();
    loop {
        let heirs = view.heirs();
        let rivals = view.rivals(&heirs);
        let addresses: BTreeSet<IpAddr> = rivals.values().copied().collect();
        asked.send_if_modified(|asked| std::mem::replace(asked, addresses.clone()) != addresses);
        let unheard = silent.borrow_and_update().clone();
        let names = rivals.iter().filter(|(_, ip)| unheard.contains(ip)).map(|(name, _)| name.as_str()).collect();
        let addresses = owned(&heirs, &view.own, rivals.len(), &names);
        let wrong = match datapath.announce(&addresses) {
            Ok(wrong) => wrong,
            Err(error) => {
                repairs.looked("announcements", Err(error.into()));
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        if !unheard_before.is_subset(&unheard) {
            // Somebody who was silent speaks again, or this node was cut off: others may have taken its addresses over.
            if let Err(error) = datapath.announce_again() {
                tracing::warn!(error = chain(&error), "load balancers' addresses not announced again");
            }
        }
        unheard_before = unheard;
        repairs.looked("announcements", Ok(()));
        if known.as_ref() == Some(&addresses) {
            let entries: Vec<String> = wrong.iter().map(|address| format!("announcement of {address}")).collect();
            repairs.repaired(DriftKind::MapEntry.label(), &entries);
        } else {
            tracing::info!(addresses = addresses.len(), "announcing load balancers' addresses");
            known = Some(addresses);
        }
        loop {
            tokio::select! {
                looked = looked.changed() => {
                    if looked.is_err() {
                        return;
                    }
                    break;
                }
                changed = silent.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
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

    /// Every load balancer's address with the nodes that may come to speak for it.
    fn heirs(&self) -> BTreeMap<IpAddr, Vec<String>> {
        let nodes = self.nodes.list();
        let candidates = candidates(nodes.iter().map(|node| &**node));
        let mut all = BTreeMap::new();
        for service in self.balanced.iter().filter_map(|key| self.services.get_key(key)) {
            let slices = self.slices.list_namespace(object::namespace(&service.metadata));
            let name = service.metadata.name.as_deref();
            let of_service = |slice: &&Arc<EndpointSlice>| object::label(&slice.metadata, label::SERVICE_NAME) == name;
            let slices: Vec<&EndpointSlice> = slices.iter().filter(of_service).map(|slice| &**slice).collect();
            let heirs = heirs(&service, &slices, &candidates).into_iter();
            all.extend(heirs.map(|(address, heirs)| (address, heirs.into_iter().map(str::to_owned).collect())));
        }
        all
    }

    /// Where the other nodes are that may speak for an address which this one may speak for too.
    fn rivals(&self, heirs: &BTreeMap<IpAddr, Vec<String>>) -> BTreeMap<String, IpAddr> {
        let shared = heirs.values().filter(|heirs| heirs.contains(&self.own)).flatten();
        let others: BTreeSet<&String> = shared.filter(|name| **name != self.own).collect();
        let address = |name: &String| Some((name.clone(), internal_ip(&*self.nodes.get("", name)?)?));
        others.into_iter().filter_map(address).collect()
    }
}

/// The addresses that `own` speaks for, given who does not answer. A node that hears none of several others takes
/// itself for the one that is cut off, and leaves things as the API server has them.
fn owned(heirs: &BTreeMap<IpAddr, Vec<String>>, own: &str, rivals: usize, silent: &HashSet<&str>) -> BTreeSet<IpAddr> {
    let (cut_off, nobody) = (rivals > 1 && silent.len() == rivals, HashSet::new());
    let silent = if cut_off { &nobody } else { silent };
    let speaks = |heirs: &Vec<String>| {
        let heirs: Vec<&str> = heirs.iter().map(String::as_str).collect();
        owner(&heirs, silent) == Some(own)
    };
    heirs.iter().filter(|(_, heirs)| speaks(heirs)).map(|(address, _)| *address).collect()
}

/// The one of the node's first family.
fn internal_ip(node: &Node) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().filter(|address| address.type_ == "InternalIP").find_map(|address| address.address.parse().ok())
}

fn is_balanced(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(own: &str, silent: &[&str], speaks: bool) {
        let address = IpAddr::from([192, 0, 2, 1]);
        let heirs = BTreeMap::from([(address, ["n1", "n2", "n3"].map(str::to_owned).to_vec())]);
        let owned = owned(&heirs, own, 2, &silent.iter().copied().collect());
        assert_eq!(owned.contains(&address), speaks, "{own} without {silent:?}");
    }

    #[test]
    fn the_next_heir_takes_over_unless_it_is_the_one_that_is_cut_off() {
        check("n1", &[], true);
        check("n2", &[], false);
        check("n2", &["n1"], true);
        check("n3", &["n1"], false);
        check("n1", &["n2", "n3"], true);
        check("n2", &["n1", "n3"], false);
    }
}
