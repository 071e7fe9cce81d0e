//! ServiceAccount tokens in Secrets.

use crate::harness::Cluster;
use serde_json::{Value, json};
use xebec_client::connection::{Auth, Connection};
use xebec_client::{DeleteParams, Patch, PatchParams, PostParams};
use xebec_types::core::{Secret, ServiceAccount};

const TYPE: &str = "kubernetes.io/service-account-token";

fn secret(name: &str, account: &str) -> Secret {
    let annotations = json!({"kubernetes.io/service-account.name": account});
    let secret = json!({"metadata": {"name": name, "annotations": annotations}, "type": TYPE});
    serde_json::from_value(secret).expect("a Secret")
}

/// The text of a key, once it is there.
async fn filled(cluster: &Cluster, name: &str, key: &str) -> String {
    let secrets = cluster.api::<Secret>("ns");
    let ask = || async { secrets.get(name).await.ok()?.data?.get(key).map(|value| value.0.clone()) };
    String::from_utf8(cluster.until(&format!("{key} in {name}"), ask).await).expect("text")
}

/// Who the server says that a token is; an error if it is refused.
async fn whoami(cluster: &Cluster, token: &str) -> Result<Value, xebec_client::Error> {
    let connection = Connection { auth: Auth::Token(token.into()), ..cluster.dial(&[cluster.url()]) };
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews");
    let request = request.header("content-type", "application/json").body(review.to_string().into_bytes());
    let review: Value = connection.client().expect("a client").request(request.expect("a request")).await?;
    Ok(review["status"]["userInfo"]["username"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_filled_and_goes_with_its_account() {
    let cluster = Cluster::start(0).await;
    cluster.namespace("ns").await;
    let (accounts, secrets) = (cluster.api::<ServiceAccount>("ns"), cluster.api::<Secret>("ns"));
    let account = json!({"metadata": {"name": "a"}, "secrets": [{"name": "first"}, {"name": "other"}]});
    let account: ServiceAccount = serde_json::from_value(account).expect("an account");
    let created = accounts.create(&PostParams::default(), &account).await.expect("create");
    for name in ["first", "second"] {
        secrets.create(&PostParams::default(), &secret(name, "a")).await.expect("create");
    }
    let token = filled(&cluster, "first", "token").await;
    assert_eq!(whoami(&cluster, &token).await.expect("a user"), "system:serviceaccount:ns:a");
    assert!(filled(&cluster, "first", "ca.crt").await.contains("BEGIN CERTIFICATE"));
    assert_eq!(filled(&cluster, "first", "namespace").await, "ns");
    let annotations = secrets.get("first").await.expect("get").metadata.annotations.expect("annotations");
    assert_eq!(annotations.get("kubernetes.io/service-account.uid"), created.metadata.uid.as_ref());

    // What somebody takes away comes back.
    let without = Patch::Merge(json!({"data": {"namespace": null}}));
    secrets.patch("first", &PatchParams::default(), &without).await.expect("patch");
    assert_eq!(filled(&cluster, "first", "namespace").await, "ns");

    secrets.delete("first", &DeleteParams::default()).await.expect("delete");
    let unlinked = || async {
        let listed = accounts.get("a").await.ok()?.secrets?;
        let names: Vec<_> = listed.into_iter().filter_map(|secret| secret.name).collect();
        (names == ["other"]).then_some(())
    };
    cluster.until("an account without the Secret", unlinked).await;
    assert!(whoami(&cluster, &token).await.is_err(), "a token without its Secret");

    let token = filled(&cluster, "second", "token").await;
    whoami(&cluster, &token).await.expect("a user");
    accounts.delete("a", &DeleteParams::default()).await.expect("delete");
    cluster.until("no Secret", || async { crate::gone(secrets.get_opt("second").await) }).await;
    assert!(whoami(&cluster, &token).await.is_err(), "a token without its account");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_of_nobody_is_removed() {
    let cluster = Cluster::start(0).await;
    cluster.namespace("ns").await;
    let secrets = cluster.api::<Secret>("ns");
    secrets.create(&PostParams::default(), &secret("s", "absent")).await.expect("create");
    cluster.until("no Secret", || async { crate::gone(secrets.get_opt("s").await) }).await;
}
