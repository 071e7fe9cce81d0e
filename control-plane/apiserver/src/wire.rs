//! Between bytes and objects: JSON, YAML and protobuf.

use serde_json::Value;
use xebec_machinery::{Status, json, yaml};
use xebec_schema::protobuf;

use crate::negotiate::Format;

/// An object with the duplicate fields that were found on the way.
pub struct Decoded {
    pub value: Value,
    pub duplicates: Vec<String>,
}

pub fn decode(bytes: &[u8], format: Format) -> Result<Decoded, Status> {
    let unreadable = |e: &dyn std::fmt::Display| Status::bad_request(e.to_string());
    let (value, duplicates) = match format {
        Format::Json => json::parse_strict(bytes).map_err(|e| unreadable(&e))?,
        Format::Yaml => yaml::parse(bytes).map_err(|e| unreadable(&e))?,
        Format::Protobuf => (from_protobuf(bytes)?, Vec::new()),
    };
    Ok(Decoded { value, duplicates })
}

pub fn to_yaml(value: &Value) -> Result<Vec<u8>, Status> {
    serde_yaml_ng::to_string(value).map(String::into_bytes).map_err(Status::internal)
}

pub fn to_protobuf(value: &Value) -> Result<Vec<u8>, Status> {
    protobuf::encode(value).map_err(Status::internal)
}

fn from_protobuf(bytes: &[u8]) -> Result<Value, Status> {
    protobuf::decode(bytes).map_err(|e| Status::bad_request(e.to_string()))
}
