//! Client certificates: the common name is the user, organizations are the groups.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use xebec_clock::Clock;

use super::AuthnError;
use crate::config::Config;
use crate::user::UserInfo;

/// The certificate that a client presented, looked at once per connection.
pub struct PeerCert {
    /// None: no CA of ours signed it, or it does not name a user.
    user: Option<UserInfo>,
    not_after: OffsetDateTime,
}

impl PeerCert {
    /// When it stops to name a user; None if it does not name one.
    pub fn expiry(&self) -> Option<OffsetDateTime> {
        self.user.as_ref().map(|_| self.not_after)
    }

    /// Whom it names, and for how long.
    pub fn user(&self, now: OffsetDateTime) -> Option<(&UserInfo, time::Duration)> {
        self.user.as_ref().filter(|_| now <= self.not_after).map(|user| (user, self.not_after - now))
    }
}

/// Lets every client in that can prove the possession of its key: whom its certificate makes it is decided by
/// authentication, which answers 401 where TLS could only hang up.
#[derive(Debug)]
pub struct ClientCerts {
    verifier: Arc<dyn ClientCertVerifier>,
    clock: Clock,
}

impl ClientCerts {
    pub fn new(config: &Config) -> Result<Self, AuthnError> {
        use rustls::pki_types::pem::PemObject;
        let failed = |e: &dyn std::fmt::Display| AuthnError::ClientCa(e.to_string());
        let mut roots = RootCertStore::clone(config.pki.roots());
        if let Some(path) = &config.client_ca_file {
            for cert in CertificateDer::pem_file_iter(path).map_err(|e| failed(&e))? {
                roots.add(cert.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
        Ok(Self { verifier: verifier.map_err(|e| failed(&e))?, clock: config.pki.clock().clone() })
    }

    pub fn now(&self) -> OffsetDateTime {
        self.clock.now().into()
    }

    /// Whom the presented chain makes the client.
    pub fn peer(&self, chain: &[CertificateDer<'_>]) -> Option<PeerCert> {
        let (cert, intermediates) = chain.split_first()?;
        let now = self.clock.current_time().unwrap_or_else(|| UnixTime::since_unix_epoch(Duration::ZERO));
        let verified = self.verifier.verify_client_cert(cert, intermediates, now);
        if let Err(error) = &verified {
            tracing::info!(%error, "client certificate refused");
        }
        let nobody = PeerCert { user: None, not_after: OffsetDateTime::UNIX_EPOCH };
        let Ok((_, parsed)) = X509Certificate::from_der(cert) else { return Some(nobody) };
        let text =
            |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
        let name = parsed.subject().iter_common_name().next().and_then(text).unwrap_or_default();
        let groups = parsed.subject().iter_organization().filter_map(text).collect();
        let user = UserInfo { name, groups, ..UserInfo::default() };
        Some(PeerCert {
            user: Some(user).filter(|user| verified.is_ok() && !user.name.is_empty()),
            not_after: parsed.validity().not_after.to_datetime(),
        })
    }
}

impl ClientCertVerifier for ClientCerts {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
