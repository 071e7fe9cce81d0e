//! What anybody may send the server, or show it to say who they are: for `tests/fuzz`, which has no connection to send it over.

use std::sync::Arc;

use http::HeaderMap;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::authn::{AuthnError, ClientCerts, ServiceAccountTokens};
use crate::config::Config;
use crate::negotiate;
use crate::options::{DeleteOptions, ListOptions, Query, WriteOptions};
use crate::pki::Pki;
use crate::resource_metrics::{self, Readings};

/// The authenticators that read before they trust.
pub struct Credentials {
    certificates: ClientCerts,
    tokens: ServiceAccountTokens,
}

impl Credentials {
    /// # Errors
    /// When the keys of `pki` cannot be used.
    pub fn new(pki: Arc<Pki>) -> Result<Self, AuthnError> {
        let config = Config::new(pki, Vec::new());
        Ok(Self { certificates: ClientCerts::new(&config)?, tokens: ServiceAccountTokens::new(&config)? })
    }

    /// The user that a DER certificate names, if it is good.
    pub fn certificate(&self, der: &[u8]) -> Option<String> {
        let peer = self.certificates.peer(&[CertificateDer::from(der.to_vec())])?;
        let now = self.certificates.now();
        peer.user(now).map(|(user, _)| user.name.clone())
    }

    /// The user that a token names, if its signature is good, whatever its dates and what it is bound to say.
    pub fn token(&self, token: &str) -> Option<String> {
        self.tokens.named(token)
    }

    /// A token of these claims, whatever they are.
    ///
    /// # Errors
    /// When they cannot be signed.
    pub fn sign(&self, claims: &serde_json::Value) -> Result<String, String> {
        self.tokens.sign(claims).map_err(|status| status.message)
    }
}

/// The options of every verb, from a query and the body of a delete.
pub fn options(query: &str, body: &Value) {
    let query = Query::parse(query);
    for watch in [true, false] {
        _ = ListOptions::parse(&query, watch).is_ok();
    }
    _ = WriteOptions::parse(&query, "PatchOptions").is_ok();
    _ = DeleteOptions::parse(&query, body).is_ok();
}

/// Which form of an answer a client asked for, and which one its body has.
pub fn forms(headers: &HeaderMap) {
    _ = (negotiate::accept(headers).is_ok(), negotiate::accept_untyped(headers).is_ok());
    _ = negotiate::content_type(headers).is_ok();
}

/// What a kubelet says that its containers use, twice.
pub fn resource_metrics(before: &str, text: &str) {
    let readings = [before, text].iter().zip([0, 15_000]).fold(Readings::default(), |readings, (text, now_ms)| {
        readings.followed_by(resource_metrics::parse(text, now_ms))
    });
    _ = (readings.node(), readings.pod("n", "p"));
}
