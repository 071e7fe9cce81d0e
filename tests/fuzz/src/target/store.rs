//! What the store reads back.

use serde_json::Value;
use xebec_store::decoders;

use super::document::objects;

pub fn log_seeds() -> Vec<Vec<u8>> {
    let pod = objects()[0].to_string();
    let (one, other) = ("/registry/core/pods/b/a", "/registry/core/pods/b/c");
    let first = decoders::batch(&[(one, Some(pod.as_bytes())), (other, Some(b"{}"))]);
    let second = decoders::batch(&[(one, None)]);
    vec![[&first[..], &second].concat(), [&second[..], &first[..20]].concat(), [b"BXL", &second[..]].concat()]
}

pub fn log(bytes: &[u8]) {
    decoders::log(bytes);
}

pub fn version_seeds() -> Vec<Vec<u8>> {
    let texts =
        [r#"{}"#, r#"{"metadata":{}}"#, r#"{"a":"\"","metadata":{"b":[{"c":"]"}],"resourceVersion":"1"},"d":null}"#];
    let texts = texts.iter().map(|text| text.as_bytes().to_vec());
    texts.chain(objects().iter().map(|object| object.to_string().into_bytes())).collect()
}

/// Whatever an object looks like, it has its version afterwards and has not changed.
pub fn version(bytes: &[u8]) {
    _ = decoders::versioned(bytes, 7).is_some();
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return };
    let versioned = decoders::versioned(value.to_string().as_bytes(), u64::MAX);
    let metadata = value.as_object().map(|object| object.get("metadata"));
    if !metadata.is_some_and(|metadata| metadata.is_none_or(Value::is_object)) {
        assert_eq!(versioned, None, "{value}");
        return;
    }
    value["metadata"]["resourceVersion"] = u64::MAX.to_string().into();
    let read = versioned.and_then(|json: Vec<u8>| serde_json::from_slice::<Value>(&json).ok());
    assert_eq!(read, Some(value));
}
