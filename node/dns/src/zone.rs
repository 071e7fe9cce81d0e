//! What the cluster's names mean.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

/// A Service as DNS sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    pub namespace: String,
    pub name: String,
    pub kind: Kind,
    pub ports: Vec<Port>,
    /// The ready ones.
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    ClusterIp(Vec<IpAddr>),
    Headless,
    ExternalName(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    pub number: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    pub addr: IpAddr,
    pub hostname: Option<String>,
    pub ports: Vec<Port>,
}

impl Endpoint {
    /// Its label below the Service: the hostname or, without one, the address with dashes.
    pub fn label(&self) -> String {
        match &self.hostname {
            Some(hostname) => hostname.to_ascii_lowercase(),
            None => self.addr.to_string().replace(['.', ':'], "-"),
        }
    }
}

type Key = (String, String);

/// Every record, indexed for questions. Updates concern one Service.
#[derive(Default, Debug)]
pub struct Zone {
    /// The API, or a snapshot of it, has been read: absence means that a name does not exist.
    known: bool,
    services: HashMap<Key, ServiceRecord>,
    /// How many Services each namespace has.
    namespaces: HashMap<String, usize>,
    cluster_ips: HashMap<IpAddr, Key>,
    endpoints: HashMap<IpAddr, BTreeSet<Key>>,
}

/// What a name below the cluster domain stands for.
#[derive(Debug, PartialEq)]
pub enum Match<'a> {
    Apex,
    /// `dns-version`.
    Version,
    /// `ns.dns`: this server.
    Server,
    /// A name with names below it and no records.
    Empty,
    /// A Service, or one of its ports.
    Service {
        record: &'a ServiceRecord,
        port: Option<(&'a str, &'a str)>,
    },
    /// Endpoints of one label.
    Endpoints {
        record: &'a ServiceRecord,
        endpoints: Vec<&'a Endpoint>,
    },
    Pod(IpAddr),
}

impl Zone {
    pub fn is_known(&self) -> bool {
        self.known
    }

    pub fn set_known(&mut self) {
        self.known = true;
    }

    pub fn len(&self) -> usize {
        self.services.len()
    }

    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    pub fn records(&self) -> impl Iterator<Item = &ServiceRecord> {
        self.services.values()
    }

    /// Everything at once.
    pub fn replace_all(&mut self, records: impl IntoIterator<Item = ServiceRecord>) {
        *self = Self { known: self.known, ..Self::default() };
        for record in records {
            self.put(record);
        }
    }

    /// Returns whether something changed.
    pub fn put(&mut self, record: ServiceRecord) -> bool {
        let key = (record.namespace.to_ascii_lowercase(), record.name.to_ascii_lowercase());
        if self.services.get(&key) == Some(&record) {
            return false;
        }
        self.remove(&key.0, &key.1);
        *self.namespaces.entry(key.0.clone()).or_default() += 1;
        if let Kind::ClusterIp(addresses) = &record.kind {
            self.cluster_ips.extend(addresses.iter().map(|addr| (*addr, key.clone())));
        }
        for endpoint in &record.endpoints {
            self.endpoints.entry(endpoint.addr).or_default().insert(key.clone());
        }
        self.services.insert(key, record);
        true
    }

