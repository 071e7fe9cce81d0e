//! The other objects that a pod refers to: ConfigMaps, Secrets, Services and tokens.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube::api::PostParams;
use xebec_client::{Api, Client, Informers, is_not_found};
use xebec_clock::Clock;
use xebec_types::authentication::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use xebec_types::core::{ConfigMap, Secret, Service, ServiceAccount};
use xebec_types::time::{self, Timestamp};

use crate::pod::PodRef;

#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, name: String },
    #[error("failed to get {kind} {name}: {message}")]
    Api { kind: &'static str, name: String, message: String },
}

/// What a token volume asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenSpec {
    pub service_account: String,
    pub audience: String,
    pub expiration_seconds: i64,
}

type Result<T> = std::result::Result<T, ObjectError>;

/// Reads for pods; a fake answers in tests and on hollow nodes.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<ConfigMapData>;
    async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, Vec<u8>>>;
    async fn token(&self, pod: &PodRef, spec: &TokenSpec) -> Result<String>;
    /// The Services whose addresses a pod of this namespace has in its environment; waits for the first list.
    async fn services(&self, namespace: &str) -> Vec<Service>;
    /// Nothing of this pod will be asked for again.
    fn forget(&self, _uid: &str) {}
}

/// Text and binary keys of a ConfigMap as bytes; only text keys reach environments.
#[derive(Clone, Debug, Default)]
pub struct ConfigMapData {
    pub text: BTreeMap<String, String>,
    pub binary: BTreeMap<String, Vec<u8>>,
}

/// Answers from the API server, remembered for a short while so that one sync reads an object once.
pub struct ApiObjects {
    client: Client,
    services: std::sync::Arc<xebec_client::Informer<Service>>,
    config_maps: Cache<(String, String), ConfigMapData>,
    secrets: Cache<(String, String), BTreeMap<String, Vec<u8>>>,
    tokens: Mutex<HashMap<(PodRef, TokenSpec), Token>>,
    clock: Clock,
}

#[derive(Clone)]
struct Token {
    text: String,
    refresh_at: Timestamp,
}

const REMEMBER: Duration = Duration::from_secs(2);

struct Cache<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: std::hash::Hash + Eq, V: Clone> Cache<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: &K) -> Option<V> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, (at, _)| at.elapsed() < REMEMBER);
        entries.get(key).map(|(_, value)| value.clone())
    }

    fn put(&self, key: K, value: V) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (Instant::now(), value));
    }
}

impl ApiObjects {
    /// `clock` says when tokens are old.
    pub fn new(client: Client, informers: &Informers, clock: Clock) -> Self {
        let services = informers.informer::<Service>();
        Self { client, services, config_maps: Cache::new(), secrets: Cache::new(), tokens: Mutex::default(), clock }
    }

    fn remembered_token(&self, key: &(PodRef, TokenSpec)) -> Option<String> {
        let (now, tokens) = (time::at(self.clock.now()), self.tokens.lock().unwrap_or_else(PoisonError::into_inner));
        tokens.get(key).filter(|token| token.refresh_at > now).map(|token| token.text.clone())
    }
}

fn error(kind: &'static str, name: &str) -> impl FnOnce(kube::Error) -> ObjectError {
    let name = name.to_owned();
    move |error| {
        if is_not_found(&error) {
            return ObjectError::NotFound { kind, name };
        }
        ObjectError::Api { kind, name, message: xebec_client::chain(&error) }
    }
}

#[async_trait]
impl Objects for ApiObjects {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<ConfigMapData> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(data) = self.config_maps.get(&key) {
            return Ok(data);
        }
        let object = Api::<ConfigMap>::namespaced(self.client.clone(), namespace)
            .get(name)
            .await
            .map_err(error("configmap", name))?;
        let binary = object.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
        let data = ConfigMapData { text: object.data.unwrap_or_default(), binary };
        self.config_maps.put(key, data.clone());
        Ok(data)
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(data) = self.secrets.get(&key) {
            return Ok(data);
        }
        let object =
            Api::<Secret>::namespaced(self.client.clone(), namespace).get(name).await.map_err(error("secret", name))?;
        let data: BTreeMap<String, Vec<u8>> =
            object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
        self.secrets.put(key, data.clone());
        Ok(data)
    }

    async fn token(&self, pod: &PodRef, spec: &TokenSpec) -> Result<String> {
        let key = (pod.clone(), spec.clone());
        if let Some(token) = self.remembered_token(&key) {
            return Ok(token);
        }
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
        };
        let audiences = Some(vec![spec.audience.clone()]).filter(|_| !spec.audience.is_empty());
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences,
                bound_object_ref: Some(bound),
                expiration_seconds: Some(spec.expiration_seconds),
            }),
            ..TokenRequest::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), &pod.namespace);
        let name = &spec.service_account;
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .map_err(error("serviceaccount", name))?;
        let status = answer.status.unwrap_or_default();
        let now = time::at(self.clock.now());
        let expires = status.expiration_timestamp.map_or(now, |at| at.0);
        let text = status.token.unwrap_or_default();
        let token = Token { refresh_at: refresh_at(now, expires), text: text.clone() };
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, token);
        Ok(text)
    }

    fn forget(&self, uid: &str) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).retain(|(pod, _), _| pod.uid != uid);
    }

    async fn services(&self, namespace: &str) -> Vec<Service> {
        // A pod that starts while the API server is away waits here, as it does for its ConfigMaps.
        self.services.synced().await;
        let snapshot = self.services.read();
        let kubernetes = snapshot.get("default", "kubernetes").filter(|_| namespace != "default");
        snapshot.namespace(namespace).chain(kubernetes).map(|s| (**s).clone()).collect()
    }
}

/// upstream's token manager: at four fifths of the life, at the latest after a day.
fn refresh_at(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = time::until(expires, now);
    time::after(now, (life * 4 / 5).min(Duration::from_secs(24 * 3600)))
}

#[cfg(test)]
mod tests;
