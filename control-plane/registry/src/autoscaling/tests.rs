use serde_json::{Value, json};
use time::OffsetDateTime;

use super::HorizontalPodAutoscaler;
use super::convert::{from_v1, to_v1};
use crate::strategy::Strategy;
use crate::value::merge_patch;

fn autoscaler(change: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a", "namespace": "n", "resourceVersion": "1"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}},
    });
    merge_patch(&mut object["spec"], change);
    HorizontalPodAutoscaler.default(&mut object);
    object
}

#[track_caller]
fn check(change: Value, expected: &[&str]) {
    let errors = HorizontalPodAutoscaler.validate(&autoscaler(&change));
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

#[test]
fn the_least_autoscaler_watches_the_cpu() {
    let object = autoscaler(&json!({}));
    assert_eq!(object["spec"]["minReplicas"], 1);
    let target = json!({"type": "Utilization", "averageUtilization": 80});
    assert_eq!(object["spec"]["metrics"], json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
    assert_eq!(object["spec"].get("behavior"), None);
    check(json!({}), &[]);
}

#[test]
fn behavior_is_completed_in_both_directions() {
    let object = autoscaler(&json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}));
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    assert_eq!(
        object["spec"]["behavior"],
        json!({
            "scaleDown": {"stabilizationWindowSeconds": 60, "selectPolicy": "Max", "policies": [percent]},
            "scaleUp": {
                "stabilizationWindowSeconds": 0, "selectPolicy": "Max",
                "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, percent],
            },
        })
    );
    check(
        json!({"behavior": {"scaleUp": {"policies": [], "stabilizationWindowSeconds": 3601, "selectPolicy": "Some"}}}),
        &[
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
            "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Some\": supported values: \"Disabled\", \"Max\", \"Min\"",
            "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
        ],
    );
    check(
        json!({"behavior": {"scaleUp": {"policies": [{"type": "Nodes", "value": 0, "periodSeconds": 1801}]}}}),
        &[
            "spec.behavior.scaleUp.policies[0].type: Unsupported value: \"Nodes\": supported values: \"Percent\", \"Pods\"",
            "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        ],
    );
}

#[test]
fn replicas_and_target_are_sane() {
    check(
        json!({"maxReplicas": 0}),
        &[
            "spec.maxReplicas: Invalid value: 0: must be greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        ],
    );
    check(
        json!({"minReplicas": 0, "scaleTargetRef": {"kind": "a/b", "name": ""}}),
        &[
            "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
            "spec.scaleTargetRef.kind: Invalid value: \"a/b\": may not contain '/'",
            "spec.scaleTargetRef.name: Required value",
            "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
        ],
    );
}

#[test]
fn what_is_scaled_is_of_a_group() {
    let target = |kind: &str, version: Value| json!({"scaleTargetRef": {"apiVersion": version, "kind": kind}});
    let fault = "spec.scaleTargetRef.apiVersion: Invalid value: ";
    check(target("Deployment", Value::Null), &[&format!("{fault}\"\": apiVersion must specify API group")]);
    check(target("Deployment", json!("v1")), &[&format!("{fault}\"v1\": apiVersion must specify API group")]);
    check(target("ReplicationController", json!("v1")), &[]);
    check(target("Widget", json!("a/b/c")), &[&format!("{fault}\"a/b/c\": unexpected GroupVersion string: a/b/c")]);
    let object = |version: &str| {
        let described = json!({"apiVersion": version, "kind": "Service", "name": "s"});
        let target = json!({"type": "Value", "value": "1"});
        let object = json!({"describedObject": described, "metric": {"name": "m"}, "target": target});
        json!({"metrics": [{"type": "Object", "object": object}]})
    };
    check(object("v1"), &[]);
    let of_metric = "spec.metrics[0].object.describedObject.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c";
    check(object("a/b/c"), &[of_metric]);
    // What was accepted before is not asked for again.
    let old = autoscaler(&target("Deployment", json!("v1")));
    let update = |old: &Value, change: Value| {
        let mut new = old.clone();
        merge_patch(&mut new["spec"], &change);
        HorizontalPodAutoscaler.validate_update(&new, old).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(update(&old, json!({"maxReplicas": 5})), [""; 0]);
    assert_eq!(update(&old, target("ReplicaSet", json!("v1"))).len(), 1);
    assert_eq!(update(&old, object("a/b/c")), [of_metric]);
    assert_eq!(update(&autoscaler(&object("a/b/c")), object("x/y/z")), [""; 0]);
}

#[test]
fn a_metric_has_one_source_and_one_target() {
    check(
        json!({"metrics": [{"type": "Pods"}]}),
        &["spec.metrics[0].pods: Required value: must populate information for the given metric source"],
    );
    check(
        json!({"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]}),
        &[
            "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
        ],
    );
    let target = json!({"type": "AverageValue", "averageValue": "0"});
    check(
        json!({"metrics": [{"type": "Pods", "pods": {"metric": {"name": ""}, "target": target}, "external": {}}]}),
        &[
            "spec.metrics[0].external.metric.name: Required value: must specify a metric name",
            "spec.metrics[0].external.target.type: Required value: must specify a metric target type",
            "spec.metrics[0].external.target.type: Invalid value: \"\": must be either Utilization, Value, or AverageValue",
            "spec.metrics[0].external.target.averageValue: Required value: must set either a target value for metric or a per-pod target",
            "spec.metrics[0].external: Forbidden: must populate the given metric source only",
        ],
    );
}

#[test]
fn both_versions_say_the_same() {
    let mut v2 = autoscaler(&json!({
        "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
            {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
            {"type": "External", "external": {"metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "Value", "value": "30"}}},
        ],
        "behavior": {"scaleUp": {"selectPolicy": "Min"}},
    }));
    v2["status"] = json!({
        "desiredReplicas": 2,
        "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "70m"}}}],
        "conditions": [{"type": "AbleToScale", "status": "True"}],
    });
    let v1 = to_v1(&v2);
    assert_eq!(v1["apiVersion"], "autoscaling/v1");
    assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 50);
    assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 7);
    assert_eq!(v1["spec"].get("metrics"), None);
    let annotations = &v1["metadata"]["annotations"];
    assert_eq!(
        annotations["autoscaling.alpha.kubernetes.io/metrics"],
        r#"[{"pods":{"metricName":"rps","targetAverageValue":"10"},"type":"Pods"},{"external":{"metricName":"q","metricSelector":{"matchLabels":{"a":"b"}},"targetValue":"30"},"type":"External"}]"#
    );
    assert_eq!(from_v1(&v1), v2);
    // Each is left alone by the conversion to itself.
    assert_eq!((to_v1(&v1), from_v1(&v2)), (v1.clone(), v2));
}

#[test]
fn annotations_that_make_no_sense_are_dropped() {
    let v1 = json!({
        "apiVersion": "autoscaling/v1",
        "metadata": {"name": "a", "annotations": {"autoscaling.alpha.kubernetes.io/metrics": "not json", "autoscaling.alpha.kubernetes.io/behavior": "[]"}},
        "spec": {"maxReplicas": 3},
    });
    let v2 = from_v1(&v1);
    assert_eq!(v2, json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "a"}, "spec": {"maxReplicas": 3}}));
}

#[test]
fn rows_show_what_is_and_what_should_be() {
    let mut object = autoscaler(&json!({}));
    let cells = HorizontalPodAutoscaler.row(&object, OffsetDateTime::UNIX_EPOCH);
    assert_eq!(cells[1..6], [json!("Deployment/d"), json!("cpu: <unknown>/80%"), json!("1"), json!(3), json!(0)]);
    object["status"] = json!({"currentReplicas": 2, "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}}]});
    let cells = HorizontalPodAutoscaler.row(&object, OffsetDateTime::UNIX_EPOCH);
    assert_eq!(cells[2], json!("cpu: 7%/80%"));
}
