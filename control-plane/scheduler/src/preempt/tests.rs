use serde_json::{Value, json};

use super::*;

fn cluster(nodes: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, cpu) in nodes {
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}});
        cluster.put_node(&serde_json::from_value(node).unwrap());
    }
    cluster
}

fn pod(name: &str, priority: i32, cpu: &str, more: Value) -> Arc<PodInfo> {
    let mut pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "labels": {"name": name}},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
    });
    more.as_object().into_iter().flatten().for_each(|(field, value)| pod["spec"][field] = value.clone());
    Cluster::compile(&Arc::new(serde_json::from_value(pod).unwrap()))
}

fn budget(name: &str, allowed: i32) -> Budget {
    let budget = json!({"metadata": {"namespace": "ns"}, "spec": {"selector": {"matchLabels": {"name": name}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}});
    Budget::new(&serde_json::from_value(budget).unwrap())
}

/// `node: victims`, or nothing.
fn told(preemption: Option<Preemption>) -> String {
    let victims = |p: &Preemption| p.victims.iter().map(|v| v.name.clone()).collect::<Vec<_>>().join(" ");
    preemption.map_or_else(String::new, |p| format!("{}: {}", p.node, victims(&p)))
}

#[track_caller]
fn check(nodes: &[(&str, &str)], placed: &[(&str, i32, &str, &str)], budgets: &[Budget], expected: &str) {
    let mut cluster = cluster(nodes);
    for (name, priority, cpu, node) in placed {
        cluster.put_pod(pod(name, *priority, cpu, json!({})), node, false);
    }
    let wanted = pod("wanted", 10, "2", json!({}));
    assert_eq!(told(preempt(&wanted, &mut cluster, budgets)), expected);
    // The dry run leaves nothing behind.
    assert_eq!(told(preempt(&wanted, &mut cluster, budgets)), expected);
    assert!(placed.iter().all(|(name, ..)| cluster.contains_pod(name)));
}

#[test]
fn as_few_and_unimportant_pods_go_as_make_room() {
    check(&[("a", "2")], &[("low", 1, "2", "a")], &[], "a: low");
    check(&[("a", "2")], &[("equal", 10, "2", "a")], &[], "");
    check(&[("a", "1")], &[("low", 1, "1", "a")], &[], "");
    check(&[("a", "4")], &[("p1", 1, "2", "a"), ("p5", 5, "2", "a")], &[], "a: p1");
    let two = [("a", "2"), ("b", "2")];
    check(&two, &[("p5", 5, "2", "a"), ("p1", 1, "2", "b")], &[], "b: p1");
    check(&two, &[("x", 1, "1", "a"), ("y", 1, "1", "a"), ("z", 1, "2", "b")], &[], "b: z");
}

#[test]
fn budgets_are_kept_where_that_is_possible() {
    let two = [("a", "2"), ("b", "2")];
    let placed = [("p1", 1, "2", "a"), ("p5", 5, "2", "b")];
    check(&two, &placed, &[budget("p1", 0)], "b: p5");
    check(&two, &placed, &[budget("p1", 1)], "a: p1");
    check(&two[..1], &placed[..1], &[budget("p1", 0)], "a: p1");
}

#[test]
fn what_no_end_of_a_pod_changes_is_not_tried() {
    let mut cluster = cluster(&[("a", "2")]);
    cluster.put_pod(pod("low", 1, "2", json!({})), "a", false);
    let never = pod("never", 10, "2", json!({"preemptionPolicy": "Never"}));
    assert_eq!(told(preempt(&never, &mut cluster, &[])), "");
    let elsewhere = pod("elsewhere", 10, "2", json!({"nodeSelector": {"kubernetes.io/hostname": "b"}}));
    assert_eq!(told(preempt(&elsewhere, &mut cluster, &[])), "");
}

#[test]
fn a_pod_waits_for_the_room_it_was_promised() {
    let mut cluster = cluster(&[("a", "2"), ("b", "2")]);
    let mut going = Arc::try_unwrap(pod("going", 1, "2", json!({}))).ok().unwrap();
    going.terminating = true;
    cluster.put_pod(Arc::new(going), "a", false);
    cluster.put_pod(pod("low", 1, "2", json!({})), "b", false);
    let wanted = pod("wanted", 10, "2", json!({}));
    let mut promised = xebec_types::core::Pod::clone(&wanted.pod());
    promised.status.get_or_insert_default().nominated_node_name = Some("a".into());
    wanted.renew(&Arc::new(promised));
    assert_eq!(told(preempt(&wanted, &mut cluster, &[])), "");
}

#[test]
fn of_equal_victims_the_one_goes_that_started_last() {
    for (early, late) in [("a", "b"), ("b", "a")] {
        let mut cluster = cluster(&[("a", "2"), ("b", "2")]);
        for (node, day) in [(early, 1), (late, 2)] {
            let info = pod(node, 1, "2", json!({}));
            let mut started = xebec_types::core::Pod::clone(&info.pod());
            cluster.put_pod(info, node, false);
            // Its node says so after it was placed.
            let status = json!({"startTime": format!("2026-01-0{day}T00:00:00Z")});
            started.status = Some(serde_json::from_value(status).unwrap());
            cluster.renew_pod(&Arc::new(started));
        }
        let wanted = pod("wanted", 10, "2", json!({}));
        assert_eq!(told(preempt(&wanted, &mut cluster, &[])), format!("{late}: {late}"));
    }
}
