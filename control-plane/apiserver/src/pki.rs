//! The cluster's certificates: one CA made at first start, short-lived certificates issued from it, and the key that signs ServiceAccount tokens.

mod files;
mod kubeconfig;
mod serving;
mod sign;
mod validity;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};
use xebec_clock::Clock;

pub use files::write_secret;
pub use serving::ServingCert;
pub use sign::{SignError, Signer};
pub use validity::Validity;

/// Certificates that xebec issues to itself and to nodes; renewed at two thirds of it.
pub const CERTIFICATE_LIFETIME: Duration = Duration::days(30);
/// Of the kubeconfig of administrators: it is copied to where nobody renews it.
pub const KUBECONFIG_LIFETIME: Duration = Duration::days(365);
const CA_LIFETIME: Duration = Duration::days(3650);
/// Clocks of other machines may be behind ours.
const BACKDATE: Duration = Duration::minutes(5);

/// The name that the API server's client certificate for kubelets carries.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{operation} {path}")]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("make a certificate for {name}")]
    Certificate {
        name: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("{path} is not a {what}")]
    Invalid { path: PathBuf, what: &'static str },
    #[error("{path}: the cluster's CA certificate expired at {at}: docs/control-plane.md says how to replace it")]
    Expired { path: PathBuf, at: OffsetDateTime },
    #[error("load the key of {name} into TLS")]
    Tls {
        name: String,
        #[source]
        source: rustls::Error,
    },
}

/// A certificate and its private key.
#[derive(Clone)]
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
    pub validity: Validity,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Issued {
    /// For rustls, as a server or a client.
    pub fn certified_key(&self, name: &str) -> Result<CertifiedKey, PkiError> {
        let key = PrivateKeyDer::Pkcs8(self.key_der.clone().into());
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&key)
            .map_err(|source| PkiError::Tls { name: name.to_owned(), source })?;
        Ok(CertifiedKey::new(vec![self.der.clone()], key))
    }
}

/// See the module.
pub struct Pki {
    dir: PathBuf,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    roots: Arc<RootCertStore>,
    issuer: Authority,
    service_account_key: KeyPair,
    sans: RwLock<Vec<String>>,
    serving: Arc<ServingCert>,
}

impl Pki {
    /// Reads `dir`, making what is missing. `sans` are the names and addresses that clients dial the server by.
    pub fn load_or_create(dir: impl AsRef<Path>, sans: &[String]) -> Result<Self, PkiError> {
        Self::by_clock(dir, sans, Clock::default())
    }

