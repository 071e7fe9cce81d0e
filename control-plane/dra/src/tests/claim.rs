use serde_json::{Value, json};

use super::{cells, check, check_update, context, made, strategy, texts};

const CLAIMS: &str = "resourceclaims";
const TEMPLATES: &str = "resourceclaimtemplates";
const UNKNOWN: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

fn claim() -> Value {
    json!({"spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]}}})
}

fn with_requests(requests: Value) -> Value {
    json!({"spec": {"devices": {"requests": requests}}})
}

#[track_caller]
fn check_request(request: Value, expected: &[&str]) {
    check(CLAIMS, &claim(), with_requests(json!([request])), expected);
}

#[test]
fn one_device_is_asked_for_where_nothing_is_said() {
    let alternatives =
        json!([{"name": "b", "deviceClassName": "c", "allocationMode": "All", "tolerations": [{"key": "k"}]}]);
    let claim = made(
        CLAIMS,
        &claim(),
        with_requests(json!([
            {"name": "a", "exactly": {"deviceClassName": "c"}}, {"name": "or", "firstAvailable": alternatives},
        ])),
    );
    let requests = &claim["spec"]["devices"]["requests"];
    assert_eq!(requests[0]["exactly"], json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}));
    let tolerations = json!([{"key": "k", "operator": "Equal"}]);
    let sub = json!({"name": "b", "deviceClassName": "c", "allocationMode": "All", "tolerations": tolerations});
    assert_eq!(requests[1]["firstAvailable"][0], sub);
    assert_eq!(claim["status"], json!({}));
    assert_eq!(cells(CLAIMS, &claim), ["o", "pending", "<unknown>"]);
}

