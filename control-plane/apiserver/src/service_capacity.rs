//! Counts what all Services take of the nodes' maps of frontends, so that one that does not fit is refused when it is
//! written.
//!
//! Each node has further frontends for addresses of its own besides the first, and for hostPorts: what is refused here
//! fits nowhere, what is not may still not fit on a node, which then says so in an Event.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use xebec_registry::value::{at, string};
use xebec_store::Result;
use xebec_store::cache::{Filter, Kind, Object, Start};

use crate::app::App;

const SERVICES: &str = "core/services";
/// The maps of IPv4 and IPv6 on every node (`xebec_abi::names`).
const MAPS: [&str; 2] = ["xb_lb4_fe", "xb_lb6_fe"];
/// Of a NodePort: the node's address for clients inside and outside, loopback and the pods' gateway.
const OF_NODE_PORT: u64 = 4;
/// Of an address that clients outside dial too.
const OF_EXTERNAL: u64 = 2;

/// Frontends, of IPv4 and of IPv6.
type Frontends = [u64; 2];

pub struct ServiceCapacity {
    /// Of each map.
    most: u64,
    /// Of a Service that does not say it; and of one that wants both.
    primary: usize,
    families: Vec<usize>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    of: HashMap<String, Frontends>,
    all: Frontends,
}

impl Counts {
    fn set(&mut self, key: String, frontends: Frontends) {
        let old = if frontends == [0, 0] { self.of.remove(&key) } else { self.of.insert(key, frontends) };
        let old = old.unwrap_or_default();
        self.all = [0, 1].map(|family| self.all[family] + frontends[family] - old[family]);
    }
}

impl ServiceCapacity {
    /// `ranges` are those of Services, the primary family's first.
    pub fn new(most: u32, ranges: &[ipnet::IpNet]) -> Self {
        let families: Vec<usize> = ranges.iter().map(|range| usize::from(range.addr().is_ipv6())).collect();
        let primary = families.first().copied().unwrap_or_default();
        Self { most: most.into(), primary, families, counts: Mutex::default() }
    }

    /// # Errors
    /// Says which map is full. A Service that takes no more than `old`, which was stored, always fits.
    pub fn check(&self, new: &Value, old: Option<&Value>) -> std::result::Result<(), String> {
        let (wanted, had) = (self.frontends(new), old.map(|old| self.frontends(old)).unwrap_or_default());
        let all = self.counts.lock().all;
        for family in 0..2 {
            let (wanted, taken) = (wanted[family], all[family].saturating_sub(had[family]));
            if wanted > had[family] && taken + wanted > self.most {
                return Err(format!(
                    "map {} of the nodes' datapath takes {} frontends (--datapath-capacity): {taken} are taken, and this Service \
                     needs {wanted}",
                    MAPS[family], self.most
                ));
            }
        }
        Ok(())
    }

    /// What a Service takes on every node, whatever the node has besides.
    fn frontends(&self, service: &Value) -> Frontends {
        let spec = &service["spec"];
        let kind = string(spec, "type");
        if kind == "ExternalName" || string(spec, "clusterIP") == "None" {
            return [0, 0];
        }
        let ports = list(spec, "ports").len() as u64;
        let has_node_ports =
            kind == "NodePort" || (kind == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false);
        let external: Vec<usize> = list(spec, "externalIPs").iter().filter_map(family).collect();
        let ingress =
            list(at(service, "status.loadBalancer"), "ingress").iter().filter_map(|entry| family(&entry["ip"]));
        let external: Vec<usize> = external.into_iter().chain(ingress).collect();
        let mut frontends = [0, 0];
        for family in self.families_of(spec) {
            let addresses = external.iter().filter(|of| **of == family).count() as u64;
            let node_ports = if has_node_ports { OF_NODE_PORT } else { 0 };
            frontends[family] = ports * (1 + node_ports + OF_EXTERNAL * addresses);
        }
        frontends
    }

    /// A Service that is not stored yet may not have its addresses.
    fn families_of(&self, spec: &Value) -> Vec<usize> {
        let addresses: Vec<usize> = list(spec, "clusterIPs").iter().filter_map(family).collect();
        let named = list(spec, "ipFamilies").iter().map(|family| usize::from(family == "IPv6"));
        let named: Vec<usize> = named.collect();
        match string(spec, "ipFamilyPolicy") {
            "PreferDualStack" | "RequireDualStack" => self.families.clone(),
            _ if !addresses.is_empty() => addresses,
            _ if !named.is_empty() => named,
            _ => vec![self.primary],
        }
    }

    /// Starts over from the Services that are stored.
    pub fn recount(&self, services: &[Arc<Object>]) {
        self.replace(services.iter().map(|object| self.counted(object)));
    }