    /// Returns whether something changed.
    pub fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_ascii_lowercase(), name.to_ascii_lowercase());
        let Some(record) = self.services.remove(&key) else { return false };
        if let Some(count) = self.namespaces.get_mut(&key.0) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(&key.0);
            }
        }
        if let Kind::ClusterIp(addresses) = &record.kind {
            for addr in addresses {
                // Another Service may have taken the address over before this one was seen to go.
                if self.cluster_ips.get(addr) == Some(&key) {
                    self.cluster_ips.remove(addr);
                }
            }
        }
        for endpoint in &record.endpoints {
            if let Some(keys) = self.endpoints.get_mut(&endpoint.addr) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.endpoints.remove(&endpoint.addr);
                }
            }
        }
        true
    }

    /// `labels` are those below the cluster domain, in lower case, as written: `["web", "default", "svc"]`.
    pub fn find<'a>(&'a self, labels: &[&'a str]) -> Option<Match<'a>> {
        match labels {
            [] => Some(Match::Apex),
            ["dns-version"] => Some(Match::Version),
            ["svc" | "pod" | "dns"] => Some(Match::Empty),
            ["ns", "dns"] => Some(Match::Server),
            [namespace, "svc" | "pod"] => self.namespaces.contains_key(*namespace).then_some(Match::Empty),
            [pod, _namespace, "pod"] => pod_address(pod).map(Match::Pod),
            [rest @ .., service, namespace, "svc"] => {
                let record = self.services.get(&((*namespace).to_owned(), (*service).to_owned()))?;
                below_service(record, rest)
            }
            _ => None,
        }
    }

    /// Names of an address, relative to the cluster domain: a Service's or else its endpoints'.
    pub fn reverse(&self, addr: IpAddr) -> Vec<String> {
        if let Some((namespace, name)) = self.cluster_ips.get(&addr) {
            return vec![format!("{name}.{namespace}.svc")];
        }
        let mut names = BTreeSet::new();
        for key in self.endpoints.get(&addr).into_iter().flatten() {
            let endpoints = self.services.get(key).into_iter().flat_map(|record| &record.endpoints);
            for endpoint in endpoints.filter(|endpoint| endpoint.addr == addr) {
                names.insert(format!("{}.{}.{}.svc", endpoint.label(), key.1, key.0));
            }
        }
        names.into_iter().collect()
    }
}

fn below_service<'a>(record: &'a ServiceRecord, labels: &[&'a str]) -> Option<Match<'a>> {
    match labels {
        [] => match record.kind {
            // A headless Service without ready endpoints has no name (specification, 2.4.1).
            Kind::Headless if record.endpoints.is_empty() => None,
            _ => Some(Match::Service { record, port: None }),
        },
        [port, protocol] => {
            let wanted = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
            let has = |ports: &[Port]| ports.iter().any(|port| port.is(wanted));
            let found = match record.kind {
                Kind::Headless => record.endpoints.iter().any(|endpoint| has(&endpoint.ports)),
                _ => has(&record.ports),
            };
            found.then_some(Match::Service { record, port: Some(wanted) })
        }
        [protocol] if protocol.starts_with('_') => {
            let mut ports = record.ports.iter().chain(record.endpoints.iter().flat_map(|e| &e.ports));
            ports.any(|port| protocol.get(1..) == Some(&port.protocol)).then_some(Match::Empty)
        }
        [label] => {
            let matching = record.endpoints.iter().filter(|endpoint| endpoint.label() == *label);
            let endpoints: Vec<&Endpoint> = matching.collect();
            (!endpoints.is_empty()).then_some(Match::Endpoints { record, endpoints })
        }
        _ => None,
    }
}

impl Port {
    pub fn is(&self, (name, protocol): (&str, &str)) -> bool {
        self.name.eq_ignore_ascii_case(name) && self.protocol == protocol
    }
}

/// `10-244-1-5`. The pod is not looked up: the name says its address (CoreDNS' mode `pods insecure`).
fn pod_address(label: &str) -> Option<IpAddr> {
    if let Ok(v4) = label.replace('-', ".").parse::<Ipv4Addr>() {
        return Some(v4.into());
    }
    label.replace('-', ":").parse().ok().map(IpAddr::V6)
}

#[derive(Clone, Default, Debug)]
pub struct SharedZone(Arc<RwLock<Zone>>);

impl SharedZone {
    pub fn read(&self) -> RwLockReadGuard<'_, Zone> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, Zone> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ordered, so that two snapshots of one state are equal.
pub fn ordered(zone: &Zone) -> BTreeMap<Key, ServiceRecord> {
    zone.services.iter().map(|(key, record)| (key.clone(), record.clone())).collect()
}
