//! Which Service gets which address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use xebec_types::core::{Service, ServiceSpec};

use super::pool::Pool;

/// The class that asks for this controller by name; Services without a class are its too.
pub const CLASS: &str = "xebec.io/load-balancer";

/// What a Service's status should say.
#[derive(Clone, PartialEq, Debug)]
pub struct Write {
    pub service: Arc<Service>,
    /// One of each family at most.
    pub addresses: Vec<IpAddr>,
}

/// A Service that waits for an address, and why.
#[derive(Clone, PartialEq, Debug)]
pub struct Refusal {
    pub service: Arc<Service>,
    pub reason: String,
}

#[derive(Clone, PartialEq, Default, Debug)]
pub struct Plan {
    pub writes: Vec<Write>,
    pub refusals: Vec<Refusal>,
    /// Every address that a Service has once this is written.
    pub taken: BTreeSet<IpAddr>,
}

/// Services get an address of each of their families of which a pool for them has any. They keep those that they have,
/// the oldest where two have the same; the others take what their `loadBalancerIP` asks for, or the first that is free.
/// An address that another implementation gave is let alone; without any pool all Services are its.
pub fn step(services: &[Arc<Service>], pools: &[Pool]) -> Plan {
    let mut ordered: Vec<&Arc<Service>> = services.iter().collect();
    ordered.sort_by_key(|service| {
        let meta = &service.metadata;
        (meta.creation_timestamp.as_ref().map(|time| time.0), meta.namespace.clone(), meta.name.clone())
    });
    let mut plan = Plan::default();
    if pools.is_empty() {
        return plan;
    }
    let mut waiting = Vec::new();
    for service in ordered {
        let current = ingress(service);
        match service.spec.as_ref().filter(|spec| is_ours(spec) && !is_deleted(service)) {
            Some(spec) => {
                let mut kept = current.clone();
                kept.retain(|address| keeps(service, spec, *address, pools) && plan.taken.insert(*address));
                waiting.push((service, spec, current, kept));
            }
            None => {
                let mut others = current.clone();
                others.retain(|address| !was_ours(service, *address, pools));
                plan.write(service, &current, others);
            }
        }
    }
    for (service, spec, current, kept) in waiting {
        let (mut addresses, mut refusals) = (Vec::new(), Vec::new());
        for ipv4 in families(spec) {
            let known = kept.iter().copied().find(|address| address.is_ipv4() == ipv4);
            match known.map_or_else(|| choose(service, spec, ipv4, pools, &plan.taken), |known| Ok(Some(known))) {
                Ok(address) => addresses.extend(address),
                Err(reason) => refusals.push(reason),
            }
        }
        if addresses.is_empty() && refusals.is_empty() {
            refusals.push("no LoadBalancerIPPool is for this Service".to_owned());
        }
        plan.taken.extend(&addresses);
        plan.write(service, &current, addresses);
        let refusal = |reason| Refusal { service: Arc::clone(service), reason };
        plan.refusals.extend(refusals.into_iter().map(refusal));
    }
    plan
}

impl Plan {
    fn write(&mut self, service: &Arc<Service>, current: &[IpAddr], addresses: Vec<IpAddr>) {
        if current != addresses {
            self.writes.push(Write { service: Arc::clone(service), addresses });
        }
    }
}

/// `None`: no pool for the Service has addresses of this family.
fn choose(
    service: &Service,
    spec: &ServiceSpec,
    ipv4: bool,
    pools: &[Pool],
    taken: &BTreeSet<IpAddr>,
) -> Result<Option<IpAddr>, String> {
    let serving = || pools.iter().filter(|pool| pool.serves(service) && pool.has_family(ipv4));
    if let Some(asked) = asked(spec) {
        let address: IpAddr = asked.parse().map_err(|_| format!("loadBalancerIP {asked} is not an address"))?;
        if !families(spec).contains(&address.is_ipv4()) {
            return Err(format!("loadBalancerIP {asked} is of none of the Service's ipFamilies"));
        }
        if address.is_ipv4() == ipv4 {
            if !serving().any(|pool| pool.fault.is_none() && pool.contains(address)) {
                return Err(format!("loadBalancerIP {asked} is in no pool that gives addresses to this Service"));
            }
            if taken.contains(&address) {
                return Err(format!("loadBalancerIP {asked} belongs to another Service"));
            }
            return Ok(Some(address));
        }
    }
    match serving().flat_map(|pool| pool.addresses(ipv4)).find(|address| !taken.contains(address)) {
        None if serving().next().is_some() => Err("every address of the pools for this Service is taken".to_owned()),
        address => Ok(address),
    }
}

fn asked(spec: &ServiceSpec) -> Option<&str> {
    spec.load_balancer_ip.as_deref().filter(|ip| !ip.is_empty())
}

/// Whether they are IPv4, in the Service's order.
fn families(spec: &ServiceSpec) -> Vec<bool> {
    let families = spec.ip_families.as_deref().filter(|families| !families.is_empty());
    families.map_or_else(|| vec![true], |families| families.iter().map(|family| family == "IPv4").collect())
}

fn is_ours(spec: &ServiceSpec) -> bool {
    let class = spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS);
    class && spec.type_.as_deref() == Some("LoadBalancer")
}

fn is_deleted(service: &Service) -> bool {
    service.metadata.deletion_timestamp.is_some()
}

/// Is this an address that only this controller gives to such a Service?
fn was_ours(service: &Service, address: IpAddr, pools: &[Pool]) -> bool {
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    class.is_none_or(|class| class == CLASS) && pools.iter().any(|pool| pool.contains(address))
}

fn keeps(service: &Service, spec: &ServiceSpec, address: IpAddr, pools: &[Pool]) -> bool {
    let asked = asked(spec).and_then(|asked| asked.parse::<IpAddr>().ok());
    let as_asked = asked.is_none_or(|asked| asked.is_ipv4() != address.is_ipv4() || asked == address);
    let of_family = families(spec).contains(&address.is_ipv4());
    as_asked && of_family && pools.iter().any(|pool| pool.contains(address) && pool.serves(service))
}

/// Has a Service an address of this pool that only this controller gives?
pub fn is_held(pool: &Pool, services: &[Arc<Service>]) -> bool {
    let pool = std::slice::from_ref(pool);
    let holds = |service: &Arc<Service>| ingress(service).iter().any(|address| was_ours(service, *address, pool));
    services.iter().any(holds)
}

fn ingress(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.iter().flat_map(|status| status.ingress.iter().flatten());
    ingress.filter_map(|ingress| ingress.ip.as_deref()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
