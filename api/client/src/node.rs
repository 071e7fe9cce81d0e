//! Questions to other nodes' kubelets, with this node's own certificate.

use std::sync::Arc;

use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use xebec_clock::Clock;

use crate::connection::{Auth, ConnectError, Connection};
use crate::identity::Identity;

/// What is read of an answer.
const ANSWER_MAX: usize = 64 << 10;

/// Cheap to clone; connections are kept while they are used.
#[derive(Clone)]
pub struct NodeClient(legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("ask {0}")]
    Request(Uri, #[source] legacy::Error),
    #[error("make a request to {0}")]
    Url(String, #[source] http::Error),
    #[error("read the answer of {0}")]
    Answer(Uri, #[source] Box<dyn std::error::Error + Send + Sync>),
}

impl NodeClient {
    /// Trusts kubelets whose certificates `ca_pem` signed, and shows them `identity`; by `clock` their certificates are good.
    pub fn new(ca_pem: &[u8], identity: Arc<Identity>, clock: Clock) -> Result<Self, ConnectError> {
        let auth = Auth::Certificate(identity);
        let tls = Connection { servers: Vec::new(), ca_pem: ca_pem.to_vec(), auth, clock }.tls()?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Self(legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector)))
    }

    /// `GET https://…`.
    pub async fn get(&self, url: &str) -> Result<(StatusCode, String), AskError> {
        let request = Request::get(url).body(Empty::new()).map_err(|source| AskError::Url(url.to_owned(), source))?;
        let uri = request.uri().clone();
        let answer = self.0.request(request).await.map_err(|source| AskError::Request(uri.clone(), source))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|source| AskError::Answer(uri, source))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}
