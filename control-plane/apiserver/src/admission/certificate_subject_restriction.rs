//! Nobody gets into `system:masters` by a certificate request.

use async_trait::async_trait;
use base64::Engine;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use xebec_machinery::Status;
use xebec_registry::value::string;

use super::{Attributes, Operation, Plugin, Reader};
use crate::user::SYSTEM_MASTERS;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn validate(&self, attributes: &Attributes<'_>, _reader: &dyn Reader) -> Result<(), Status> {
        if !attributes.is("certificates.k8s.io", "certificatesigningrequests") {
            return Ok(());
        }
        check(&attributes.object)
            .map_err(|why| Status::forbidden(&attributes.resource.group_resource(), attributes.name, why))
    }
}

fn check(csr: &Value) -> Result<(), String> {
    if string(csr, "spec.signerName") != SIGNER {
        return Ok(());
    }
    let unreadable = |why: String| format!("failed to parse CSR: {why}");
    let pem = base64::engine::general_purpose::STANDARD.decode(string(csr, "spec.request"));
    let pem = pem.map_err(|e| unreadable(e.to_string()))?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|e| unreadable(e.to_string()))?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).map_err(|e| unreadable(e.to_string()))?;
    let subject = &request.certification_request_info.subject;
    let mut groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    if groups.any(|group| group == SYSTEM_MASTERS) {
        return Err(format!("use of {SIGNER} signer with system:masters group is not allowed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    use super::*;

    fn csr(signer: &str, group: &str) -> Value {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, group);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let request = base64::engine::general_purpose::STANDARD.encode(pem);
        json!({"spec": {"signerName": signer, "request": request}})
    }

    #[test]
    fn masters_are_refused_by_the_client_signer_alone() {
        let refused = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
        assert_eq!(check(&csr(SIGNER, "system:masters")), Err(refused.to_owned()));
        assert_eq!(check(&csr(SIGNER, "developers")), Ok(()));
        assert_eq!(check(&csr("example.com/mine", "system:masters")), Ok(()));
        let broken = json!({"spec": {"signerName": SIGNER, "request": "bm9uZQ=="}});
        assert!(check(&broken).is_err_and(|why| why.starts_with("failed to parse CSR: ")));
    }
}
