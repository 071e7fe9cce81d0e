use serde_json::{Value, json};
use time::OffsetDateTime;

use super::daemon_set::DaemonSet;
use super::deployment::Deployment;
use super::replica_set::ReplicaSet;
use super::stateful_set::StatefulSet;
use crate::strategy::Strategy;
use crate::value::{merge_patch, set};

fn workload(strategy: &dyn Strategy, change: &Value) -> Value {
    let mut object = json!({
        "metadata": {"name": "d", "namespace": "n", "resourceVersion": "1"},
        "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}},
        },
    });
    merge_patch(&mut object["spec"], change);
    strategy.default(&mut object);
    object
}

fn messages(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(change: Value, expected: &[&str]) {
    assert_eq!(messages(Deployment.validate(&workload(&Deployment, &change))), expected);
}

#[test]
fn the_least_deployment_gets_every_default() {
    let deployment = workload(&Deployment, &json!({}));
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    assert_eq!((&spec["revisionHistoryLimit"], &spec["progressDeadlineSeconds"]), (&json!(10), &json!(600)));
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    // Pods get it, templates do not (`SetDefaults_Pod`).
    assert_eq!(spec["template"]["spec"].get("enableServiceLinks"), None);
    check(json!({}), &[]);
    let recreate = workload(&Deployment, &json!({"strategy": {"type": "Recreate"}}));
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn the_selector_matches_the_template() {
    check(
        json!({"selector": {"matchLabels": {"app": "b"}}}),
        &["spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"],
    );
    check(json!({"selector": Value::Null}), &["spec.selector: Required value"]);
    check(
        json!({"selector": {"matchLabels": Value::Null}}),
        &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
    );
    check(
        json!({"template": {"spec": {"restartPolicy": "Never"}}}),
        &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
    );
    check(
        json!({"template": {"spec": {"containers": [{"name": "c"}]}}}),
        &["spec.template.spec.containers[0].image: Required value"],
    );
}

#[test]
fn numbers_are_sane() {
    check(json!({"replicas": -1}), &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]);
    check(
        json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5}),
        &["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
    );
    check(
        json!({"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}}),
        &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
    );
    check(
        json!({"strategy": {"rollingUpdate": {"maxUnavailable": "101%"}}}),
        &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"],
    );
    check(
        json!({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}),
        &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    );
    check(
        json!({"strategy": {"type": "Canary"}}),
        &["spec.strategy.type: Unsupported value: \"Canary\": supported values: \"Recreate\", \"RollingUpdate\""],
    );
}

#[test]
fn the_selector_is_immutable() {
    for strategy in [&Deployment as &dyn Strategy, &ReplicaSet] {
        let old = workload(strategy, &json!({}));
        let change =
            json!({"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b"}}}});
        let new = workload(strategy, &change);
        assert_eq!(
            messages(strategy.validate_update(&new, &old)),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"]
        );
    }
}

#[test]
fn a_new_generation_follows_spec_and_annotations_of_deployments() {
    let old = workload(&Deployment, &json!({}));
    let mut new = old.clone();
    assert!(!Deployment.spec_changed(&new, &old));
    set(&mut new, "metadata.annotations.a", "b");
    assert!(Deployment.spec_changed(&new, &old));
    assert!(!ReplicaSet.spec_changed(&new, &old));
}

