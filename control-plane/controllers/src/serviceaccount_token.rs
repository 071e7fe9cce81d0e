//! Fills Secrets of type `kubernetes.io/service-account-token`, and removes them with their ServiceAccount, as upstream's
//! `serviceaccount-token` controller.

use crate::{Context, control};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use xebec_client::informer::Selection;
use xebec_client::kube::api::Preconditions;
use xebec_client::{
    Api, DeleteParams, Error, Informer, Key, Outcome, PostParams, Workqueue, is_conflict, is_not_found,
};
use xebec_types::core::{Secret, ServiceAccount};
use xebec_types::{ByteString, object};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const TOKEN: &str = "token";
const CA: &str = "ca.crt";
const NAMESPACE: &str = "namespace";

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let secrets: Arc<Informer<Secret>> = context.informers.selected(&Selection::fields(&format!("type={TYPE}")));
    let accounts: Arc<Informer<ServiceAccount>> = context.informers.informer();
    let controller = Controller { secrets, accounts, context, queue: Workqueue::new(), gone: Workqueue::new() };
    controller.watch();
    tokio::join!(controller.secrets.synced(), controller.accounts.synced());
    let unlink = |reference: Reference| {
        let controller = &controller;
        async move { control::outcome("serviceaccount", &reference.account, controller.unlink(&reference).await) }
    };
    tokio::join!(control::run(&controller, &stop), controller.gone.run(1, &stop, unlink));
}

struct Controller {
    context: Context,
    secrets: Arc<Informer<Secret>>,
    accounts: Arc<Informer<ServiceAccount>>,
    queue: Workqueue<Key>,
    /// Of Secrets that are gone.
    gone: Workqueue<Reference>,
}

/// That an account lists a Secret.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Reference {
    account: Key,
    secret_name: String,
}

/// What a Secret needs.
#[derive(Debug, PartialEq)]
pub enum Action {
    None,
    /// Its account is gone, or was never there.
    Delete,
    /// These keys, and the account's UID; a token is made for a `None`.
    Fill(BTreeMap<&'static str, Option<Vec<u8>>>),
}

/// `account`: the one of the name that the Secret gives, if it exists.
#[must_use]
pub fn step(secret: &Secret, account: Option<&ServiceAccount>, ca_pem: &str) -> Action {
    if object::is_being_deleted(&secret.metadata) {
        return Action::None;
    }
    let Some(account) = account else { return Action::Delete };
    let uid = annotation(secret, ACCOUNT_UID);
    if !uid.is_empty() && uid != object::uid(&account.metadata) {
        return Action::Delete;
    }
    let has = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.as_slice());
    let mut missing = BTreeMap::new();
    if has(TOKEN).is_none_or(<[u8]>::is_empty) {
        missing.insert(TOKEN, None);
    }
    if !ca_pem.is_empty() && has(CA) != Some(ca_pem.as_bytes()) {
        missing.insert(CA, Some(ca_pem.as_bytes().to_vec()));
    }
    if has(NAMESPACE).is_none_or(<[u8]>::is_empty) {
        missing.insert(NAMESPACE, Some(object::namespace(&secret.metadata).as_bytes().to_vec()));
    }
    if missing.is_empty() && !uid.is_empty() { Action::None } else { Action::Fill(missing) }
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> &'a str {
    object::annotation(&secret.metadata, key).unwrap_or_default()
}

impl control::Reconcile for Controller {
    const KIND: &'static str = "secret";
    const WORKERS: usize = 2;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(secret) = self.secrets.get_key(key) else { return Ok(Outcome::Done) };
        let (name, ca_pem) = (annotation(&secret, ACCOUNT_NAME), &self.context.config.ca_pem);
        let mut account = self.accounts.get(&key.namespace, name);
        let mut action = step(&secret, account.as_deref(), ca_pem);
        if action == Action::Delete {
            // It may have been made just before its Secret.
            account = self.accounts(&key.namespace).get_opt(name).await?.map(Arc::new);
            action = step(&secret, account.as_deref(), ca_pem);
        }
        match (action, account) {
            (Action::Delete, _) => self.delete(&secret).await.map(|()| Outcome::Done),
            (Action::Fill(missing), Some(account)) => self.fill(&secret, &account, missing).await,
            _ => Ok(Outcome::Done),
        }
    }
}

impl Controller {
    fn watch(&self) {
        let (queue, gone) = (self.queue.clone(), self.gone.clone());
        self.secrets.on_change(move |change| {
            let key = change.key();
            if let (Some(old), None) = (&change.old, &change.new) {
                let account = Key::new(&key.namespace, annotation(old, ACCOUNT_NAME));
                gone.add(Reference { account, secret_name: key.name.to_string() });
            }
            queue.add(key);
        });
        let (queue, secrets) = (self.queue.clone(), Arc::clone(&self.secrets));
        self.accounts.on_change(move |change| {
            let uid = |account: &Option<Arc<ServiceAccount>>| account.as_ref().map(|a| a.metadata.uid.clone());
            if uid(&change.old) == uid(&change.new) {
                return;
            }
            let key = change.key();
            for secret in secrets.list_namespace(&key.namespace) {
                if annotation(&secret, ACCOUNT_NAME) == &*key.name {
                    queue.add(Key::new(&key.namespace, object::name(&secret.metadata)));
                }
            }
        });
    }

