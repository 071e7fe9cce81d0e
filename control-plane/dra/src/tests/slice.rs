use serde_json::{Value, json};

use super::{cells, check, check_update, made, strategy};

const SLICES: &str = "resourceslices";
const PER_DEVICE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

fn slice() -> Value {
    let device = json!({
        "name": "gpu-0", "attributes": {"model": {"string": "a"}, "example.com/numa": {"int": 0}}, "capacity": {"memory": {"value": "8Gi"}},
    });
    json!({"spec": {
        "driver": "gpu.example.com", "nodeName": "node-1", "pool": {"name": "node-1", "generation": 1, "resourceSliceCount": 1}, "devices": [device],
    }})
}

fn spec(change: Value) -> Value {
    json!({"spec": change})
}

#[track_caller]
fn check_device(device: Value, expected: &[&str]) {
    check(SLICES, &slice(), spec(json!({"devices": [device]})), expected);
}

#[test]
fn devices_are_in_one_place() {
    check(SLICES, &slice(), json!({}), &[]);
    check(
        SLICES,
        &slice(),
        spec(json!({"nodeName": null})),
        &[
            "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
        ],
    );
    check(
        SLICES,
        &slice(),
        spec(json!({"allNodes": true})),
        &[
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
        ],
    );
    check(
        SLICES,
        &slice(),
        spec(json!({"nodeName": "", "allNodes": false, "perDeviceNodeSelection": false})),
        &[
            "spec.nodeName: Invalid value: \"\": must be either unset or set to a non-empty string",
            "spec.allNodes: Invalid value: false: must be either unset or set to true",
            "spec.perDeviceNodeSelection: Invalid value: false: must be either unset or set to true",
            "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
        ],
    );
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]});
    let selector = |terms: Value| spec(json!({"nodeName": null, "nodeSelector": {"nodeSelectorTerms": terms}}));
    check(SLICES, &slice(), selector(json!([term])), &[]);
    let errors = strategy(SLICES).validate(&made(SLICES, &slice(), selector(json!([term, term]))));
    assert!(errors[0].to_string().ends_with("must have exactly one node selector term"), "{errors:?}");
    let each = |device: Value| spec(json!({"nodeName": null, "perDeviceNodeSelection": true, "devices": [device]}));
    check(SLICES, &slice(), each(json!({"name": "a", "nodeName": "n"})), &[]);
    check(SLICES, &slice(), each(json!({"name": "a"})), &[&format!("spec.devices[0]: Required value: {PER_DEVICE}")]);
    check_device(
        json!({"name": "a", "allNodes": true}),
        &[
            "spec.devices[0]: Invalid value: \"null\": `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
        ],
    );
}

#[test]
fn pools_count_their_slices() {
    check(
        SLICES,
        &slice(),
        spec(json!({"driver": "", "pool": {"name": "a//b", "generation": -1, "resourceSliceCount": 0}})).clone(),
        &[
            "spec.driver: Required value",
            "spec.driver: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "spec.pool.name: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
        ],
    );
}

#[test]
fn a_slice_stays_of_its_driver_pool_and_node() {
    check_update(SLICES, &slice(), spec(json!({"pool": {"generation": 2}, "devices": []})), &[]);
    check_update(
        SLICES,
        &slice(),
        spec(json!({"driver": "other.example.com", "nodeName": "node-2", "pool": {"name": "p"}})),
        &[
            "spec.pool.name: Invalid value: \"p\": field is immutable",
            "spec.driver: Invalid value: \"other.example.com\": field is immutable",
            "spec.nodeName: Invalid value: \"node-2\": field is immutable",
        ],
    );
}

#[test]
fn devices_have_names_and_typed_attributes() {
    check_device(
        json!({"name": "a", "attributes": {
            "a": {}, "b": {"int": 1, "bool": true}, "c": {"version": "1"}, "d": {"string": "x".repeat(65)}, "e/f/g": {"int": 1}, "h-i": {"int": 1},
        }}),
        &[
            "spec.devices[0].attributes[a]: Invalid value: \"\": exactly one value must be specified",
            "spec.devices[0].attributes[b]: Invalid value: {\"bool\":true,\"int\":1}: exactly one value must be specified",
            "spec.devices[0].attributes[c].version: Invalid value: \"1\": must be a string compatible with semver.org spec 2.0.0",
            "spec.devices[0].attributes[d].string: Too long: may not be more than 64 bytes",
            "spec.devices[0].attributes: Invalid value: \"e/f/g\": must not contain more than one slash",
            "spec.devices[0].attributes: Invalid value: \"h-i\": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
        ],
    );
    let many: serde_json::Map<String, Value> = (0..33).map(|n| (format!("a{n}"), json!({"int": n}))).collect();
    check_device(
        json!({"name": "a", "attributes": many}),
        &["spec.devices[0]: Invalid value: 33: the total number of attributes and capacities must not exceed 32"],
    );
    check(
        SLICES,
        &slice(),
        spec(json!({"devices": [{"name": "a"}, {"name": "a"}]})),
        &["spec.devices[1]: Duplicate value: \"a\""],
    );
    let devices = |count: usize, taints: Value| -> Value {
        let devices: Vec<Value> = (0..count).map(|n| json!({"name": format!("d{n}"), "taints": taints})).collect();
        spec(json!({"devices": devices}))
    };
    check(SLICES, &slice(), devices(128, json!([])), &[]);
    check(SLICES, &slice(), devices(129, json!([])), &["spec.devices: Too many: 129: must have at most 128 items"]);
    let taints = json!([{"key": "k", "effect": "NoSchedule"}]);
    check(SLICES, &slice(), devices(65, taints), &["spec.devices: Too many: 65: must have at most 64 items"]);
}

#[test]
fn taints_and_counters_are_looked_into() {
    check_device(
        json!({"name": "a", "taints": [{"key": "k", "effect": "Prefer"}, {"key": "k"}]}),
        &[
            "spec.devices[0].taints[0].effect: Unsupported value: \"Prefer\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
            "spec.devices[0].taints[1].effect: Required value",
        ],
    );
    let made = made(
        SLICES,
        &slice(),
        spec(json!({"devices": [{"name": "a", "taints": [{"key": "k", "effect": "NoExecute"}]}]})),
    );
    assert_eq!(made["spec"]["devices"][0]["taints"][0]["timeAdded"], "1970-01-01T00:00:00Z");
    check_device(
        json!({"name": "a", "consumesCounters": [{"counterSet": "s", "counters": {}}, {"counterSet": "s", "counters": {"c": {"value": "1"}}}]}),
        &[
            "spec.devices[0].consumesCounters[0].counters: Required value",
            "spec.devices[0].consumesCounters[1]: Duplicate value: \"s\"",
        ],
    );
    let counters = json!([{"name": "s", "counters": {"memory": {"value": "80Gi"}}}]);
    check(SLICES, &slice(), spec(json!({"devices": null, "sharedCounters": counters})), &[]);
    check(
        SLICES,
        &slice(),
        spec(json!({"sharedCounters": counters})),
        &["spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed"],
    );
}

#[test]
fn slices_are_found_by_node_and_driver() {
    let made = made(SLICES, &slice(), json!({}));
    let fields = strategy(SLICES).selectable_fields(&made);
    let expected = [("metadata.name", "o"), ("spec.nodeName", "node-1"), ("spec.driver", "gpu.example.com")];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(cells(SLICES, &made), ["o", "node-1", "gpu.example.com", "node-1", "<unknown>"]);
}
