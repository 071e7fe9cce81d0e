use super::*;
use xebec_types::core::{PodSpec, PodStatus};
use xebec_types::time::{self, Timestamp};

fn pod(name: &str, node: &str, phase: &str, terminating: bool, created: i64) -> Arc<Pod> {
    let at = |s| Some(time::time(Timestamp::from_second(s).expect("in range")));
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.into());
    pod.metadata.creation_timestamp = at(created);
    pod.metadata.deletion_timestamp = terminating.then(|| at(0)).flatten();
    pod.spec = Some(PodSpec { node_name: Some(node.into()), ..PodSpec::default() });
    pod.status = Some(PodStatus { phase: Some(phase.into()), ..PodStatus::default() });
    Arc::new(pod)
}

#[track_caller]
fn check(pods: &[Arc<Pod>], threshold: usize, expected: &[(&str, Reason)]) {
    let gone = HashSet::from(["gone".to_string()]);
    let observed = Observed { threshold, gone_nodes: &gone };
    let mut out = Node::default();
    out.spec.get_or_insert_default().taints = Some(vec![xebec_types::core::Taint {
        key: taint::OUT_OF_SERVICE.into(),
        effect: taint::NO_EXECUTE.into(),
        ..Default::default()
    }]);
    let out = Arc::new(out);
    let victims = step(&observed, pods.iter(), |name| (name == "out").then(|| Arc::clone(&out)));
    let victims: Vec<_> = victims.iter().map(|(p, r)| (object::name(&p.metadata), *r)).collect();
    assert_eq!(victims, expected);
}

#[test]
fn pods_that_nobody_ends_are_deleted() {
    let pods = [
        pod("kept", "n1", "Running", false, 0),
        pod("stopping", "n1", "Running", true, 0),
        pod("lost", "gone", "Running", false, 0),
        pod("never-placed", "", "Pending", true, 0),
        pod("pending", "", "Pending", false, 0),
        pod("abandoned", "out", "Running", true, 0),
        pod("still-there", "out", "Running", false, 0),
    ];
    let expected = [
        ("lost", Reason::Orphaned),
        ("never-placed", Reason::UnscheduledTerminating),
        ("abandoned", Reason::OutOfService),
    ];
    check(&pods, 0, &expected);
}

#[test]
fn the_oldest_terminated_go_beyond_the_threshold() {
    let pods = [
        pod("new", "n1", "Failed", false, 30),
        pod("old", "n1", "Succeeded", false, 10),
        pod("middle", "n1", "Failed", false, 20),
    ];
    check(&pods, 2, &[("old", Reason::Terminated)]);
    check(&pods, 3, &[]);
}