#[test]
fn rows_count_pods() {
    let mut object = workload(&Deployment, &json!({"replicas": 3}));
    object["status"] = json!({"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1, "replicas": 3});
    let cells = Deployment.row(&object, OffsetDateTime::UNIX_EPOCH);
    assert_eq!(
        cells,
        [json!("d"), json!("2/3"), json!(3), json!(1), json!("<unknown>"), json!("c"), json!("i:1"), json!("app=a")]
    );
    let cells = ReplicaSet.row(&object, OffsetDateTime::UNIX_EPOCH);
    assert_eq!(cells[1..4], [json!(3), json!(3), json!(2)]);
}

#[track_caller]
fn check_of(strategy: &dyn Strategy, change: Value, expected: &[&str]) {
    assert_eq!(messages(strategy.validate(&workload(strategy, &change))), expected);
}

#[test]
fn the_least_daemon_set_gets_every_default() {
    let mut set = workload(&DaemonSet, &json!({}));
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
    assert_eq!((&set["spec"]["updateStrategy"], &set["spec"]["revisionHistoryLimit"]), (&strategy, &json!(10)));
    check_of(&DaemonSet, json!({}), &[]);
    // The generation of the template is counted in an annotation.
    DaemonSet.prepare_for_create(&context(), &mut set);
    let generation = |set: &Value| set["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone();
    assert_eq!(generation(&set), "1");
    let mut new = set.clone();
    crate::value::set(&mut new, "spec.template.metadata.annotations.a", "b");
    crate::value::remove(&mut new, "metadata.annotations");
    DaemonSet.prepare_for_update(&context(), &mut new, &set);
    assert_eq!(generation(&new), "2");
}

#[test]
fn a_daemon_set_surges_or_goes_without() {
    let rolling = |rolling: Value| json!({"updateStrategy": {"rollingUpdate": rolling}});
    let path = "spec.updateStrategy.rollingUpdate";
    check_of(&DaemonSet, rolling(json!({"maxUnavailable": 0, "maxSurge": "10%"})), &[]);
    check_of(
        &DaemonSet,
        rolling(json!({"maxUnavailable": 1, "maxSurge": 1})),
        &[&format!("{path}.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero")],
    );
    check_of(
        &DaemonSet,
        rolling(json!({"maxUnavailable": 0})),
        &[&format!("{path}.maxUnavailable: Required value: cannot be 0 when maxSurge is 0")],
    );
    check_of(
        &DaemonSet,
        rolling(json!({"maxUnavailable": "101%"})),
        &[&format!("{path}.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%")],
    );
    check_of(&DaemonSet, json!({"updateStrategy": {"type": "OnDelete"}}), &[]);
    check_of(
        &DaemonSet,
        json!({"updateStrategy": {"type": "Maybe"}}),
        &[
            "spec.updateStrategy: Unsupported value: {\"type\":\"Maybe\"}: supported values: \"RollingUpdate\", \"OnDelete\"",
        ],
    );
    check_of(
        &DaemonSet,
        json!({"selector": {"matchLabels": Value::Null}}),
        &["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"],
    );
}

#[test]
fn the_least_stateful_set_gets_every_default() {
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    let set = workload(&StatefulSet, &json!({"volumeClaimTemplates": claims}));
    let spec = &set["spec"];
    assert_eq!((&spec["replicas"], &spec["podManagementPolicy"]), (&json!(1), &json!("OrderedReady")));
    assert_eq!(spec["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
    assert_eq!(spec["persistentVolumeClaimRetentionPolicy"], json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    let claim = &spec["volumeClaimTemplates"][0];
    assert_eq!((&claim["apiVersion"], &claim["kind"]), (&json!("v1"), &json!("PersistentVolumeClaim")));
    assert_eq!((&claim["spec"]["volumeMode"], &claim["status"]), (&json!("Filesystem"), &json!({"phase": "Pending"})));
    // A strategy that is named has a rolling update only if it says so.
    let named = workload(&StatefulSet, &json!({"updateStrategy": {"type": "RollingUpdate"}}));
    assert_eq!(named["spec"]["updateStrategy"], json!({"type": "RollingUpdate"}));
}

#[test]
fn a_stateful_set_is_held_to_its_rules() {
    check_of(&StatefulSet, json!({}), &[]);
    check_of(
        &StatefulSet,
        json!({"podManagementPolicy": "Some", "ordinals": {"start": -1}, "replicas": -1}),
        &[
            "spec.podManagementPolicy: Invalid value: \"Some\": must be 'OrderedReady' or 'Parallel'",
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    check_of(
        &StatefulSet,
        json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}}),
        &[
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
        ],
    );
    check_of(
        &StatefulSet,
        json!({"updateStrategy": {"rollingUpdate": {"partition": -1, "maxUnavailable": 0}}}),
        &[
            "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
        ],
    );
    check_of(
        &StatefulSet,
        json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Keep"}}),
        &[
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Keep\": supported values: \"Retain\", \"Delete\"",
        ],
    );
    check_of(
        &StatefulSet,
        json!({"template": {"spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 1}}}),
        &[
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
        ],
    );
}

/// Its name is that of the pods' subdomain.
#[test]
fn the_service_of_a_stateful_set_is_named_by_a_label() {
    let why = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let fault = format!("spec.serviceName: Invalid value: \"a.b\": {why}");
    check_of(&StatefulSet, json!({"serviceName": "a.b"}), &[&fault]);
    check_of(&StatefulSet, json!({"serviceName": ""}), &[]);
    let old = workload(&StatefulSet, &json!({"serviceName": "a.b"}));
    let new = workload(&StatefulSet, &json!({"serviceName": "a.b", "replicas": 2}));
    assert_eq!(messages(StatefulSet.validate_update(&new, &old)), [] as [&str; 0], "one that is there stays");
}

#[test]
fn what_a_stateful_set_made_stays() {
    let old = workload(&StatefulSet, &json!({"serviceName": "s"}));
    let change = json!({"replicas": 3, "minReadySeconds": 1, "revisionHistoryLimit": 1, "ordinals": {"start": 1}, "updateStrategy": {"rollingUpdate": {"partition": 1}}});
    assert_eq!(
        messages(StatefulSet.validate_update(&workload(&StatefulSet, &merged(&change, "s")), &old)),
        [] as [&str; 0]
    );
    let forbidden = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    for change in [json!({"serviceName": "t"}), json!({"podManagementPolicy": "Parallel", "serviceName": "s"})] {
        assert_eq!(messages(StatefulSet.validate_update(&workload(&StatefulSet, &change), &old)), [forbidden]);
    }
}

fn merged(change: &Value, service: &str) -> Value {
    let mut change = change.clone();
    change["serviceName"] = json!(service);
    change
}

fn context() -> crate::Context {
    crate::Context { user: crate::UserInfo::default(), now: OffsetDateTime::UNIX_EPOCH }
}
