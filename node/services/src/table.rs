//! The tables of all Services, kept current one Service at a time: the cost of a change does not grow with their number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::diff::diff;
use crate::{Algorithm, Change, Forwarding, FrontendKey, Programmed, ServiceKey, ServicePort, TrafficPolicy};

#[derive(Default, Debug)]
pub struct Table {
    /// What the datapath has, or will have when the changes given out are applied.
    programmed: BTreeMap<FrontendKey, Programmed>,
    wants: HashMap<ServiceKey, Vec<ServicePort>>,
    /// Where two Services claim one frontend, the first to claim has it until it lets go.
    owners: HashMap<FrontendKey, ServiceKey>,
    waiting: HashMap<FrontendKey, BTreeSet<ServiceKey>>,
}

impl Table {
    /// Starts from what the datapath has. Nothing of it is removed before [`Table::replace_all`].
    pub fn new(programmed: impl IntoIterator<Item = Programmed>) -> Self {
        let sorted = programmed.into_iter().map(|mut p| {
            p.backends.sort();
            (p.frontend.key, p)
        });
        Self { programmed: sorted.collect(), ..Self::default() }
    }

    /// The first full state: frontends that no Service has are removed.
    pub fn replace_all(&mut self, services: impl IntoIterator<Item = (ServiceKey, Vec<ServicePort>)>) -> Vec<Change> {
        (self.wants, self.owners, self.waiting) = Default::default();
        for (key, mut ports) in services {
            self.hold_api_server(&key, &mut ports);
            self.claim(&key, &ports);
            self.wants.insert(key, ports);
        }
        let mut keys: Vec<ServiceKey> = self.wants.keys().cloned().collect();
        keys.sort();
        let desired: Vec<ServicePort> = keys.iter().flat_map(|key| self.effective(key)).collect();
        let changes = diff(&self.programmed, &desired);
        self.commit(&changes);
        changes
    }

    /// One Service as it is; no ports when it is gone.
    pub fn update(&mut self, key: &ServiceKey, mut ports: Vec<ServicePort>) -> Vec<Change> {
        if key.is_api_server() && ports.is_empty() {
            return Vec::new();
        }
        self.hold_api_server(key, &mut ports);
        let mut touched = frontends(&self.effective(key));
        let old = self.wants.remove(key).unwrap_or_default();
        self.claim(key, &ports);
        let kept = frontends(&ports);
        let heirs = self.release(key, frontends(&old).difference(&kept));
        if !ports.is_empty() {
            self.wants.insert(key.clone(), ports);
        }
        let mut desired = self.effective(key);
        desired.extend(heirs.iter().flat_map(|heir| self.effective(heir)));
        touched.extend(frontends(&desired));
        let actual = touched.into_iter().filter_map(|k| Some((k, self.programmed.get(&k)?.clone()))).collect();
        let changes = diff(&actual, &desired);
        self.commit(&changes);
        changes
    }

    /// The datapath refused a change: what it has is unknown, and the next update of the Service, or
    /// [`Table::orphans`], gives a change out again.
    pub fn forget(&mut self, change: &Change) {
        match change {
            Change::Put(port) => {
                for (key, programmed) in port.programmed() {
                    self.programmed.insert(key, unknown(programmed));
                }
            }
            Change::Remove(key) => {
                let kind = crate::FrontendKind::ClusterIp;
                let frontend = crate::Frontend { key: *key, kind };
                let policy = TrafficPolicy::Cluster;
                let (backends, source_ranges) = (Vec::new(), Vec::new());
                let programmed = Programmed {
                    frontend,
                    policy,
                    backends,
                    affinity: None,
                    source_ranges,
                    algorithm: Algorithm::Random,
                    forwarding: Forwarding::Snat,
                };
                self.programmed.insert(*key, unknown(programmed));
            }
        }
    }

