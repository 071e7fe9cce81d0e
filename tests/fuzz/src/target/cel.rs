//! Rules of custom resources, and the definitions that hold them.

use serde_json::{Value, json};
use xebec_apiextensions::{CustomResource, Definition};
use xebec_dra::selector::{Evaluator, Selector};
use xebec_registry::strategy::{OffsetDateTime, Strategy};

use super::bytes;

pub fn rule_seeds() -> Vec<Vec<u8>> {
    bytes(&[
        "self.list.all(x, x > self.min) && self.list.exists_one(x, x == 1)",
        "self.list.map(x, x + 1).filter(x, x % 2 == 0).sum() > 3 || size(self.list) < 5",
        "self.name.matches('^[a-z]+$') ? self.name.split('a').join(',') == 'b' : has(self.obj.a)",
        "self.labels.all(k, self.labels[k].startsWith(k)) && 'a' in self.labels",
        "self.since - self.since < duration('1h') && quantity('1Gi').compareTo(quantity(self.name)) > 0",
        "{'a': [1, 2.0, 3u, b'x', null]}.a[0] == 1 && self.?obj.?a.orValue('') != r'\\d'",
        "type(self.size) == string && sets.contains(self.list, [1]) && self.name.lowerAscii().replace('a', 'bb').size() > 1",
    ])
}

fn definition_of(rule: &str) -> Value {
    json!({
        "metadata": { "name": "widgets.example.com", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "conversion": { "strategy": "None" },
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object",
                "properties": { "spec": {
                    "type": "object",
                    "x-kubernetes-validations": [{ "rule": rule, "message": "m" }],
                    "properties": {
                        "min": { "type": "integer" }, "name": { "type": "string", "maxLength": 99 },
                        "since": { "type": "string", "format": "date-time" },
                        "list": { "type": "array", "maxItems": 99, "items": { "type": "integer" } },
                        "size": { "x-kubernetes-int-or-string": true },
                        "labels": { "type": "object", "maxProperties": 99, "additionalProperties": { "type": "string" } },
                        "obj": { "type": "object", "properties": { "a": { "type": "string" } } },
                    },
                } },
            } } }],
        },
        "status": { "storedVersions": ["v1"] },
    })
}

fn sample() -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": { "name": "w", "namespace": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": {
            "min": 0, "name": "abc", "since": "2026-01-01T00:00:00Z", "list": (0..99).collect::<Vec<i32>>(), "size": "5%",
            "labels": { "a": "ab" }, "obj": { "a": "x" },
        },
    })
}

/// A rule that is accepted runs to an end.
pub fn rule(bytes: &[u8]) {
    let made = definition_of(&String::from_utf8_lossy(bytes));
    if !Definition.validate(&made).is_empty() {
        return;
    }
    let object = sample();
    for resource in CustomResource::served(&made, 0, 0) {
        _ = resource.validate(&object).len();
    }
}

pub fn column_seeds() -> Vec<Vec<u8>> {
    bytes(&[
        ".spec.labels.a",
        "{.spec.list[?(@ > 3)]}",
        "$..obj['a']",
        ".spec.list[*]",
        ".spec.list[-1]",
        ".spec[?(@.a == \"x\")].a",
        ".metadata.creation\\Timestamp",
        ".spec..*[?(@..a)]",
    ])
}

/// The path of a printer column, asked of an object that has more in it than its schema says.
pub fn column(bytes: &[u8]) {
    let mut made = definition_of("true");
    let path = String::from_utf8_lossy(bytes);
    made["spec"]["versions"][0]["additionalPrinterColumns"] =
        json!([{ "name": "c", "type": "string", "jsonPath": path }]);
    let mut object = sample();
    object["spec"]["obj"] = json!({ "a": "x", "b": [[[{ "c": { "d": { "e": [1, 2, { "a": "x" }] } } }]]] });
    for resource in CustomResource::served(&made, 0, 0) {
        let cells = resource.row(&object, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(cells.len(), resource.column_definitions().len());
    }
}

pub fn device_seeds() -> Vec<Vec<u8>> {
    bytes(&[
        r#"device.driver == "d" && device.attributes["d"].model.startsWith("a")"#,
        r#"device.capacity["d"].memory.compareTo(quantity("1Gi")) >= 0 && has(device.attributes["e"].x)"#,
        r#"device.attributes["d"].version.isGreaterThan(semver("1.0.0")) || device.attributes["d"].size in [1, 2]"#,
        r#"cel.bind(d, device.attributes["d"], d.size > 1 ? !d.good : d.?other.orValue(true))"#,
    ])
}

/// What a request for devices says of them (`resource.k8s.io`).
pub fn device(bytes: &[u8]) {
    let Ok(selector) = Selector::compile(&String::from_utf8_lossy(bytes)) else { return };
    let Ok(evaluator) = Evaluator::new() else { return };
    let attributes = json!({ "model": { "string": "a1" }, "size": { "int": 1 }, "good": { "bool": true }, "d/version": { "version": "1.2.3-a+b" } });
    let device = evaluator.device("d", &attributes, &json!({ "memory": { "value": "2Gi" } }));
    _ = selector.matches(&device, &evaluator).is_ok();
}

pub fn definition_seeds() -> Vec<Vec<u8>> {
    let schema = |schema: Value| {
        let mut made = definition_of("true");
        made["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema;
        made.to_string().into_bytes()
    };
    vec![
        definition_of("self.min > 0").to_string().into_bytes(),
        schema(
            json!({ "type": "object", "properties": { "a": { "type": "string", "pattern": "^(a|b)*$", "default": "a",
            "enum": ["a", "b"], "anyOf": [{ "minLength": 1 }] } }, "required": ["a"] }),
        ),
        schema(json!({ "type": "object", "properties": { "l": { "type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"], "items": { "type": "object", "required": ["k"],
            "properties": { "k": { "type": "string" } } } } } })),
    ]
}

pub fn definition(bytes: &[u8]) {
    let Ok(made) = serde_json::from_slice::<Value>(bytes) else { return };
    if made.is_object() {
        let mut defaulted = made.clone();
        Definition.default(&mut defaulted);
        _ = Definition.validate(&defaulted).len();
    }
}
