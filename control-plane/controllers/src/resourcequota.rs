//! Counts what namespaces use of their quotas, as upstream's `resourcequota` controller.
//!
//! Admission charges what is created; this puts the figures right when things go or a quota changes, and when a request
//! that was charged came to nothing.

mod monitor;

use crate::Context;
use crate::control::{self, Reconcile};
use crate::discovery::{self, Served};
use monitor::Monitors;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;
use xebec_client::kube::core::DynamicObject;
use xebec_client::{Api, Error, Informer, Key, ListParams, Outcome, PostParams, Workqueue, is_not_found};
use xebec_machinery::quota::{self, Amounts};
use xebec_types::core::{Pod, ResourceQuota};
use xebec_types::object;

/// Changes within this time make one count.
const GATHER: Duration = Duration::from_millis(100);
/// As kube-controller-manager's `--resource-quota-sync-period`.
const RESYNC: Duration = Duration::from_secs(300);
const PAGE: u32 = 500;

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let queue: Workqueue<Key> = Workqueue::new();
    let quotas: Arc<Informer<ResourceQuota>> = context.informers.informer();
    let controller = Controller {
        pods: context.informers.informer(),
        monitors: Mutex::new(Monitors::new(context.client.clone(), queue.clone(), Arc::clone(&quotas))),
        quotas,
        queue,
        context,
    };
    controller.watch();
    tokio::join!(controller.quotas.synced(), controller.pods.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    quotas: Arc<Informer<ResourceQuota>>,
    pods: Arc<Informer<Pod>>,
    monitors: Mutex<Monitors>,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "resourcequota";
    const WORKERS: usize = 5;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let api: Api<ResourceQuota> = Api::namespaced(self.context.client.clone(), &key.namespace);
        // Admission writes it too: what is counted must be newer than what is replaced.
        let Some(known) = self.quotas.get_key(key) else { return Ok(Outcome::Done) };
        if object::is_being_deleted(&known.metadata) {
            return Ok(Outcome::Done);
        }
        let quota = serde_json::to_value(&*known).map_err(Error::SerdeError)?;
        let hard = quota::amounts(quota.pointer("/spec/hard"));
        let used = self.count(&key.namespace, &quota, &hard).await?;
        if let Some(status) = step(&quota, &hard, &used) {
            let mut updated = ResourceQuota::clone(&known);
            updated.status = serde_json::from_value(status).map_err(Error::SerdeError)?;
            match api.replace_status(&key.name, &PostParams::default(), &updated).await {
                Err(error) if !is_not_found(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(Outcome::After(RESYNC))
    }
}

/// The status to write, if it changed.
#[must_use]
pub fn step(quota: &Value, hard: &Amounts, used: &Amounts) -> Option<Value> {
    // What no evaluator knows stays what it was.
    let mut all = quota::amounts(quota.pointer("/status/used"));
    all.retain(|name, _| hard.contains_key(name));
    for name in hard.keys().filter(|name| quota::counted(name).is_some()) {
        all.insert(name.clone(), used.get(name).copied().unwrap_or_default());
    }
    let same =
        |what: &str, wanted: &Amounts| quota.pointer(what).is_some() && quota::amounts(quota.pointer(what)) == *wanted;
    if same("/status/hard", hard) && same("/status/used", &all) {
        return None;
    }
    Some(serde_json::json!({"hard": quota::to_value(hard), "used": quota::to_value(&all)}))
}

impl Controller {
    fn watch(&self) {
        let queue = self.queue.clone();
        self.quotas.on_change(move |change| {
            let spec = |quota: &Option<Arc<ResourceQuota>>| quota.as_ref().and_then(|q| q.spec.clone());
            // Its own status needs no answer; admission's neither.
            if change.old.is_none() || spec(&change.old) != spec(&change.new) {
                queue.add(change.key());
            }
        });
        let (queue, quotas) = (self.queue.clone(), Arc::clone(&self.quotas));
        self.pods.on_change(move |change| {
            let is_over = |pod: &Option<Arc<Pod>>| pod.as_ref().is_none_or(|pod| xebec_types::pod::is_terminal(pod));
            // Admission has counted what begins.
            if change.old.is_some() && is_over(&change.new) {
                let of_namespace = quotas.list_namespace(&change.key().namespace);
                of_namespace.iter().for_each(|q| queue.add_after(Key::of(&q.metadata), GATHER));
            }
        });
    }

    /// What a namespace uses of what the quota limits.
    async fn count(&self, namespace: &str, quota: &Value, hard: &Amounts) -> Result<Amounts, Error> {
        let kinds: BTreeSet<(&str, &str)> = hard.keys().filter_map(|name| quota::counted(name)).collect();
        let now = self.context.config.clock.now();
        let mut used = Amounts::new();
        let mut served = None;
        for (group, plural) in kinds {
            if (group, plural) == ("", "pods") {
                for pod in self.pods.list_namespace(namespace) {
                    let pod = serde_json::to_value(&*pod).map_err(Error::SerdeError)?;
                    add(&mut used, quota, (group, plural), &pod, now);
                }
                continue;
            }
            if served.is_none() {
                served = Some(discovery::served(&self.context.client).await?);
            }
            let kind = served.iter().flatten().find(|k| k.api.group == group && k.api.plural == plural);
            let Some(kind) = kind.filter(|kind| kind.namespaced && kind.allows("list")) else { continue };
            self.monitors.lock().unwrap_or_else(PoisonError::into_inner).follow(kind);
            for object in list(&self.context, kind, namespace).await? {
                let object = serde_json::to_value(&object).map_err(Error::SerdeError)?;
                add(&mut used, quota, (group, plural), &object, now);
            }
        }
        Ok(used)
    }
}

async fn list(context: &Context, kind: &Served, namespace: &str) -> Result<Vec<DynamicObject>, Error> {
    let api = kind.within(&context.client, namespace);
    let mut params = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(all),
        }
    }
}

fn add(used: &mut Amounts, quota: &Value, (group, plural): (&str, &str), object: &Value, now: SystemTime) {
    if quota::in_scope(quota, group, plural, object) {
        quota::add(used, &quota::usage(group, plural, object, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(status: Value, used: Value, expected: Option<Value>) {
        let hard = json!({"pods": "5", "requests.cpu": "2", "unknown": "1"});
        let quota = json!({"spec": {"hard": hard}, "status": status});
        let hard = quota::amounts(Some(&hard));
        assert_eq!(step(&quota, &hard, &quota::amounts(Some(&used))), expected);
    }

    #[test]
    fn the_status_is_what_was_counted() {
        let hard = json!({"pods": "5", "requests.cpu": "2", "unknown": "1"});
        let done = json!({"hard": hard, "used": {"pods": "1", "requests.cpu": "500m"}});
        let used = json!({"pods": "1", "requests.cpu": "0.5", "requests.memory": "1"});
        check(json!({}), used.clone(), Some(done.clone()));
        check(done, used.clone(), None);
        let stale = json!({"hard": {"pods": "5"}, "used": {"pods": "3", "gone": "1", "unknown": "7"}});
        let wanted = json!({"hard": hard, "used": {"pods": "1", "requests.cpu": "500m", "unknown": "7"}});
        check(stale, used, Some(wanted));
        let zero = json!({"hard": hard, "used": {"pods": "0", "requests.cpu": "0"}});
        check(json!({}), json!({}), Some(zero));
    }
}
