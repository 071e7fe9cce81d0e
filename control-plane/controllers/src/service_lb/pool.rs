//! What gives load balancers their addresses: the server's flags, and LoadBalancerIPPools.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use xebec_types::core::Service;
use xebec_types::{Condition, object, time};

use super::kind::{Block, LoadBalancerIPPool, PoolStatus};
use super::range::AddressRange;

/// Keeps a LoadBalancerIPPool until no Service has an address of it.
pub const FINALIZER: &str = "xebec.io/load-balancer-addresses";

/// Ranges with the rules of who gets addresses of them.
#[derive(Clone, PartialEq, Debug)]
pub struct Pool {
    /// `None`: the server's flags.
    pub object: Option<Arc<LoadBalancerIPPool>>,
    pub ranges: Vec<AddressRange>,
    pub fault: Option<Fault>,
}

/// Why a pool gives no address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// For programs, in the condition.
    pub reason: &'static str,
    pub message: String,
}

impl Fault {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl Pool {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// May this Service have an address of the pool?
    pub fn serves(&self, service: &Service) -> bool {
        let Some(pool) = &self.object else { return true };
        let (meta, spec) = (&service.metadata, &pool.spec);
        let labels = meta.labels.as_ref();
        let namespaces = &spec.service_namespaces;
        !object::is_being_deleted(&pool.metadata)
            && (namespaces.is_empty() || namespaces.iter().any(|name| name == object::namespace(meta)))
            && spec.service_selector.as_ref().is_none_or(|selector| object::selects(selector, labels))
    }

    pub fn has_family(&self, ipv4: bool) -> bool {
        self.ranges.iter().any(|range| range.is_ipv4() == ipv4)
    }

    /// Addresses of a family that it may give.
    pub fn addresses(&self, ipv4: bool) -> impl Iterator<Item = IpAddr> {
        let ranges = if self.fault.is_none() { self.ranges.as_slice() } else { &[] };
        ranges.iter().filter(move |range| range.is_ipv4() == ipv4).flat_map(AddressRange::addresses)
    }

    /// What the object's status should say at `now`, when these addresses are taken.
    pub fn status(&self, taken: &BTreeSet<IpAddr>, now: time::Timestamp) -> PoolStatus {
        let total = self.ranges.iter().map(AddressRange::total).fold(0, i64::saturating_add);
        let used = taken.iter().filter(|address| self.contains(**address)).count() as i64;
        let available = if self.fault.is_none() { total - used } else { 0 };
        let (status, reason, message) = match &self.fault {
            None => ("True", "Available", ""),
            Some(Fault { reason, message }) => ("False", *reason, message.as_str()),
        };
        let known = self.object.iter().flat_map(|pool| &pool.status.conditions);
        let since = known.filter(|known| known.type_ == "Ready" && known.status == status);
        let since = since.map(|known| known.last_transition_time.clone()).next();
        let ready = Condition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: since.unwrap_or_else(|| time::time(now)),
            observed_generation: self.object.as_ref().and_then(|pool| pool.metadata.generation),
        };
        PoolStatus { total, used, available, conditions: vec![ready] }
    }
}

/// The pools in the order in which they give addresses: the objects', the oldest first, then the flags', which are for what
/// no object is for. An object that overlaps an older one, the flags or the cluster's own `networks` gives none.
pub fn pools(flags: &[AddressRange], objects: &[Arc<LoadBalancerIPPool>], networks: &[IpNet]) -> Vec<Pool> {
    let mut pools: Vec<Pool> = Vec::new();
    let default = Pool { object: None, ranges: flags.to_vec(), fault: None };
    let mut objects: Vec<_> = objects.iter().collect();
    objects.sort_by_key(|pool| (pool.metadata.creation_timestamp.as_ref().map(|time| time.0), &pool.metadata.name));
    for pool in objects {
        let (ranges, mut fault) = match pool.spec.blocks.iter().map(range).collect::<Result<Vec<_>, _>>() {
            Ok(ranges) => (ranges, None),
            Err(message) => (Vec::new(), Some(Fault::new("Invalid", message))),
        };
        fault = fault.or_else(|| conflict(&ranges, pools.iter().chain([&default]), networks));
        if pool.spec.disabled {
            fault = Some(Fault::new("Disabled", "spec.disabled is set"));
        }
        if object::is_being_deleted(&pool.metadata) {
            fault = Some(Fault::new("Deleted", "Services give their addresses back"));
        }
        pools.push(Pool { object: Some(Arc::clone(pool)), ranges, fault });
    }
    if !flags.is_empty() {
        pools.push(default);
    }
    pools
}

fn conflict<'a>(
    ranges: &[AddressRange],
    others: impl Iterator<Item = &'a Pool> + Clone,
    networks: &[IpNet],
) -> Option<Fault> {
    for range in ranges {
        if let Some(network) = networks.iter().find(|network| range.overlaps_network(**network)) {
            return Some(Fault::new("Conflict", format!("{range} overlaps {network}, the cluster's own")));
        }
        for pool in others.clone() {
            let name =
                pool.object.as_ref().map_or("the server's --load-balancer-pool", |pool| object::name(&pool.metadata));
            if let Some(other) = pool.ranges.iter().find(|other| other.overlaps(range)) {
                return Some(Fault::new("Conflict", format!("{range} overlaps {other} of {name}")));
            }
        }
    }
    None
}

fn range(block: &Block) -> Result<AddressRange, String> {
    match (&block.cidr, &block.start) {
        (Some(cidr), None) => cidr.parse().map_err(|error: super::InvalidRange| error.to_string()),
        (None, Some(start)) => {
            let stop = block.stop.as_ref().unwrap_or(start);
            format!("{start}-{stop}").parse().map_err(|error: super::InvalidRange| error.to_string())
        }
        _ => Err("a block has either cidr or start".to_owned()),
    }
}

#[cfg(test)]
mod tests;