#[test]
fn a_request_is_of_one_form() {
    check_request(json!({"name": "gpu", "exactly": {"deviceClassName": "c", "count": 3}}), &[]);
    check_request(
        json!({"name": "gpu"}),
        &["spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"],
    );
    check_request(
        json!({"name": "gpu", "exactly": {"deviceClassName": "c"}, "firstAvailable": [{"name": "a", "deviceClassName": "c"}]}),
        &[
            "spec.devices.requests[0]: Invalid value: \"null\": exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ],
    );
    check_request(
        json!({"name": "gpu", "exactly": {"deviceClassName": "", "allocationMode": "All", "count": 2}}),
        &[
            "spec.devices.requests[0].exactly.deviceClassName: Required value",
            "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
        ],
    );
    check_request(
        json!({"name": "gpu", "exactly": {"deviceClassName": "c", "count": -1}}),
        &["spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero"],
    );
    check_request(
        json!({"name": "gpu", "exactly": {"deviceClassName": "c", "allocationMode": "Some"}}),
        &[
            "spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
        ],
    );
    let sub = json!({"name": "a", "deviceClassName": "c"});
    check_request(
        json!({"name": "gpu", "firstAvailable": [sub, sub]}),
        &["spec.devices.requests[0].firstAvailable[1]: Duplicate value: \"a\""],
    );
    check_request(
        json!({"name": "gpu", "firstAvailable": vec![sub; 9]}),
        &["spec.devices.requests[0].firstAvailable: Too many: 9: must have at most 8 items"],
    );
}

#[test]
fn tolerations_of_devices_are_looked_into() {
    let tolerations = json!([
        {"operator": "Exists"}, {"key": "k", "operator": "Exists", "value": "v"}, {"key": "k", "operator": "Like", "effect": "Never"},
    ]);
    check_request(
        json!({"name": "gpu", "exactly": {"deviceClassName": "c", "tolerations": tolerations}}),
        &[
            "spec.devices.requests[0].exactly.tolerations[1].value: Invalid value: \"v\": must be empty for operator `Exists`",
            "spec.devices.requests[0].exactly.tolerations[2].operator: Unsupported value: \"Like\": supported values: \"Equal\", \"Exists\"",
            "spec.devices.requests[0].exactly.tolerations[2].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
        ],
    );
}

#[test]
fn constraints_and_configuration_name_requests() {
    let requests = json!([
        {"name": "a", "exactly": {"deviceClassName": "c"}},
        {"name": "b", "firstAvailable": [{"name": "large", "deviceClassName": "c"}]},
    ]);
    let devices = |constraints: Value, config: Value| json!({"spec": {"devices": {"requests": requests, "constraints": constraints, "config": config}}});
    let opaque = json!({"driver": "d.example.com", "parameters": {}});
    let constraint = json!({"requests": ["a", "b", "b/large"], "matchAttribute": "example.com/numa"});
    check(CLAIMS, &claim(), devices(json!([constraint]), json!([{"requests": ["b/large"], "opaque": opaque}])), &[]);
    check(
        CLAIMS,
        &claim(),
        devices(
            json!([{"requests": ["c", "a/x", "a/b/c"], "matchAttribute": "numa"}, {}]),
            json!([{"requests": ["a", "a"]}]),
        ),
        &[
            &format!("spec.devices.constraints[0].requests[0]: Invalid value: \"c\": {UNKNOWN}"),
            &format!("spec.devices.constraints[0].requests[1]: Invalid value: \"a/x\": {UNKNOWN}"),
            &format!("spec.devices.constraints[0].requests[2]: Invalid value: \"a/b/c\": {UNKNOWN}"),
            "spec.devices.constraints[0].matchAttribute: Invalid value: \"numa\": a fully qualified name must be a domain and a name separated by a slash",
            "spec.devices.constraints[1].matchAttribute: Required value",
            "spec.devices.config[0].requests[1]: Duplicate value: \"a\"",
            "spec.devices.config[0].opaque: Required value",
        ],
    );
}

#[test]
fn specs_of_claims_and_templates_stay() {
    let other = with_requests(json!([{"name": "other", "exactly": {"deviceClassName": "c"}}]));
    let (_, errors) = ((), strategy_update(CLAIMS, &claim(), other.clone()));
    assert!(
        errors[0].starts_with("spec: Invalid value: {") && errors[0].ends_with("}: field is immutable"),
        "{errors:?}"
    );
    let template = json!({"spec": {"metadata": {"labels": {"a": "b"}}, "spec": claim()["spec"]}});
    check(TEMPLATES, &template, json!({}), &[]);
    check_update(TEMPLATES, &template, json!({"metadata": {"labels": {"x": "y"}}}), &[]);
    let errors = strategy_update(TEMPLATES, &template, json!({"spec": {"metadata": {"labels": {"a": "c"}}}}));
    assert!(errors[0].starts_with("spec: Invalid value: {"), "{errors:?}");
    check(
        TEMPLATES,
        &template,
        json!({"spec": {"spec": {"devices": {"requests": [{"name": "a"}]}}}}),
        &["spec.spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"],
    );
}

fn strategy_update(resource: &str, base: &Value, change: Value) -> Vec<String> {
    let old = made(resource, base, json!({}));
    let mut new = old.clone();
    xebec_machinery::patch::merge::apply(&mut new, change);
    texts(strategy(resource).validate_update(&new, &old))
}

fn allocation() -> Value {
    json!({"devices": {"results": [{"request": "gpu", "driver": "gpu.example.com", "pool": "node-1", "device": "gpu-0"}]}})
}

fn consumer(uid: &str) -> Value {
    json!({"resource": "pods", "name": "p", "uid": uid})
}

/// What a write of `new` over `old` finds, and the status that it leaves.
fn status(old: Value, new: Value, change: Value) -> (Vec<String>, Value) {
    let mut before = made(CLAIMS, &claim(), json!({}));
    before["status"] = old;
    let mut after = before.clone();
    after["status"] = new;
    xebec_machinery::patch::merge::apply(&mut after, change.clone());
    xebec_machinery::patch::merge::apply(&mut before, change);
    after["spec"]["devices"]["requests"] = json!([]);
    let strategy = strategy(CLAIMS);
    strategy.default(&mut after);
    strategy.prepare_for_status_update(&context(), &mut after, &before);
    assert_eq!(after["spec"], before["spec"], "a status update leaves the spec");
    (texts(strategy.validate_status_update(&after, &before)), after["status"].clone())
}

#[track_caller]
fn check_status(old: Value, new: Value, expected: &[&str]) {
    assert_eq!(status(old, new, json!({})).0, expected);
}

#[test]
fn a_claim_is_reserved_once_it_is_allocated() {
    check_status(json!({}), json!({"allocation": allocation(), "reservedFor": [consumer("u1"), consumer("u2")]}), &[]);
    check_status(
        json!({}),
        json!({"reservedFor": [consumer("u1")]}),
        &["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"],
    );
    check_status(
        json!({}),
        json!({"allocation": allocation(), "reservedFor": [consumer("u1"), consumer("u1"), {}]}),
        &[
            "status.reservedFor[2].resource: Required value",
            "status.reservedFor[2].name: Required value",
            "status.reservedFor[2].uid: Required value",
            "status.reservedFor[1]: Duplicate value: \"u1\"",
        ],
    );
    let many: Vec<Value> = (0..257).map(|n| consumer(&n.to_string())).collect();
    check_status(
        json!({}),
        json!({"allocation": allocation(), "reservedFor": many}),
        &["status.reservedFor: Too many: 257: must have at most 256 items"],
    );
    let allocated = json!({"allocation": allocation(), "reservedFor": [consumer("u1")]});
    let more = json!({"allocation": allocation(), "reservedFor": [consumer("u1"), consumer("u2")]});
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(
        status(allocated.clone(), more, deleted.clone()).0,
        [
            "status.reservedFor: Forbidden: new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        ],
    );
    assert_eq!(status(allocated, json!({"allocation": allocation()}), deleted).0, [""; 0]);
}

#[test]
fn an_allocation_does_not_change() {
    check_status(json!({"allocation": allocation()}), json!({}), &[]);
    let mut other = allocation();
    other["devices"]["results"][0]["device"] = json!("gpu-1");
    let (errors, _) = status(json!({"allocation": allocation()}), json!({"allocation": other}), json!({}));
    assert!(errors[0].starts_with("status.allocation: Invalid value: {"), "{errors:?}");
    let bad = json!({"devices": {"results": [{"request": "x", "driver": "d", "pool": "", "device": "D"}], "config": [{"source": "Me", "opaque": {"driver": "d", "parameters": {}}}]}, "nodeSelector": {"nodeSelectorTerms": []}});
    check_status(
        json!({}),
        json!({"allocation": bad}),
        &[
            &format!("status.allocation.devices.results[0].request: Invalid value: \"x\": {UNKNOWN}"),
            "status.allocation.devices.results[0].pool: Required value",
            "status.allocation.devices.results[0].device: Invalid value: \"D\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "status.allocation.devices.config[0].source: Unsupported value: \"Me\": supported values: \"FromClaim\", \"FromClass\"",
            "status.allocation.nodeSelector.nodeSelectorTerms: Required value: must have at least one node selector term",
        ],
    );
}

#[test]
fn drivers_speak_of_allocated_devices_only() {
    let device = |name: &str| json!({"driver": "gpu.example.com", "pool": "node-1", "device": name, "data": {"a": 1}});
    check_status(
        json!({"allocation": allocation()}),
        json!({"allocation": allocation(), "devices": [device("gpu-0")]}),
        &[],
    );
    check_status(
        json!({"allocation": allocation()}),
        json!({"allocation": allocation(), "devices": [device("gpu-1")]}),
        &[
            "status.devices[0]: Invalid value: {\"device\":\"gpu-1\",\"driver\":\"gpu.example.com\",\"pool\":\"node-1\"}: must be an allocated device in the claim",
        ],
    );
    let mut noisy = device("gpu-0");
    noisy["networkData"] = json!({"interfaceName": "x".repeat(257), "ips": ["10.0.0.1"]});
    noisy["data"] = json!("text");
    check_status(
        json!({"allocation": allocation()}),
        json!({"allocation": allocation(), "devices": [noisy]}),
        &[
            "status.devices[0].data: Invalid value: \"<value omitted>\": must be a valid JSON object",
            "status.devices[0].networkData.interfaceName: Too long: may not be more than 256 bytes",
            "status.devices[0].networkData.ips[0]: Invalid value: \"10.0.0.1\": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
        ],
    );
    let old = json!({"allocation": allocation(), "devices": [device("gpu-0")]});
    let (errors, left) = status(old, json!({"devices": [device("gpu-0")]}), json!({}));
    assert_eq!((errors.len(), left), (0, json!({})), "what was said of a device goes with its allocation");
}

#[test]
fn the_state_of_a_claim_is_printed() {
    let mut claim = made(CLAIMS, &claim(), json!({}));
    claim["status"] = json!({"allocation": allocation()});
    assert_eq!(cells(CLAIMS, &claim)[1], "allocated");
    claim["status"]["reservedFor"] = json!([consumer("u")]);
    assert_eq!(cells(CLAIMS, &claim)[1], "allocated,reserved");
    claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(cells(CLAIMS, &claim)[1], "deleted,allocated,reserved");
    claim["status"] = json!({});
    assert_eq!(cells(CLAIMS, &claim)[1], "deleted");
}