    /// What must be written because the datapath has `actual` instead of what was given out.
    pub fn repair(&mut self, actual: impl IntoIterator<Item = Programmed>) -> Vec<Change> {
        self.programmed = Self::new(actual).programmed;
        let keys: BTreeSet<ServiceKey> = self.wants.keys().cloned().collect();
        let desired: Vec<ServicePort> = keys.iter().flat_map(|key| self.effective(key)).collect();
        let changes = diff(&self.programmed, &desired);
        self.commit(&changes);
        changes
    }

    /// Removals of what no Service owns.
    pub fn orphans(&mut self) -> Vec<Change> {
        let unowned = self.programmed.keys().filter(|key| !self.owners.contains_key(key));
        let changes: Vec<Change> = unowned.map(|key| Change::Remove(*key)).collect();
        self.commit(&changes);
        changes
    }

    /// What the datapath has when every change given out is applied.
    pub fn programmed(&self) -> &BTreeMap<FrontendKey, Programmed> {
        &self.programmed
    }

    /// The number of Services with frontends.
    pub fn len(&self) -> usize {
        self.wants.len()
    }

    pub fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// The API server's last known backends stay: a server that restarts withdraws itself, and a node that
    /// dropped its address could not learn of the next.
    fn hold_api_server(&self, key: &ServiceKey, ports: &mut [ServicePort]) {
        if !key.is_api_server() {
            return;
        }
        for port in ports.iter_mut().filter(|port| port.backends.is_empty()) {
            let known = port.frontends.first().and_then(|frontend| self.programmed.get(&frontend.key));
            if let Some(known) = known {
                port.backends.clone_from(&known.backends);
            }
        }
    }

    /// What the Service wants, without the frontends that others own.
    fn effective(&self, key: &ServiceKey) -> Vec<ServicePort> {
        let mut ports = self.wants.get(key).cloned().unwrap_or_default();
        for port in &mut ports {
            port.frontends.retain(|frontend| self.owners.get(&frontend.key) == Some(key));
        }
        ports.retain(|port| !port.frontends.is_empty());
        ports
    }

    fn claim(&mut self, key: &ServiceKey, ports: &[ServicePort]) {
        for frontend in frontends(ports) {
            let owner = self.owners.entry(frontend).or_insert_with(|| key.clone());
            if owner != key {
                tracing::warn!(service = %key, %owner, addr = %frontend.addr, port = frontend.port,
                    "another Service has the frontend");
                self.waiting.entry(frontend).or_default().insert(key.clone());
            }
        }
    }

    /// Lets go of frontends; returns the Services that take them over.
    fn release<'a>(
        &mut self,
        key: &ServiceKey,
        released: impl Iterator<Item = &'a FrontendKey>,
    ) -> BTreeSet<ServiceKey> {
        let mut heirs = BTreeSet::new();
        for frontend in released {
            let mut heir = None;
            if let Some(waiting) = self.waiting.get_mut(frontend) {
                waiting.remove(key);
                if self.owners.get(frontend) == Some(key) {
                    heir = waiting.pop_first();
                }
                if waiting.is_empty() {
                    self.waiting.remove(frontend);
                }
            }
            match heir {
                Some(heir) => {
                    self.owners.insert(*frontend, heir.clone());
                    heirs.insert(heir);
                }
                None if self.owners.get(frontend) == Some(key) => {
                    self.owners.remove(frontend);
                }
                None => {}
            }
        }
        heirs
    }

    fn commit(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(port) => self.programmed.extend(port.programmed()),
                Change::Remove(key) => drop(self.programmed.remove(key)),
            }
        }
    }
}

fn frontends(ports: &[ServicePort]) -> BTreeSet<FrontendKey> {
    ports.iter().flat_map(|port| &port.frontends).map(|frontend| frontend.key).collect()
}

/// Equal to nothing that a Service wants.
fn unknown(programmed: Programmed) -> Programmed {
    Programmed { backends: Vec::new(), affinity: Some(Duration::MAX), ..programmed }
}
