//! The whole scheduler against an API server that keeps objects in memory.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_client::Informers;

use super::fake_api::FakeApi;
use crate::Config;

fn node(api: &FakeApi, name: &str, cpu: &str) {
    api.put(
        "nodes",
        json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "5000"}}}),
    );
}

fn pod(api: &FakeApi, name: &str, spec: Value) {
    let mut pod = json!({
        "metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}")},
        "spec": {"schedulerName": "default-scheduler",
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1m"}}}]},
    });
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    api.put("pods", pod);
}

fn wants(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}

fn start(api: &FakeApi) -> JoinSet<()> {
    start_with(api, Config::default())
}

fn start_with(api: &FakeApi, config: Config) -> JoinSet<()> {
    let client = api.client();
    let informers = Informers::new(client.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(crate::run(client, informers, config, CancellationToken::new()));
    tasks
}

fn node_of(api: &FakeApi, name: &str) -> Option<String> {
    api.get("pods", &format!("default/{name}"))["spec"]["nodeName"].as_str().map(str::to_owned)
}

fn condition(api: &FakeApi, name: &str) -> Value {
    api.get("pods", &format!("default/{name}"))["status"]["conditions"][0].clone()
}

async fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn pods_are_bound_and_told_so() {
    let api = FakeApi::default();
    node(&api, "a", "4");
    pod(&api, "early", json!({}));
    let _running = start(&api);
    assert_eq!(until("early is bound", || node_of(&api, "early")).await, "a");
    pod(&api, "late", json!({}));
    assert_eq!(until("late is bound", || node_of(&api, "late")).await, "a");
    let told = |api: &FakeApi| {
        let expected = "Successfully assigned default/late to a";
        api.events().iter().any(|event| event["message"] == expected && event["reason"] == "Scheduled").then_some(())
    };
    until("an event", || told(&api)).await;
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_says_why_and_goes_on_when_it_fits() {
    let api = FakeApi::default();
    let _running = start(&api);
    pod(&api, "p", wants("2"));
    let says = |message: &'static str| {
        let api = api.clone();
        async move { until(message, || (condition(&api, "p")["message"] == message).then_some(())).await }
    };
    says("no nodes available to schedule pods").await;
    node(&api, "small", "1");
    says("0/1 nodes are available: 1 Insufficient cpu.").await;
    let known = condition(&api, "p");
    assert_eq!(
        (&known["type"], &known["status"], &known["reason"]),
        (&json!("PodScheduled"), &json!("False"), &json!("Unschedulable"))
    );
    until("an event", || api.events().iter().any(|event| event["reason"] == "FailedScheduling").then_some(())).await;
    node(&api, "large", "4");
    assert_eq!(until("the pod is bound", || node_of(&api, "p")).await, "large");
}

#[tokio::test]
async fn the_end_of_a_pod_makes_room() {
    let api = FakeApi::default();
    node(&api, "a", "1");
    let _running = start(&api);
    pod(&api, "first", wants("1"));
    until("first is bound", || node_of(&api, "first")).await;
    pod(&api, "second", wants("1"));
    until("second waits", || condition(&api, "second")["message"].as_str().map(|_| ())).await;
    api.delete("pods", "default/first");
    until("second is bound", || node_of(&api, "second")).await;
}

#[tokio::test]
async fn a_resize_makes_room_when_its_node_has_done_it() {
    let api = FakeApi::default();
    node(&api, "a", "2");
    let _running = start(&api);
    pod(&api, "first", wants("2"));
    until("first is bound", || node_of(&api, "first")).await;
    let shrink_to_one = |has: &str| {
        let mut first = api.get("pods", "default/first");
        first["spec"]["containers"] = wants("1")["containers"].clone();
        first["status"]["containerStatuses"] = json!([{"name": "c", "allocatedResources": {"cpu": "1"},
            "resources": {"requests": {"cpu": has}}}]);
        api.put("pods", first);
    };
    shrink_to_one("2");
    pod(&api, "second", wants("1"));
    let full = "0/1 nodes are available: 1 Insufficient cpu.";
    until("second waits", || condition(&api, "second")["message"].as_str()?.starts_with(full).then_some(())).await;
    shrink_to_one("1");
    until("second is bound", || node_of(&api, "second")).await;
}

#[tokio::test]
async fn a_more_important_pod_takes_the_place_of_another() {
    let api = FakeApi::default();
    node(&api, "a", "1");
    let _running = start(&api);
    pod(&api, "low", wants("1"));
    until("low is bound", || node_of(&api, "low")).await;
    let mut wanted = wants("1");
    wanted["priority"] = json!(100);
    pod(&api, "high", wanted);
    assert_eq!(until("high is bound", || node_of(&api, "high")).await, "a");
    assert!(api.get("pods", "default/low").is_null(), "low made way");
    assert_eq!(api.get("pods", "default/high")["status"]["nominatedNodeName"], "a");
    let told = || {
        api.events()
            .iter()
            .any(|e| e["reason"] == "Preempted" && e["message"] == "Preempted by pod uid-high on node a")
            .then_some(())
    };
    until("an event", told).await;
}

#[tokio::test]
async fn gated_pods_and_those_of_other_schedulers_are_left_alone() {
    let api = FakeApi::default();
    node(&api, "a", "4");
    let _running = start(&api);
    pod(&api, "gated", json!({"schedulingGates": [{"name": "wait"}]}));
    pod(&api, "other", json!({"schedulerName": "other"}));
    pod(&api, "after", json!({}));
    until("a later pod is bound", || node_of(&api, "after")).await;
    assert_eq!((node_of(&api, "gated"), node_of(&api, "other")), (None, None));
    pod(&api, "gated", json!({}));
    until("the gate opens", || node_of(&api, "gated")).await;
}

#[tokio::test]
async fn a_refused_binding_is_tried_again_and_frees_what_was_assumed() {
    let api = FakeApi::default();
    node(&api, "a", "1");
    let _running = start(&api);
    api.refuse_next_binding("default/p", 409);
    pod(&api, "p", wants("1"));
    until("the pod is bound", || node_of(&api, "p")).await;
}

#[tokio::test]
async fn a_binding_that_is_never_seen_is_given_up() {
    let api = FakeApi::default();
    node(&api, "a", "1");
    api.never_show_bindings();
    let config = Config { assumed_max: Duration::from_millis(100), ..Config::default() };
    let _running = start_with(&api, config);
    pod(&api, "lost", wants("1"));
    // The second attempt needs the room that the first was assumed to take.
    until("a second binding", || (api.bindings() >= 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pods_at_once_are_all_bound() {
    let api = FakeApi::default();
    for n in 0..10 {
        node(&api, &format!("n{n}"), "4");
    }
    let _running = start(&api);
    let begin = Instant::now();
    for n in 0..1000 {
        pod(&api, &format!("p{n}"), json!({}));
    }
    for n in 0..1000 {
        until("every pod is bound", || node_of(&api, &format!("p{n}"))).await;
    }
    println!("1,000 pods bound in {:?}", begin.elapsed());
}
