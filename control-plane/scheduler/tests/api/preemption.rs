//! More important pods take the place of others, as clients see it.

use serde_json::{Value, json};
use xebec_client::{Api, ListParams, Patch, PatchParams, PostParams};
use xebec_types::core::Pod;
use xebec_types::scheduling::PriorityClass;
use xebec_types::{condition, pod as pods};

use crate::Cluster;

/// Classes `p1`, `p2`, … of these values.
async fn classes(cluster: &Cluster, values: &[i32]) {
    let api: Api<PriorityClass> = Api::all(cluster.client.clone());
    for (at, value) in values.iter().enumerate() {
        let class = json!({"metadata": {"name": format!("p{}", at + 1)}, "value": value});
        api.create(&PostParams::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
    }
}

fn of_class(name: &str) -> Value {
    json!({"priorityClassName": name, "terminationGracePeriodSeconds": 0})
}

async fn gone(cluster: &Cluster, name: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while cluster.pods.get_opt(name).await.unwrap().is_some() {
        assert!(std::time::Instant::now() < deadline, "{name} stays");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Conformance: "validates basic preemption works", "validates lower priority pod preemption by critical pod".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_important_pod_makes_room() {
    let cluster = Cluster::start().await;
    classes(&cluster, &[1, 1000, 1_000_000]).await;
    cluster.node("n1", "3").await;
    cluster.node("n2", "3").await;
    let place = |node: &str, class: &str| {
        let mut spec = of_class(class);
        spec["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        spec
    };
    for (name, node, class) in [("low", "n1", "p1"), ("medium", "n2", "p2")] {
        cluster.pod(name, "2", place(node, class)).await;
        assert_eq!(cluster.bound(name).await, node);
    }
    cluster.pod("high", "2", of_class("p3")).await;
    assert_eq!(cluster.bound("high").await, "n1");
    gone(&cluster, "low").await;
    assert!(cluster.pods.get_opt("medium").await.unwrap().is_some());
    cluster.pod("critical", "2", of_class("system-cluster-critical")).await;
    assert_eq!(cluster.bound("critical").await, "n2");
    gone(&cluster, "medium").await;
    assert!(cluster.pods.get_opt("high").await.unwrap().is_some());
}

/// Conformance: "validates pod disruption condition is added to the preempted pod".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_makes_room_is_told_so() {
    let cluster = Cluster::start().await;
    classes(&cluster, &[1, 1000]).await;
    cluster.node("n1", "1").await;
    cluster.pod("victim", "1", of_class("p1")).await;
    cluster.bound("victim").await;
    let hold = json!({"metadata": {"finalizers": ["example.com/test-finalizer"]}});
    cluster.pods.patch("victim", &PatchParams::default(), &Patch::Merge(hold)).await.unwrap();
    cluster.pod("preemptor", "1", of_class("p2")).await;
    let told = |pod: &Pod| {
        let condition = pods::find_condition(pod, condition::DISRUPTION_TARGET);
        pod.metadata.deletion_timestamp.is_some()
            && condition
                .is_some_and(|c| c.status == condition::TRUE && c.reason.as_deref() == Some("PreemptionByScheduler"))
    };
    cluster.until("victim", "the condition", told).await;
    let free = json!({"metadata": {"finalizers": null}});
    cluster.pods.patch("victim", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    assert_eq!(cluster.bound("preemptor").await, "n1");
}

/// Conformance: "runs ReplicaSets to verify preemption running path": of four classes, as few and as unimportant pods go as make room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_many_classes_make_as_much_room_as_is_needed() {
    let cluster = Cluster::start().await;
    classes(&cluster, &[1, 2, 3, 4]).await;
    cluster.node("n1", "1").await;
    for (class, count, cpu) in [("p1", 5, "40m"), ("p2", 4, "50m"), ("p3", 4, "95m")] {
        for n in 0..count {
            let name = format!("{class}-{n}");
            cluster.pod(&name, cpu, of_class(class)).await;
            cluster.bound(&name).await;
        }
    }
    // 780m of 1000m are taken: 400m of p4 fit when five of p1 have gone.
    cluster.pod("p4", "400m", of_class("p4")).await;
    assert_eq!(cluster.bound("p4").await, "n1");
    let left = cluster.pods.list(&ListParams::default()).await.unwrap().items;
    let of = |class: &str| {
        left.iter().filter(|pod| pod.metadata.name.as_deref().is_some_and(|n| n.starts_with(class))).count()
    };
    assert_eq!((of("p1-"), of("p2-"), of("p3-")), (0, 4, 4));
}
