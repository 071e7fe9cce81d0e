use std::sync::Arc;

use parking_lot::RwLock;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Issued, PkiError, Validity};

/// The certificate that TLS handshakes present; replaced in place, so that renewal needs no restart.
/// The CA's follows it: a node that joins knows the CA by its hash and takes it from the handshake.
pub struct ServingCert {
    current: RwLock<(Arc<CertifiedKey>, Validity)>,
    ca: CertificateDer<'static>,
}

impl ServingCert {
    pub(super) fn new(issued: &Issued, ca: CertificateDer<'static>) -> Result<Self, PkiError> {
        let current = RwLock::new((chain(issued, &ca)?, issued.validity));
        Ok(Self { current, ca })
    }

    pub(super) fn replace(&self, issued: &Issued) -> Result<(), PkiError> {
        *self.current.write() = (chain(issued, &self.ca)?, issued.validity);
        Ok(())
    }

    pub fn validity(&self) -> Validity {
        self.current.read().1
    }
}

fn chain(issued: &Issued, ca: &CertificateDer<'static>) -> Result<Arc<CertifiedKey>, PkiError> {
    let mut key = issued.certified_key("kube-apiserver")?;
    key.cert.push(ca.clone());
    Ok(Arc::new(key))
}

impl ResolvesServerCert for ServingCert {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().0.clone())
    }
}

impl std::fmt::Debug for ServingCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServingCert").field("validity", &self.validity()).finish_non_exhaustive()
    }
}
