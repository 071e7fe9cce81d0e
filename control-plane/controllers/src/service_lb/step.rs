//! Which Service gets which address.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use xebec_types::core::{Service, ServiceSpec};

use super::pool::Pool;

/// The class that asks for this controller by name; Services without a class are its too.
pub const CLASS: &str = "xebec.io/load-balancer";

/// What a Service's status should say.
#[derive(Clone, PartialEq, Debug)]
pub struct Write {
    pub service: Arc<Service>,
    /// `None`: no address.
    pub address: Option<Ipv4Addr>,
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
    pub taken: BTreeSet<Ipv4Addr>,
}

/// Services that have an address of a pool keep it, the oldest where two have the same. The others take what their
/// `loadBalancerIP` asks for, or the first that is free. An address that another implementation gave is let alone; without
/// any pool all Services are its.
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
    let mut taken = BTreeSet::new();
    let mut waiting = Vec::new();
    for service in ordered {
        let current = ingress(service);
        let wanted = service.spec.as_ref().filter(|spec| is_ours(spec) && !is_deleted(service));
        match (wanted, current) {
            (None, Some(address)) if was_ours(service, address, pools) => {
                plan.writes.push(Write { service: Arc::clone(service), address: None });
            }
            (Some(spec), Some(address)) if keeps(service, spec, address, pools) && taken.insert(address) => {}
            (Some(spec), _) => waiting.push((service, spec)),
            (None, _) => {}
        }
    }
    for (service, spec) in waiting {
        match choose(service, spec, pools, &taken) {
            Ok(address) => {
                taken.insert(address);
                plan.writes.push(Write { service: Arc::clone(service), address: Some(address) });
            }
            Err(reason) => {
                if ingress(service).is_some() {
                    plan.writes.push(Write { service: Arc::clone(service), address: None });
                }
                plan.refusals.push(Refusal { service: Arc::clone(service), reason });
            }
        }
    }
    plan.taken = taken;
    plan
}

fn choose(
    service: &Service,
    spec: &ServiceSpec,
    pools: &[Pool],
    taken: &BTreeSet<Ipv4Addr>,
) -> Result<Ipv4Addr, String> {
    let serving = || pools.iter().filter(|pool| pool.serves(service));
    if let Some(asked) = asked(spec) {
        let asked: Ipv4Addr = asked.parse().map_err(|_| format!("loadBalancerIP {asked} is not an IPv4 address"))?;
        if !serving().any(|pool| pool.fault.is_none() && pool.contains(asked)) {
            return Err(format!("loadBalancerIP {asked} is in no pool that gives addresses to this Service"));
        }
        return if taken.contains(&asked) {
            Err(format!("loadBalancerIP {asked} belongs to another Service"))
        } else {
            Ok(asked)
        };
    }
    let mut free = serving().flat_map(Pool::addresses).filter(|address| !taken.contains(address));
    free.next().ok_or_else(|| match serving().next() {
        Some(_) => "every address of the pools for this Service is taken".to_owned(),
        None => "no LoadBalancerIPPool is for this Service".to_owned(),
    })
}

fn asked(spec: &ServiceSpec) -> Option<&str> {
    spec.load_balancer_ip.as_deref().filter(|ip| !ip.is_empty())
}

fn is_ours(spec: &ServiceSpec) -> bool {
    let class = spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS);
    let ipv4 = spec.ip_families.as_ref().is_none_or(|families| families.iter().any(|family| family == "IPv4"));
    class && ipv4 && spec.type_.as_deref() == Some("LoadBalancer")
}

fn is_deleted(service: &Service) -> bool {
    service.metadata.deletion_timestamp.is_some()
}

/// Is this an address that only this controller gives to such a Service?
fn was_ours(service: &Service, address: Ipv4Addr, pools: &[Pool]) -> bool {
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    class.is_none_or(|class| class == CLASS) && pools.iter().any(|pool| pool.contains(address))
}

fn keeps(service: &Service, spec: &ServiceSpec, address: Ipv4Addr, pools: &[Pool]) -> bool {
    let as_asked = asked(spec).is_none_or(|asked| asked.parse() == Ok(address));
    as_asked && pools.iter().any(|pool| pool.contains(address) && pool.serves(service))
}

/// Has a Service an address of this pool that only this controller gives?
pub fn is_held(pool: &Pool, services: &[Arc<Service>]) -> bool {
    let pool = std::slice::from_ref(pool);
    services.iter().any(|service| ingress(service).is_some_and(|address| was_ours(service, address, pool)))
}

fn ingress(service: &Service) -> Option<Ipv4Addr> {
    let status = service.status.as_ref()?.load_balancer.as_ref()?;
    status.ingress.iter().flatten().find_map(|ingress| ingress.ip.as_deref()?.parse().ok())
}

#[cfg(test)]
mod tests;
