//! A certificate and key that can be replaced while connections are made with them.

use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, crypto::ring};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};
use x509_parser::extensions::GeneralName;

/// The certificate that a client or server presents; a resolver for rustls on both sides.
#[derive(Debug)]
pub struct Identity {
    current: RwLock<Arc<Certificate>>,
}

#[derive(Debug)]
struct Certificate {
    pem: String,
    key: Arc<CertifiedKey>,
    not_before: SystemTime,
    not_after: SystemTime,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("read certificate and key")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("the file holds no certificate")]
    NoCertificate,
    #[error("certificate is malformed")]
    Malformed,
    #[error("use certificate and key")]
    Tls(#[from] rustls::Error),
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Identity {
    /// From PEM that holds the certificate chain and the key.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        Ok(Self { current: RwLock::new(Arc::new(Certificate::parse(pem)?)) })
    }

    /// From a file that [`save`](Self::save) wrote; `None` if there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        match fs::read_to_string(path) {
            Ok(pem) => Self::from_pem(&pem).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::Read { path: path.into(), source }),
        }
    }

    /// Writes certificate and key to a file that only its owner can read, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let write = || -> io::Result<()> {
            let partial = path.with_extension("partial");
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&partial)?;
            file.write_all(self.read().pem.as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, path)
        };
        write().map_err(|source| IdentityError::Write { path: path.into(), source })
    }

    /// Presents another certificate from the next handshake on.
    pub fn replace(&self, pem: &str) -> Result<(), IdentityError> {
        let certificate = Arc::new(Certificate::parse(pem)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = certificate;
        Ok(())
    }

    #[must_use]
    pub fn pem(&self) -> String {
        self.read().pem.clone()
    }

    /// The addresses in the certificate's subject alternative names.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let current = self.read();
        let leaf = current.key.cert.first();
        leaf.and_then(|leaf| addresses(leaf)).unwrap_or_default()
    }

    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.read().not_after
    }

    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now >= self.not_after()
    }

    /// When two thirds of the life have passed.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        let current = self.read();
        let life = current.not_after.duration_since(current.not_before).unwrap_or_default();
        current.not_before + life * 2 / 3
    }

    fn read(&self) -> Arc<Certificate> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Certificate {
    fn parse(pem: &str) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(IdentityError::Pem)?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(IdentityError::Pem)?;
        let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| IdentityError::Malformed)?;
        let seconds = |at: x509_parser::time::ASN1Time| {
            let since = u64::try_from(at.timestamp()).map_err(|_| IdentityError::Malformed)?;
            UNIX_EPOCH.checked_add(Duration::from_secs(since)).ok_or(IdentityError::Malformed)
        };
        let not_before = seconds(parsed.validity().not_before)?;
        let not_after = seconds(parsed.validity().not_after)?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        Ok(Self { pem: pem.into(), key: Arc::new(key), not_before, not_after })
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.read().key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.read().key))
    }
}

fn addresses(der: &[u8]) -> Option<Vec<IpAddr>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let address = |name: &GeneralName<'_>| match name {
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from),
        },
        _ => None,
    };
    Some(names.value.general_names.iter().filter_map(address).collect())
}

#[cfg(test)]
mod tests;
