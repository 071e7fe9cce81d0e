//! Counts what all Services and their EndpointSlices take of the nodes' maps, so that one that does not fit is refused when
//! it is written.
//!
//! Each node has further frontends for addresses of its own besides the first, and for hostPorts: what is let in may still not
//! fit on a node, which then says so in an Event. Under the policy `Local` a node has its own endpoints besides; of each Service those
//! of the node with the most count, though that is not one node for all Services.
//!
//! Every endpoint counts as a backend, though it may not be ready, have hints for elsewhere, or be in two slices: none of that is asked
//! for again when it changes.
//!
//! What is let in counts from then on, so that a crowd of writes does not get more than there is. Of those of other servers
//! each learns when they are stored.

mod counts;
mod needs;

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;
use xebec_machinery::object;
use xebec_store::Result;
use xebec_store::cache::{At, Cache, Event, Filter, Kind, Object, Query, Start};

use crate::app::App;
use counts::{Counts, Part, Taken};
use needs::{BACKENDS, Cluster, Families, MAGLEV, MAPS, Needs, Port, Service, Slice};

const SERVICES: &str = "core/services";
const SLICES: &str = "discovery.k8s.io/endpointslices";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What the datapath of each node takes, in each family.
#[derive(Clone, Copy, Debug)]
pub struct ServiceLimits {
    pub frontends: u32,
    pub backends: u32,
    /// Backends of Services with session affinity.
    pub members: u32,
    /// Networks of `loadBalancerSourceRanges`.
    pub source_ranges: u32,
    pub maglev_blocks: u32,
    /// Of these, what one table takes.
    pub maglev_table_blocks: u16,
    /// Backends of one service port, whatever the maps' sizes.
    pub service_backends: u32,
}

impl ServiceLimits {
    /// Only who starts the nodes knows them.
    pub const NONE: Self = Self {
        frontends: u32::MAX,
        backends: u32::MAX,
        members: u32::MAX,
        source_ranges: u32::MAX,
        maglev_blocks: u32::MAX,
        maglev_table_blocks: 1,
        service_backends: u32::MAX,
    };

    fn of_map(&self, map: usize) -> u64 {
        [self.frontends, self.backends, self.members, self.source_ranges, self.maglev_blocks][map].into()
    }
}

