//! Ends tokens in Secrets that nobody uses, as upstream's `legacy-serviceaccount-token-cleaner` (KEP-2799): a token that was not used for a
//! period is refused from then on, by a label that whoever misses it can take away, and after another period its Secret is deleted.
//!
//! It touches only Secrets that their account lists, which is how those were known that used to be made for every account.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use xebec_client::informer::Selection;
use xebec_client::kube::api::Preconditions;
use xebec_client::{
    Api, DeleteParams, Error, Informer, Key, ListParams, Outcome, Patch, PatchParams, Workqueue, is_conflict,
    is_not_found,
};
use xebec_types::core::{ConfigMap, Pod, Secret, ServiceAccount};
use xebec_types::time::{self, Timestamp};
use xebec_types::{namespace, object};

use crate::{Context, control};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Written by the API server when it began to note uses.
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let secrets: Arc<Informer<Secret>> = context.informers.selected(&Selection::fields(&format!("type={TYPE}")));
    let accounts: Arc<Informer<ServiceAccount>> = context.informers.informer();
    let controller = Controller { secrets, accounts, context, queue: Workqueue::new() };
    let queue = controller.queue.clone();
    controller.secrets.on_change(move |change| queue.add(change.key()));
    tokio::join!(controller.secrets.synced(), controller.accounts.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    secrets: Arc<Informer<Secret>>,
    accounts: Arc<Informer<ServiceAccount>>,
    queue: Workqueue<Key>,
}

/// What happens to a Secret.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing before this has passed.
    Wait(Duration),
    /// Its token is refused from this day on.
    Invalidate(String),
    Delete,
}

/// `account`: the one of the name that the Secret gives; `tracked_since`: the day on which the server began to note uses.
#[must_use]
pub fn step(
    secret: &Secret,
    account: Option<&ServiceAccount>,
    tracked_since: Timestamp,
    period: Duration,
    now: Timestamp,
) -> Action {
    let metadata = &secret.metadata;
    let created = metadata.creation_timestamp.as_ref().map_or(now, |created| created.0);
    // A day is noted as a whole, so the first one counts from its end.
    let earliest = time::after(created.max(time::after(tracked_since, DAY)), period);
    if now < earliest {
        return Action::Wait(time::until(earliest, now).max(Duration::from_secs(1)));
    }
    let keep = day(Timestamp::from_second(now.as_second().saturating_sub_unsigned(period.as_secs())).unwrap_or(now));
    let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    let unused = label(LAST_USED).is_none_or(|used| start_of(used).is_some() && used < keep.as_str());
    if object::is_being_deleted(metadata) || !unused || !account.is_some_and(|account| lists(account, secret)) {
        return Action::Wait(DAY);
    }
    match label(INVALID_SINCE).filter(|since| start_of(since).is_some()) {
        None => Action::Invalidate(day(now)),
        Some(since) if since < keep.as_str() => Action::Delete,
        Some(_) => Action::Wait(DAY),
    }
}

fn lists(account: &ServiceAccount, secret: &Secret) -> bool {
    let uid = object::annotation(&secret.metadata, ACCOUNT_UID).unwrap_or_default();
    let named = |reference: &xebec_types::core::ObjectReference| reference.name == secret.metadata.name;
    (uid.is_empty() || uid == object::uid(&account.metadata)) && account.secrets.iter().flatten().any(named)
}

/// `2026-01-02`, in UTC.
fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

/// `None`: no day.
fn start_of(day: &str) -> Option<Timestamp> {
    format!("{day}T00:00:00Z").parse().ok()
}

impl control::Reconcile for Controller {
    const KIND: &'static str = "secret";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(secret) = self.secrets.get_key(key) else { return Ok(Outcome::Done) };
        let name = object::annotation(&secret.metadata, ACCOUNT_NAME).unwrap_or_default();
        let account = self.accounts.get(&key.namespace, name);
        let Some(tracked_since) = self.tracked_since().await? else { return Ok(Outcome::After(DAY)) };
        let period = self.context.config.legacy_service_account_token_clean_up_period;
        let action = step(&secret, account.as_deref(), tracked_since, period, self.context.now());
        if let Action::Wait(wait) = action {
            return Ok(Outcome::After(wait));
        }
        if self.is_mounted(key).await? {
            return Ok(Outcome::After(DAY));
        }
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let (uid, resource_version) = (secret.metadata.uid.clone(), secret.metadata.resource_version.clone());
        let done = match action {
            Action::Invalidate(today) => {
                tracing::info!(secret = %key, "unused token is refused");
                let labels = json!({INVALID_SINCE: today});
                let patch = json!({"metadata": {"uid": uid, "resourceVersion": resource_version, "labels": labels}});
                api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
            }
            _ => {
                tracing::info!(secret = %key, "unused token is deleted");
                let preconditions = Some(Preconditions { uid, resource_version });
                api.delete(&key.name, &DeleteParams { preconditions, ..DeleteParams::default() }).await.map(drop)
            }
        };
        match done {
            Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(error),
            _ => Ok(Outcome::After(DAY)),
        }
    }
}

