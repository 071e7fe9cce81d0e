//! Certificates, requests for them, and the tokens that nodes join with.

use std::sync::LazyLock;

use xebec_apiserver::Pki;
use xebec_client::bootstrap::Token;
use xebec_client::identity::Identity;

use super::bytes;

/// A CA of this process; its directory goes at once, as nothing is read again.
static PKI: LazyLock<Option<Pki>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().ok()?;
    Pki::load_or_create(dir.path(), &[]).ok()
});

/// For `system:node:n`, P-256.
const REQUEST: &str = "-----BEGIN CERTIFICATE REQUEST-----\nMIHpMIGQAgEAMC4xFTATBgNVBAoMDHN5c3RlbTpub2RlczEVMBMGA1UEAwwMc3lz\ndGVtOm5vZGU6MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END CERTIFICATE REQUEST-----\n";

pub fn seeds() -> Vec<Vec<u8>> {
    let issued = PKI.as_ref().and_then(|pki| pki.issue_client("system:node:n", &["system:nodes"]).ok());
    let identity = issued.map(|issued| (issued.cert_pem + &issued.key_pem).into_bytes());
    identity.into_iter().chain(bytes(&[REQUEST])).collect()
}

pub fn certificate(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(identity) = Identity::from_pem(&text) {
        _ = (identity.addresses(), identity.not_after());
    }
    _ = xebec_controllers::certificates::is_readable(text.as_bytes());
    if let Some(pki) = PKI.as_ref() {
        _ = pki.sign_csr(&text, "kubernetes.io/kube-apiserver-client", None).is_ok();
    }
}

pub fn token_seeds() -> Vec<Vec<u8>> {
    let hash = "0123456789abcdef".repeat(4);
    vec![b"abcdef.0123456789abcdef".to_vec(), format!("abcdef.0123456789abcdef@sha256:{hash}").into_bytes()]
}

/// What is read can be written and read again, and is the same.
pub fn token(bytes: &[u8]) {
    if let Ok(token) = String::from_utf8_lossy(bytes).parse::<Token>() {
        let again = token.reveal().parse::<Token>();
        assert!(again.is_ok_and(|again| again.reveal() == token.reveal()));
    }
}
