//! Pods are taken in and let go by their labels; what a controller cannot make it says.

use crate::harness::Cluster;
use crate::raw::{controller, name, replicated, uid};
use crate::workload::template;
use serde_json::{Value, json};

/// Conformance: ReplicaSet "should adopt matching pods on creation and release no longer matching pods".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_set_adopts_and_releases() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let mut orphan = template("i");
    orphan["metadata"]["name"] = "orphan".into();
    cluster.make("pods", &orphan).await;
    let set =
        cluster.make("replicasets", &json!({"metadata": {"name": "rs"}, "spec": replicated(1, &template("i"))})).await;
    cluster.becomes("pods/orphan", "adoption", |pod| controller(pod) == Some(uid(&set))).await;
    cluster.becomes("replicasets/rs", "one replica", |set| set["status"]["readyReplicas"] == 1).await;
    assert_eq!(cluster.all_of("pods").await.len(), 1, "it makes none beside the one it adopted");
    cluster.change("pods/orphan", &json!({"metadata": {"labels": {"app": "other"}}})).await;
    cluster.becomes("pods/orphan", "release", |pod| controller(pod).is_none()).await;
    let replaced = || async { (cluster.all_of("pods").await.len() == 2).then_some(()) };
    cluster.until("another pod", replaced).await;
}

/// Conformance: Job "should adopt matching orphans and release non-matching pods".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_adopts_and_releases() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let mut of = template("forever");
    of["spec"]["restartPolicy"] = "Never".into();
    let spec = json!({"parallelism": 2, "completions": 4, "backoffLimit": 6, "template": of});
    let job = cluster.make("jobs", &json!({"metadata": {"name": "j"}, "spec": spec})).await;
    cluster.becomes("jobs/j", "two pods", |job| job["status"]["active"] == 2).await;
    let at = format!("pods/{}", name(&cluster.all_of("pods").await[0]));
    cluster.change(&at, &json!({"metadata": {"ownerReferences": null}})).await;
    cluster.becomes(&at, "adoption", |pod| controller(pod) == Some(uid(&job))).await;
    cluster.change(&at, &json!({"metadata": {"labels": null}})).await;
    cluster.becomes(&at, "release", |pod| controller(pod).is_none()).await;
}

/// Conformance: ReplicationController "should surface a failure condition on a common issue like exceeded quota".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_quota_refuses_is_a_condition_until_it_fits() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    cluster.make("resourcequotas", &json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}})).await;
    cluster.becomes("resourcequotas/q", "a status", |quota| quota["status"]["hard"]["pods"] == "2").await;
    let of = |name: &str| json!({"metadata": {"labels": {"of": name}}, "spec": template("i")["spec"]});
    let (rc, rs) = ("replicationcontrollers", "replicasets");
    let spec = json!({"replicas": 3, "selector": {"of": "rc"}, "template": of("rc")});
    cluster.make(rc, &json!({"metadata": {"name": "x"}, "spec": spec})).await;
    let failed = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| {
            c["type"] == "ReplicaFailure"
                && c["status"] == "True"
                && c["reason"] == "FailedCreate"
                && c["message"].as_str().is_some_and(|message| message.contains("exceeded quota: q"))
        })
    };
    cluster.becomes("replicationcontrollers/x", "the condition", failed).await;
    cluster.change("replicationcontrollers/x", &json!({"spec": {"replicas": 2}})).await;
    cluster.becomes("replicationcontrollers/x", "no condition", |rc| !failed(rc)).await;
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"of": "rs"}}, "template": of("rs")});
    cluster.make(rs, &json!({"metadata": {"name": "x"}, "spec": spec})).await;
    cluster.becomes("replicasets/x", "the condition", failed).await;
    cluster.change("replicasets/x", &json!({"spec": {"replicas": 0}})).await;
    cluster.becomes("replicasets/x", "no condition", |set| !failed(set)).await;
}

/// Conformance: Deployment "RecreateDeployment should delete old pods and create new ones", "deployment should delete old replica sets".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recreated_deployment_leaves_nothing_of_the_old_one() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let mut spec = replicated(2, &template("v1"));
    spec["strategy"] = json!({"type": "Recreate"});
    spec["revisionHistoryLimit"] = 0.into();
    cluster.make("deployments", &json!({"metadata": {"name": "web"}, "spec": spec})).await;
    cluster.rolled_out("ns", "web").await;
    // A pod of the old revision that does not end holds the new one back.
    let old = cluster.all_of("pods").await;
    let held = format!("pods/{}", name(&old[0]));
    cluster.change(&held, &json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
    let to = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    cluster.change("deployments/web", &to).await;
    cluster.gone(&format!("pods/{}", name(&old[1]))).await;
    cluster
        .becomes("deployments/web", "the change is seen", |d| {
            d["status"]["observedGeneration"] == d["metadata"]["generation"]
        })
        .await;
    assert_eq!(cluster.all_of("pods").await.len(), 1);
    cluster.change(&held, &json!({"metadata": {"finalizers": null}})).await;
    cluster.rolled_out("ns", "web").await;
    let images: Vec<_> =
        cluster.all_of("pods").await.iter().map(|p| p["spec"]["containers"][0]["image"].clone()).collect();
    assert_eq!(images, ["v2", "v2"]);
    let one_set = || async { (cluster.all_of("replicasets").await.len() == 1).then_some(()) };
    cluster.until("no history", one_set).await;
}