/// What is written.
pub enum Write<'a> {
    Service(&'a Value),
    Slice(&'a Value),
}

pub struct ServiceCapacity {
    limits: ServiceLimits,
    cluster: Cluster,
    counts: Mutex<Counts>,
}

/// Entries of a map, for metrics.
pub struct Fill {
    pub map: &'static str,
    pub entries: u64,
    pub max: u64,
}

impl ServiceCapacity {
    /// `ranges` are those of Services, the primary family's first.
    pub fn new(limits: ServiceLimits, ranges: &[ipnet::IpNet]) -> Self {
        let cluster = Cluster { families: Families::new(ranges), table_blocks: limits.maglev_table_blocks.into() };
        Self { limits, cluster, counts: Mutex::default() }
    }

    /// Lets a write in and counts it, unless it is only tried. `old` is what was stored.
    ///
    /// # Errors
    /// Says what is full. What needs no more than `old` always fits.
    pub fn admit(&self, new: &Write<'_>, old: Option<&Value>, dry_run: bool) -> std::result::Result<(), String> {
        let Some((key, new, old)) = self.parts(new, old) else { return Ok(()) };
        let what = if matches!(new, Part::Service(_)) { "Service" } else { "EndpointSlice" };
        let now = Instant::now();
        let mut counts = self.counts.lock();
        counts.expire(now);
        let known = counts.put(&key, old);
        let before = counts.of(&key);
        counts.put(&key, new.clone());
        let (after, refused) = (counts.of(&key), self.refusal(&counts, &key, &before, what));
        counts.put(&key, known);
        if refused.is_none() && !dry_run && grows(&before.needs, &after.needs) {
            counts.reserve(&key, new, now);
        }
        refused.map_or(Ok(()), Err)
    }

    /// Why `counts`, where a Service is as it shall be, do not fit.
    fn refusal(&self, counts: &Counts, key: &str, before: &Taken, what: &str) -> Option<String> {
        let after = counts.of(key);
        let most = u64::from(self.limits.service_backends);
        for Port { name: port, everywhere: backends, .. } in &after.ports {
            let had = before.of_port(port);
            if let Some(family) = (0..2).find(|family| backends[*family] > had[*family].max(most)) {
                return Some(format!(
                    "the nodes' datapath takes {most} backends of a service port: port {port} of Service {key} has {}, and this \
                     {what} has {} more; lead to some of them by another Service",
                    had[family],
                    backends[family] - had[family]
                ));
            }
        }
        for (map, family) in (0..MAPS.len()).flat_map(|map| [(map, 0), (map, 1)]) {
            let more = after.needs[map][family].saturating_sub(before.needs[map][family]);
            let (limit, all) = (self.limits.of_map(map), counts.all()[map][family]);
            // A port's backends and its table are there twice while they change.
            let kept = match map {
                BACKENDS => counts.most_backends(family),
                MAGLEV => self.cluster.table_blocks,
                _ => 0,
            };
            if more > 0 && all + kept > limit {
                let needs::Map { names, what: entries } = &MAPS[map];
                let kept = if kept > 0 {
                    format!(
                        ", besides {kept} for the service port with the most, which has them twice while they change"
                    )
                } else {
                    String::new()
                };
                return Some(format!(
                    "map {} of the nodes' datapath takes {limit} {entries} (--datapath-capacity {entries}={limit}): {} are taken, \
                     and this {what} needs {more} more{kept}",
                    names[family],
                    all - more
                ));
            }
        }
        None
    }

    /// The Service that a write concerns, what it becomes and what it was. `None` if the write needs nothing.
    fn parts(&self, new: &Write<'_>, old: Option<&Value>) -> Option<(String, Part, Part)> {
        match new {
            Write::Service(new) => {
                let of = |service: &Value| Part::Service(Service::of(service, &self.cluster));
                let key = key(object::namespace(new), object::name(new));
                Some((key, of(new), old.map_or(Part::Service(Service::default()), of)))
            }
            Write::Slice(new) => {
                let name: Box<str> = object::name(new).into();
                let (service, slice) = Slice::of(*new)?;
                // What another Service loses is room that comes when the write is stored.
                let old = old.and_then(Slice::of).filter(|(of, _)| *of == service).map(|(_, slice)| slice);
                let key = key(object::namespace(new), &service);
                Some((key, Part::Slice(name.clone(), Some(slice)), Part::Slice(name, old)))
            }
        }
    }

    /// Counts what is stored, before the first write.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub async fn load(&self, cache: &Cache) -> Result<()> {
        for resource in [SERVICES, SLICES] {
            let query = Query { resource, filter: Filter::all(), at: At::Any, ..Query::default() };
            self.recount(resource, &cache.list(&query).await?.objects);
        }
        Ok(())
    }

    /// Starts over from what is stored. Until all of it is read, what was known before counts: with less, what does not fit
    /// would be let in.
    fn recount(&self, resource: &str, stored: &[Arc<Object>]) {
        if resource == SERVICES {
            let services = stored.iter().map(|object| (self.key_of(object), self.service(object))).collect();
            self.counts.lock().replace_services(services);
        } else {
            let slices = stored.iter().filter_map(|object| {
                let (service, slice) = slice(object)?;
                Some((key(object.namespace(), &service), object.name().into(), slice))
            });
            let slices = slices.collect();
            self.counts.lock().replace_slices(slices);
        }
    }

    fn observe(&self, resource: &str, event: &Event) {
        let Event { kind, object, prev, .. } = event;
        let is_there = *kind != Kind::Deleted;
        if resource == SERVICES {
            let service = if is_there { self.service(object) } else { Service::default() };
            return self.counts.lock().set(&self.key_of(object), Part::Service(service));
        }
        let new = slice(object).filter(|_| is_there);
        let owner = |object: &Arc<Object>| object.labels().get(SERVICE_NAME).map(str::to_owned);
        let mut counts = self.counts.lock();
        for left in [prev.as_ref().and_then(owner), owner(object)].into_iter().flatten() {
            if new.as_ref().is_none_or(|(service, _)| *service != left) {
                counts.set(&key(object.namespace(), &left), Part::Slice(object.name().into(), None));
            }
        }
        if let Some((service, slice)) = new {
            counts.set(&key(object.namespace(), &service), Part::Slice(object.name().into(), Some(slice)));
        }
    }

    fn key_of(&self, object: &Object) -> String {
        key(object.namespace(), object.name())
    }

    fn service(&self, object: &Object) -> Service {
        let service = serde_json::from_slice(object.as_slice()).unwrap_or(Value::Null);
        Service::of(&service, &self.cluster)
    }

    /// What is taken of each map, and what it takes.
    pub fn fill(&self) -> Vec<Fill> {
        let all = self.counts.lock().all();
        let maps = MAPS.iter().enumerate().flat_map(|(map, of)| [(map, of, 0), (map, of, 1)]);
        maps.map(|(map, of, family)| Fill {
            map: of.names[family],
            entries: all[map][family],
            max: self.limits.of_map(map),
        })
        .collect()
    }
}

/// Follows Services and their slices until the server stops.
pub async fn follow(app: Arc<App>) {
    tokio::join!(
        app.follow(SERVICES, || follow_once(&app, SERVICES)),
        app.follow(SLICES, || follow_once(&app, SLICES))
    );
}

async fn follow_once(app: &Arc<App>, resource: &str) -> Result<()> {
    let mut watcher = app.cache.watch(resource, None, Filter::all(), Start::Snapshot)?;
    if let Some(stored) = watcher.take_snapshot() {
        app.service_capacity.recount(resource, &stored.objects);
    }
    loop {
        app.service_capacity.observe(resource, &*watcher.next().await?);
    }
}

fn slice(object: &Object) -> Option<(String, Slice)> {
    Slice::of(&mut serde_json::Deserializer::from_slice(object.as_slice()))
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn grows(before: &Needs, after: &Needs) -> bool {
    let entries = |needs: &Needs| needs.iter().flatten().copied().collect::<Vec<u64>>();
    entries(before).iter().zip(entries(after)).any(|(before, after)| after > *before)
}

#[cfg(test)]
mod tests;
