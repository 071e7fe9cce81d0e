//! Who is it: client certificates, then bearer tokens, then nobody in particular.

mod bootstrap_token;
pub mod service_account;
mod static_token;
mod x509;

use std::collections::HashMap;

use http::{HeaderMap, header};
use xebec_machinery::Status;

use crate::app::App;
use crate::config::Config;
use crate::user::UserInfo;

pub use service_account::ServiceAccountTokens;
pub use x509::{ClientCerts, PeerCert};

pub struct Authenticators {
    tokens: HashMap<String, UserInfo>,
    pub service_accounts: ServiceAccountTokens,
    anonymous: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthnError {
    #[error("read {path}")]
    Read {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}, line {line}: {reason}")]
    TokenFile { path: std::path::PathBuf, line: usize, reason: &'static str },
    #[error("load the key that signs ServiceAccount tokens: {0}")]
    Key(String),
    #[error("load the CA of clients: {0}")]
    ClientCa(String),
}

/// Whom a token speaks for, and for whom it is meant.
pub struct Authenticated {
    pub user: UserInfo,
    pub audiences: Vec<String>,
}

impl Authenticators {
    pub fn new(config: &Config) -> Result<Self, AuthnError> {
        Ok(Self {
            tokens: match &config.token_auth_file {
                Some(path) => static_token::load(path)?,
                None => HashMap::new(),
            },
            service_accounts: ServiceAccountTokens::new(config)?,
            anonymous: config.anonymous_auth,
        })
    }

    /// The user that makes a request.
    pub async fn request(&self, app: &App, headers: &HeaderMap, peer: Option<&PeerCert>) -> Result<UserInfo, Status> {
        if let Some((user, left)) = peer.and_then(|peer| peer.user(app.now())) {
            app.metrics.certificates.seen(left);
            return Ok(user.clone().authenticated());
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        if let Some((scheme, token)) = bearer.and_then(|v| v.split_once(' '))
            && scheme.eq_ignore_ascii_case("bearer")
            && !token.trim().is_empty()
        {
            return match self.token(app, token.trim(), &[]).await? {
                Some(found) => Ok(found.user),
                None => Err(unauthorized()),
            };
        }
        // A certificate that is not ours is a failed attempt, not an anonymous one.
        if peer.is_some() || !self.anonymous {
            return Err(unauthorized());
        }
        Ok(UserInfo::anonymous())
    }

    /// Whom a bearer token speaks for. Without `audiences` it must be meant for the API server.
    pub async fn token(&self, app: &App, token: &str, audiences: &[String]) -> Result<Option<Authenticated>, Status> {
        let own = app.config.audiences();
        let wanted = if audiences.is_empty() { &own } else { audiences };
        if let Some(user) = self.tokens.get(token) {
            return Ok(Some(Authenticated { user: user.clone().authenticated(), audiences: Vec::new() }));
        }
        if let Some(found) = self.service_accounts.authenticate(app, token, wanted).await? {
            return Ok(Some(found));
        }
        let user = bootstrap_token::authenticate(app, token).await?;
        Ok(user.map(|user| Authenticated { user: user.authenticated(), audiences: Vec::new() }))
    }
}

fn unauthorized() -> Status {
    Status::unauthorized("Unauthorized")
}

/// Compares without telling by its time where the difference is.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (x, y)| different | (x ^ y)) == 0
}