/// Conformance: Daemon set "should rollback without unnecessary restarts"; ControllerRevision "should manage the lifecycle of a
/// ControllerRevision".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_that_is_rolled_back_restarts_only_what_had_changed() {
    let cluster = Cluster::start(3).await;
    cluster.namespace("ns").await;
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template("v1")});
    let set = cluster.make("daemonsets", &json!({"metadata": {"name": "agent"}, "spec": spec})).await;
    cluster.becomes("daemonsets/agent", "three pods", |set| set["status"]["numberReady"] == 3).await;
    let before: Vec<String> = cluster.all_of("pods").await.iter().map(|pod| uid(pod).to_owned()).collect();
    let to = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    cluster.change("daemonsets/agent", &to("stuck")).await;
    let stuck = || async {
        let pods = cluster.all_of("pods").await;
        pods.iter()
            .any(|pod| pod["spec"]["containers"][0]["image"] == "stuck" && pod["spec"]["nodeName"].is_string())
            .then_some(())
    };
    cluster.until("a stuck pod", stuck).await;
    cluster.change("daemonsets/agent", &to("v1")).await;
    cluster
        .becomes("daemonsets/agent", "rollback", |set| {
            let status = &set["status"];
            status["observedGeneration"] == set["metadata"]["generation"]
                && [&status["numberReady"], &status["updatedNumberScheduled"]] == [3, 3]
        })
        .await;
    let after = cluster.all_of("pods").await;
    let kept = after.iter().filter(|pod| before.iter().any(|uid| uid == crate::raw::uid(pod))).count();
    assert_eq!((after.len(), kept), (3, 2));
    let mut revisions = cluster.all_of("controllerrevisions").await;
    revisions.sort_by_key(|revision| revision["revision"].as_i64());
    assert_eq!(revisions.iter().map(|r| r["revision"].clone()).collect::<Vec<_>>(), [2, 3]);
    assert!(revisions.iter().all(|revision| controller(revision) == Some(uid(&set))));
    let image = |revision: &Value| revision["data"]["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert_eq!((image(&revisions[0]), image(&revisions[1])), (json!("stuck"), json!("v1")));
    // A revision that somebody deletes is made again from what is wanted.
    cluster.remove(&format!("controllerrevisions/{}", name(&revisions[1])), &Value::Null).await;
    let again = || async {
        let revisions = cluster.all_of("controllerrevisions").await;
        revisions.iter().any(|revision| image(revision) == "v1").then_some(())
    };
    cluster.until("the revision", again).await;
    // A daemon that somebody deletes is started again.
    let victim = format!("pods/{}", name(&after[0]));
    cluster.remove(&victim, &Value::Null).await;
    cluster.gone(&victim).await;
    cluster.becomes("daemonsets/agent", "three pods", |set| set["status"]["numberReady"] == 3).await;
}

/// Conformance: ServiceAccounts "should guarantee kube-root-ca.crt exist in any namespace".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_certificate_comes_back() {
    let cluster = Cluster::start(0).await;
    cluster.namespace("ns").await;
    let at = "configmaps/kube-root-ca.crt";
    let good = cluster.until("the map", || cluster.read(at)).await;
    cluster.remove(at, &Value::Null).await;
    cluster.becomes(at, "again", |map| uid(map) != uid(&good) && map["data"] == good["data"]).await;
    cluster.change(at, &json!({"data": {"ca.crt": "", "more": "x"}})).await;
    cluster.becomes(at, "as it was", |map| map["data"] == good["data"]).await;
}

/// Conformance: ReplicaSet "Replace and Patch tests", "Replicaset should have a working scale subresource".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_set_is_scaled_and_patched() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    cluster.make("replicasets", &json!({"metadata": {"name": "rs"}, "spec": replicated(1, &template("v1"))})).await;
    let ready =
        |count: u32| move |set: &Value| set["status"]["readyReplicas"] == count && set["status"]["replicas"] == count;
    cluster.becomes("replicasets/rs", "one pod", ready(1)).await;
    let scale = cluster.read("replicasets/rs/scale").await.expect("a scale");
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(1), &json!(1)));
    cluster.change("replicasets/rs/scale", &json!({"spec": {"replicas": 2}})).await;
    cluster.becomes("replicasets/rs", "two pods", ready(2)).await;
    // A template is for pods that are yet to come.
    let changed = json!({"metadata": {"labels": {"test-rs": "patched"}}, "spec": {"replicas": 3,
        "template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    cluster.change("replicasets/rs", &changed).await;
    let patched = cluster.becomes("replicasets/rs", "three pods", ready(3)).await;
    assert_eq!(patched["metadata"]["labels"]["test-rs"], "patched");
    let mut images: Vec<_> =
        cluster.all_of("pods").await.iter().map(|p| p["spec"]["containers"][0]["image"].to_string()).collect();
    images.sort();
    assert_eq!(images, ["\"v1\"", "\"v1\"", "\"v2\""]);
}