    /// Until all of it is counted, what was known before counts: with less, a Service that does not fit would be let in.
    fn replace(&self, services: impl Iterator<Item = (String, Frontends)>) {
        let mut counts = Counts::default();
        services.for_each(|(key, frontends)| counts.set(key, frontends));
        *self.counts.lock() = counts;
    }

    fn counted(&self, object: &Object) -> (String, Frontends) {
        let service = serde_json::from_slice(object.as_slice()).unwrap_or(Value::Null);
        (format!("{}/{}", object.namespace(), object.name()), self.frontends(&service))
    }
}

/// Follows the Services until the server stops.
pub async fn follow(app: Arc<App>) {
    app.follow(SERVICES, || follow_once(&app)).await;
}

async fn follow_once(app: &Arc<App>) -> Result<()> {
    let mut watcher = app.cache.watch(SERVICES, None, Filter::all(), Start::Snapshot)?;
    if let Some(stored) = watcher.take_snapshot() {
        app.service_capacity.recount(&stored.objects);
    }
    loop {
        let event = watcher.next().await?;
        let (key, frontends) = app.service_capacity.counted(&event.object);
        let frontends = if event.kind == Kind::Deleted { [0, 0] } else { frontends };
        app.service_capacity.counts.lock().set(key, frontends);
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// 0 is IPv4, 1 is IPv6.
fn family(address: &Value) -> Option<usize> {
    let address: std::net::IpAddr = address.as_str()?.parse().ok()?;
    Some(usize::from(address.is_ipv6()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn capacity(most: u32) -> ServiceCapacity {
        let ranges = ["10.96.0.0/16", "fd96::/112"].map(|range| range.parse().expect("a network"));
        ServiceCapacity::new(most, &ranges)
    }

    #[track_caller]
    fn check(spec: Value, expected: Frontends) {
        let mut service = json!({ "spec": { "ports": [{ "port": 80 }, { "port": 443 }] } });
        spec.as_object().expect("fields").iter().for_each(|(field, value)| service["spec"][field] = value.clone());
        service["status"] = spec["status"].clone();
        assert_eq!(capacity(1).frontends(&service), expected, "{spec}");
    }

    #[test]
    fn frontends_are_of_addresses_and_ports() {
        check(json!({}), [2, 0]);
        check(json!({ "clusterIPs": ["fd96::1"] }), [0, 2]);
        check(json!({ "ipFamilies": ["IPv6"] }), [0, 2]);
        check(json!({ "ipFamilyPolicy": "PreferDualStack", "type": "NodePort" }), [10, 10]);
        check(json!({ "clusterIP": "None" }), [0, 0]);
        check(json!({ "type": "ExternalName" }), [0, 0]);
        check(json!({ "externalIPs": ["192.0.2.1", "192.0.2.2", "2001:db8::1"] }), [10, 0]);
        let balanced = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }, { "hostname": "lb" }] } });
        check(json!({ "type": "LoadBalancer", "status": balanced }), [14, 0]);
        check(json!({ "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false }), [2, 0]);
    }

    #[test]
    fn what_does_not_fit_is_refused_until_there_is_room() {
        let capacity = capacity(10);
        let service = |ports: usize| json!({ "spec": { "ports": vec![json!({ "port": 80 }); ports] } });
        let set = |key: &str, ports| capacity.counts.lock().set(key.to_owned(), [ports, 0]);
        set("demo/a", 7);
        assert_eq!(capacity.check(&service(3), None), Ok(()));
        let refused = capacity.check(&service(4), None);
        assert_eq!(
            refused,
            Err(
                "map xb_lb4_fe of the nodes' datapath takes 10 frontends (--datapath-capacity): 7 are taken, and this \
                 Service needs 4"
                    .to_owned()
            )
        );
        // One that is there may grow into what is left, and shrink in any case.
        assert_eq!(capacity.check(&service(10), Some(&service(7))), Ok(()));
        assert!(capacity.check(&service(11), Some(&service(7))).is_err());
        set("demo/b", 9);
        assert_eq!(capacity.check(&service(6), Some(&service(7))), Ok(()));
        assert_eq!(capacity.check(&service(7), Some(&service(7))), Ok(()));
        set("demo/a", 0);
        assert_eq!(capacity.check(&service(1), None), Ok(()));
    }

    #[test]
    fn what_was_known_counts_until_all_is_counted_again() {
        let capacity = capacity(10);
        let all = || capacity.counts.lock().all;
        let stored = [("demo/a", 4), ("demo/b", 5)].map(|(key, ports)| (key.to_owned(), [ports, 0]));
        capacity.replace(stored.clone().into_iter());
        assert_eq!(all(), [9, 0]);
        capacity.replace(stored.into_iter().take(1).inspect(|_| assert_eq!(all(), [9, 0], "before the last one")));
        assert_eq!(all(), [4, 0], "what is gone is not counted");
    }
}
