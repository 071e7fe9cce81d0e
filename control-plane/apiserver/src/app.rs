//! What every request shares.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use xebec_clock::Clock;
use xebec_machinery::Status;
use xebec_store::cache::{At, Cache, Filter, Object, Query};
use xebec_store::{Expect, Revision, Store};

use crate::admission::{Chain, Reader, Replaced};
use crate::authn::Authenticators;
use crate::authz::Authorizer;
use crate::config::Config;
use crate::flow_control::FlowControl;
use crate::kinds::{Kinds, Resource};
use crate::metrics::Metrics;
use crate::proxy::KubeletProxy;
use crate::resource_metrics::ResourceMetrics;
use crate::service_capacity::ServiceCapacity;
use crate::service_ip::ServiceAllocator;

/// Before something that was followed is followed again.
const RETRY: Duration = Duration::from_secs(1);

pub struct App {
    pub config: Config,
    pub store: Arc<dyn Store>,
    pub cache: Cache,
    pub kinds: Kinds,
    pub admission: Chain,
    pub authn: Authenticators,
    pub authz: Authorizer,
    pub flow: FlowControl,
    pub metrics: Metrics,
    /// What nodes and pods use.
    pub resource_metrics: ResourceMetrics,
    pub services: ServiceAllocator,
    pub service_capacity: Arc<ServiceCapacity>,
    /// Dials kubelets; replaced when its certificate is renewed.
    pub kubelets: parking_lot::RwLock<Option<KubeletProxy>>,
    /// Cancelled when the server stops; ends watches.
    pub stop: CancellationToken,
    /// Why the server is not ready, by hook; empty when it is.
    pub pending_hooks: parking_lot::RwLock<Vec<&'static str>>,
}

impl App {
    /// The object as the cache has it, or as it is now if the cache has none.
    pub async fn find(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        match self.cache.get(&resource.storage, resource.scope(namespace), name) {
            Some(object) => Ok(Some(object)),
            None => self.find_consistent(resource, namespace, name).await,
        }
    }

    /// The object after every acknowledged write.
    pub async fn find_consistent(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        self.cache.get_consistent(&resource.storage, resource.scope(namespace), name).await.map_err(store_error)
    }

    /// Follows until the server stops: `follow` ends when it lost track of `what`, and is called again.
    pub async fn follow<F>(&self, what: &str, follow: impl Fn() -> F)
    where
        F: Future<Output = xebec_store::Result<()>>,
    {
        let again_and_again = async {
            loop {
                if let Err(error) = follow().await {
                    tracing::debug!(what, error = xebec_store::chain(&error), "follow again");
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        _ = self.stop.run_until_cancelled(again_and_again).await;
    }

    /// What is now, everywhere in the server.
    pub fn clock(&self) -> &Clock {
        self.config.pki.clock()
    }

    pub fn now(&self) -> OffsetDateTime {
        self.clock().now().into()
    }

    /// Now as objects carry it, to the second.
    pub fn now_rfc3339(&self) -> String {
        xebec_machinery::time::rfc3339(self.clock().now())
    }
}

#[async_trait]
impl Reader for App {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let resource = self.kinds.find(group, resource)?;
        let object = self.cache.get(&resource.storage, resource.scope(namespace), name)?;
        parse(&object).ok()
    }

    async fn get_consistent(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        let Some(resource) = self.kinds.find(group, resource) else { return Ok(None) };
        self.find_consistent(resource, namespace, name).await?.map(|object| parse(&object)).transpose()
    }

    async fn list(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Value>, Status> {
        let Some(resource) = self.kinds.find(group, resource) else { return Ok(Vec::new()) };
        let query = Query {
            resource: &resource.storage,
            namespace: Some(namespace).filter(|n| !n.is_empty()),
            filter: Filter::all(),
            at: At::Any,
            ..Query::default()
        };
        let snapshot = self.cache.list(&query).await.map_err(store_error)?;
        snapshot.objects.iter().map(|object| parse(object)).collect()
    }

    async fn put_status(&self, group: &str, resource: &str, object: &Value) -> Result<Replaced, Status> {
        use crate::rest::store;
        use xebec_machinery::object as meta;
        let Some(resource) = self.kinds.find(group, resource) else { return Ok(Replaced::Changed(None)) };
        let key = resource.key(meta::namespace(object), meta::name(object));
        let revision = meta::resource_version(object).parse().map(Revision);
        let revision = revision.map_err(|_| Status::internal("an object from the cache has a revision"))?;
        match store::put(self, &key, Expect::Revision(revision), &mut object.clone()).await? {
            store::Written::At(_) => Ok(Replaced::Done),
            store::Written::Conflict(None) => Ok(Replaced::Changed(None)),
            store::Written::Conflict(Some(entry)) => Ok(Replaced::Changed(Some(store::from_entry(&entry)?))),
        }
    }
}

/// The JSON of a cached object.
pub fn parse(object: &Object) -> Result<Value, Status> {
    serde_json::from_slice(object.as_slice())
        .map_err(|e| Status::internal(format!("stored object {} is not JSON: {e}", object.key())))
}

/// What a client is told of a failure of the store.
#[allow(clippy::needless_pass_by_value)] // For `map_err`.
pub fn store_error(error: xebec_store::Error) -> Status {
    use xebec_machinery::status::{Cause, Details};
    use xebec_store::Error;
    match &error {
        Error::Compacted { requested, compacted } => {
            Status::expired(format!("too old resource version: {requested} ({compacted})"))
        }
        Error::Timeout { revision: requested, current } | Error::Future { requested, current } => {
            let cause = Cause {
                reason: "ResourceVersionTooLarge".into(),
                message: "Too large resource version".into(),
                ..Cause::default()
            };
            Status::timeout(format!("Too large resource version: {requested}, current: {current}"), 1)
                .with_details(Details { causes: vec![cause], retry_after_seconds: Some(1), ..Details::default() })
        }
        Error::TooLarge { .. } => Status::request_entity_too_large(&error),
        Error::Unavailable { .. } | Error::Closed => {
            tracing::warn!(error = xebec_store::chain(&error), "store");
            Status::service_unavailable(error.to_string()).retry_after(1)
        }
        _ => {
            tracing::error!(error = xebec_store::chain(&error), "store");
            Status::internal(&error)
        }
    }
}
