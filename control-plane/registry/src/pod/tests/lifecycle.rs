use serde_json::{Value, json};

use super::{check_update, context, messages, pod};
use crate::pod::{Pod, binding};
use crate::strategy::{DeleteOptions, Grace, Strategy};
use crate::value::{at, set};

const FORBIDDEN: &str = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

#[test]
fn an_update_changes_images_deadlines_and_tolerations_only() {
    check_update(
        json!({}),
        json!({"containers": [{"name": "c", "image": "i:2", "imagePullPolicy": "IfNotPresent"}]}),
        &[],
    );
    check_update(json!({}), json!({"tolerations": [{"key": "a", "operator": "Exists"}]}), &[]);
    check_update(json!({}), json!({"activeDeadlineSeconds": 5}), &[]);
    check_update(
        json!({"activeDeadlineSeconds": 5}),
        json!({"activeDeadlineSeconds": 6}),
        &["spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"],
    );
    check_update(
        json!({"tolerations": [{"key": "a", "operator": "Exists"}]}),
        json!({}),
        &["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"],
    );
    check_update(
        json!({}),
        json!({"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "i:1"}]}),
        &["spec.containers: Forbidden: pod updates may not add or remove containers"],
    );
    let difference = format!(
        "{FORBIDDEN}\n- containers[0].command: null\n+ containers[0].command: [\"a\"]\n- nodeName: null\n+ nodeName: \"n\""
    );
    check_update(
        json!({}),
        json!({"nodeName": "n", "containers": [{"name": "c", "image": "i:1", "command": ["a"]}]}),
        &[&difference],
    );
}

#[test]
fn a_new_pod_is_pending_and_has_a_class() {
    let mut created = pod();
    created["status"] = json!({"phase": "Running"});
    Pod.prepare_for_create(&context(), &mut created);
    assert_eq!(created["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    set(&mut created, "spec.schedulingGates", json!([{"name": "example.com/gate"}]));
    Pod.prepare_for_create(&context(), &mut created);
    assert_eq!(created["status"]["conditions"][0]["reason"], "SchedulingGated");
}

#[test]
fn an_ended_container_does_not_run_again() {
    let status = |state: Value| {
        let mut pod = pod();
        pod["spec"]["restartPolicy"] = json!("Never");
        pod["status"] = json!({"containerStatuses": [{"name": "c", "state": state}]});
        pod
    };
    let (ended, running) = (status(json!({"terminated": {"exitCode": 1}})), status(json!({"running": {}})));
    assert_eq!(messages(Pod.validate_status_update(&ended, &running)), [] as [&str; 0]);
    assert_eq!(
        messages(Pod.validate_status_update(&running, &ended)),
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
}

#[test]
fn a_status_names_claims_of_the_spec() {
    let status = |statuses: Value| {
        let mut pod = pod();
        pod["spec"]["resourceClaims"] = json!([{"name": "gpu", "resourceClaimTemplateName": "t"}]);
        pod["status"] = json!({"resourceClaimStatuses": statuses});
        pod
    };
    let (before, made) = (status(json!([])), json!({"name": "gpu", "resourceClaimName": "p-gpu-x"}));
    assert_eq!(
        messages(Pod.validate_status_update(&status(json!([made, {"name": "gpu"}, {"name": "nic"}])), &before)),
        [
            "status.resourceClaimStatuses[1].name: Duplicate value: \"gpu\"",
            "status.resourceClaimStatuses[2].name: Invalid value: \"nic\": must match the name of an entry in `spec.resourceClaims`",
        ]
    );
    assert_eq!(messages(Pod.validate_status_update(&status(json!([made])), &before)), [] as [&str; 0]);
}

#[test]
fn a_status_update_leaves_the_spec_alone() {
    let mut new = pod();
    set(&mut new, "spec.nodeName", "other");
    set(&mut new, "status", json!({"phase": "Running", "qosClass": "Guaranteed"}));
    let mut old = pod();
    set(&mut old, "status.qosClass", "BestEffort");
    Pod.prepare_for_status_update(&context(), &mut new, &old);
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(new["status"], json!({"phase": "Running", "qosClass": "BestEffort"}));
}

#[test]
fn grace_is_for_pods_that_run() {
    let check = |node: &str, phase: &str, asked: Option<i64>, expected: i64| {
        let pod = json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
        let grace = Pod.graceful_delete(&pod, &DeleteOptions { grace_period_seconds: asked });
        assert_eq!(grace, Grace::Seconds(expected), "{node} {phase} {asked:?}");
    };
    check("n", "Running", None, 30);
    check("n", "Running", Some(5), 5);
    check("n", "Running", Some(0), 0);
    check("n", "Running", Some(-7), 1);
    check("", "Pending", None, 0);
    check("n", "Succeeded", None, 0);
}

#[test]
fn a_pod_is_bound_once() {
    let bind = |pod: &mut Value| {
        let binding = json!({"metadata": {"annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n"}});
        binding::apply(pod, &binding, "2026-01-01T00:00:00Z")
    };
    let mut bound = pod();
    assert_eq!(bind(&mut bound), Ok(()));
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["metadata"]["annotations"]["a"], "b");
    assert_eq!(
        at(&bound, "status.conditions"),
        &json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    );
    assert_eq!(bind(&mut bound), Err("pod p is already assigned to node \"n\"".to_owned()));
    let mut deleted = pod();
    set(&mut deleted, "metadata.deletionTimestamp", "2026-01-01T00:00:00Z");
    assert_eq!(bind(&mut deleted), Err("pod p is being deleted, cannot be assigned to a host".to_owned()));
    let invalid = binding::validate(&json!({"target": {"kind": "Pod"}}));
    assert_eq!(
        messages(invalid),
        [
            "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"",
            "target.name: Required value"
        ]
    );
}

#[test]
fn fields_are_what_schedulers_and_kubelets_select_by() {
    let mut pod = pod();
    set(&mut pod, "spec.nodeName", "n");
    let fields = Pod.selectable_fields(&pod);
    let get = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    assert_eq!(get("metadata.name"), Some("p"));
    assert_eq!(get("metadata.namespace"), Some("n"));
    assert_eq!(get("spec.nodeName"), Some("n"));
    assert_eq!(get("spec.hostNetwork"), Some("false"));
    assert_eq!(get("status.phase"), Some(""));
}
