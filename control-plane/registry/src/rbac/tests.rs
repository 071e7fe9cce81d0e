use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;

fn messages(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check_rule(scope: Scope, rule: Value, expected: &[&str]) {
    let namespace = if scope == Scope::Namespaced { "n" } else { "" };
    let role = json!({"metadata": {"name": "system:a", "namespace": namespace}, "rules": [rule]});
    assert_eq!(messages(Role(scope).validate(&role)), expected);
}

#[test]
fn rules_are_complete() {
    check_rule(Scope::Namespaced, json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), &[]);
    check_rule(Scope::Cluster, json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}), &[]);
    check_rule(
        Scope::Namespaced,
        json!({}),
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ],
    );
    check_rule(
        Scope::Namespaced,
        json!({"verbs": ["get"], "nonResourceURLs": ["/a"]}),
        &["rules[0].nonResourceURLs: Invalid value: [\"/a\"]: namespaced rules cannot apply to non-resource URLs"],
    );
}

#[track_caller]
fn check_binding(scope: Scope, fields: Value, expected: &[&str]) {
    let mut binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"}});
    if scope == Scope::Namespaced {
        binding["metadata"]["namespace"] = json!("n");
    }
    for (field, value) in fields.as_object().expect("fields are an object") {
        binding[field] = value.clone();
    }
    Binding(scope).default(&mut binding);
    assert_eq!(messages(Binding(scope).validate(&binding)), expected);
}

#[test]
fn bindings_name_a_role_and_subjects() {
    check_binding(
        Scope::Cluster,
        json!({"subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "a", "namespace": "n"}]}),
        &[],
    );
    check_binding(
        Scope::Cluster,
        json!({"subjects": [{"kind": "ServiceAccount", "name": "a"}]}),
        &["subjects[0].namespace: Required value"],
    );
    check_binding(
        Scope::Cluster,
        json!({"roleRef": {"kind": "Role", "name": "a/b"}}),
        &[
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
        ],
    );
    check_binding(
        Scope::Namespaced,
        json!({"subjects": [{"kind": "Team", "name": ""}]}),
        &[
            "subjects[0].name: Required value",
            "subjects[0].kind: Unsupported value: \"Team\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
        ],
    );
}

#[test]
fn a_binding_keeps_its_role() {
    let binding = |name: &str| {
        let mut binding = json!({"metadata": {"name": "b", "resourceVersion": "1"}, "roleRef": {"kind": "ClusterRole", "name": name}});
        Binding(Scope::Cluster).default(&mut binding);
        binding
    };
    assert_eq!(
        messages(Binding(Scope::Cluster).validate_update(&binding("x"), &binding("y"))),
        [
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"x\"}: cannot change roleRef"
        ]
    );
}

#[test]
fn rows_list_subjects() {
    let binding = json!({
        "metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}, {"kind": "User", "name": "v"}, {"kind": "ServiceAccount", "name": "a", "namespace": "n"}],
    });
    let cells = Binding(Scope::Cluster).row(&binding, OffsetDateTime::UNIX_EPOCH);
    assert_eq!(cells, ["b", "ClusterRole/r", "<unknown>", "u, v", "", "n/a"].map(|cell| json!(cell)));
}
