//! How a node joins: trust the server by the hash in the token, ask for a client certificate with
//! the token, and from then on renew with the certificate itself.
//!
//! What is on disk wins: once a directory holds a certificate the token is no longer needed.

mod csr;
mod rotation;
mod server_ca;
mod token;

use crate::connection::{Auth, ConnectError, Connection};
use crate::identity::{Identity, IdentityError};
use crate::retry::Backoff;
use crate::{Client, chain};
pub use csr::CsrError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
pub use server_ca::ServerCaError;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::{fs, io};
pub use token::{InvalidToken, Token};
use xebec_clock::Clock;

const CA_FILE: &str = "ca.crt";
const CLIENT_FILE: &str = "kubelet-client.pem";
const SERVING_FILE: &str = "kubelet-server.pem";

/// What a node needs to join.
#[derive(Clone, Debug)]
pub struct Join {
    pub servers: Vec<String>,
    pub token: Option<Token>,
    /// Needed when the token carries no CA hash.
    pub ca_file: Option<PathBuf>,
    /// Where certificates and keys are kept.
    pub dir: PathBuf,
    pub node_name: String,
    pub clock: Clock,
}

/// A node that the cluster knows.
pub struct Joined {
    pub client: Client,
    pub ca_pem: String,
    pub identity: Arc<Identity>,
    pub clock: Clock,
    renewal_errors: AtomicU64,
    dir: PathBuf,
    node_name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("this node has no certificate yet: --token is required")]
    NoToken,
    #[error("the token has no CA hash (<id>.<secret>@sha256:<hex>): --ca-file is required")]
    NoCa,
    #[error("the server's CA certificate does not match the hash in the token")]
    WrongCa,
    #[error("{dir} holds another cluster's certificates: remove it to join this one")]
    OtherCluster { dir: PathBuf },
    #[error("the server refuses the token: it is wrong or has expired")]
    TokenRefused,
    #[error("learn the server's CA certificate")]
    ServerCa(#[from] ServerCaError),
    #[error("connect to the API server")]
    Connect(#[from] ConnectError),
    #[error("request a certificate")]
    Csr(#[from] CsrError),
    #[error("keep the certificate")]
    Identity(#[from] IdentityError),
    #[error("use {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Joins, or joins again with what is on disk. A server that cannot be reached yet is tried until
/// it answers; a token that it refuses is an error at once.
pub async fn join(options: &Join) -> Result<Joined, JoinError> {
    let file_error = |source| JoinError::File { path: options.dir.clone(), source };
    fs::create_dir_all(&options.dir).map_err(file_error)?;
    let ca_pem = trusted_ca(options).await?;
    let path = options.dir.join(CLIENT_FILE);
    let stored = Identity::load(&path)?.filter(|i| !i.is_expired(options.clock.now()));
    let identity = match stored {
        Some(identity) => Arc::new(identity),
        None => Arc::new(first_identity(options, &ca_pem, &path).await?),
    };
    let connection = Connection {
        servers: options.servers.clone(),
        ca_pem: ca_pem.clone().into_bytes(),
        auth: Auth::Certificate(Arc::clone(&identity)),
        clock: options.clock.clone(),
    };
    Ok(Joined {
        client: connection.client()?,
        ca_pem,
        identity,
        clock: options.clock.clone(),
        renewal_errors: AtomicU64::new(0),
        dir: options.dir.clone(),
        node_name: options.node_name.clone(),
    })
}

impl Joined {
    /// The certificate of the node's own server (logs, exec), with the node's addresses in it.
    pub async fn serving(&self, addresses: &[IpAddr]) -> Result<Arc<Identity>, JoinError> {
        let path = self.dir.join(SERVING_FILE);
        let request = csr::Request::serving(&self.node_name, addresses);
        let stored = Identity::load(&path)?.filter(|i| !i.is_expired(self.clock.now()));
        if let Some(identity) = stored
            && request.is_met_by(&identity)
        {
            return Ok(Arc::new(identity));
        }
        let identity = Identity::from_pem(&csr::obtain(&self.client, &request).await?)?;
        identity.save(&path)?;
        Ok(Arc::new(identity))
    }

    /// Presents the certificate on disk, which another process of the node may have renewed.
    pub fn reload(&self) -> Result<(), JoinError> {
        if let Some(stored) = Identity::load(&self.dir.join(CLIENT_FILE))? {
            self.identity.replace(&stored.pem())?;
        }
        Ok(())
    }

    /// Whether the CA certificates on disk are others than those that were read from there: who joins again trusts them.
    /// A file without a certificate, or with a part of one, is still being written.
    pub fn has_other_ca(&self) -> Result<bool, JoinError> {
        let stored = read_optional(&self.dir.join(CA_FILE))?.filter(|stored| *stored != self.ca_pem);
        let certificates =
            stored.map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>());
        Ok(certificates.is_some_and(|read| read.is_ok_and(|certificates| !certificates.is_empty())))
    }
}

/// The CA certificate: from the file, from disk, or from the server if its hash is in the token.
async fn trusted_ca(options: &Join) -> Result<String, JoinError> {
    let stored_path = options.dir.join(CA_FILE);
    let stored = read_optional(&stored_path)?;
    let pin = options.token.as_ref().and_then(Token::ca_hash);
    let ca_pem = match (&options.ca_file, stored, pin) {
        (Some(path), stored, _) => {
            let read = fs::read_to_string(path);
            let given = read.map_err(|source| JoinError::File { path: path.clone(), source })?;
            if stored.is_some_and(|stored| stored.trim() != given.trim()) {
                return Err(JoinError::OtherCluster { dir: options.dir.clone() });
            }
            given
        }
        (None, Some(stored), pin) => {
            if pin.is_some_and(|pin| server_ca::matching(&stored, pin).is_none()) {
                return Err(JoinError::OtherCluster { dir: options.dir.clone() });
            }
            return Ok(stored);
        }
        (None, None, Some(pin)) => fetch_ca(&options.servers, pin).await?,
        (None, None, None) if options.token.is_none() => return Err(JoinError::NoToken),
        (None, None, None) => return Err(JoinError::NoCa),
    };
    let write = fs::write(&stored_path, &ca_pem);
    write.map_err(|source| JoinError::File { path: stored_path, source })?;
    Ok(ca_pem)
}

async fn fetch_ca(servers: &[String], pin: &[u8; 32]) -> Result<String, JoinError> {
    let mut backoff = Backoff::reconnect();
    loop {
        for server in servers {
            match server_ca::fetch(server).await {
                Ok(certificates) => {
                    return server_ca::matching(&certificates, pin).ok_or(JoinError::WrongCa);
                }
                Err(error) if error.is_permanent() => return Err(error.into()),
                Err(error) => tracing::info!(server, error = chain(&error), "server not reachable"),
            }
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn first_identity(options: &Join, ca_pem: &str, path: &Path) -> Result<Identity, JoinError> {
    let token = options.token.as_ref().ok_or(JoinError::NoToken)?;
    let connection = Connection {
        servers: options.servers.clone(),
        ca_pem: ca_pem.into(),
        auth: Auth::Token(token.bearer()),
        clock: options.clock.clone(),
    };
    let client = connection.client()?;
    let request = csr::Request::client(&options.node_name);
    let mut backoff = Backoff::reconnect();
    let pem = loop {
        match csr::obtain(&client, &request).await {
            Ok(pem) => break pem,
            Err(error) if error.is_unauthorized() => return Err(JoinError::TokenRefused),
            Err(error) if error.is_permanent() => return Err(error.into()),
            Err(error) => {
                tracing::info!(error = chain(&error), "no certificate yet");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    };
    let identity = Identity::from_pem(&pem)?;
    identity.save(path)?;
    Ok(identity)
}

fn read_optional(path: &Path) -> Result<Option<String>, JoinError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JoinError::File { path: path.into(), source }),
    }
}
