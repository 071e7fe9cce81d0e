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
            "properties[spec].x-kubernetes-validations[0].rule: Invalid value: {\"FieldPath\":\"\",\"Message\":\"\",\"MessageExpression\":\"\",\"OptionalOldSelf\":null,\"Reason\":null,\"Rule\":\"self.x == 1\"}: compilation failed: ERROR: <input>:1:5: undefined field 'x'\n | self.x == 1\n | ....^",
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

const NOW: &str = "2026-01-01T00:00:00Z";

#[test]
fn settled_definitions_settle_once() {
    let first = settled(&definition(&json!({})), &[], NOW).unwrap();
    assert!(conditions::is_served(&first) && conditions::is_true(&first, conditions::NAMES_ACCEPTED));
    assert_eq!(first["status"]["acceptedNames"]["plural"], "widgets");
    assert_eq!(settled(&first, &[&first], "2026-01-02T00:00:00Z"), None);
    let mut rival = definition(&json!({ "/metadata/uid": "u2", "/metadata/name": "gadgets.example.com" }));
    rival["spec"]["names"] = json!({ "plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList", "shortNames": ["widget"] });
    let second = settled(&rival, &[&first, &rival], NOW).unwrap();
    let condition = &second["status"]["conditions"][0];
    assert_eq!(
        (&condition["reason"], &condition["message"]),
        (&json!("ShortNamesConflict"), &json!("\"widget\" is already in use"))
    );
    assert!(!conditions::is_served(&second));
}

/// Rules of the sort that popular operators write, with the limits that they set.
#[test]
fn rules_of_common_definitions_are_affordable() {
    let name = json!({ "type": "string", "minLength": 1, "maxLength": 253 });
    let sections = json!({
        "type": "array", "maxItems": 64, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": { "type": "object", "required": ["name", "port", "protocol"], "properties": {
            "name": name, "hostname": name, "port": { "type": "integer" },
            "protocol": { "type": "string", "maxLength": 255 },
        } },
        "x-kubernetes-validations": [
            { "message": "hostname must not be specified for protocols TCP and UDP",
              "rule": "self.all(l, l.protocol in ['TCP', 'UDP'] ? (!has(l.hostname) || l.hostname == '') : true)" },
            { "message": "names must be unique", "rule": "self.all(a, self.exists_one(b, a.name == b.name))" },
            { "message": "port, protocol and hostname must be unique",
              "rule": "self.all(a, self.exists_one(b, a.port == b.port && a.protocol == b.protocol && (has(a.hostname) && has(b.hostname) ? a.hostname == b.hostname : !has(a.hostname) && !has(b.hostname))))" },
        ],
    });
    let requirements = json!({
        "type": "array", "maxItems": 100,
        "items": { "type": "object", "required": ["key", "operator"], "properties": {
            "key": { "type": "string", "maxLength": 316, "x-kubernetes-validations": [
                { "message": "label is restricted", "rule": "self in ['beta.example.com/os', 'example.com/zone'] || !self.find('^([^/]+)').endsWith('example.com')" },
            ] },
            "operator": { "type": "string", "enum": ["Exists", "Gt", "In"] },
            "values": { "type": "array", "maxItems": 50, "items": { "type": "string" } },
        } },
        "x-kubernetes-validations": [
            { "message": "'In' must have a value", "rule": "self.all(x, x.operator == 'In' ? x.values.size() != 0 : true)" },
            { "message": "'Gt' must have one integer", "rule": "self.all(x, (x.operator == 'Gt') ? (x.values.size() == 1 && int(x.values[0]) >= 0) : true)" },
        ],
    });
    let rules = json!([
        { "rule": "self.paused == oldSelf.paused || self.replicas == oldSelf.replicas" },
        { "rule": "!has(oldSelf.name) || has(self.name)", "message": "name cannot be removed" },
        { "rule": "self.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "messageExpression": "'bad name ' + self.name" },
        { "rule": "quantity(self.size).compareTo(quantity('1Gi')) >= 0 && (type(self.port) == string || self.port > 0)" },
    ]);
    let schema = json!({ "type": "object", "properties": { "metadata": { "type": "object" }, "spec": {
        "type": "object", "x-kubernetes-validations": rules,
        "properties": {
            "paused": { "type": "boolean" }, "replicas": { "type": "integer" }, "name": name,
            "size": { "type": "string" }, "port": { "x-kubernetes-int-or-string": true },
            "sections": sections, "requirements": requirements,
        },
    } }, "x-kubernetes-validations": [{ "rule": "self.metadata.name == 'cluster'" }] });
    check_schema(schema, &[]);
}

const TRY: &str = "(try simplifying the rule(s), or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";

