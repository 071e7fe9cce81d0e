//! The three ways to write an object.

use serde_json::{Value, json};
use xebec_machinery::{GroupVersion, json as strict_json, object, yaml};
use xebec_schema::{decode, default, protobuf, schema};

pub fn objects() -> Vec<Value> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "b", "labels": {"x": "y"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": "http", "path": "/"}}}],
            "tolerations": [{"operator": "Exists", "tolerationSeconds": 300}],
            "terminationGracePeriodSeconds": 30,
        },
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "aHVzaA=="}});
    let options =
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 5, "propagationPolicy": "Orphan"});
    vec![pod, secret, options]
}

pub fn json_seeds() -> Vec<Vec<u8>> {
    objects().iter().map(|object| object.to_string().into_bytes()).collect()
}

/// What is read can be read again, and is what a kind has, or is told what it should be.
pub fn json(bytes: &[u8]) {
    match strict_json::parse_strict(bytes) {
        Ok((value, _)) => {
            assert!(strict_json::parse_strict(value.to_string().as_bytes()).is_ok(), "{value}");
            typed(value);
        }
        Err(error) => _ = error.to_string(),
    }
}

/// An object that was checked is as its kind has it: it passes again, and stays the same.
fn typed(mut value: Value) {
    _ = strict_json::mistyped(&value, "struct {}");
    let (version, kind) = (object::api_version(&value).parse::<GroupVersion>(), object::kind(&value));
    let definition = version.ok().and_then(|version| schema().kind(&version.group, &version.version, kind));
    let Some(definition) = definition else { return };
    if decode::check(definition, &mut value).is_ok() {
        let mut again = value.clone();
        let unknown = decode::check(definition, &mut again);
        assert_eq!((unknown, &again), (Ok(Vec::new()), &value));
        default::apply(definition, &mut value);
    }
}

pub fn yaml_seeds() -> Vec<Vec<u8>> {
    let text = "a: &x {b: [1, 'two', \"three\"]}\nc: *x\nd: |\n  text\n  more\ne: !!str 5\n? f\n: - g\n  - h: ~\n";
    json_seeds().into_iter().chain([text.as_bytes().to_vec()]).collect()
}

/// What is read is JSON.
pub fn yaml(bytes: &[u8]) {
    if let Ok((value, _)) = yaml::parse(bytes) {
        assert!(strict_json::parse_strict(value.to_string().as_bytes()).is_ok(), "{value}");
    }
}

pub fn protobuf_seeds() -> Vec<Vec<u8>> {
    objects().iter().filter_map(|object| protobuf::encode(object).ok()).collect()
}

/// What is read can be written, unless it says what no JSON would.
pub fn protobuf(bytes: &[u8]) {
    if let Ok(value) = protobuf::decode(bytes) {
        _ = protobuf::encode(&value).is_ok();
    }
}
