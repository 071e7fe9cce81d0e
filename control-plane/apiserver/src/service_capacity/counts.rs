//! What all Services and EndpointSlices together take.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::needs::{Entries, MAPS, Needs, Port, Service, Slice};

/// After which a write that was let in and that the cache tells nothing of has failed.
const WRITTEN_BY: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Counts {
    /// By `namespace/name`; of a Service that is not there, those that have slices.
    services: HashMap<String, Entry>,
    all: Needs,
    /// How many service ports have so many backends, for each family.
    ports: [BTreeMap<u64, usize>; 2],
    /// Writes that count already and are not known to be stored: since when, and what was there before.
    reserved: HashMap<(String, Name), (Instant, Part)>,
}

/// What a Service's entry has of its own name (`None`), or of that of one of its slices.
type Name = Option<Box<str>>;

/// A part of what is counted for a Service.
#[derive(Clone, PartialEq, Debug)]
pub enum Part {
    Service(Service),
    /// `None` is one that is not there.
    Slice(Box<str>, Option<Slice>),
}

impl Part {
    fn name(&self) -> Name {
        match self {
            Self::Service(_) => None,
            Self::Slice(name, _) => Some(name.clone()),
        }
    }
}

/// A Service with its slices, and what they take.
#[derive(Default)]
struct Entry {
    service: Service,
    slices: HashMap<Box<str>, Slice>,
    taken: Taken,
}

#[derive(Clone, Default)]
pub struct Taken {
    pub needs: Needs,
    pub ports: Vec<Port>,
}

impl Taken {
    /// Backends of a port that every node has.
    pub fn of_port(&self, name: &str) -> Entries {
        self.ports.iter().find(|port| *port.name == *name).map_or([0, 0], |port| port.everywhere)
    }
}

impl Entry {
    /// Returns what was there.
    fn put(&mut self, part: Part) -> Part {
        let old = match part {
            Part::Service(service) => Part::Service(std::mem::replace(&mut self.service, service)),
            Part::Slice(name, slice) => {
                let old = match slice {
                    Some(slice) => self.slices.insert(name.clone(), slice),
                    None => self.slices.remove(&name),
                };
                Part::Slice(name, old)
            }
        };
        let ports = self.service.backends(self.slices.values());
        self.taken = Taken { needs: self.service.needs(&ports), ports };
        old
    }

    fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.service == Service::default()
    }
}

impl Counts {
    pub fn all(&self) -> Needs {
        self.all
    }

    /// Of the service port that has most, in a family.
    pub fn most_backends(&self, family: usize) -> u64 {
        self.ports[family].last_key_value().map_or(0, |(backends, _)| *backends)
    }

    pub fn of(&self, service: &str) -> Taken {
        self.services.get(service).map(|entry| entry.taken.clone()).unwrap_or_default()
    }

    /// What is stored, whatever was reserved.
    pub fn set(&mut self, service: &str, part: Part) {
        self.reserved.remove(&(service.to_owned(), part.name()));
        self.put(service, part);
    }

    /// Counts what is to be stored; if that is not heard of, it will count no more.
    pub fn reserve(&mut self, service: &str, part: Part, now: Instant) {
        let key = (service.to_owned(), part.name());
        let before = self.put(service, part);
        self.reserved.entry(key).or_insert((now, before)).0 = now;
    }

    /// Takes back what was reserved and is not stored.
    pub fn expire(&mut self, now: Instant) {
        let over = self.reserved.extract_if(|_, (since, _)| now.duration_since(*since) >= WRITTEN_BY);
        for ((service, _), (_, before)) in over.collect::<Vec<_>>() {
            self.put(&service, before);
        }
    }

    /// Starts over with the Services that are stored.
    pub fn replace_services(&mut self, services: Vec<(String, Service)>) {
        let known: Vec<String> = self.services.keys().cloned().collect();
        known.iter().for_each(|key| self.set(key, Part::Service(Service::default())));
        services.into_iter().for_each(|(key, service)| self.set(&key, Part::Service(service)));
    }

    /// Starts over with the slices that are stored, each with the key of its Service and its own name.
    pub fn replace_slices(&mut self, slices: Vec<(String, Box<str>, Slice)>) {
        let names = |(key, entry): (&String, &Entry)| {
            entry.slices.keys().map(|name| (key.clone(), name.clone())).collect::<Vec<_>>()
        };
        let known: Vec<(String, Box<str>)> = self.services.iter().flat_map(names).collect();
        known.into_iter().for_each(|(key, name)| self.set(&key, Part::Slice(name, None)));
        slices.into_iter().for_each(|(key, name, slice)| self.set(&key, Part::Slice(name, Some(slice))));
    }

    /// Returns what was there.
    pub fn put(&mut self, key: &str, part: Part) -> Part {
        let (key, mut entry) = self.services.remove_entry(key).unwrap_or_else(|| (key.to_owned(), Entry::default()));
        self.count(&entry.taken, false);
        let old = entry.put(part);
        self.count(&entry.taken, true);
        if !entry.is_empty() {
            self.services.insert(key, entry);
        }
        old
    }

    fn count(&mut self, taken: &Taken, is_there: bool) {
        for (map, family) in (0..MAPS.len()).flat_map(|map| [(map, 0), (map, 1)]) {
            let (all, own) = (&mut self.all[map][family], taken.needs[map][family]);
            *all = if is_there { *all + own } else { *all - own };
        }
        for (port, family) in taken.ports.iter().flat_map(|port| [(port, 0), (port, 1)]) {
            let backends = port.most(family);
            let ports = self.ports[family].entry(backends).or_default();
            *ports = if is_there { *ports + 1 } else { *ports - 1 };
            if *ports == 0 {
                self.ports[family].remove(&backends);
            }
        }
    }
}
