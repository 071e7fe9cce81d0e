//! Who may ask what: a certificate of the cluster's CA alone opens nothing.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// As whom the API server presents itself (control-plane/apiserver, `pki`).
const API_SERVER: &str = "kube-apiserver-kubelet-client";
const MASTERS: &str = "system:masters";
const NODES: &str = "system:nodes";

/// What a client may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The API server and administrators: everything.
    Full,
    /// Other nodes: health, and how far this node is.
    Node,
    None,
}

impl Access {
    /// By the names in the client's certificate: common name the user, organisations the groups.
    pub fn of(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let Some(leaf) = certificates.and_then(|chain| chain.first()) else { return Self::None };
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return Self::None };
        let subject = certificate.subject();
        let user = subject.iter_common_name().filter_map(|name| name.as_str().ok());
        let groups: Vec<_> = subject.iter_organization().filter_map(|name| name.as_str().ok()).collect();
        if user.into_iter().any(|user| user == API_SERVER) || groups.contains(&MASTERS) {
            Self::Full
        } else if groups.contains(&NODES) {
            Self::Node
        } else {
            Self::None
        }
    }

    /// `path` without slashes at its ends.
    pub fn allows(self, path: &str) -> bool {
        let harmless = matches!(path, "healthz" | "livez" | "readyz" | "xebec/v1/applied");
        self == Self::Full || (self == Self::Node && harmless)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[track_caller]
    fn check(user: &str, group: &str, expected: Access) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(Access::of(Some(&[certificate.der().clone()])), expected, "{user} of {group}");
    }

    #[test]
    fn names_decide() {
        check("kube-apiserver-kubelet-client", "anything", Access::Full);
        check("admin", "system:masters", Access::Full);
        check("system:node:n1", "system:nodes", Access::Node);
        check("jane", "developers", Access::None);
        assert_eq!(Access::of(None), Access::None);
    }

    #[test]
    fn a_node_may_not_run_commands_on_another() {
        assert!(Access::Node.allows("xebec/v1/applied"));
        for path in ["exec/ns/pod/c", "pods", "containerLogs/ns/pod/c", "metrics", "xebec/v1"] {
            assert!(!Access::Node.allows(path), "{path}");
            assert!(Access::Full.allows(path), "{path}");
            assert!(!Access::None.allows(path), "{path}");
        }
    }
}
