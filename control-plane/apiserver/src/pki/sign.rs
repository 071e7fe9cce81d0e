//! Signing of certificate requests, within the bounds of the well-known Kubernetes signers.

use rcgen::{CertificateSigningRequestParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use time::Duration;

use super::{CERTIFICATE_LIFETIME, Pki};

/// Shortest `expirationSeconds` that the API allows.
const MIN_LIFETIME: Duration = Duration::minutes(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signer {
    /// `kubernetes.io/kube-apiserver-client`
    KubeApiserverClient,
    /// `kubernetes.io/kube-apiserver-client-kubelet`
    KubeApiserverClientKubelet,
    /// `kubernetes.io/kubelet-serving`
    KubeletServing,
}

impl Signer {
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "kubernetes.io/kube-apiserver-client" => Some(Self::KubeApiserverClient),
            "kubernetes.io/kube-apiserver-client-kubelet" => Some(Self::KubeApiserverClientKubelet),
            "kubernetes.io/kubelet-serving" => Some(Self::KubeletServing),
            _ => None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("no signer {0:?}")]
    UnknownSigner(String),
    #[error("read the certificate request")]
    Request(#[source] rcgen::Error),
    #[error("{0}")]
    Refused(&'static str),
    #[error("sign the certificate")]
    Sign(#[source] rcgen::Error),
}

impl Pki {
    /// Signs a PEM certificate request as the named signer does; returns the certificate as PEM.
    pub fn sign_csr(&self, pem: &str, signer: &str, expiration_seconds: Option<i64>) -> Result<String, SignError> {
        let kind = Signer::from_name(signer).ok_or_else(|| SignError::UnknownSigner(signer.to_owned()))?;
        let mut request = CertificateSigningRequestParams::from_pem(pem).map_err(SignError::Request)?;
        let params = &mut request.params;
        check(kind, params)?;
        let lifetime = expiration_seconds
            .map(Duration::seconds)
            .map_or(CERTIFICATE_LIFETIME, |asked| asked.clamp(MIN_LIFETIME, CERTIFICATE_LIFETIME));
        let validity = self.issuer.validity_for(lifetime);
        (params.not_before, params.not_after) = (validity.not_before, validity.not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match kind {
            Signer::KubeletServing => ExtendedKeyUsagePurpose::ServerAuth,
            _ => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        Ok(request.signed_by(&self.issuer.key).map_err(SignError::Sign)?.pem())
    }
}

/// The bounds in Kubernetes' documentation of its signers ("Certificate Signing Requests: Kubernetes signers").
fn check(signer: Signer, params: &rcgen::CertificateParams) -> Result<(), SignError> {
    let subject = |kind: DnType| match params.distinguished_name.get(&kind) {
        Some(DnValue::PrintableString(s)) => s.as_str().to_owned(),
        Some(DnValue::Utf8String(s)) => s.clone(),
        _ => String::new(),
    };
    let (name, group) = (subject(DnType::CommonName), subject(DnType::OrganizationName));
    let of_node = group == "system:nodes" && name.starts_with("system:node:");
    let san = !params.subject_alt_names.is_empty();
    match signer {
        Signer::KubeApiserverClient if group == crate::user::SYSTEM_MASTERS => {
            Err(SignError::Refused("the group system:masters is not granted by certificate requests"))
        }
        Signer::KubeApiserverClient => Ok(()),
        _ if !of_node => Err(SignError::Refused("subject must be O=system:nodes, CN=system:node:<name>")),
        Signer::KubeApiserverClientKubelet if san => {
            Err(SignError::Refused("subject alternative names are not allowed"))
        }
        Signer::KubeletServing if !san => Err(SignError::Refused("a subject alternative name is required")),
        _ => Ok(()),
    }
}
