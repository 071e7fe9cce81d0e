use super::*;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use xebec_types::ByteString;
use xebec_types::certificates::{
    CertificateSigningRequestCondition, CertificateSigningRequestSpec, CertificateSigningRequestStatus,
};

struct Ask {
    user: &'static str,
    groups: &'static [&'static str],
    signer: &'static str,
    usages: &'static [&'static str],
    organization: &'static str,
    address: Option<[u8; 4]>,
}

const BOOTSTRAP: Ask = Ask {
    user: "system:bootstrap:abcdef",
    groups: &["system:bootstrappers"],
    signer: signer::KUBE_APISERVER_CLIENT_KUBELET,
    usages: &["digital signature", "client auth"],
    organization: "system:nodes",
    address: None,
};

const SERVING: Ask = Ask {
    user: "system:node:n1",
    groups: &["system:nodes"],
    signer: signer::KUBELET_SERVING,
    usages: &["digital signature", "server auth"],
    organization: "system:nodes",
    address: Some([10, 0, 0, 1]),
};

fn csr(ask: &Ask) -> CertificateSigningRequest {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, ask.organization);
    params.distinguished_name.push(DnType::CommonName, "system:node:n1");
    params.subject_alt_names.extend(ask.address.map(|a| SanType::IpAddress(a.into())));
    let pem = params.serialize_request(&key).and_then(|r| r.pem()).expect("request");
    CertificateSigningRequest {
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: ask.signer.into(),
            username: Some(ask.user.into()),
            groups: Some(ask.groups.iter().map(ToString::to_string).collect()),
            usages: Some(ask.usages.iter().map(ToString::to_string).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    }
}

#[track_caller]
fn check(ask: &Ask, approved: bool) {
    let nodes = Nodes {
        addresses: [([10, 0, 0, 2].into(), "n2".to_string())].into(),
        service_cidrs: vec!["10.96.0.0/16".parse().expect("network")],
    };
    let action = step(&csr(ask), true, &nodes, Timestamp::UNIX_EPOCH);
    assert_eq!(matches!(action, Action::Approve { .. }), approved, "{action:?}");
}

#[test]
fn a_node_is_approved_for_its_own_name_only() {
    check(&BOOTSTRAP, true);
    check(&Ask { groups: &["system:authenticated"], ..BOOTSTRAP }, false);
    check(&Ask { organization: "system:masters", ..BOOTSTRAP }, false);
    check(&Ask { usages: &["digital signature", "server auth"], ..BOOTSTRAP }, false);
    check(&Ask { address: Some([10, 0, 0, 1]), ..BOOTSTRAP }, false);
    check(&Ask { signer: signer::KUBE_APISERVER_CLIENT, ..BOOTSTRAP }, false);
    let renewal = Ask { user: "system:node:n1", groups: &["system:nodes"], ..BOOTSTRAP };
    check(&renewal, true);
    check(&Ask { user: "system:node:n2", ..renewal }, false);
}

#[test]
fn a_serving_certificate_names_nobody_elses_address() {
    check(&SERVING, true);
    check(&Ask { address: Some([10, 0, 0, 2]), ..SERVING }, false);
    check(&Ask { address: Some([10, 96, 0, 1]), ..SERVING }, false);
    check(&Ask { address: None, ..SERVING }, false);
    check(&Ask { user: "system:node:n2", ..SERVING }, false);
    check(&Ask { groups: &["system:bootstrappers"], ..SERVING }, false);
}

#[test]
fn an_approved_request_is_signed_then_kept_an_hour() {
    let nodes = Nodes { addresses: HashMap::new(), service_cidrs: Vec::new() };
    let mut csr = csr(&BOOTSTRAP);
    csr.metadata.creation_timestamp = Some(time::time(Timestamp::UNIX_EPOCH));
    csr.status = Some(CertificateSigningRequestStatus {
        conditions: Some(vec![CertificateSigningRequestCondition {
            type_: "Approved".into(),
            ..CertificateSigningRequestCondition::default()
        }]),
        certificate: None,
    });
    let at = |s| Timestamp::from_second(s).expect("in range");
    assert_eq!(step(&csr, true, &nodes, at(60)), Action::Sign);
    if let Some(status) = &mut csr.status {
        status.certificate = Some(ByteString(b"pem".to_vec()));
    }
    assert_eq!(step(&csr, true, &nodes, at(60)), Action::Wait(Duration::from_secs(3540)));
    assert_eq!(step(&csr, true, &nodes, at(3600)), Action::Delete);
}
