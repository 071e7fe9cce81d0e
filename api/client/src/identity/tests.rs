use super::*;
use rcgen::{CertificateParams, KeyPair, SanType};

fn pem(name: &str) -> String {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(vec![name.to_string()]).expect("name");
    params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 7].into()));
    params.not_before = rcgen::date_time_ymd(2030, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 31);
    format!("{}{}", params.self_signed(&key).expect("sign").pem(), key.serialize_pem())
}

#[test]
fn an_identity_renews_at_two_thirds_of_its_life() {
    let identity = Identity::from_pem(&pem("n1")).expect("valid");
    let day = |day| SystemTime::from(rcgen::date_time_ymd(2030, 1, day));
    assert_eq!(identity.renew_at(), day(21));
    assert!(!identity.is_expired(day(30)));
    assert!(identity.is_expired(day(31)));
    assert_eq!(identity.addresses(), [IpAddr::from([10, 0, 0, 7])]);
}

#[test]
fn a_key_is_readable_by_its_owner_only_and_survives_disk() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("client.pem");
    assert!(Identity::load(&path).expect("absent").is_none());
    let identity = Identity::from_pem(&pem("n1")).expect("valid");
    identity.save(&path).expect("save");
    assert_eq!(fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o600);
    let loaded = Identity::load(&path).expect("load").expect("present");
    assert_eq!(loaded.pem(), identity.pem());
}

#[test]
fn half_an_identity_is_refused() {
    let whole = pem("n1");
    let (certificate, key) = whole.split_at(whole.find("-----BEGIN PRIVATE").expect("key"));
    for part in [certificate, key, "", "garbage"] {
        assert!(Identity::from_pem(part).is_err());
    }
}
