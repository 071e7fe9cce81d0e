//! Keeps the cache in step with the store.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::time::{self, Instant};

use super::{Object, Shared};
use crate::{Change, Entry, Error, Event, EventStream, ListOptions, PREFIX, Result, chain};

const PAGE: usize = 2_000;
const RETRY: Duration = Duration::from_millis(100);
const TRIM_EVERY: Duration = Duration::from_secs(30);

/// Replaces the cache's content by the store's. Until all of it is read, what was there before stays: whoever reads would
/// take a part for the whole, and hear nothing of the rest.
pub async fn load(shared: &Shared) -> Result<()> {
    let mut options = ListOptions { limit: PAGE, ..ListOptions::default() };
    let mut list = shared.store.list(PREFIX, options.clone()).await?;
    let revision = list.revision;
    options.revision = Some(revision);
    let mut found: HashMap<Arc<str>, Vec<Arc<Object>>> = HashMap::new();
    loop {
        let same = |a: &Entry, b: &Entry| super::resource_of(&a.key) == super::resource_of(&b.key);
        for entries in list.entries.chunk_by(same).filter(|entries| is_object(&entries[0].key)) {
            let name = super::resource_of(&entries[0].key);
            let known = shared.resource(name);
            let unchanged = |entry: &Entry| {
                let object = known.as_ref()?.get(&entry.key)?;
                (object.revision() == entry.mod_revision).then_some(object)
            };
            let objects = entries.iter().map(|entry| unchanged(entry).unwrap_or_else(|| shared.object(entry)));
            found.entry(name.into()).or_default().extend(objects);
        }
        if !list.more {
            break;
        }
        options.start_after = list.entries.last().map(|entry| entry.key.to_string());
        list = shared.store.list(PREFIX, options.clone()).await?;
    }
    let known: Vec<_> = {
        let mut resources = shared.resources.write();
        resources.loaded = revision;
        resources.by_name.keys().cloned().collect()
    };
    known.into_iter().for_each(|name| _ = found.entry(name).or_default());
    found.into_iter().for_each(|(name, objects)| shared.resource_or_new(&name).replace(objects, revision));
    shared.applied.send_replace(revision);
    Ok(())
}

/// Applies the store's events for ever.
pub async fn follow(shared: Arc<Shared>) {
    loop {
        let after = *shared.applied.borrow();
        let result = match shared.store.watch(PREFIX, after).await {
            Ok(events) => apply_all(&shared, events).await,
            Err(error) => Err(error),
        };
        let Err(error) = result else { continue };
        tracing::warn!(error = chain(&error), %after, "watch cache lost the store");
        if matches!(error, Error::Compacted { .. } | Error::Future { .. })
            && let Err(error) = load(&shared).await
        {
            tracing::warn!(error = chain(&error), "watch cache cannot load");
        }
        time::sleep(RETRY).await;
    }
}

async fn apply_all(shared: &Shared, mut events: EventStream) -> Result<()> {
    let mut trim = time::interval(TRIM_EVERY);
    loop {
        tokio::select! {
            batch = events.next() => match batch {
                Some(batch) => apply(shared, batch?),
                None => return Ok(()),
            },
            now = trim.tick() => {
                let resources: Vec<_> = shared.resources.read().by_name.values().cloned().collect();
                resources.iter().for_each(|resource| resource.trim(now));
            }
        }
    }
}

fn apply(shared: &Shared, batch: Vec<Event>) {
    let now = Instant::now();
    let Some(revision) = batch.last().map(|event| event.revision) else { return };
    for Event { key, revision, change } in batch.into_iter().filter(|event| is_object(&event.key)) {
        let resource = shared.resource_or_new(super::resource_of(&key));
        match change {
            Change::Put { value, create_revision } => {
                let entry = Entry { key, value, create_revision, mod_revision: revision };
                resource.put(shared.object(&entry), now);
            }
            Change::Delete => resource.remove(&key, revision, now),
        }
    }
    shared.applied.send_replace(revision);
}

/// Stores keep marks of their own below the prefix, outside of any resource.
fn is_object(key: &str) -> bool {
    super::resource_of(key).contains('/')
}
