use serde_json::{Value, json};
use time::OffsetDateTime;

use super::deployment::Deployment;
use super::replica_set::ReplicaSet;
use crate::scale;
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

#[test]
fn the_scale_of_a_workload_is_read_and_written() {
    let mut object = workload(&Deployment, &json!({"replicas": 3}));
    object["status"] = json!({"replicas": 2});
    let mut got = scale::get(&object);
    assert_eq!(got["spec"], json!({"replicas": 3}));
    assert_eq!(got["status"], json!({"replicas": 2, "selector": "app=a"}));
    assert_eq!(got["metadata"], json!({"name": "d", "namespace": "n", "resourceVersion": "1"}));
    set(&mut got, "spec.replicas", 5);
    assert_eq!(messages(scale::validate(&got)), [] as [&str; 0]);
    scale::put(&mut object, &got);
    assert_eq!(object["spec"]["replicas"], 5);
    set(&mut got, "spec.replicas", -1);
    assert_eq!(
        messages(scale::validate(&got)),
        ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]
    );
}
