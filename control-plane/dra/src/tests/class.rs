use serde_json::{Value, json};

use super::{cells, check, check_update, made};

const CLASSES: &str = "deviceclasses";

fn class() -> Value {
    let parameters = json!({"apiVersion": "gpu.example.com/v1", "kind": "Config"});
    json!({"spec": {
        "selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}],
        "config": [{"opaque": {"driver": "gpu.example.com", "parameters": parameters}}],
    }})
}

#[test]
fn selectors_compile_and_parameters_are_objects() {
    check(CLASSES, &class(), json!({}), &[]);
    check(
        CLASSES,
        &class(),
        json!({"metadata": {"namespace": "n"}}),
        &["metadata.namespace: Forbidden: not allowed on this type"],
    );
    check(
        CLASSES,
        &class(),
        json!({"spec": {"selectors": [{}, {"cel": {"expression": "device.nothing"}}, {"cel": {"expression": "x".repeat(10_241)}}]}}),
        &[
            "spec.selectors[0].cel: Required value",
            "spec.selectors[1].cel.expression: Invalid value: \"device.nothing\": compilation failed: ERROR: <input>:1:7: undefined field 'nothing'\n | device.nothing\n | ......^",
            "spec.selectors[2].cel.expression: Too long: may not be more than 10240 bytes",
        ],
    );
    let dear = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(x, ".repeat(6) + "device.driver.matches('a')" + &")".repeat(6);
    check(
        CLASSES,
        &class(),
        json!({"spec": {"selectors": [{"cel": {"expression": dear}}]}}),
        &["spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"],
    );
    check(
        CLASSES,
        &class(),
        json!({"spec": {"selectors": vec![json!({"cel": {"expression": "true"}}); 33]}}),
        &["spec.selectors: Too many: 33: must have at most 32 items"],
    );
    let opaque = |driver: &str, parameters: Value| json!({"opaque": {"driver": driver, "parameters": parameters}});
    check(
        CLASSES,
        &class(),
        json!({"spec": {"config": [{}, opaque("", Value::Null), opaque("d", json!([])), opaque("d", json!({"a": "x".repeat(10_240)}))]}}),
        &[
            "spec.config[0].opaque: Required value",
            "spec.config[1].opaque.driver: Required value",
            "spec.config[1].opaque.driver: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "spec.config[1].opaque.parameters: Required value",
            "spec.config[2].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
            "spec.config[3].opaque.parameters: Too long: may not be more than 10240 bytes",
        ],
    );
}

#[test]
fn a_class_may_change() {
    check_update(CLASSES, &class(), json!({"spec": {"selectors": [{"cel": {"expression": "true"}}]}}), &[]);
    check_update(
        CLASSES,
        &class(),
        json!({"spec": {"selectors": [{"cel": {"expression": "1"}}]}}),
        &["spec.selectors[0].cel.expression: Invalid value: \"1\": must evaluate to bool or the unknown type, not int"],
    );
}

#[test]
fn what_nobody_does_is_dropped() {
    let made = made(CLASSES, &class(), json!({"spec": {"extendedResourceName": "example.com/gpu"}}));
    assert_eq!(made["spec"].get("extendedResourceName"), None);
    assert_eq!(cells(CLASSES, &made), ["o", "<unknown>"]);
}
