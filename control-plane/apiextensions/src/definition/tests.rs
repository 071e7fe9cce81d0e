use serde_json::{Value, json};
use xebec_registry::strategy::Strategy;

use super::Definition;
use super::conditions::{self, settled};

fn definition(change: &Value) -> Value {
    let mut made = json!({
        "metadata": { "name": "widgets.example.com", "uid": "u1", "creationTimestamp": "2024-01-01T00:00:00Z" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "conversion": { "strategy": "None" },
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } } }],
        },
        "status": { "storedVersions": ["v1"] },
    });
    for (path, value) in change.as_object().into_iter().flatten() {
        let (parent, field) = path.rsplit_once('/').unwrap();
        match made.pointer_mut(parent).unwrap() {
            Value::Array(items) => items[field.parse::<usize>().unwrap()] = value.clone(),
            parent if value.is_null() => _ = parent.as_object_mut().unwrap().remove(field),
            parent => parent[field] = value.clone(),
        }
    }
    made
}

#[track_caller]
fn check(change: Value, expected: &[&str]) {
    let found: Vec<String> = Definition.validate(&definition(&change)).iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{change}");
}

/// The errors of a version's schema, without the path of the schema.
#[track_caller]
fn check_schema(schema: Value, expected: &[&str]) {
    let mut made = definition(&Value::Null);
    made["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema.clone();
    let errors = Definition.validate(&made);
    let short =
        |e: &xebec_machinery::field::Error| e.to_string().replace("spec.versions[0].schema.openAPIV3Schema.", "");
    assert_eq!(errors.iter().map(short).collect::<Vec<_>>(), expected, "{schema}");
}

fn spec(schema: Value) -> Value {
    json!({ "type": "object", "properties": { "spec": schema } })
}

#[test]
fn names_and_versions_are_checked() {
    check(json!({}), &[]);
    check(
        json!({ "/metadata/name": "x.example.com" }),
        &["metadata.name: Invalid value: \"x.example.com\": must be spec.names.plural+\".\"+spec.group"],
    );
    check(
        json!({ "/spec/group": "example", "/metadata/name": "widgets.example" }),
        &["spec.group: Invalid value: \"example\": should be a domain with at least one dot"],
    );
    check(
        json!({ "/spec/scope": "Both" }),
        &["spec.scope: Unsupported value: \"Both\": supported values: \"Cluster\", \"Namespaced\""],
    );
    check(
        json!({ "/spec/names/listKind": "Widget" }),
        &["spec.names.listKind: Invalid value: \"Widget\": kind and listKind may not be the same"],
    );
    check(json!({ "/spec/names/kind": "" }), &["spec.names.kind: Required value"]);
    check(
        json!({ "/spec/versions/0/schema": null }),
        &["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"],
    );
    check(
        json!({ "/spec/conversion/strategy": "Webhook" }),
        &["spec.conversion.strategy: Forbidden: conversion webhooks are not supported by this server; use None"],
    );
    check(
        json!({ "/status/storedVersions": [] }),
        &["status.storedVersions: Invalid value: []: must have at least one stored version"],
    );
    let found = Definition.validate(&definition(&json!({ "/spec/versions/0/storage": false })));
    assert!(found.iter().any(|e| e.detail == "must have exactly one version marked as storage version"), "{found:?}");
    check(
        json!({ "/spec/group": "x.k8s.io", "/metadata/name": "widgets.x.k8s.io" }),
        &[
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        ],
    );
}

#[test]
fn subresources_columns_and_selectable_fields_are_checked() {
    let version = |field: &str, value: Value| json!({ format!("/spec/versions/0/{field}"): value });
    check(
        version(
            "subresources",
            json!({ "scale": { "specReplicasPath": ".replicas", "statusReplicasPath": ".status.n" } }),
        ),
        &[
            "spec.versions[0].subresources.scale.specReplicasPath: Invalid value: \".replicas\": should be a json path under .spec",
        ],
    );
    check(
        version("additionalPrinterColumns", json!([{ "name": "A", "type": "text", "jsonPath": ".a" }])),
        &[
            "spec.versions[0].additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
        ],
    );
    check(
        version("selectableFields", json!([{ "jsonPath": ".spec.color" }])),
        &[
            "spec.versions[0].selectableFields[0].jsonPath: Invalid value: \".spec.color\": is an invalid path: does not refer to a valid field",
        ],
    );
}

#[test]
fn schemas_are_structural() {
    check_schema(json!({}), &["type: Required value: must not be empty at the root"]);
    check_schema(
        spec(json!({})),
        &["properties[spec].type: Required value: must not be empty for specified object fields"],
    );
    check_schema(spec(json!({ "type": "array" })), &["properties[spec].items: Required value: must be specified"]);
    check_schema(spec(json!({ "x-kubernetes-preserve-unknown-fields": true })), &[]);
    check_schema(
        spec(json!({ "x-kubernetes-int-or-string": true, "anyOf": [{ "type": "integer" }, { "type": "string" }] })),
        &[],
    );
    check_schema(
        spec(json!({ "type": "object", "anyOf": [{ "type": "object" }] })),
        &["properties[spec].anyOf[0].type: Forbidden: must be empty to be structural"],
    );
    check_schema(
        spec(json!({ "type": "object", "oneOf": [{ "properties": { "a": { "minimum": 1 } } }] })),
        &["properties[spec].properties[a]: Required value: because it is defined in spec.versions[0].schema.openAPIV3Schema.properties[spec].oneOf[0]"]
            .map(|text| Box::leak(text.replace("spec.versions[0].schema.openAPIV3Schema.", "").into_boxed_str()) as &str),
    );
    check_schema(
        json!({ "type": "object", "properties": { "metadata": { "type": "object", "required": ["x"] } } }),
        &[
            "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ],
    );
    check_schema(
        spec(json!({ "type": "object", "x-kubernetes-embedded-resource": true })),
        &[
            "properties[spec].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ],
    );
    check_schema(
        spec(json!({ "type": "object", "$ref": "#/x" })),
        &["properties[spec].$ref: Forbidden: $ref is not supported"],
    );
}

#[test]
fn lists_name_their_keys() {
    let list = |keys: Value, item: Value| {
        spec(
            json!({ "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys, "items": item }),
        )
    };
    let item = json!({ "type": "object", "required": ["a"], "properties": { "a": { "type": "string" }, "b": { "type": "string" } } });
    check_schema(list(json!(["a"]), item.clone()), &[]);
    check_schema(
        list(json!([]), item.clone()),
        &[
            "properties[spec].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ],
    );
    check_schema(
        list(json!(["c"]), item.clone()),
        &[
            "properties[spec].x-kubernetes-list-map-keys[0]: Invalid value: \"c\": entries must all be names of item properties",
        ],
    );
    check_schema(
        list(json!(["b"]), item),
        &[
            "properties[spec].items.properties[b].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ],
    );
}

#[test]
fn defaults_and_rules_fit_their_schemas() {
    check_schema(
        spec(json!({ "type": "integer", "maximum": 3, "default": 4 })),
        &["properties[spec].default: Invalid value: 4:  in body should be less than or equal to 3"],
    );
    check_schema(
        spec(json!({ "type": "object", "properties": {}, "default": { "x": 1 } })),
        &["properties[spec].default: Invalid value: {\"x\":1}: must not have unknown fields"],
    );
    check_schema(
        spec(json!({ "type": "object", "x-kubernetes-validations": [{ "rule": "self.x == 1" }] })),
        &[
            "properties[spec].x-kubernetes-validations[0].rule: Invalid value: \"self.x == 1\": compilation failed: undefined field 'x'",
        ],
    );
    check_schema(
        spec(json!({ "type": "string", "x-kubernetes-validations": [{ "rule": "" }] })),
        &["properties[spec].x-kubernetes-validations[0].rule: Required value: rule is not specified"],
    );
}

#[test]
fn names_and_scope_stay() {
    let mut old = definition(&json!({}));
    old["status"]["conditions"] = json!([{ "type": "Established", "status": "True" }]);
    let mut new = old.clone();
    new["spec"]["scope"] = "Cluster".into();
    let found: Vec<String> = Definition.validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["spec.scope: Invalid value: \"Cluster\": field is immutable"]);
    let mut new = old.clone();
    new["spec"]["versions"][0]["name"] = "v2".into();
    let found: Vec<String> = Definition.validate_update(&new, &old).iter().map(|e| e.field.clone()).collect();
    assert_eq!(found, ["status.storedVersions[0]", "status.storedVersions"]);
}

#[test]
fn settled_definitions_settle_once() {
    let first = settled(&definition(&json!({})), &[]).unwrap();
    assert!(conditions::is_served(&first) && conditions::is_true(&first, conditions::NAMES_ACCEPTED));
    assert_eq!(first["status"]["acceptedNames"]["plural"], "widgets");
    assert_eq!(settled(&first, &[&first]), None);
    let mut rival = definition(&json!({ "/metadata/uid": "u2", "/metadata/name": "gadgets.example.com" }));
    rival["spec"]["names"] = json!({ "plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList", "shortNames": ["widget"] });
    let second = settled(&rival, &[&first, &rival]).unwrap();
    let condition = &second["status"]["conditions"][0];
    assert_eq!(
        (&condition["reason"], &condition["message"]),
        (&json!("ShortNamesConflict"), &json!("\"widget\" is already in use"))
    );
    assert!(!conditions::is_served(&second));
}
