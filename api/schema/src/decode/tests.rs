use serde_json::json;

use super::*;

fn def(group: &str, kind: &str) -> DefId {
    schema().kind(group, "v1", kind).expect("a kind")
}

/// What `object` becomes, and which fields are unknown.
fn check_pod(mut object: Value, want: &Value, unknown: &[&str]) {
    let found = check(def("", "Pod"), &mut object).expect("decodable");
    assert_eq!(
        (&object, found.as_slice()),
        (want, unknown.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice())
    );
}

#[test]
fn unknown_fields_are_named_and_dropped() {
    check_pod(
        json!({"spec": {"foo": 1, "containers": [{"name": "a", "bar": {"x": 1}}], "nodeSelector": {"any": "key"}}, "x": null}),
        &json!({"spec": {"containers": [{"name": "a"}], "nodeSelector": {"any": "key"}}}),
        &["unknown field \"spec.containers[0].bar\"", "unknown field \"spec.foo\"", "unknown field \"x\""],
    );
}

#[test]
fn objects_become_canonical() {
    check_pod(
        json!({"metadata": {"creationTimestamp": null, "labels": {}, "annotations": {"a": null}, "deletionTimestamp": "2026-01-02T05:04:05.7+02:00"}}),
        &json!({"metadata": {"annotations": {"a": ""}, "deletionTimestamp": "2026-01-02T03:04:05Z"}}),
        &[],
    );
    check_pod(
        json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "x": 1}}}, null], "volumes": [], "tolerations": null}}),
        &json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi", "x": "1"}}}, {}]}}),
        &[],
    );
    let keeps = json!({"spec": {"securityContext": {}, "volumes": [{"name": "v", "emptyDir": {}}], "hostNetwork": false, "containers": []}});
    check_pod(keeps.clone(), &keeps, &[]);
}

#[test]
fn wrong_types_are_worded_as_go_does() {
    let check = |group: &str, kind: &str, mut object: Value, want: &str| {
        let error = super::check(def(group, kind), &mut object).expect_err("not decodable");
        assert_eq!(error.to_string(), want);
    };
    check(
        "apps",
        "Deployment",
        json!({"spec": {"replicas": "3"}}),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    check(
        "apps",
        "Deployment",
        json!({"spec": {"replicas": 1.5}}),
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    check(
        "",
        "Pod",
        json!({"spec": {"containers": {"name": "a"}}}),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    );
    check(
        "",
        "Pod",
        json!({"spec": {"containers": [{"image": 1}]}}),
        "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string",
    );
    check(
        "",
        "Pod",
        json!({"spec": "x"}),
        "json: cannot unmarshal string into Go struct field Pod.spec of type v1.PodSpec",
    );
    check("", "Pod", json!(["x"]), "json: cannot unmarshal array into Go value of type v1.Pod");
    check(
        "",
        "Pod",
        json!({"metadata": {"labels": {"a": 1}}}),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
    );
    check("", "Secret", json!({"data": {"a": "b*"}}), "illegal base64 data at input byte 1");
    check(
        "",
        "Service",
        json!({"spec": {"ports": [{"targetPort": true}]}}),
        "json: cannot unmarshal bool into Go value of type int32",
    );
    check(
        "",
        "Pod",
        json!({"spec": {"overhead": {"cpu": "1x"}}}),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
}

#[test]
fn strict_errors_are_worded_as_upstream() {
    let gvk = GroupVersionKind::new("apps", "v1", "Deployment");
    let problems = ["unknown field \"spec.foo\"".to_owned(), "duplicate field \"spec.replicas\"".to_owned()];
    assert_eq!(
        strict_error(&gvk, &problems).message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.foo\", duplicate field \"spec.replicas\""
    );
}
