//! Values against schemas: pruned, defaulted, validated.

use serde_json::{Value, json};

use crate::schema::Schema;
use crate::{decode, default, prune, validate};

fn errors(schema: &Value, value: &Value, old: Option<&Value>) -> Vec<String> {
    let schema = Schema::compile(schema);
    let found = validate::check(value, old, &schema).into_iter().chain(validate::identities(value, old, &schema));
    found.map(|error| error.to_string()).collect()
}

#[track_caller]
fn check(schema: Value, value: Value, expected: &[&str]) {
    let wrap = |inner: Value| json!({ "type": "object", "properties": { "x": inner } });
    assert_eq!(errors(&wrap(schema.clone()), &json!({ "x": value }), None), expected, "{schema} {value}");
}

#[test]
fn messages_are_upstreams() {
    check(
        json!({ "type": "integer" }),
        json!("1"),
        &["x: Invalid value: \"string\": x in body must be of type integer: \"string\""],
    );
    check(
        json!({ "type": "integer" }),
        json!(1.5),
        &["x: Invalid value: \"number\": x in body must be of type integer: \"number\""],
    );
    check(json!({ "type": "number" }), json!(1), &[]);
    check(
        json!({ "type": "string" }),
        Value::Null,
        &["x: Invalid value: \"null\": x in body must be of type string: \"null\""],
    );
    check(json!({ "type": "string", "nullable": true }), Value::Null, &[]);
    check(json!({ "x-kubernetes-int-or-string": true }), json!("80"), &[]);
    check(
        json!({ "x-kubernetes-int-or-string": true }),
        json!(true),
        &["x: Invalid value: \"boolean\": x in body must be of type integer,string: \"boolean\""],
    );
    check(
        json!({ "type": "integer", "minimum": 2, "exclusiveMinimum": true }),
        json!(2),
        &["x: Invalid value: 2: x in body should be greater than 2"],
    );
    check(
        json!({ "type": "integer", "multipleOf": 3 }),
        json!(4),
        &["x: Invalid value: 4: x in body should be a multiple of 3"],
    );
    check(
        json!({ "type": "string", "minLength": 2 }),
        json!("a"),
        &["x: Invalid value: \"a\": x in body should be at least 2 chars long"],
    );
    check(
        json!({ "type": "string", "pattern": "^a+$" }),
        json!("b"),
        &["x: Invalid value: \"b\": x in body should match '^a+$'"],
    );
    check(
        json!({ "type": "string", "enum": ["a", "b"] }),
        json!("c"),
        &["x: Unsupported value: \"c\": supported values: \"a\", \"b\""],
    );
    check(
        json!({ "type": "array", "maxItems": 1, "items": { "type": "string" } }),
        json!(["a", "b"]),
        &["x: Too many: 2: must have at most 1 item"],
    );
    check(
        json!({ "type": "array", "minItems": 1, "items": { "type": "string" } }),
        json!([]),
        &["x: Invalid value: []: x in body should have at least 1 items"],
    );
    check(
        json!({ "type": "array", "items": { "type": "string" } }),
        json!([1]),
        &["x[0]: Invalid value: \"integer\": x[0] in body must be of type string: \"integer\""],
    );
    check(
        json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        json!({ "k": 1 }),
        &["x.k: Invalid value: \"integer\": x.k in body must be of type string: \"integer\""],
    );
    check(json!({ "type": "object", "required": ["y"] }), json!({}), &["x.y: Required value"]);
}

