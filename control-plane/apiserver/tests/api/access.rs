use base64::Engine;
use serde_json::{Value, json};
use xebec_apiserver::{Pki, UserInfo};

use crate::harness::{CONFIG_MAPS, Cluster, PODS, answer, config_map, pod, request};

const TOKENS: &str = "/api/v1/namespaces/default/serviceaccounts/default/token";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_decide_who_it_is() {
    let cluster = Cluster::start().await;
    let refused = cluster.with_token(None, "GET", PODS, &Value::Null).await;
    refused.refused(403, "Forbidden", "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"");
    cluster.with_token(Some("wrong"), "GET", "/version", &Value::Null).await.refused(
        401,
        "Unauthorized",
        "Unauthorized",
    );
    cluster.with_token(None, "GET", "/version", &Value::Null).await.expect(200);
    let me = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = cluster.with_token(Some("abcdef.0123456789abcdef"), "POST", me, &json!({})).await.expect(201);
    assert_eq!(review["status"]["userInfo"]["username"], "system:bootstrap:abcdef");
    let local = cluster.as_local(UserInfo::new("in-process", &["g"]), "POST", me, &json!({})).await;
    assert_eq!(local.code, 403, "in-process users are authorized like all others");
    let mut sender = cluster.connect(Some(("alice", &["devs"]))).await;
    let alice = answer(sender.send_request(request("POST", me, &[], "{}")).await.unwrap()).await.expect(201);
    assert_eq!(alice["status"]["userInfo"], json!({ "username": "alice", "groups": ["devs", "system:authenticated"] }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_ca_is_nobody() {
    let cluster = Cluster::start().await;
    let other = Cluster::start().await;
    let key = other.pki.issue_client("admin", &["system:masters"]).unwrap().certified_key("admin").unwrap();
    let mut sender = cluster.connect_as(key).await;
    let response = sender.send_request(request("GET", PODS, &[], "")).await.unwrap();
    answer(response).await.refused(401, "Unauthorized", "Unauthorized");
}

/// `ca.crt` as it is while one CA replaces another: the first signs, both are trusted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_is_replaced_while_clients_of_both_are_served() {
    let cluster = Cluster::start().await;
    let made = tempfile::tempdir().unwrap();
    let (old, new) = (cluster.pki.clone(), Pki::load_or_create(made.path(), &[]).unwrap());
    let old_key = std::fs::read(cluster.pki_file("ca.key")).unwrap();
    let new_key = std::fs::read(made.path().join("ca.key")).unwrap();
    let key = |pki: &Pki| pki.issue_client("admin", &["system:masters"]).unwrap().certified_key("admin").unwrap();
    let both = |first: &Pki, second: &Pki| format!("{}{}", first.ca_pem(), second.ca_pem());
    let mut cluster = cluster;
    for (step, certificates, signing, served) in [
        ("the new one is made known", both(&old, &new), &old_key, [200, 200]),
        ("the new one signs", both(&new, &old), &new_key, [200, 200]),
        ("the old one is forgotten", new.ca_pem().to_owned(), &new_key, [401, 200]),
    ] {
        std::fs::write(cluster.pki_file("ca.crt"), &certificates).unwrap();
        std::fs::write(cluster.pki_file("ca.key"), signing).unwrap();
        cluster = cluster.restart().await;
        for (key, expected) in [key(&old), key(&new)].into_iter().zip(served) {
            let mut sender = cluster.connect_as(key).await;
            assert_eq!(sender.send_request(request("GET", PODS, &[], "")).await.unwrap().status(), expected, "{step}");
        }
        let published = cluster.pki.admin_kubeconfig("https://h:1").unwrap();
        let encoded = base64::engine::general_purpose::STANDARD.encode(&certificates);
        assert!(published.contains(&encoded), "{step}: clients are told of all of them");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_live_as_long_as_their_pod() {
    let cluster = Cluster::start().await;
    let made = cluster.post(PODS, &pod("p")).await.expect(201);
    let bound = json!({ "spec": { "audiences": [], "expirationSeconds": 600, "boundObjectRef": {
        "kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"],
    } } });
    let token = cluster.post(TOKENS, &bound).await.expect(201)["status"]["token"].as_str().unwrap().to_owned();
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = cluster.with_token(Some(&token), "POST", whoami, &json!({})).await.expect(201);
    let user = &review["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:default");
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let checked = cluster.post(reviews, &json!({ "spec": { "token": token } })).await.expect(201);
    assert_eq!(checked["status"]["authenticated"], true);
    assert_eq!(checked["status"]["user"]["username"], "system:serviceaccount:default:default");
    let groups = ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"];
    assert_eq!(checked["status"]["user"]["groups"], json!(groups));
    let elsewhere =
        cluster.post(reviews, &json!({ "spec": { "token": token, "audiences": ["vault"] } })).await.expect(201);
    assert!(elsewhere["status"].get("authenticated").is_none());
    cluster.delete(&format!("{PODS}/p"), &json!({ "gracePeriodSeconds": 0 })).await.expect(200);
    // Tokens are checked against the cache, which follows the store by some microseconds.
    let mut last = cluster.with_token(Some(&token), "POST", whoami, &json!({})).await;
    for _ in 0..100 {
        if last.code == 401 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        last = cluster.with_token(Some(&token), "POST", whoami, &json!({})).await;
    }
    last.refused(401, "Unauthorized", "");
    let short = json!({ "spec": { "expirationSeconds": 10 } });
    cluster.post(TOKENS, &short).await.refused(422, "Invalid", "may not specify a duration less than 10 minutes");
    let tampered = format!("{}x", &token[..token.len() - 1]);
    cluster.with_token(Some(&tampered), "GET", "/version", &Value::Null).await.refused(401, "Unauthorized", "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_grant_and_nobody_grants_more_than_they_have() {
    let cluster = Cluster::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({ "metadata": { "name": "r" }, "rules": [{ "verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"] }, { "verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"] }] });
    cluster.post(&format!("{rbac}/roles"), &role).await.expect(201);
    let binding = json!({ "metadata": { "name": "b" }, "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r" }, "subjects": [{ "kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io" }] });
    cluster.post(&format!("{rbac}/rolebindings"), &binding).await.expect(201);
    cluster.post(CONFIG_MAPS, &config_map("c")).await.expect(201);
    let bob = || UserInfo::new("bob", &["system:authenticated"]);
    let path = format!("{CONFIG_MAPS}/c");
    for _ in 0..100 {
        if cluster.as_local(bob(), "GET", &path, &Value::Null).await.code == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    cluster.as_local(bob(), "GET", &path, &Value::Null).await.expect(200);
    cluster.as_local(bob(), "DELETE", &path, &Value::Null).await.refused(
        403,
        "Forbidden",
        "User \"bob\" cannot delete resource \"configmaps\"",
    );
    let same = json!({ "metadata": { "name": "same" }, "rules": [{ "verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"] }] });
    let wide = json!({ "metadata": { "name": "wide" }, "rules": [{ "verbs": ["get"], "apiGroups": [""], "resources": ["secrets"] }] });
    // The wildcard verb on roles includes `escalate`, so the check is made as somebody who may only create them.
    cluster.as_local(bob(), "POST", &format!("{rbac}/roles"), &wide).await.expect(201);
    let narrow = json!({ "rules": [{ "verbs": ["create", "get"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"] }, { "verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"] }] });
    cluster.patch("merge", &format!("{rbac}/roles/r"), &narrow).await.expect(200);
    for _ in 0..100 {
        if cluster.as_local(bob(), "DELETE", &format!("{rbac}/roles/x"), &Value::Null).await.code == 403 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    cluster.as_local(bob(), "POST", &format!("{rbac}/roles"), &same).await.expect(201);
    let mut wider = wide.clone();
    wider["metadata"]["name"] = "wider".into();
    let refused = cluster.as_local(bob(), "POST", &format!("{rbac}/roles"), &wider).await;
    refused.refused(403, "Forbidden", "roles.rbac.authorization.k8s.io \"wider\" is forbidden: user \"bob\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impersonation_is_a_right() {
    let cluster = Cluster::start().await;
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let as_bob = [("impersonate-user", "bob"), ("impersonate-group", "devs")];
    let review = cluster.send("POST", whoami, &as_bob, "{}").await.expect(201);
    assert_eq!(review["status"]["userInfo"]["username"], "bob");
    let mut sender = cluster.connect(Some(("alice", &[]))).await;
    let response = sender.send_request(request("POST", whoami, &as_bob, "{}")).await.unwrap();
    answer(response).await.refused(
        403,
        "Forbidden",
        "users \"bob\" is forbidden: User \"alice\" cannot impersonate resource \"users\"",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_in_a_namespace_does_not_reach_beyond_it() {
    let cluster = Cluster::start().await;
    let gone = ["/api/v1/namespaces/default/nodes", "/api/v1/namespaces/default/namespaces", "/api/v1/pods/p"];
    for path in gone {
        cluster.get(path).await.refused(404, "NotFound", "the server could not find the requested resource");
    }
    cluster.get("/api/v1/namespaces/default").await.expect(200);
    cluster.put(PODS, &pod("p")).await.refused(
        405,
        "MethodNotAllowed",
        "update is not supported on resources of kind \"pods\"",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_have_no_table() {
    let cluster = Cluster::start().await;
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let question = json!({ "spec": { "resourceAttributes": { "verb": "get", "resource": "pods" } } });
    assert_eq!(cluster.post(reviews, &question).await.expect(201)["status"]["allowed"], true);
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    cluster.send("POST", reviews, &table, question.to_string()).await.refused(406, "NotAcceptable", "");
    let both = json!({ "spec": {} });
    let cases = [
        (json!({ "spec": {} }), "exactly one of nonResourceAttributes or resourceAttributes must be specified"),
        (
            json!({ "spec": { "resourceAttributes": { "verb": "get" }, "nonResourceAttributes": { "verb": "get" } } }),
            "cannot be specified in combination with resourceAttributes",
        ),
    ];
    for (question, message) in cases {
        cluster.post(reviews, &question).await.refused(422, "Invalid", message);
    }
    let tokens = "/apis/authentication.k8s.io/v1/tokenreviews";
    cluster.post(tokens, &json!({ "spec": {} })).await.refused(
        400,
        "BadRequest",
        "token is required for TokenReview in authentication",
    );
    cluster.post(reviews, &both).await.refused(
        422,
        "Invalid",
        "exactly one of nonResourceAttributes or resourceAttributes must be specified",
    );
    let keys = cluster.get("/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    assert_eq!(keys.headers["cache-control"], "public, max-age=3600");
    let issuer = cluster.get("/.well-known/openid-configuration").await.expect(200);
    assert_eq!(issuer["issuer"], "https://kubernetes.default.svc.cluster.local");
}

/// `expected`: the user that the headers make of the administrator, or the code and part of the message.
async fn check_impersonation(cluster: &Cluster, headers: &[(&str, &str)], expected: Result<Value, (u16, &str)>) {
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = cluster.send("POST", whoami, headers, "{}").await;
    match expected {
        Ok(user) => assert_eq!(answer.expect(201)["status"]["userInfo"], user, "{headers:?}"),
        Err((code, message)) => {
            assert!(answer.code == code && answer.text.contains(message), "{headers:?}: {}", answer.text);
        }
    }
}

/// "User impersonation" in Kubernetes' documentation of authentication.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_impersonates_becomes_the_other() {
    let cluster = Cluster::start().await;
    let everybody = "system:authenticated";
    let masters = ("impersonate-group", "system:masters");
    let user = |name: &str, groups: &[&str]| json!({ "username": name, "groups": groups });
    let bob = ("impersonate-user", "bob");
    check_impersonation(&cluster, &[bob, masters], Ok(user("bob", &["system:masters", everybody]))).await;
    check_impersonation(
        &cluster,
        &[bob, masters, ("impersonate-group", everybody)],
        Ok(user("bob", &["system:masters", everybody])),
    )
    .await;
    let account = ("impersonate-user", "system:serviceaccount:ns:sa");
    check_impersonation(
        &cluster,
        &[account, masters],
        Ok(user("system:serviceaccount:ns:sa", &["system:masters", everybody])),
    )
    .await;
    let groups = ["system:serviceaccounts", "system:serviceaccounts:ns", everybody];
    check_impersonation(&cluster, &[account], Ok(user("system:serviceaccount:ns:sa", &groups))).await;
    let mut extra = user("bob", &["system:masters", everybody]);
    extra["uid"] = "7".into();
    extra["extra"] = json!({ "acme.com/project": ["a", "b"] });
    let headers = [
        bob,
        masters,
        ("impersonate-uid", "7"),
        ("impersonate-extra-acme.com%2Fproject", "a"),
        ("impersonate-extra-acme.com%2Fproject", "b"),
    ];
    check_impersonation(&cluster, &headers, Ok(extra)).await;
    check_impersonation(&cluster, &[masters], Err((500, "without impersonating a user"))).await;
    check_impersonation(&cluster, &[("impersonate-uid", "7")], Err((500, "without impersonating a user"))).await;
    let nobody = [("impersonate-user", "system:anonymous")];
    check_impersonation(&cluster, &nobody, Err((403, "User \\\"system:anonymous\\\" cannot create resource"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_of_an_impersonation_is_a_right_of_its_own() {
    let cluster = Cluster::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([
        { "verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"] },
        { "verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "resourceNames": ["view"] },
    ]);
    cluster
        .post(&format!("{rbac}/clusterroles"), &json!({ "metadata": { "name": "i" }, "rules": rules }))
        .await
        .expect(201);
    let binding = json!({ "metadata": { "name": "i" }, "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "i" }, "subjects": [{ "kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io" }] });
    cluster.post(&format!("{rbac}/clusterrolebindings"), &binding).await.expect(201);
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let send = async |headers: &[(&str, &str)]| {
        let mut sender = cluster.connect(Some(("alice", &[]))).await;
        answer(sender.send_request(request("POST", whoami, headers, "{}")).await.unwrap()).await
    };
    let bob = ("impersonate-user", "bob");
    for _ in 0..100 {
        if send(&[bob]).await.code == 201 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    send(&[bob]).await.expect(201);
    send(&[bob, ("impersonate-extra-scopes", "view")]).await.expect(201);
    let cases = [
        (
            vec![("impersonate-user", "carol")],
            "users \"carol\" is forbidden: User \"alice\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
        ),
        (
            vec![("impersonate-user", "system:serviceaccount:ns:sa")],
            "serviceaccounts \"sa\" is forbidden: User \"alice\" cannot impersonate resource \"serviceaccounts\" in API group \"\" in the namespace \"ns\"",
        ),
        (vec![bob, ("impersonate-group", "devs")], "groups \"devs\" is forbidden"),
        (
            vec![bob, ("impersonate-extra-scopes", "edit")],
            "userextras.authentication.k8s.io \"edit\" is forbidden: User \"alice\" cannot impersonate resource \"userextras/scopes\"",
        ),
        (vec![bob, ("impersonate-uid", "7")], "uids.authentication.k8s.io \"7\" is forbidden"),
    ];
    for (headers, message) in cases {
        send(&headers).await.refused(403, "Forbidden", message);
    }
}

/// `expected`: part of the message, or nothing for success.
async fn check_token(cluster: &Cluster, spec: Value, expected: Result<(), (u16, &str)>) {
    let answer = cluster.post(TOKENS, &json!({ "spec": spec })).await;
    match expected {
        Ok(()) => _ = answer.expect(201),
        Err((code, message)) => {
            assert!(answer.code == code && answer.text.contains(message), "{spec}: {}", answer.text)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_bound_to_what_exists() {
    let cluster = Cluster::start().await;
    let pod = cluster.post(PODS, &pod("p")).await.expect(201);
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = cluster.post(secrets, &json!({ "metadata": { "name": "s" } })).await.expect(201);
    let to = |kind: &str, name: &str, uid: &Value| json!({ "boundObjectRef": { "kind": kind, "apiVersion": "v1", "name": name, "uid": uid } });
    check_token(&cluster, json!({}), Ok(())).await;
    check_token(
        &cluster,
        json!({ "expirationSeconds": 599 }),
        Err((
            422,
            "TokenRequest.authentication.k8s.io \\\"\\\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        )),
    )
    .await;
    check_token(
        &cluster,
        json!({ "expirationSeconds": 4_294_967_297_i64 }),
        Err((422, "may not specify a duration larger than 2^32 seconds")),
    )
    .await;
    check_token(&cluster, to("Pod", "p", &pod["metadata"]["uid"]), Ok(())).await;
    check_token(&cluster, to("Secret", "s", &secret["metadata"]["uid"]), Ok(())).await;
    check_token(&cluster, to("Pod", "p", &"x".into()), Err((409, "does not match the UID in record"))).await;
    check_token(&cluster, to("Pod", "q", &Value::Null), Err((404, "pods \\\"q\\\" not found"))).await;
    check_token(
        &cluster,
        to("ConfigMap", "c", &Value::Null),
        Err((400, "cannot bind token to object of type /v1, Kind=ConfigMap")),
    )
    .await;
    let misnamed = json!({ "metadata": { "name": "other" } });
    cluster.post(TOKENS, &misnamed).await.refused(422, "Invalid", "must match the service account name if specified");
    // A token dies with the Secret that it is bound to.
    let asked = json!({ "spec": to("Secret", "s", &secret["metadata"]["uid"]) });
    let token = cluster.post(TOKENS, &asked).await.expect(201)["status"]["token"].as_str().unwrap().to_owned();
    cluster.with_token(Some(&token), "GET", "/version", &Value::Null).await.expect(200);
    cluster.delete(&format!("{secrets}/s"), &Value::Null).await.expect(200);
    let mut last = cluster.with_token(Some(&token), "GET", "/version", &Value::Null).await;
    for _ in 0..100 {
        if last.code == 401 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        last = cluster.with_token(Some(&token), "GET", "/version", &Value::Null).await;
    }
    last.refused(401, "Unauthorized", "");
}

/// A token without end is as good as its Secret and its account live, and says when it was used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_in_secrets_live_and_die_with_them() {
    let cluster = Cluster::start().await;
    let account = cluster.get("/api/v1/namespaces/default/serviceaccounts/default").await.expect(200);
    let uid = account["metadata"]["uid"].as_str().unwrap();
    let sign = |uid: &str| cluster.server.secret_tokens().sign("default", ("default", uid), "t").unwrap();
    let token = sign(uid);
    let secrets = "/api/v1/namespaces/default/secrets";
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &token);
    let secret = json!({
        "metadata": {"name": "t", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token", "data": {"token": encoded},
    });
    let whoami = async |token: &str| {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        cluster.with_token(Some(token), "POST", path, &review).await
    };
    assert_eq!(whoami(&token).await.code, 401, "without its Secret");
    cluster.post(secrets, &secret).await.expect(201);
    let user = whoami(&token).await.expect(201)["status"]["userInfo"].clone();
    assert_eq!(user["username"], "system:serviceaccount:default:default");
    let used = cluster.get(&format!("{secrets}/t")).await.expect(200);
    assert!(used["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"].as_str().unwrap().starts_with("20"));
    assert_eq!(whoami(&sign("another-uid")).await.code, 401, "another token than the Secret holds");
    let review = json!({"spec": {"token": token, "audiences": ["elsewhere"]}});
    let review = cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.expect(201);
    assert_eq!(review["status"]["authenticated"], Value::Null);
    cluster.delete(&format!("{secrets}/t"), &Value::Null).await.expect(200);
    assert_eq!(whoami(&token).await.code, 401, "after its Secret");
}