    fn accounts(&self, namespace: &str) -> Api<ServiceAccount> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    fn secrets(&self, secret: &Secret) -> Api<Secret> {
        Api::namespaced(self.context.client.clone(), object::namespace(&secret.metadata))
    }

    async fn delete(&self, secret: &Secret) -> Result<(), Error> {
        let preconditions = Preconditions { uid: secret.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.secrets(secret).delete(object::name(&secret.metadata), &params).await {
            Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn fill(
        &self,
        secret: &Secret,
        account: &ServiceAccount,
        missing: BTreeMap<&'static str, Option<Vec<u8>>>,
    ) -> Result<Outcome, Error> {
        let Some(signer) = &self.context.config.token_signer else { return Ok(Outcome::Done) };
        let name = object::name(&secret.metadata);
        let mut filled = secret.clone();
        for (key, value) in missing {
            let value = match value.map_or_else(|| signer.sign(account, name).map(String::into_bytes), Ok) {
                Ok(value) => value,
                Err(why) => {
                    let namespace = object::namespace(&secret.metadata);
                    tracing::warn!(namespace, name, why, "sign the token of a ServiceAccount");
                    return Ok(Outcome::Retry);
                }
            };
            filled.data.get_or_insert_default().insert(key.to_owned(), ByteString(value));
        }
        let uid = object::uid(&account.metadata).to_owned();
        filled.metadata.annotations.get_or_insert_default().insert(ACCOUNT_UID.to_owned(), uid);
        match self.secrets(secret).replace(name, &PostParams::default(), &filled).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(Outcome::Done),
        }
    }

    /// Takes a Secret that is gone off its account's list. Nothing that happens later would name the Secret again.
    async fn unlink(&self, reference: &Reference) -> Result<Outcome, Error> {
        let Reference { account: Key { namespace, name }, secret_name } = reference;
        let lists = |account: &ServiceAccount| {
            account.secrets.iter().flatten().any(|secret| secret.name.as_ref() == Some(secret_name))
        };
        let again = self.secrets.get(namespace, secret_name).is_some();
        if again || self.accounts.get(namespace, name).is_none() {
            return Ok(Outcome::Done);
        }
        let api = self.accounts(namespace);
        let Some(mut account) = api.get_opt(name).await?.filter(lists) else { return Ok(Outcome::Done) };
        account.secrets.iter_mut().for_each(|all| all.retain(|secret| secret.name.as_ref() != Some(secret_name)));
        api.replace(name, &PostParams::default(), &account).await.map(|_| Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// `expected`: the keys to fill; `None` when the Secret is to go.
    #[track_caller]
    fn check(metadata: Value, data: Value, account_uid: Option<&str>, expected: Option<&[&str]>) {
        let mut secret = json!({"metadata": metadata, "data": data});
        secret["metadata"]["namespace"] = "ns".into();
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        let account = account_uid.map(|uid| json!({"metadata": {"name": "a", "uid": uid}}));
        let account: Option<ServiceAccount> = account.map(|a| serde_json::from_value(a).expect("an account"));
        let keys = match step(&secret, account.as_ref(), "ca") {
            Action::Delete => None,
            Action::None => Some(Vec::new()),
            Action::Fill(missing) => Some(missing.into_keys().collect()),
        };
        assert_eq!(keys.as_deref(), expected, "{secret:?}");
    }

    #[test]
    fn a_secret_gets_what_it_lacks_and_goes_with_its_account() {
        let of = |uid: &str| json!({"annotations": {ACCOUNT_NAME: "a", ACCOUNT_UID: uid}});
        // Base64 of "ca" and "x".
        let data = |ca: &str| json!({TOKEN: "eA==", CA: ca, NAMESPACE: "eA=="});
        let full = || data("Y2E=");
        check(of(""), json!({}), Some("u"), Some(&[CA, NAMESPACE, TOKEN]));
        check(of("u"), json!({TOKEN: "", CA: "Y2E=", NAMESPACE: "eA=="}), Some("u"), Some(&[TOKEN]));
        check(of("u"), data("eA=="), Some("u"), Some(&[CA]));
        check(of("u"), full(), Some("u"), Some(&[]));
        check(of("u"), full(), Some("v"), None);
        check(of("u"), full(), None, None);
        let going = json!({"annotations": {ACCOUNT_NAME: "a"}, "deletionTimestamp": "2026-01-01T00:00:00Z"});
        check(going, json!({}), None, Some(&[]));
    }

    #[test]
    fn only_the_uid_may_be_missing() {
        let secret =
            json!({"metadata": {"annotations": {ACCOUNT_NAME: "a"}}, "data": {TOKEN: "eA==", NAMESPACE: "eA=="}});
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        assert_eq!(step(&secret, Some(&ServiceAccount::default()), ""), Action::Fill(BTreeMap::new()));
    }
}
