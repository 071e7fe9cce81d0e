use super::*;

/// Every `$ref` in a document.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| match value {
            Value::String(target) if key == "$ref" => found.push(target.clone()),
            value => references(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn check_references(document: &Value) {
    let mut found = Vec::new();
    references(document, &mut found);
    assert!(!found.is_empty());
    for target in found {
        let pointer = target.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some_and(Value::is_object), "{target}");
    }
}

#[test]
fn every_reference_resolves() {
    check_references(&v2(&[]));
    for gv in schema().group_versions() {
        check_references(&v3(&gv, &[]).expect("served"));
    }
    assert_eq!(v3(&GroupVersion::new("none", "v1"), &[]), None);
}

#[test]
fn kubectl_finds_what_it_looks_for() {
    let document = v3(&GroupVersion::new("apps", "v1"), &[]).expect("served");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let has = |name: &str| patch["parameters"].as_array().into_iter().flatten().any(|p| p["name"] == name);
    assert!(has("fieldValidation") && has("dryRun") && has("fieldManager"));
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    let list = &document["paths"]["/apis/apps/v1/deployments"]["get"];
    assert_eq!(list["operationId"], "listAppsV1DeploymentForAllNamespaces");
    let definition = &document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(definition["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
    assert_eq!(
        definition["properties"]["spec"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"
    );
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["put"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
}

#[test]
fn the_index_names_every_group_and_version() {
    let index = v3_index(&[]);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap_or_default();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    assert!(index["paths"]["api/v1"].is_object());
}
