use serde_json::{Value, json};

use super::*;
use crate::observed::Sandbox;

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec})).unwrap()
}

fn sandbox(attempt: u32, ready: bool) -> Sandbox {
    Sandbox {
        id: format!("s{attempt}"),
        attempt,
        ready,
        created_at: attempt.into(),
        ips: vec!["10.0.0.1".parse().unwrap()],
    }
}

fn instance(name: &str, state: State, exit_code: i32) -> Instance {
    Instance { id: format!("{name}-id"), sandbox_id: "s0".into(), exit_code, ..Instance::sample(name, state) }
}

fn up(containers: Vec<Instance>) -> Observed {
    Observed { sandboxes: vec![sandbox(0, true)], containers }
}

fn check(spec: Value, observed: &Observed, want: &str) {
    let actions = compute(&pod(spec.clone()), observed, &Verdicts::default());
    let mut said = Vec::new();
    said.extend(actions.create_sandbox.map(|attempt| format!("sandbox {attempt}")));
    said.extend(actions.kill_pod.then(|| "kill pod".to_owned()));
    said.extend(actions.kill.iter().map(|k| format!("kill {}", k.name)));
    said.extend(actions.start_init.iter().map(|name| format!("init {name}")));
    said.extend(actions.start.iter().map(|name| format!("start {name}")));
    said.extend(actions.start_ephemeral.iter().map(|name| format!("debug {name}")));
    assert_eq!(said.join(", "), want, "{spec} {observed:?}");
}

#[test]
fn ephemeral_containers_start_once() {
    use State::{Exited, Running};
    let spec = |init: Value| json!({"initContainers": init, "containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}]});
    let a = || instance("a", Running, 0);
    check(spec(json!([])), &Observed::default(), "sandbox 0, start a");
    check(spec(json!([])), &up(vec![a()]), "debug e");
    check(spec(json!([])), &up(vec![a(), instance("e", Running, 0)]), "");
    check(spec(json!([])), &up(vec![a(), instance("e", Exited, 1)]), "");
    check(spec(json!([{"name": "i"}])), &up(vec![instance("i", Running, 0)]), "debug e");
    let mut never = spec(json!([]));
    never["restartPolicy"] = "Never".into();
    check(never, &up(vec![instance("a", Exited, 0), instance("e", Running, 0)]), "kill pod, kill e");
}

#[test]
fn containers_follow_the_restart_policy() {
    use State::{Created, Exited, Running, Unknown};
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}]});
    check(spec("Always"), &Observed::default(), "sandbox 0, start a");
    check(spec("Always"), &up(vec![]), "start a");
    check(spec("Always"), &up(vec![instance("a", Running, 0)]), "");
    check(spec("Always"), &up(vec![instance("a", Created, 0)]), "start a");
    check(spec("Always"), &up(vec![instance("a", Unknown, 0)]), "kill a, start a");
    check(spec("Always"), &up(vec![instance("a", Exited, 0)]), "start a");
    check(spec("OnFailure"), &up(vec![instance("a", Exited, 1)]), "start a");
    check(spec("OnFailure"), &up(vec![instance("a", Exited, 0)]), "kill pod");
    check(spec("Never"), &up(vec![instance("a", Exited, 1)]), "kill pod");
}

#[test]
fn a_lost_sandbox_is_made_again_unless_the_pod_is_done() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
    let lost = |containers| Observed { sandboxes: vec![sandbox(0, false)], containers };
    let exited = |code| vec![instance("a", State::Exited, code), instance("b", State::Exited, 0)];
    check(spec("Always"), &lost(exited(0)), "sandbox 1, start a, start b");
    check(spec("Always"), &lost(vec![instance("a", State::Running, 0)]), "sandbox 1, kill a, start a, start b");
    check(spec("OnFailure"), &lost(exited(1)), "sandbox 1, start a");
    check(spec("OnFailure"), &lost(exited(0)), "kill pod");
    check(spec("Never"), &lost(exited(0)), "kill pod");
    check(spec("Never"), &lost(vec![]), "sandbox 1, start a, start b");
    let init = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]});
    check(init, &lost(exited(0)), "sandbox 1, init i");
}

#[test]
fn init_containers_run_one_after_another() {
    use State::{Exited, Running};
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
    check(spec("Always"), &up(vec![]), "init i");
    check(spec("Always"), &up(vec![instance("i", Running, 0)]), "");
    check(spec("Always"), &up(vec![instance("i", Exited, 0)]), "init j");
    check(spec("Always"), &up(vec![instance("i", Exited, 1)]), "init i");
    check(spec("Never"), &up(vec![instance("i", Exited, 1)]), "kill pod");
    check(spec("Always"), &up(vec![instance("i", Exited, 0), instance("j", Exited, 0)]), "start a");
    check(spec("Always"), &up(vec![instance("a", Running, 0)]), "");
}

#[test]
fn sidecars_start_before_what_follows_and_come_back() {
    use State::{Exited, Running};
    let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]});
    check(spec.clone(), &up(vec![]), "init s");
    check(spec.clone(), &up(vec![instance("s", Running, 0)]), "");
    let verdicts = Verdicts { started: BTreeSet::from(["s".to_owned()]), ..Verdicts::default() };
    assert_eq!(compute(&pod(spec.clone()), &up(vec![instance("s", Running, 0)]), &verdicts).start_init, ["i"]);
    check(spec, &up(vec![instance("a", Running, 0), instance("s", Exited, 1), instance("i", Exited, 0)]), "init s");
}

#[test]
fn a_failed_liveness_probe_restarts_the_container() {
    let verdicts = Verdicts { failed: BTreeMap::from([("a".to_owned(), "liveness")]), ..Verdicts::default() };
    let observed = up(vec![instance("a", State::Running, 0)]);
    for (policy, restarts, message) in [
        ("Always", 1, "Container a failed liveness probe, will be restarted"),
        ("Never", 0, "Container a failed liveness probe"),
    ] {
        let spec = json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
        let actions = compute(&pod(spec), &observed, &verdicts);
        assert_eq!(actions.kill[0].message, message);
        assert_eq!(actions.start.iter().filter(|name| *name == "a").count(), restarts);
    }
}
