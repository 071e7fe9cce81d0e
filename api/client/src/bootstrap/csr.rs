//! Certificates through certificates.k8s.io: request, wait for the approver and the signer.

use crate::identity::Identity;
use crate::{Api, Client, Error, PostParams};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;
use xebec_types::certificates::{CertificateSigningRequest, CertificateSigningRequestSpec};
use xebec_types::{ByteString, ObjectMeta, signer};

const NODES_GROUP: &str = "system:nodes";
/// How long an approver may take; then a fresh request is made by whoever retries.
const PATIENCE: Duration = Duration::from_secs(60);

/// What certificate is wanted.
#[derive(Debug)]
pub(super) struct Request {
    pub signer: &'static str,
    common_name: String,
    usages: &'static [&'static str],
    dns_names: Vec<String>,
    addresses: Vec<IpAddr>,
}

#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    #[error("make key and certificate request")]
    Make(#[from] rcgen::Error),
    #[error("ask the API server for a certificate")]
    Api(#[from] Error),
    #[error("the certificate request was denied: {message}")]
    Denied { message: String },
    #[error("the certificate request was neither approved nor denied in time")]
    TimedOut,
    #[error("the certificate is not text")]
    NotText,
}

impl CsrError {
    pub(super) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Api(Error::Api(status)) if status.code == 401)
    }

    /// Whether trying again cannot help. A server that has just started forbids everything to bootstrap tokens until its
    /// default roles are written, so that 403 is tried again, as upstream's kubelet does.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Api(Error::Api(status)) => status.code != 403 && (400..429).contains(&status.code),
            Self::Api(_) | Self::TimedOut => false,
            Self::Make(_) | Self::Denied { .. } | Self::NotText => true,
        }
    }
}

impl Request {
    /// A node's client certificate: `system:node:NAME` in `system:nodes`.
    pub(super) fn client(node_name: &str) -> Self {
        Self {
            signer: signer::KUBE_APISERVER_CLIENT_KUBELET,
            common_name: format!("system:node:{node_name}"),
            usages: &["digital signature", "client auth"],
            dns_names: Vec::new(),
            addresses: Vec::new(),
        }
    }

    pub(super) fn serving(node_name: &str, addresses: &[IpAddr]) -> Self {
        Self {
            signer: signer::KUBELET_SERVING,
            common_name: format!("system:node:{node_name}"),
            usages: &["digital signature", "server auth"],
            dns_names: vec![node_name.into()],
            addresses: addresses.to_vec(),
        }
    }

    /// Whether the certificate names every address that is wanted.
    pub(super) fn is_met_by(&self, identity: &Identity) -> bool {
        let named = identity.addresses();
        self.addresses.iter().all(|address| named.contains(address))
    }

    fn der(&self, key: &KeyPair) -> Result<String, rcgen::Error> {
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, NODES_GROUP);
        name.push(DnType::CommonName, self.common_name.clone());
        let mut params = CertificateParams::new(self.dns_names.clone())?;
        params.distinguished_name = name;
        let addresses = self.addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        params.serialize_request(key)?.pem()
    }
}

/// A new key and a certificate for it, as PEM.
pub(super) async fn obtain(client: &Client, request: &Request) -> Result<String, CsrError> {
    let key = KeyPair::generate()?;
    let csr = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".into()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.der(&key)?.into_bytes()),
            signer_name: request.signer.into(),
            usages: Some(request.usages.iter().map(ToString::to_string).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let created = api.create(&PostParams::default(), &csr).await?;
    let name = created.metadata.name.unwrap_or_default();
    let certificate = issued(&api, &name).await?;
    let certificate = String::from_utf8(certificate).map_err(|_| CsrError::NotText)?;
    Ok(format!("{}\n{}", certificate.trim_end(), key.serialize_pem()))
}

async fn issued(api: &Api<CertificateSigningRequest>, name: &str) -> Result<Vec<u8>, CsrError> {
    let give_up = Instant::now() + PATIENCE;
    let mut wait = Duration::from_millis(20);
    loop {
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(1));
        let status = match api.get(name).await {
            Ok(csr) => csr.status.unwrap_or_default(),
            Err(error @ Error::Api(_)) => return Err(error.into()),
            Err(_) if Instant::now() < give_up => continue,
            Err(error) => return Err(error.into()),
        };
        let refusal = status.conditions.iter().flatten().find(|c| c.type_ == "Denied" || c.type_ == "Failed");
        if let Some(refusal) = refusal {
            let message = refusal.message.clone().or_else(|| refusal.reason.clone());
            return Err(CsrError::Denied { message: message.unwrap_or_default() });
        }
        if let Some(certificate) = status.certificate.filter(|c| !c.0.is_empty()) {
            return Ok(certificate.0);
        }
        if Instant::now() >= give_up {
            return Err(CsrError::TimedOut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: u16, permanent: bool) {
        let mut status = kube::core::Status::failure("no", "Reason");
        status.code = code;
        assert_eq!(CsrError::from(Error::Api(status.boxed())).is_permanent(), permanent, "{code}");
    }

    #[test]
    fn a_server_that_is_starting_is_tried_again() {
        check(400, true);
        check(401, true);
        check(422, true);
        for transient in [403, 429, 500, 503] {
            check(transient, false);
        }
    }
}