#[test]
fn alternatives_are_told_apart() {
    let one = json!({ "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
        "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] });
    check(one.clone(), json!({ "a": "1" }), &[]);
    check(
        one.clone(),
        json!({ "a": "1", "b": "2" }),
        &[
            "<nil>: Invalid value: \"\": \"x\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ],
    );
    check(
        one,
        json!({}),
        &[
            "<nil>: Invalid value: \"\": \"x\" must validate one and only one schema (oneOf). Found none valid",
            "x.a: Required value",
        ],
    );
    let not = json!({ "type": "string", "not": { "enum": ["no"] } });
    check(not.clone(), json!("yes"), &[]);
    check(not, json!("no"), &["<nil>: Invalid value: \"\": \"x\" must not validate the schema (not)"]);
    let all = json!({ "type": "integer", "allOf": [{ "minimum": 1 }, { "maximum": 3 }] });
    check(all.clone(), json!(2), &[]);
    check(
        all,
        json!(5),
        &[
            "x: Invalid value: 5: x in body should be less than or equal to 3",
            "<nil>: Invalid value: \"\": \"x\" must validate all the schemas (allOf)",
        ],
    );
}

#[test]
fn items_have_identities() {
    let set = json!({ "type": "array", "x-kubernetes-list-type": "set", "items": { "type": "string" } });
    check(set, json!(["a", "b", "a"]), &["x[2]: Duplicate value: \"a\""]);
    let embedded = json!({ "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true });
    check(embedded.clone(), json!({ "apiVersion": "v1", "kind": "Pod", "spec": {} }), &[]);
    check(
        embedded.clone(),
        json!({ "kind": "" }),
        &["x.apiVersion: Required value: must not be empty", "x.kind: Invalid value: \"\": must not be empty"],
    );
    let bad = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "labels": { "a b": "c" } } });
    assert!(
        errors(&json!({ "type": "object", "properties": { "x": embedded } }), &json!({ "x": bad }), None)[0]
            .starts_with("x.metadata.labels: Invalid value: \"a b\"")
    );
}

#[test]
fn what_did_not_change_is_tolerated() {
    let schema = json!({ "type": "object", "properties": {
        "a": { "type": "string", "maxLength": 1 }, "b": { "type": "string", "maxLength": 1 },
        "list": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
            "items": { "type": "object", "properties": { "n": { "type": "string" }, "v": { "type": "integer", "maximum": 1 } } } },
    } });
    let old = json!({ "a": "long", "b": "x", "list": [{ "n": "p", "v": 5 }, { "n": "q", "v": 1 }] });
    let check = |new: Value, expected: usize| assert_eq!(errors(&schema, &new, Some(&old)).len(), expected, "{new}");
    check(json!({ "a": "long", "b": "y" }), 0);
    check(json!({ "a": "other", "b": "x" }), 1);
    // Items move with their keys.
    check(json!({ "list": [{ "n": "q", "v": 1 }, { "n": "p", "v": 5 }] }), 0);
    check(json!({ "list": [{ "n": "p", "v": 6 }] }), 1);
}

#[test]
fn unknown_fields_are_pruned() {
    let schema = Schema::compile(&json!({ "type": "object", "properties": {
        "known": { "type": "object", "properties": { "a": { "type": "string" } } },
        "open": { "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": { "closed": { "type": "object" } } },
        "map": { "type": "object", "additionalProperties": { "type": "object", "properties": { "v": { "type": "string" } } } },
        "list": { "type": "array", "items": { "type": "object", "properties": { "v": { "type": "string" } } } },
    } }));
    let mut value = json!({ "apiVersion": "x/v1", "kind": "X", "metadata": { "name": "n" }, "extra": 1,
        "known": { "a": "1", "b": 2 }, "open": { "any": { "thing": 1 }, "closed": { "z": 1 } },
        "map": { "k": { "v": "1", "w": 2 } }, "list": [{ "v": "1" }, { "w": 2 }] });
    let dropped = prune::prune(&mut value, &schema);
    assert_eq!(dropped, ["extra", "known.b", "list[1].w", "map.k.w", "open.closed.z"]);
    assert_eq!(value["open"], json!({ "any": { "thing": 1 }, "closed": {} }));
    let mut value = json!({ "metadata": { "name": "n", "shape": 1 }, "extra": 1 });
    assert_eq!(
        decode::check(&mut value, &schema).unwrap(),
        ["unknown field \"metadata.shape\"", "unknown field \"extra\""]
    );
    assert_eq!(value, json!({ "metadata": { "name": "n" } }));
}

#[test]
fn defaults_fill_what_is_missing_or_null() {
    let schema = Schema::compile(&json!({ "type": "object", "properties": {
        "a": { "type": "integer", "default": 1 },
        "n": { "type": "string", "nullable": true, "default": "d" },
        "o": { "type": "object", "default": {}, "properties": { "in": { "type": "string", "default": "x" } } },
        "p": { "type": "object", "properties": { "in": { "type": "string", "default": "x" } } },
        "gone": { "type": "string" },
    } }));
    let check = |value: Value, expected: Value| {
        let mut made = value;
        prune::prune_nulls(&mut made, &schema);
        default::apply(&mut made, &schema);
        assert_eq!(made, expected);
    };
    check(json!({}), json!({ "a": 1, "n": "d", "o": { "in": "x" } }));
    check(
        json!({ "a": null, "n": null, "gone": null, "p": {} }),
        json!({ "a": 1, "n": null, "o": { "in": "x" }, "p": { "in": "x" } }),
    );
}
