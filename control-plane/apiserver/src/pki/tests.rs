use super::*;

#[test]
fn a_second_load_keeps_the_ca_and_the_token_key() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::load_or_create(dir.path(), &["10.0.0.1".into()]).unwrap();
    let second = Pki::load_or_create(dir.path(), &[]).unwrap();
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_eq!(first.service_account_public_key(), second.service_account_public_key());
    assert!(second.admin_kubeconfig("https://h:1").unwrap().contains("server: https://h:1"));
}

#[test]
fn certificates_are_renewed_at_two_thirds_of_their_life() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path(), &[]).unwrap();
    let issued = pki.issue_client("a", &["g"]).unwrap();
    let Validity { not_before, not_after } = issued.validity;
    assert_eq!(issued.validity.renew_at() - not_before, (not_after - not_before) * 2 / 3);
    let before = pki.serving().validity().renew_at();
    pki.renew_serving().unwrap();
    assert!(pki.serving().validity().renew_at() >= before);
}

/// `outcome`: "" if signed, else part of the refusal.
#[track_caller]
fn check_signing(signer: &str, name: &str, group: &str, sans: &[&str], outcome: &str) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path(), &[]).unwrap();
    let mut params = CertificateParams::new(sans.iter().map(|&s| s.to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, name);
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    match pki.sign_csr(&request, signer, Some(3600)) {
        Ok(pem) => assert!(outcome.is_empty() && pem.contains("BEGIN CERTIFICATE"), "{signer} {name}"),
        Err(e) => assert!(!outcome.is_empty() && e.to_string().contains(outcome), "{signer} {name}: {e}"),
    }
}

#[test]
fn signers_keep_to_their_bounds() {
    let kubelet = "kubernetes.io/kube-apiserver-client-kubelet";
    check_signing(kubelet, "system:node:n", "system:nodes", &[], "");
    check_signing(kubelet, "system:node:n", "system:masters", &[], "subject");
    check_signing(kubelet, "system:node:n", "system:nodes", &["n"], "not allowed");
    check_signing("kubernetes.io/kubelet-serving", "system:node:n", "system:nodes", &["n"], "");
    check_signing("kubernetes.io/kubelet-serving", "system:node:n", "system:nodes", &[], "required");
    check_signing("kubernetes.io/kube-apiserver-client", "root", "system:masters", &[], "system:masters");
    check_signing("example.com/x", "a", "b", &[], "no signer");
}
