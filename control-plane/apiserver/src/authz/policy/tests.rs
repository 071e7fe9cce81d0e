use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("{kind} {name} is in the policy"))
}

#[test]
fn every_object_is_valid_and_named_once() {
    let mut seen = BTreeSet::new();
    for mut object in objects() {
        let kind = object["kind"].as_str().unwrap_or("").to_lowercase() + "s";
        assert!(
            seen.insert((
                kind.clone(),
                object["metadata"]["namespace"].to_string(),
                object["metadata"]["name"].to_string()
            )),
            "{object}"
        );
        let strategy = xebec_registry::strategy(&xebec_machinery::GroupResource::new(GROUP, kind));
        strategy.default(&mut object);
        assert_eq!(strategy.validate(&object), [], "{object}");
    }
}

#[test]
fn every_binding_names_a_role_of_the_policy() {
    let objects = objects();
    for binding in objects.iter().filter(|object| object.get("roleRef").is_some()) {
        let reference = &binding["roleRef"];
        find(&objects, reference["kind"].as_str().unwrap_or(""), reference["name"].as_str().unwrap_or(""));
    }
}

#[test]
fn admin_gathers_edit_which_gathers_view() {
    let objects = objects();
    let edit = find(&objects, "ClusterRole", "edit");
    assert_eq!(edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
    assert_eq!(
        edit["aggregationRule"]["clusterRoleSelectors"],
        json!([{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}])
    );
    let view = find(&objects, "ClusterRole", "system:aggregate-to-view");
    assert_eq!(view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"], "true");
    let (admin, view) = (find(&objects, "ClusterRole", "admin"), find(&objects, "ClusterRole", "view"));
    assert_eq!(uncovered(admin, edit), []);
    assert_eq!(uncovered(edit, view), []);
    let secrets = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]});
    assert_eq!(uncovered(edit, &secrets), []);
    assert_eq!(uncovered(view, &secrets).len(), 1, "view must not read secrets");
}

#[test]
fn objects_know_their_collection() {
    let objects = objects();
    assert_eq!(collection(find(&objects, "ClusterRole", "view")), "/apis/rbac.authorization.k8s.io/v1/clusterroles");
    assert_eq!(
        collection(find(&objects, "RoleBinding", "system:controller:token-cleaner")),
        "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings"
    );
}

#[test]
fn reconciliation_adds_what_is_missing_and_keeps_what_others_added() {
    let wanted = find(&objects(), "ClusterRole", "system:kube-dns").clone();
    assert_eq!(reconcile(&wanted, &wanted), None);
    let mut stored = wanted.clone();
    stored["rules"] = json!([{"verbs": ["*"], "apiGroups": [""], "resources": ["endpoints"]}]);
    let merged = reconcile(&stored, &wanted).expect("services are missing");
    assert_eq!(merged["rules"][0], stored["rules"][0]);
    assert_eq!(merged["rules"].as_array().map(Vec::len), Some(3));
    stored["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
    assert_eq!(reconcile(&stored, &wanted), None);
}

#[test]
fn a_binding_to_another_role_is_replaced() {
    let wanted = find(&objects(), "ClusterRoleBinding", "system:discovery").clone();
    let mut stored = wanted.clone();
    stored["roleRef"]["name"] = json!("other");
    assert!(replaces(&stored, &wanted));
    assert_eq!(reconcile(&stored, &wanted), None);
}
