//! What a client shows to say who it is: certificates in DER, and JWTs.

use std::sync::{Arc, LazyLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use xebec_apiserver::Pki;
use xebec_apiserver::decoders::Credentials;

/// A cluster of this process; its directory goes at once, as nothing is read again.
static CLUSTER: LazyLock<Option<(Arc<Pki>, Credentials)>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().ok()?;
    let pki = Arc::new(Pki::load_or_create(dir.path(), &[]).ok()?);
    let credentials = Credentials::new(Arc::clone(&pki)).ok()?;
    Some((pki, credentials))
});

const USER: &str = "jane";

pub fn certificate_seeds() -> Vec<Vec<u8>> {
    let own = CLUSTER.as_ref().and_then(|(pki, _)| pki.issue_client(USER, &["a", "b"]).ok());
    let own = own.and_then(|issued| CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).ok());
    let ca = CLUSTER.as_ref().map(|(pki, _)| pki.ca_der().to_vec());
    own.map(|der| der.to_vec()).into_iter().chain(ca).collect()
}

/// Whatever was changed in it, a certificate names nobody else: its signature would not be good.
pub fn certificate(bytes: &[u8]) {
    let Some((_, credentials)) = CLUSTER.as_ref() else { return };
    let named = credentials.certificate(bytes);
    assert!(named.is_none() || named.as_deref() == Some(USER), "{named:?}");
}

fn good_claims() -> [Value; 2] {
    let reference = json!({"name": "n", "uid": "u"});
    let issuer = "https://kubernetes.default.svc.cluster.local";
    [
        json!({
            "aud": [issuer], "exp": 4_000_000_000_u64, "iat": 1, "iss": issuer, "jti": "j", "nbf": 1,
            "sub": "system:serviceaccount:ns:n",
            "kubernetes.io": {"namespace": "ns", "serviceaccount": reference, "pod": reference, "node": reference},
        }),
        json!({
            "iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:ns:n",
            "kubernetes.io/serviceaccount/namespace": "ns", "kubernetes.io/serviceaccount/secret.name": "s",
            "kubernetes.io/serviceaccount/service-account.name": "n",
            "kubernetes.io/serviceaccount/service-account.uid": "u",
        }),
    ]
}

pub fn token_seeds() -> Vec<Vec<u8>> {
    let sign = |claims: &Value| CLUSTER.as_ref()?.1.sign(claims).ok().map(String::into_bytes);
    good_claims().iter().filter_map(sign).collect()
}

/// Nor does a token name somebody else than it did when it was signed.
pub fn token(bytes: &[u8]) {
    let (Some((_, credentials)), Ok(token)) = (CLUSTER.as_ref(), std::str::from_utf8(bytes)) else { return };
    let named = credentials.token(token);
    assert!(named.is_none() || named.as_deref() == Some("system:serviceaccount:ns:n"), "{named:?}");
}

pub fn claims_seeds() -> Vec<Vec<u8>> {
    good_claims().iter().map(|claims| claims.to_string().into_bytes()).collect()
}

/// What is inside of a good signature: another version of the server may have written it.
pub fn claims(bytes: &[u8]) {
    let (Some((_, credentials)), Ok(claims)) = (CLUSTER.as_ref(), serde_json::from_slice(bytes)) else { return };
    if let Ok(token) = credentials.sign(&claims) {
        _ = credentials.token(&token);
    }
}
