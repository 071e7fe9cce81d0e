//! Keeps the zone in line with the API.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;
use xebec_client::{Informer, Informers, Key};
use xebec_types::core::Service;
use xebec_types::discovery::EndpointSlice;
use xebec_types::{label, object};

use crate::zone::SharedZone;
use crate::{Metrics, ServiceRecord, compile, snapshot};

/// The slices of a Service, by `namespace/name`.
const BY_SERVICE: &str = "dns-service";

/// Changes come in bursts; a snapshot is only for restarts.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(2);

/// Never returns. Until both kinds have been listed the zone stays as it was: a snapshot, or unknown.
pub async fn follow(informers: &Informers, zone: &SharedZone, metrics: &Metrics, path: Option<PathBuf>) {
    let services = informers.informer::<Service>();
    let slices = informers.informer::<EndpointSlice>();
    slices.add_index(BY_SERVICE, |slice| owner(slice).map(|key| key.to_string()).into_iter().collect());
    let owners = follow_owners(&slices);
    let mut changed_services = services.subscribe();
    let mut changed_slices = slices.subscribe();
    tokio::join!(services.synced(), slices.synced());
    // What has arrived so far is in the lists that are read below.
    let _ = (changed_services.changed().now_or_never(), changed_slices.changed().now_or_never());
    let records: Vec<ServiceRecord> = services.list().iter().filter_map(|service| record(service, &slices)).collect();
    tracing::info!(services = records.len(), "DNS synced");
    {
        let mut zone = zone.write();
        zone.replace_all(records);
        zone.set_known();
    }
    let mut save_at = Some(Instant::now() + SNAPSHOT_EVERY);
    loop {
        metrics.services.store(zone.read().len() as u64, Relaxed);
        let (mut dirty, mut moved) = (BTreeSet::new(), BTreeSet::new());
        tokio::select! {
            keys = changed_services.changed() => dirty = keys,
            keys = changed_slices.changed() => moved = keys,
            () = tokio::time::sleep_until(save_at.unwrap_or_else(Instant::now)), if save_at.is_some() => {
                save_at = None;
                if let Some(path) = &path && let Err(error) = snapshot::save(path, zone) {
                    tracing::warn!(path = %path.display(), %error, "snapshot not written");
                }
            }
        }
        {
            let mut owners = owners.lock().unwrap_or_else(PoisonError::into_inner);
            dirty.extend(moved.iter().flat_map(|slice| owners.remove(slice).unwrap_or_default()));
        }
        for key in &dirty {
            let record = services.get_key(key).and_then(|service| record(&service, &slices));
            let mut zone = zone.write();
            let changed = match record {
                Some(record) => zone.put(record),
                None => zone.remove(&key.namespace, &key.name),
            };
            if changed && save_at.is_none() {
                save_at = Some(Instant::now() + SNAPSHOT_EVERY);
            }
        }
    }
}

fn record(service: &Service, slices: &Informer<EndpointSlice>) -> Option<ServiceRecord> {
    let key = Key::of(&service.metadata).to_string();
    let slices = slices.read();
    let own: Vec<&EndpointSlice> = slices.by_index(BY_SERVICE, &key).map(|slice| &**slice).collect();
    compile(service, &own)
}

fn owner(slice: &EndpointSlice) -> Option<Key> {
    let service = object::label(&slice.metadata, label::SERVICE_NAME)?;
    Some(Key::new(object::namespace(&slice.metadata), service))
}

type Owners = Arc<Mutex<HashMap<Key, BTreeSet<Key>>>>;

/// Which Services each changed slice concerned and concerns, until they are taken: a deleted slice is not in the store.
fn follow_owners(slices: &Informer<EndpointSlice>) -> Owners {
    let owners = Owners::default();
    let sink = Arc::downgrade(&owners);
    slices.on_change(move |change| {
        let Some(owners) = sink.upgrade() else { return };
        let services = change.old.iter().chain(&change.new).filter_map(|slice| owner(slice));
        let mut owners = owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.entry(change.key()).or_default().extend(services);
    });
    owners
}
