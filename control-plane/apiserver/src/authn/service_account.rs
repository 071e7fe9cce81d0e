//! ServiceAccount tokens: ES256 JWTs that live no longer than what they are bound to (KEP-1205).

pub mod legacy;

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use xebec_machinery::{Status, object};

use super::{Authenticated, AuthnError};
use crate::app::{App, parse};
use crate::config::Config;
use crate::user::{UserInfo, service_account_name};

/// Tokens whose signature was checked; the check costs more than all else.
const VERIFIED_MAX: usize = 4096;

pub struct ServiceAccountTokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    key_id: String,
    issuer: String,
    jwks: Value,
    verified: Mutex<HashMap<[u8; 32], AnyClaims>>,
}

#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Claims {
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Kubernetes,
    pub nbf: i64,
    pub sub: String,
}

#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Kubernetes {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
}

#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Reference {
    pub name: String,
    pub uid: String,
}

/// What a token with our signature says.
#[derive(Clone, Deserialize, Debug)]
#[serde(untagged)]
enum AnyClaims {
    Bound(Claims),
    Legacy(legacy::Claims),
}

/// The object that a token dies with.
pub struct Bound {
    pub kind: String,
    pub name: String,
    pub uid: String,
    /// Name and UID of the node of a bound pod.
    pub node: Option<(String, String)>,
}

impl Claims {
    pub fn new(
        config: &Config,
        audiences: &[String],
        now: i64,
        expires: i64,
        namespace: &str,
        account: &Value,
        bound: Option<Bound>,
    ) -> Self {
        let mut kubernetes = Kubernetes {
            namespace: namespace.into(),
            node: None,
            pod: None,
            secret: None,
            serviceaccount: Reference { name: object::name(account).into(), uid: object::uid(account).into() },
        };
        if let Some(bound) = bound {
            kubernetes.node = bound.node.map(|(name, uid)| Reference { name, uid });
            let reference = Some(Reference { name: bound.name, uid: bound.uid });
            match bound.kind.as_str() {
                "Pod" => kubernetes.pod = reference,
                "Secret" => kubernetes.secret = reference,
                _ => kubernetes.node = reference,
            }
        }
        Self {
            aud: audiences.to_vec(),
            exp: expires,
            iat: now,
            iss: config.service_account_issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            kubernetes,
            nbf: now,
            sub: service_account_name(namespace, object::name(account)),
        }
    }
}

