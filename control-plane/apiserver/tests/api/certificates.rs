//! Conformance: "Certificates API should support CSR API operations"; and who may decide and sign.

use base64::Engine;
use serde_json::{Value, json};
use xebec_apiserver::UserInfo;

use crate::harness::Cluster;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn request(name: &str) -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "e2e");
    let pem = parameters.serialize_request(&key).unwrap().pem().unwrap();
    let encoded = base64::engine::general_purpose::STANDARD.encode(pem);
    json!({ "metadata": { "name": name }, "spec": {
        "request": encoded, "signerName": "example.com/e2e", "expirationSeconds": 3600,
        "usages": ["digital signature", "key encipherment", "server auth"],
    } })
}

fn condition(kind: &str) -> Value {
    json!({ "type": kind, "status": "True", "reason": "E2E", "message": "set by the test" })
}

fn kinds(request: &Value) -> Vec<&str> {
    let conditions = request["status"]["conditions"].as_array();
    conditions.into_iter().flatten().map(|condition| condition["type"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_approved_and_signed_through_their_subresources() {
    let cluster = Cluster::start().await;
    let made = cluster.post(REQUESTS, &request("r")).await.expect(201);
    assert_eq!(made["spec"]["username"], "admin");
    assert_eq!(made["spec"]["expirationSeconds"], 3600);
    let path = format!("{REQUESTS}/r");
    // The object itself takes neither conditions nor another request.
    let mut meddled = made.clone();
    meddled["status"] = json!({ "conditions": [condition("Approved")] });
    meddled["spec"]["signerName"] = "example.com/other".into();
    let kept = cluster.put(&path, &meddled).await.expect(200);
    assert_eq!((&kept["spec"], kinds(&kept)), (&made["spec"], vec![]));
    let approval = format!("{path}/approval");
    assert_eq!(cluster.get(&approval).await.expect(200), kept);
    let conditions = |list: &[Value]| json!({ "status": { "conditions": list } });
    let patched = cluster.patch("merge", &approval, &conditions(&[condition("ApprovalPatch")])).await.expect(200);
    assert_eq!(kinds(&patched), ["ApprovalPatch"]);
    let mut approved = patched.clone();
    approved["status"]["conditions"].as_array_mut().unwrap().push(condition("Approved"));
    let approved = cluster.put(&approval, &approved).await.expect(200);
    assert_eq!(kinds(&approved), ["ApprovalPatch", "Approved"]);
    assert!(approved["status"]["conditions"][1]["lastTransitionTime"].is_string());
    let both = conditions(&[condition("Approved"), condition("Denied")]);
    cluster.patch("merge", &approval, &both).await.refused(
        422,
        "Invalid",
        "Approved and Denied conditions are mutually exclusive",
    );
    let none = conditions(&[]);
    cluster.patch("merge", &approval, &none).await.refused(
        422,
        "Invalid",
        "updates may not remove a condition of type \"Approved\"",
    );
    // The status takes the certificate, and no decision.
    let status = format!("{path}/status");
    let pem = std::fs::read_to_string(cluster.pki_file("ca.crt")).unwrap();
    let certificate = base64::engine::general_purpose::STANDARD.encode(pem);
    let issued = json!({ "status": { "certificate": certificate, "conditions": [condition("StatusUpdate")] } });
    let issued = cluster.patch("merge", &status, &issued).await.expect(200);
    assert_eq!(issued["status"]["certificate"], certificate);
    assert_eq!(kinds(&issued), ["StatusUpdate", "Approved"]);
    cluster.delete(&path, &Value::Null).await.expect(200);
    cluster.post(REQUESTS, &request("s")).await.expect(201);
    cluster.delete(REQUESTS, &Value::Null).await.expect(200);
    assert_eq!(cluster.get(REQUESTS).await.expect(200)["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_decides_needs_a_right_to_the_signer() {
    let cluster = Cluster::start().await;
    cluster.post(REQUESTS, &request("r")).await.expect(201);
    let everything = json!([{ "verbs": ["*"], "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"] }]);
    let of_signer = |verb: &str, signer: &str| {
        let mut rules = everything.clone();
        let rule = json!({ "verbs": [verb], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": [signer] });
        rules.as_array_mut().unwrap().push(rule);
        rules
    };
    let users = [
        ("nobody", everything.clone()),
        ("approver", of_signer("approve", "example.com/e2e")),
        ("of-domain", of_signer("approve", "example.com/*")),
        ("signer", of_signer("sign", "example.com/e2e")),
        ("elsewhere", of_signer("approve", "example.org/e2e")),
    ];
    for (user, rules) in &users {
        let role = json!({ "metadata": { "name": user }, "rules": rules });
        cluster.post(&format!("{RBAC}/clusterroles"), &role).await.expect(201);
        let binding = json!({ "metadata": { "name": user }, "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user }, "subjects": [{ "kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io" }] });
        cluster.post(&format!("{RBAC}/clusterrolebindings"), &binding).await.expect(201);
    }
    let send = async |user: &str, part: &str| {
        let object = cluster.get(&format!("{REQUESTS}/r")).await.expect(200);
        let user = UserInfo::new(user, &["system:authenticated"]);
        cluster.as_local(user, "PUT", &format!("{REQUESTS}/r/{part}"), &object).await
    };
    // The last binding is known when its user may do what it grants.
    for _ in 0..100 {
        if !send("elsewhere", "approval").await.text.contains("cannot update resource") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for (user, part, verb) in [
        ("nobody", "approval", "approve"),
        ("nobody", "status", "sign"),
        ("signer", "approval", "approve"),
        ("approver", "status", "sign"),
        ("elsewhere", "approval", "approve"),
    ] {
        let message = format!("user not permitted to {verb} requests with signerName \"example.com/e2e\"");
        send(user, part).await.refused(403, "Forbidden", &message);
    }
    for (user, part) in [("approver", "approval"), ("of-domain", "approval"), ("signer", "status")] {
        send(user, part).await.expect(200);
    }
}
