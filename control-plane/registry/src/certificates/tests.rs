use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::UserInfo;

fn context() -> Context {
    let user = UserInfo { name: "u".into(), uid: "1".into(), groups: vec!["g".into()], extra: BTreeMap::new() };
    Context { user, now: OffsetDateTime::UNIX_EPOCH }
}

fn request(spec: Value) -> Value {
    let pem = STANDARD.encode(format!("{PEM}\nAA==\n-----END CERTIFICATE REQUEST-----\n"));
    let mut request = json!({
        "metadata": {"name": "r", "resourceVersion": "1"},
        "spec": {"request": pem, "signerName": "kubernetes.io/kubelet-serving", "usages": ["digital signature", "server auth"]},
    });
    for (field, value) in spec.as_object().expect("a spec is an object") {
        request["spec"][field] = value.clone();
    }
    request
}

fn messages(errors: Vec<Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(spec: Value, expected: &[&str]) {
    assert_eq!(messages(CertificateSigningRequest.validate(&request(spec))), expected);
}

#[test]
fn a_request_is_complete() {
    check(json!({}), &[]);
    check(
        json!({"request": "AA=="}),
        &["spec.request: Invalid value: \"AA==\": PEM block type must be CERTIFICATE REQUEST"],
    );
    check(json!({"usages": []}), &["spec.usages: Required value"]);
    check(json!({"signerName": ""}), &["spec.signerName: Required value"]);
    check(
        json!({"signerName": "x"}),
        &[
            "spec.signerName: Invalid value: \"x\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ],
    );
    check(
        json!({"expirationSeconds": 60}),
        &["spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 600 seconds (10 minutes)"],
    );
}

#[test]
fn the_server_says_who_asks() {
    let mut created = request(json!({"username": "admin", "groups": ["system:masters"]}));
    CertificateSigningRequest.prepare_for_create(&context(), &mut created);
    assert_eq!((&created["spec"]["username"], &created["spec"]["groups"]), (&json!("u"), &json!(["g"])));
}

#[test]
fn approval_writes_conditions_and_status_the_certificate() {
    let old = request(json!({}));
    let condition = |kind: &str| json!({"type": kind, "status": "True"});
    let mut approved = old.clone();
    approved["status"] = json!({"conditions": [condition("Approved")], "certificate": "AA=="});
    let mut by_status = approved.clone();
    prepare_for_approval(&context(), &mut approved, &old);
    assert_eq!(approved["status"]["certificate"], Value::Null);
    assert_eq!(approved["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
    CertificateSigningRequest.prepare_for_status_update(&context(), &mut by_status, &old);
    assert_eq!(by_status["status"], json!({"certificate": "AA=="}));
    let mut issued = approved.clone();
    issued["status"]["certificate"] = json!("AA==");
    CertificateSigningRequest.prepare_for_status_update(&context(), &mut issued, &approved);
    assert_eq!(super::condition(&issued), "Approved,Issued");
    let mut withdrawn = issued.clone();
    withdrawn["status"] = json!({});
    prepare_for_approval(&context(), &mut withdrawn, &issued);
    assert_eq!(
        messages(validate_approval(&withdrawn, &issued)),
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
    let mut both = issued.clone();
    both["status"]["conditions"] = json!([condition("Approved"), condition("Denied")]);
    prepare_for_approval(&context(), &mut both, &issued);
    assert_eq!(
        messages(validate_approval(&both, &issued)),
        ["status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"]
    );
}
