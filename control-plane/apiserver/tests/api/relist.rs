//! What the server keeps beside the watch cache, after a watch of the store that missed deletions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::Notify;
use xebec_apiserver::UserInfo;
use xebec_store::cache::key;
use xebec_store::{Entry, Error, EventStream, Expect, List, ListOptions, Op, Outcome, Result, Revision, Store, Txn};

use crate::harness::{Cluster, SERVICES};

/// A store whose watches can be made to fall silent, and then to have lost their place.
struct Broken {
    inner: Arc<dyn Store>,
    silence: Arc<Notify>,
    fail: Arc<Notify>,
}

#[async_trait]
impl Store for Broken {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<List> {
        self.inner.list(prefix, options).await
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome> {
        self.inner.txn(txn).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<EventStream> {
        let events = self.inner.watch(prefix, after).await?;
        let (silence, fail) = (self.silence.clone(), self.fail.clone());
        let failure = stream::once(async move {
            fail.notified().await;
            Err(Error::Compacted { requested: after, compacted: after })
        });
        Ok(events.take_until(async move { silence.notified().await }).chain(failure).boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.inner.compact(revision).await
    }

    async fn current_revision(&self) -> Result<Revision> {
        self.inner.current_revision().await
    }
}

impl Broken {
    async fn remove(&self, key: &str) {
        let entry = self.inner.get(key).await.unwrap().unwrap_or_else(|| panic!("{key} is there"));
        let expect = Expect::Revision(entry.mod_revision);
        let outcome = self.inner.txn(Txn { key: key.to_owned(), expect, op: Op::Delete }).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed(_)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_while_nobody_watched_is_given_back() {
    let mut broken = None;
    let cluster = Cluster::over_store(|inner| {
        let store = Arc::new(Broken { inner, silence: Arc::default(), fail: Arc::default() });
        broken = Some(store.clone());
        store
    })
    .await;
    let broken = broken.unwrap();
    let service = json!({ "metadata": { "name": "s" }, "spec": { "type": "NodePort", "clusterIP": "10.96.50.50",
        "ports": [{ "port": 80, "nodePort": 30050 }] } });
    cluster.post(SERVICES, &service).await.expect(201);
    let kept =
        json!({ "metadata": { "name": "kept" }, "spec": { "clusterIP": "10.96.50.51", "ports": [{ "port": 80 }] } });
    cluster.post(SERVICES, &kept).await.expect(201);
    let role = json!({ "metadata": { "name": "r" }, "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob" }] });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    cluster.post(bindings, &role).await.expect(201);
    let bob = || UserInfo::new("bob", &["system:authenticated"]);
    let may = async || cluster.as_local(bob(), "GET", SERVICES, &Value::Null).await.code;
    until("the binding", async || may().await == 200).await;

    broken.silence.notify_one();
    broken.remove(&key("core/services", Some("default"), "s")).await;
    broken.remove(&key("networking.k8s.io/ipaddresses", None, "10.96.50.50")).await;
    broken.remove(&key("ranges/servicenodeports", None, "30050")).await;
    broken.remove(&key("rbac.authorization.k8s.io/rolebindings", Some("default"), "r")).await;
    broken.fail.notify_one();

    until("the binding's end", async || may().await == 403).await;
    until("the address and the port", async || cluster.post(SERVICES, &service).await.code == 201).await;
    let mut again = kept;
    again["metadata"]["name"] = "other".into();
    cluster.post(SERVICES, &again).await.refused(422, "Invalid", "provided IP is already allocated");
}

async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let reached = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.unwrap_or_else(|_| panic!("{what} is not seen"));
}
