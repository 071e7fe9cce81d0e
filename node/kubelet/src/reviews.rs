//! Asks the API server who somebody is and what they may do: TokenReview and SubjectAccessReview.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use xebec_client::{Api, Client, PostParams, chain};
use xebec_types::authentication::{TokenReview, TokenReviewSpec};
use xebec_types::authorization::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};

/// Somebody, as the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a kubelet asks of the API server about its clients. Errors say what could not be asked.
#[async_trait]
pub trait Reviews: Send + Sync + 'static {
    /// Whom a bearer token speaks for; `None` if it is not good.
    async fn user(&self, token: &str) -> Result<Option<User>, String>;
    /// Whether the user may do this with a subresource of this node.
    async fn may(&self, user: &User, verb: &'static str, subresource: &'static str) -> Result<bool, String>;
}

/// upstream's defaults for `authentication.webhook.cacheTTL` and `authorization.webhook.cache*TTL`.
const TOKEN_TTL: Duration = Duration::from_secs(120);
const ALLOWED_TTL: Duration = Duration::from_secs(300);
const DENIED_TTL: Duration = Duration::from_secs(30);
/// Answers kept; when there are more all are forgotten.
const KEPT_MAX: usize = 1024;

/// Asks, and remembers the answers for a while.
pub struct ApiReviews {
    client: Client,
    node: String,
    users: Remembered<String, Option<User>>,
    verdicts: Remembered<(User, &'static str, &'static str), bool>,
}

impl ApiReviews {
    pub fn new(client: Client, node: &str) -> Self {
        Self { client, node: node.to_owned(), users: Remembered::new(), verdicts: Remembered::new() }
    }
}

#[async_trait]
impl Reviews for ApiReviews {
    async fn user(&self, token: &str) -> Result<Option<User>, String> {
        if let Some(known) = self.users.get(token) {
            return Ok(known);
        }
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await;
        let answer: TokenReview = answer.map_err(|error| format!("review a token: {}", chain(&error)))?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        let ttl = if user.is_some() { TOKEN_TTL } else { DENIED_TTL };
        self.users.put(token.to_owned(), user.clone(), ttl);
        Ok(user)
    }

    async fn may(&self, user: &User, verb: &'static str, subresource: &'static str) -> Result<bool, String> {
        let key = (user.clone(), verb, subresource);
        if let Some(known) = self.verdicts.get(&key) {
            return Ok(known);
        }
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some(subresource.to_owned()),
                name: Some(self.node.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await;
        let answer: SubjectAccessReview = answer.map_err(|error| format!("review an access: {}", chain(&error)))?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.verdicts.put(key, allowed, if allowed { ALLOWED_TTL } else { DENIED_TTL });
        Ok(allowed)
    }
}

/// Answers until their time is over.
struct Remembered<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: Hash + Eq, V: Clone> Remembered<K, V> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, value)| value.clone())
    }

    fn put(&self, key: K, value: V, ttl: Duration) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= KEPT_MAX {
            entries.clear();
        }
        entries.insert(key, (Instant::now() + ttl, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_forgotten_in_time() {
        let remembered = Remembered::new();
        remembered.put("token".to_owned(), true, Duration::from_secs(30));
        assert_eq!(remembered.get("token"), Some(true));
        assert_eq!(remembered.get("other"), None);
        remembered.put("token".to_owned(), false, Duration::ZERO);
        assert_eq!(remembered.get("token"), None);
    }
}
