//! Keeps the index like the cache.

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use xebec_store::cache::{Cache, Filter, Kind, Object, Start, Watcher};

use super::Authorizer;

const RESOURCES: [&str; 5] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings", PODS];
const GROUP: &str = "rbac.authorization.k8s.io";
const PODS: &str = "pods";

/// A watch over one of the RBAC resources, or over pods.
pub struct Feed {
    plural: &'static str,
    watcher: Watcher,
}

impl Authorizer {
    /// Fills the index and returns the watches that continue it.
    pub fn load(&self, cache: &Cache) -> xebec_store::Result<Vec<Feed>> {
        RESOURCES.into_iter().map(|plural| self.load_one(cache, plural)).collect()
    }

    /// Applies events until `stop`.
    pub async fn follow(&self, cache: &Cache, mut feed: Feed, stop: CancellationToken) {
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = feed.watcher.next() => event,
            };
            match event {
                Ok(event) if event.kind == Kind::Deleted => self.put(feed.plural, &event.object, &Value::Null),
                Ok(event) => self.put(feed.plural, &event.object, &parse(&event.object)),
                Err(error) => {
                    tracing::warn!(
                        error = xebec_store::chain(&error),
                        resource = feed.plural,
                        "authorization loads again"
                    );
                    match self.load_one(cache, feed.plural) {
                        Ok(fresh) => feed = fresh,
                        Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                    }
                }
            }
        }
    }

    fn load_one(&self, cache: &Cache, plural: &'static str) -> xebec_store::Result<Feed> {
        let group = if plural == PODS { "core" } else { GROUP };
        let mut watcher = cache.watch(&format!("{group}/{plural}"), None, Filter::all(), Start::Snapshot)?;
        let objects = watcher.take_snapshot().map(|snapshot| snapshot.objects).unwrap_or_default();
        let parsed: Vec<(&Object, Value)> = objects.iter().map(|object| (&**object, parse(object))).collect();
        // In one step: nobody is refused what they may do because not all of it is known yet.
        match plural {
            PODS => {
                let mut graph = self.graph.write();
                graph.clear();
                parsed.iter().for_each(|(object, value)| graph.put(object.namespace(), object.name(), value));
            }
            plural => {
                let mut index = self.index.write();
                index.clear(plural);
                parsed.iter().for_each(|(object, value)| index.put(plural, object.namespace(), object.name(), value));
            }
        }
        Ok(Feed { plural, watcher })
    }

    fn put(&self, plural: &str, object: &Object, value: &Value) {
        match plural {
            PODS => self.graph.write().put(object.namespace(), object.name(), value),
            plural => self.index.write().put(plural, object.namespace(), object.name(), value),
        }
    }
}

fn parse(object: &Object) -> Value {
    serde_json::from_slice(object.as_slice()).unwrap_or_default()
}