impl ServiceAccountTokens {
    pub fn new(config: &Config) -> Result<Self, AuthnError> {
        let failed = |e: jsonwebtoken::errors::Error| AuthnError::Key(e.to_string());
        let point = config.pki.service_account_public_key();
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
            return Err(AuthnError::Key("not a P-256 key".into()));
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(point));
        let pem = config.pki.service_account_key_pem();
        Ok(Self {
            signing: EncodingKey::from_ec_pem(pem.as_bytes()).map_err(failed)?,
            verifying: DecodingKey::from_ec_components(&x, &y).map_err(failed)?,
            jwks: json!({ "keys": [{
                "use": "sig", "kty": "EC", "kid": key_id, "crv": "P-256", "alg": "ES256", "x": x, "y": y,
            }] }),
            key_id,
            issuer: config.service_account_issuer.clone(),
            verified: Mutex::default(),
        })
    }

    /// The public half as `/openid/v1/jwks` serves it.
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    pub fn sign(&self, claims: &impl Serialize) -> Result<String, Status> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        header.typ = None;
        jsonwebtoken::encode(&header, claims, &self.signing).map_err(Status::internal)
    }

    /// Whom a token speaks for, if it is ours, in time, meant for one of `audiences`, and all it is bound to exists.
    pub async fn authenticate(
        &self,
        app: &App,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, Status> {
        let claims = match self.claims(token) {
            None => return Ok(None),
            Some(AnyClaims::Legacy(claims)) => return legacy::authenticate(app, token, &claims, audiences).await,
            Some(AnyClaims::Bound(claims)) => claims,
        };
        let now = app.now().unix_timestamp();
        if now >= claims.exp || now + 10 < claims.nbf {
            return Ok(None);
        }
        let matched: Vec<String> = claims.aud.iter().filter(|a| audiences.contains(a)).cloned().collect();
        if matched.is_empty() || !alive(app, &claims.kubernetes).await? {
            return Ok(None);
        }
        Ok(Some(Authenticated { user: user(&claims), audiences: matched }))
    }

    /// Whom a token with our signature names.
    pub fn named(&self, token: &str) -> Option<String> {
        let user = match self.claims(token)? {
            AnyClaims::Bound(claims) => user(&claims),
            AnyClaims::Legacy(claims) => claims.user(),
        };
        Some(user.name)
    }

    /// The claims of a token with our signature.
    fn claims(&self, token: &str) -> Option<AnyClaims> {
        if token.matches('.').count() != 2 {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(claims) = self.verified.lock().get(&digest) {
            return Some(claims.clone());
        }
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[self.issuer.as_str(), legacy::ISSUER]);
        // Legacy tokens have no end.
        rules.set_required_spec_claims(&["iss"]);
        rules.validate_aud = false;
        rules.validate_exp = false;
        let claims = jsonwebtoken::decode::<AnyClaims>(token, &self.verifying, &rules).ok()?.claims;
        let legacy = matches!(&claims, AnyClaims::Legacy(claims) if claims.iss == legacy::ISSUER);
        if !legacy && !matches!(&claims, AnyClaims::Bound(claims) if claims.iss == self.issuer) {
            return None;
        }
        let mut verified = self.verified.lock();
        if verified.len() >= VERIFIED_MAX {
            verified.clear();
        }
        verified.insert(digest, claims.clone());
        Some(claims)
    }
}

/// How long after its deletion began an object's tokens are good: clocks differ (`jwt.DefaultLeeway`).
const LEEWAY: time::Duration = time::Duration::seconds(60);

async fn alive(app: &App, claims: &Kubernetes) -> Result<bool, Status> {
    // A pod's token names its node too, but dies with the pod.
    let node = claims.node.as_ref().filter(|_| claims.pod.is_none());
    let bound = [
        ("serviceaccounts", claims.namespace.as_str(), Some(&claims.serviceaccount)),
        ("pods", &claims.namespace, claims.pod.as_ref()),
        ("secrets", &claims.namespace, claims.secret.as_ref()),
        ("nodes", "", node),
    ];
    for (plural, namespace, reference) in bound {
        let Some(reference) = reference else { continue };
        let Some(resource) = app.kinds.find("", plural) else { return Ok(false) };
        let Some(found) = app.find(resource, namespace, &reference.name).await? else { return Ok(false) };
        let found = parse(&found)?;
        let deleted = object::deletion_timestamp(&found).and_then(xebec_machinery::time::parse);
        let deleted = deleted.is_some_and(|at| time::OffsetDateTime::from(at).saturating_add(LEEWAY) < app.now());
        if deleted || object::uid(&found) != reference.uid {
            return Ok(false);
        }
    }
    Ok(true)
}

fn user(claims: &Claims) -> UserInfo {
    let kubernetes = &claims.kubernetes;
    let mut user = UserInfo {
        name: service_account_name(&kubernetes.namespace, &kubernetes.serviceaccount.name),
        uid: kubernetes.serviceaccount.uid.clone(),
        groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{}", kubernetes.namespace)],
        ..UserInfo::default()
    };
    let mut extra = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    extra("credential-id", &format!("JTI={}", claims.jti));
    for (what, reference) in [("pod", &kubernetes.pod), ("node", &kubernetes.node)] {
        if let Some(reference) = reference {
            extra(&format!("{what}-name"), &reference.name);
            extra(&format!("{what}-uid"), &reference.uid);
        }
    }
    user.authenticated()
}
