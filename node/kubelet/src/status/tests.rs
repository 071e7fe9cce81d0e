use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::observed::{Instance, Sandbox, State};

fn instance(name: &str, state: State, exit_code: i32) -> Instance {
    Instance { exit_code, ..Instance::sample(name, state) }
}

/// The status of a pod whose containers are `containers`; every running container is ready and started.
fn status_of(spec: Value, containers: Vec<Instance>, waiting: &[(&str, &str)], terminal: bool) -> PodStatus {
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u", "generation": 7}, "spec": spec})).unwrap();
    let sandbox = Sandbox {
        id: "s0".into(),
        attempt: 0,
        ready: !terminal,
        created_at: 1,
        ips: vec!["10.244.1.5".parse().unwrap()],
    };
    let running: BTreeSet<String> =
        containers.iter().filter(|c| c.state == State::Running).map(|c| c.name.clone()).collect();
    let observed = Observed { sandboxes: vec![sandbox], containers };
    let waiting = waiting
        .iter()
        .map(|(name, reason)| ((*name).into(), Waiting { reason: (*reason).into(), message: String::new() }))
        .collect();
    let now = Timestamp::from_second(100).unwrap();
    let node_ips = ["172.30.0.11", "fd00::11"].map(|ip| ip.parse().unwrap());
    generate(&Inputs {
        pod: &pod,
        observed: &observed,
        waiting: &waiting,
        ready: &running,
        started: &running,
        terminal,
        resize: &Resize::default(),
        withdrawal: None,
        ended: None,
        pod_ips: observed.ips(),
        node_ips: &node_ips,
        start_time: now,
        now,
    })
}

fn summary(status: &PodStatus) -> String {
    let mut text = status.phase.clone().unwrap();
    for c in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        let state = c.state.clone().unwrap();
        let reason = match (state.running, state.waiting, state.terminated) {
            (Some(_), _, _) => "running".to_owned(),
            (_, Some(waiting), _) => waiting.reason.unwrap(),
            (_, _, terminated) => terminated.unwrap().reason.unwrap(),
        };
        text += &format!(" {}={reason}{}", c.name, if c.ready { "*" } else { "" });
    }
    let yes = status.conditions.iter().flatten().filter(|c| c.status == "True").map(|c| c.type_.as_str());
    text + " | " + &yes.collect::<Vec<_>>().join(" ")
}

fn check(spec: Value, containers: Vec<Instance>, waiting: &[(&str, &str)], terminal: bool, want: &str) {
    assert_eq!(summary(&status_of(spec, containers, waiting, terminal)), want);
}

#[test]
fn phases_and_reasons_are_upstreams() {
    use State::{Exited, Running};
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}]});
    let all = "PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled";
    let unready = "PodReadyToStartContainers Initialized PodScheduled";
    check(spec("Always"), vec![], &[], false, &format!("Pending a=ContainerCreating | {unready}"));
    check(spec("Always"), vec![], &[("a", "ErrImagePull")], false, &format!("Pending a=ErrImagePull | {unready}"));
    check(spec("Always"), vec![instance("a", Running, 0)], &[], false, &format!("Running a=running* | {all}"));
    check(
        spec("Always"),
        vec![instance("a", Exited, 1)],
        &[("a", "CrashLoopBackOff")],
        false,
        &format!("Running a=CrashLoopBackOff | {unready}"),
    );
    check(spec("Never"), vec![instance("a", Exited, 1)], &[], false, &format!("Failed a=Error | {unready}"));
    check(spec("OnFailure"), vec![instance("a", Exited, 0)], &[], false, &format!("Succeeded a=Completed | {unready}"));
    check(
        spec("Always"),
        vec![instance("a", Exited, 0)],
        &[],
        true,
        "Succeeded a=Completed | Initialized PodScheduled",
    );
    check(spec("Always"), vec![], &[], true, "Failed a=ContainerStatusUnknown | Initialized PodScheduled");
}

#[test]
fn init_containers_hold_the_pod_pending() {
    use State::{Exited, Running};
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}], "initContainers": [{"name": "i"}]});
    let early = "PodReadyToStartContainers PodScheduled";
    check(spec("Always"), vec![], &[], false, &format!("Pending i=PodInitializing a=PodInitializing | {early}"));
    check(
        spec("Always"),
        vec![instance("i", Running, 0)],
        &[],
        false,
        &format!("Pending i=running a=PodInitializing | {early}"),
    );
    check(
        spec("Never"),
        vec![instance("i", Exited, 1)],
        &[],
        false,
        &format!("Failed i=Error a=PodInitializing | {early}"),
    );
    let both = vec![instance("a", Running, 0), instance("i", Exited, 0)];
    let all = "PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled";
    check(spec("Always"), both, &[], false, &format!("Running i=Completed* a=running* | {all}"));
}

#[test]
fn a_crash_shows_as_last_state_with_its_count() {
    let again = Instance { restart_count: 3, ..instance("a", State::Exited, 2) };
    let status = status_of(json!({"containers": [{"name": "a"}]}), vec![again], &[("a", "CrashLoopBackOff")], false);
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.restart_count, 3);
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 2);
    assert_eq!(container.started, Some(false));
    assert_eq!(status.pod_ip.as_deref(), Some("10.244.1.5"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let unready = status.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(unready.message.as_deref(), Some("containers with unready status: [a]"));
}

#[test]
fn pods_and_nodes_have_an_address_of_each_family() {
    let addresses = |spec: Value| {
        let status = serde_json::to_value(status_of(spec, vec![instance("c", State::Running, 0)], &[], false)).unwrap();
        ["podIP", "podIPs", "hostIP", "hostIPs"].map(|field| status[field].clone())
    };
    let containers = json!([{"name": "c"}]);
    let host = [json!("172.30.0.11"), json!([{"ip": "172.30.0.11"}, {"ip": "fd00::11"}])];
    let own = [json!("10.244.1.5"), json!([{"ip": "10.244.1.5"}])];
    assert_eq!(addresses(json!({"containers": containers})), [own.as_slice(), &host].concat()[..]);
    let on_host = json!({"containers": containers, "hostNetwork": true});
    assert_eq!(addresses(on_host), [host.as_slice(), &host].concat()[..]);
}

#[test]
fn the_primary_family_is_the_nodes() {
    let check = |node_ips: &[&str], want: [&str; 2]| {
        let parse = |ips: &[&str]| -> Vec<IpAddr> { ips.iter().map(|ip| ip.parse().unwrap()).collect() };
        let config = Config { node_ips: parse(node_ips), ..crate::testing::config("/".as_ref()) };
        assert_eq!(config.primary_first(&parse(&["10.244.1.5", "fd00::5"])), parse(&want));
    };
    check(&["172.30.0.11", "fd00::11"], ["10.244.1.5", "fd00::5"]);
    check(&["fd00::11", "172.30.0.11"], ["fd00::5", "10.244.1.5"]);
}

#[test]
fn a_status_says_which_spec_it_is_of() {
    let status = status_of(json!({"containers": [{"name": "a"}]}), vec![], &[], false);
    assert_eq!(status.observed_generation, Some(7));
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.observed_generation, Some(7));
}