#[test]
fn rules_that_can_cost_too_much_are_refused() {
    let list = |limit: Option<u64>, item: Value| json!({ "type": "array", "maxItems": limit, "items": item });
    let text = |limit: Option<u64>, rule: &str| json!({ "type": "string", "maxLength": limit, "x-kubernetes-validations": [{ "rule": rule }] });
    let rule = "properties[spec].items.x-kubernetes-validations[0].rule: Forbidden: ";
    // 314,574 for one, of which a request has room for 1,048,576.
    let dear = spec(list(None, text(None, "self.contains('home')")));
    let cost = format!("{rule}estimated rule cost exceeds budget by factor of more than 100x {TRY}");
    let share = format!(
        "{rule}contributed to estimated rule & messageExpression cost total exceeding cost limit for entire OpenAPIv3 schema"
    );
    let total = format!(
        "spec.versions[0].schema.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule & messageExpression cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x {TRY}"
    );
    check_schema(dear, &[&cost, &share, &total]);
    // 314,574 for each of 40 and of 32.
    let cost = |factor: &str| format!("{rule}estimated rule cost exceeds budget by factor of {factor} {TRY}");
    check_schema(spec(list(Some(48), text(None, "self.contains('home')"))), &[&cost("1.5x")]);
    check_schema(spec(list(Some(32), text(None, "self.contains('home')"))), &[&cost("1.006637x")]);
    check_schema(spec(list(Some(31), text(None, "self.contains('home')"))), &[]);
    check_schema(spec(list(None, text(Some(10), "self == 'home'"))), &[]);
    // A loop in a loop over what has no limit.
    let square = json!({ "type": "array", "items": { "type": "integer" }, "x-kubernetes-validations": [
        { "rule": "self.all(a, self.all(b, a <= b))" } ] });
    let mut made = definition(&Value::Null);
    made["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = spec(square.clone());
    assert_eq!(Definition.validate(&made).len(), 3);
    let message = json!({ "type": "string", "maxLength": 10, "x-kubernetes-validations": [
        { "rule": "true", "messageExpression": "[1,2,3,4,5,6,7,8,9,10].map(a, self.replace('', self)).map(b, b.replace('', self)).map(c, c.replace('', self)).map(d, d.replace('', self)).join(',')" } ] });
    let message_cost = format!(
        "properties[spec].x-kubernetes-validations[0].messageExpression: Forbidden: estimated messageExpression cost exceeds budget by factor of more than 100x {TRY}"
    );
    let found = {
        made["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = spec(message);
        Definition.validate(&made)
    };
    assert_eq!(found[0].to_string().replace("spec.versions[0].schema.openAPIV3Schema.", ""), message_cost);
}

#[test]
fn what_was_accepted_may_go_on_costing_as_much() {
    let with = |rule: &str, limit: Option<u64>, description: &str| {
        let mut made = definition(&Value::Null);
        made["metadata"]["resourceVersion"] = json!("1");
        made["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({ "type": "object", "properties": {
            "spec": { "type": "array", "description": description, "items": { "type": "integer" }, "maxItems": limit,
                "x-kubernetes-validations": [{ "rule": rule }] } } });
        made
    };
    let square = "self.all(a, self.all(b, a <= b))";
    let old = with(square, None, "");
    let check = |new: &Value, expected: usize| {
        let errors = Definition.validate_update(new, &old);
        assert_eq!(errors.len(), expected, "{errors:?}");
    };
    check(&with(square, None, "said otherwise"), 0);
    check(&with(square, Some(1_000_000), ""), 0);
    // Not the rule that was accepted, and not the cost.
    check(&with("self.all(a, self.all(b, a + 1 <= b))", None, ""), 3);
    check(&with("self.all(a, self.all(b, a < b))", None, ""), 1);
    check(&with(square, Some(u64::from(u32::MAX)), ""), 3);
}

#[test]
fn old_values_are_asked_for_where_there_can_be_some() {
    let items = |kind: &str, rule: &str| {
        spec(json!({ "type": "array", "maxItems": 10, "x-kubernetes-list-type": kind,
            "x-kubernetes-list-map-keys": if kind == "map" { json!(["k"]) } else { Value::Null },
            "items": { "type": "object", "required": ["k"], "properties": { "k": { "type": "string", "maxLength": 9 } },
                "x-kubernetes-validations": [{ "rule": rule }] } }))
    };
    check_schema(items("map", "self.k == oldSelf.k"), &[]);
    check_schema(items("atomic", "self.k == 'a'"), &[]);
    check_schema(
        items("atomic", "self.k == oldSelf.k"),
        &[
            "properties[spec].items.x-kubernetes-validations[0].rule: Invalid value: \"self.k == oldSelf.k\": oldSelf cannot be used on the uncorrelatable portion of the schema within properties[spec]",
        ],
    );
    let optional =
        json!({ "type": "string", "x-kubernetes-validations": [{ "rule": "self == ''", "optionalOldSelf": true }] });
    check_schema(
        spec(optional),
        &[
            "properties[spec].x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ],
    );
}