    /// As [`load_or_create`](Self::load_or_create), by a clock that the whole server then goes by.
    pub fn by_clock(dir: impl AsRef<Path>, sans: &[String], clock: Clock) -> Result<Self, PkiError> {
        let dir = dir.as_ref().to_owned();
        files::create_dir(&dir)?;
        let (ca_pem, ca_key) = match files::read_pair(&dir, "ca")? {
            Some(pair) => pair,
            None => {
                let (cert, key) = create_ca(&clock)?;
                files::write_pair(&dir, "ca", &cert, &key)?;
                (cert, key)
            }
        };
        let invalid = |what| PkiError::Invalid { path: dir.join("ca.crt"), what };
        let ca_key = KeyPair::from_pem(&ca_key).map_err(|_| invalid("CA with a private key"))?;
        let ca_der = first_certificate(&ca_pem).ok_or_else(|| invalid("certificate"))?;
        let validity = Validity::of(&ca_der).ok_or_else(|| invalid("certificate"))?;
        if validity.not_after <= clock.now() {
            return Err(PkiError::Expired { path: dir.join("ca.crt"), at: validity.not_after });
        }
        let key = Issuer::from_ca_cert_der(&ca_der, ca_key).map_err(|_| invalid("certificate"))?;
        let roots = Arc::new(roots(&ca_pem).ok_or_else(|| invalid("list of certificates"))?);
        let issuer = Authority { key, validity, clock };
        let service_account_key = load_service_account_key(&dir)?;
        let sans = with_standard_names(sans);
        let serving = issuer.serving(&sans)?;
        let serving = Arc::new(ServingCert::new(&serving, ca_der.clone())?);
        Ok(Self { dir, ca_pem, ca_der, roots, issuer, service_account_key, sans: RwLock::new(sans), serving })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All of `ca.crt`: the CA, and after it those that are trusted besides while one replaces the other.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Who may have signed the certificates of clients and kubelets: all of `ca.crt`.
    pub fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// The CA: the first certificate of `ca.crt`, whose key is `ca.key`.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    /// What is now, for certificates and everything else in the server.
    pub fn clock(&self) -> &Clock {
        &self.issuer.clock
    }

    /// From when to when the CA is good; nothing that it signs is good for longer.
    pub fn ca_validity(&self) -> Validity {
        self.issuer.validity
    }

    /// The server's own certificate; follows renewals.
    pub fn serving(&self) -> Arc<ServingCert> {
        self.serving.clone()
    }

    /// PKCS#8 PEM of the ES256 key that signs ServiceAccount tokens.
    pub fn service_account_key_pem(&self) -> String {
        self.service_account_key.serialize_pem()
    }

    /// The uncompressed point of the public half: 0x04, X, Y.
    pub fn service_account_public_key(&self) -> &[u8] {
        self.service_account_key.public_key_raw()
    }

    /// A client certificate with this user name and these groups.
    pub fn issue_client(&self, name: &str, groups: &[&str]) -> Result<Issued, PkiError> {
        self.issue_client_for(name, groups, CERTIFICATE_LIFETIME)
    }

    /// A client certificate of another life span, for files that nobody renews.
    pub fn issue_client_for(&self, name: &str, groups: &[&str], lifetime: Duration) -> Result<Issued, PkiError> {
        self.issuer.issue(name, groups, &[], ExtendedKeyUsagePurpose::ClientAuth, lifetime)
    }

    pub fn issue_server(&self, name: &str, groups: &[&str], sans: &[String]) -> Result<Issued, PkiError> {
        self.issuer.issue(name, groups, sans, ExtendedKeyUsagePurpose::ServerAuth, CERTIFICATE_LIFETIME)
    }

    /// Adds a name or an address to the serving certificate.
    pub fn add_sans(&self, more: &[String]) -> Result<(), PkiError> {
        let mut sans = self.sans.write();
        let missing: Vec<_> = more.iter().filter(|san| !sans.contains(san)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        sans.extend(missing);
        drop(sans);
        self.renew_serving()
    }

    /// Replaces the serving certificate; connections from then on see the new one.
    pub fn renew_serving(&self) -> Result<(), PkiError> {
        let sans = self.sans.read().clone();
        self.serving.replace(&self.issuer.serving(&sans)?)
    }

    /// A kubeconfig of `system:masters` with everything embedded.
    pub fn admin_kubeconfig(&self, server: &str) -> Result<String, PkiError> {
        Ok(self.admin(server)?.0)
    }

    /// Writes [`admin_kubeconfig`](Self::admin_kubeconfig) to a file that only its owner can read.
    pub fn write_admin_kubeconfig(&self, path: &Path, server: &str) -> Result<Validity, PkiError> {
        let (text, validity) = self.admin(server)?;
        files::write_secret(path, &text)?;
        Ok(validity)
    }

    fn admin(&self, server: &str) -> Result<(String, Validity), PkiError> {
        let admin = self.issue_client_for("kubernetes-admin", &[crate::user::SYSTEM_MASTERS], KUBECONFIG_LIFETIME)?;
        Ok((kubeconfig::render(server, &self.ca_pem, &admin), admin.validity))
    }
}

fn create_ca(clock: &Clock) -> Result<(String, String), PkiError> {
    let error = |source| PkiError::Certificate { name: "kubernetes".into(), source };
    let key = KeyPair::generate().map_err(error)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::from(clock.now()) - BACKDATE;
    params.not_after = params.not_before + CA_LIFETIME;
    let cert = params.self_signed(&key).map_err(error)?;
    Ok((cert.pem(), key.serialize_pem()))
}

/// What signs, and until when.
struct Authority {
    key: Issuer<'static, KeyPair>,
    validity: Validity,
    clock: Clock,
}

impl Authority {
    fn serving(&self, sans: &[String]) -> Result<Issued, PkiError> {
        self.issue("kube-apiserver", &[], sans, ExtendedKeyUsagePurpose::ServerAuth, CERTIFICATE_LIFETIME)
    }

    fn issue(
        &self,
        name: &str,
        groups: &[&str],
        sans: &[String],
        usage: ExtendedKeyUsagePurpose,
        lifetime: Duration,
    ) -> Result<Issued, PkiError> {
        let error = |source| PkiError::Certificate { name: name.to_owned(), source };
        let key = KeyPair::generate().map_err(error)?;
        let mut params = CertificateParams::new(sans.to_vec()).map_err(error)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let validity = self.validity_for(lifetime - BACKDATE);
        (params.not_before, params.not_after) = (validity.not_before, validity.not_after);
        let cert = params.signed_by(&key, &self.key).map_err(error)?;
        Ok(Issued {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            validity,
            der: cert.der().clone(),
            key_der: key.serialize_der(),
        })
    }

    /// From now on, and no longer than the CA itself: what outlived it would be refused although it says that it is good.
    fn validity_for(&self, lifetime: Duration) -> Validity {
        let now = OffsetDateTime::from(self.clock.now());
        Validity { not_before: now - BACKDATE, not_after: (now + lifetime).min(self.validity.not_after) }
    }
}

fn load_service_account_key(dir: &Path) -> Result<KeyPair, PkiError> {
    let path = dir.join("sa.key");
    if let Some(pem) = files::read(&path)? {
        return KeyPair::from_pem(&pem).map_err(|_| PkiError::Invalid { path, what: "private key" });
    }
    let key =
        KeyPair::generate().map_err(|source| PkiError::Certificate { name: "service-accounts".into(), source })?;
    files::write_secret(&path, key.serialize_pem())?;
    Ok(key)
}

/// What in-cluster clients dial, besides the caller's names.
fn with_standard_names(sans: &[String]) -> Vec<String> {
    let standard = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "::1",
    ];
    let mut all: Vec<String> = standard.map(String::from).to_vec();
    for san in sans {
        let san = san.parse::<IpAddr>().map_or_else(|_| san.clone(), |ip| ip.to_string());
        if !all.contains(&san) {
            all.push(san);
        }
    }
    all
}

/// All certificates of a PEM text, of which there must be one.
fn roots(pem: &str) -> Option<RootCertStore> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then_some(roots)
}

/// The first certificate of a PEM text.
pub fn first_certificate(pem: &str) -> Option<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

#[cfg(test)]
mod tests;
