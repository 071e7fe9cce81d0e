use std::sync::Arc;

use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use super::{Issued, PkiError};

/// The certificate that TLS handshakes present; replaced in place, so that renewal needs no restart.
pub struct ServingCert {
    current: RwLock<(Arc<CertifiedKey>, OffsetDateTime)>,
}

impl ServingCert {
    pub(super) fn new(issued: Issued) -> Result<Self, PkiError> {
        let key = Arc::new(issued.certified_key("kube-apiserver")?);
        Ok(Self { current: RwLock::new((key, issued.renew_at())) })
    }

    pub(super) fn replace(&self, issued: Issued) -> Result<(), PkiError> {
        let key = Arc::new(issued.certified_key("kube-apiserver")?);
        *self.current.write() = (key, issued.renew_at());
        Ok(())
    }

    pub fn renew_at(&self) -> OffsetDateTime {
        self.current.read().1
    }
}

impl ResolvesServerCert for ServingCert {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().0.clone())
    }
}

impl std::fmt::Debug for ServingCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServingCert").field("renew_at", &self.renew_at()).finish_non_exhaustive()
    }
}