impl Controller {
    async fn tracked_since(&self) -> Result<Option<Timestamp>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), namespace::KUBE_SYSTEM);
        let data = api.get_opt(TRACKING).await?.and_then(|map| map.data);
        Ok(data.and_then(|data| start_of(data.get("since")?)))
    }

    /// Whether a pod has the Secret, in whatever way. The informers' pods have no volumes.
    async fn is_mounted(&self, key: &Key) -> Result<bool, Error> {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let pods = api.list(&ListParams::default()).await?;
        let spec = |pod: &Pod| serde_json::to_value(&pod.spec).unwrap_or_default();
        Ok(pods.items.iter().any(|pod| names_secret(&spec(pod), &key.name)))
    }
}

/// Whether a pod's spec, or a part of it, refers to a Secret: `secretName`, or `name` in what is called after a Secret.
fn names_secret(value: &Value, name: &str) -> bool {
    const REFERENCES: [&str; 5] = ["imagePullSecrets", "nodePublishSecretRef", "secret", "secretKeyRef", "secretRef"];
    let is_named = |part: &Value| part["name"] == name;
    match value {
        Value::Array(items) => items.iter().any(|item| names_secret(item, name)),
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            let reference = REFERENCES.contains(&key.as_str());
            (key == "secretName" && value == name)
                || (reference && (is_named(value) || value.as_array().is_some_and(|all| all.iter().any(is_named))))
                || names_secret(value, name)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_DAYS: Duration = Duration::from_secs(10 * 86_400);

    fn at(day: &str) -> Timestamp {
        start_of(day).expect("a day")
    }

    /// A Secret of the 1st of January that account `a` lists, on the 1st of March; uses are noted since the 1st of February.
    #[track_caller]
    fn check(labels: &Value, change: &Value, expected: &Action) {
        let mut secret = json!({"metadata": {"name": "s", "namespace": "ns", "labels": labels,
            "annotations": {ACCOUNT_NAME: "a"}, "creationTimestamp": "2026-01-01T00:00:00Z"}});
        json_patch(&mut secret["metadata"], change);
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        let account = json!({"metadata": {"name": "a", "uid": "u"}, "secrets": [{"name": "s"}]});
        let account: ServiceAccount = serde_json::from_value(account).expect("an account");
        let found = step(&secret, Some(&account), at("2026-02-01"), TEN_DAYS, at("2026-03-01"));
        assert_eq!(&found, expected, "{labels} {change}");
    }

    fn json_patch(into: &mut Value, change: &Value) {
        change.as_object().into_iter().flatten().for_each(|(key, value)| into[key.as_str()] = value.clone());
    }

    #[test]
    fn an_unused_token_is_refused_and_then_deleted() {
        let (none, invalidate) = (json!({}), Action::Invalidate("2026-03-01".into()));
        check(&none, &none, &invalidate);
        check(&json!({LAST_USED: "2026-02-18"}), &none, &invalidate);
        check(&json!({LAST_USED: "2026-02-19"}), &none, &Action::Wait(DAY));
        check(&json!({LAST_USED: "yesterday"}), &none, &Action::Wait(DAY));
        check(&json!({INVALID_SINCE: "2026-02-18"}), &none, &Action::Delete);
        check(&json!({INVALID_SINCE: "2026-02-19"}), &none, &Action::Wait(DAY));
        check(&json!({INVALID_SINCE: "never"}), &none, &invalidate);
    }

    #[test]
    fn what_is_young_or_of_somebody_else_stays() {
        let none = json!({});
        check(&none, &json!({"creationTimestamp": "2026-02-25T00:00:00Z"}), &Action::Wait(6 * DAY));
        check(&none, &json!({"name": "made-by-hand"}), &Action::Wait(DAY));
        check(&none, &json!({"annotations": {ACCOUNT_UID: "v"}}), &Action::Wait(DAY));
        check(&none, &json!({"deletionTimestamp": "2026-02-28T00:00:00Z"}), &Action::Wait(DAY));
        let secret = Secret::default();
        assert_eq!(step(&secret, None, at("2026-01-01"), TEN_DAYS, at("2026-03-01")), Action::Wait(TEN_DAYS));
    }

    #[test]
    fn uses_must_have_been_noted_for_a_period() {
        let secret = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}});
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        let found = step(&secret, None, at("2026-02-25"), TEN_DAYS, at("2026-03-01"));
        // Until the 26th of February and ten days.
        assert_eq!(found, Action::Wait(7 * DAY));
    }

    #[test]
    fn pods_refer_to_secrets_in_many_ways() {
        let refers = |spec: Value| names_secret(&spec, "s");
        assert!(refers(json!({"volumes": [{"secret": {"secretName": "s"}}]})));
        assert!(refers(json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]})));
        assert!(refers(json!({"imagePullSecrets": [{"name": "s"}]})));
        assert!(refers(json!({"containers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]})));
        assert!(refers(json!({"initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]})));
        assert!(!refers(
            json!({"volumes": [{"name": "s", "configMap": {"name": "s"}}], "containers": [{"name": "s"}]})
        ));
    }
}
