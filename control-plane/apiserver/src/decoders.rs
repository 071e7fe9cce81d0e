//! What anybody may show the server to say who they are: for `tests/fuzz`, which has no connection to show it over.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::authn::{AuthnError, ClientCerts, ServiceAccountTokens};
use crate::config::Config;
use crate::pki::Pki;

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
