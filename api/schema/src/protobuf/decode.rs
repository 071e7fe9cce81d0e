//! Protobuf messages to JSON values.
//!
//! Go writes every field that is not a pointer, zero or not, and its JSON encoder drops zeros marked `omitempty`. Which optional fields are pointers, where a
//! zero means something, no public definition says: [`POINTERS`] names them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use xebec_machinery::time;

use super::wire::{Reader, Wire};
use super::{DEPTH_MAX, Error};
use crate::{Alternative, DefId, Definition, Field, Type, schema};

/// Optional fields whose zero is not the same as nothing. Sorted.
#[rustfmt::skip]
pub(super) const POINTERS: [&str; 96] = [
    "activeDeadlineSeconds", "adminAccess", "allNodes", "allocateLoadBalancerNodePorts", "allowPrivilegeEscalation",
    "allowVolumeExpansion", "appProtocol", "attachRequired", "automountServiceAccountToken", "averageUtilization", "backoffLimit",
    "backoffLimitPerIndex", "blockOwnerDeletion", "bool", "completions", "controller", "defaultMode", "deletionGracePeriodSeconds",
    "enableServiceLinks", "errorCode", "expirationSeconds", "failedJobsHistoryLimit", "fsGroup", "gracePeriodSeconds",
    "hostProcess", "hostUsers", "hostnameOverride", "ignoreStoreReadErrorWithClusterBreakingPotential", "immutable",
    "ingressClassName", "int", "leaseDurationSeconds", "leaseTransitions", "loadBalancerClass", "manualSelector",
    "maxFailedIndexes", "maxItems", "maxLength", "maxProperties", "maxSkew", "maxSurge", "maxUnavailable", "maximum",
    "minAvailable", "minDomains", "minItems", "minLength", "minProperties", "minReplicas", "minimum", "mode", "multipleOf",
    "nodeAllocatableUpdatePeriodSeconds", "optional", "optionalOldSelf", "orphanDependents", "parallelism", "partition",
    "perDeviceNodeSelection", "podInfoOnMount", "port", "priority", "privileged", "progressDeadlineSeconds",
    "readOnlyRootFilesystem", "ready", "replicas", "requiresRepublish", "revisionHistoryLimit", "runAsGroup", "runAsNonRoot",
    "runAsUser", "runtimeClassName", "seLinuxMount", "serving", "setHostnameAsFQDN", "shareProcessNamespace",
    "stabilizationWindowSeconds", "started", "startingDeadlineSeconds", "storageCapacity", "storageClassName", "string",
    "succeededCount", "successThreshold", "successfulJobsHistoryLimit", "suspend", "targetCPUUtilizationPercentage", "terminating",
    "terminationGracePeriodSeconds", "timeoutSeconds", "tolerationSeconds", "ttlSecondsAfterFinished", "userSpecifiedTTL",
    "volumeAttributesClassName", "x-kubernetes-preserve-unknown-fields",
];

pub(super) fn object(def: DefId, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let mut map = Map::new();
    message(schema().definition(def), &[], bytes, &mut map, depth)?;
    Ok(Value::Object(map))
}

/// Decodes a message into `map`; `prefix` are the field numbers that lead to an embedded one.
fn message(
    def: &Definition,
    prefix: &[u16],
    bytes: &[u8],
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::Malformed("message nested too deeply"));
    }
    let at = prefix.len();
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.field()? {
        let mut candidates = def.fields.iter().filter(|f| f.proto[at] == tag && f.proto.starts_with(prefix));
        let Some(field) = candidates.next() else { continue };
        if field.proto.get(at + 1).is_some_and(|next| *next != 0) {
            message(def, &field.proto[..=at], wire.bytes()?, map, depth + 1)?;
        } else {
            merge(field, wire, map, depth)?;
        }
    }
    Ok(())
}

fn merge(field: &Field, wire: Wire<'_>, map: &mut Map<String, Value>, depth: usize) -> Result<(), Error> {
    match field.ty {
        Type::List(item) => {
            let list = map.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(items) = list {
                push(*item, wire, items, depth)?;
            }
        }
        Type::Map(item) => {
            let (key, value) = entry(*item, wire.bytes()?, depth)?;
            let entries = map.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entries) = entries {
                entries.insert(key, value);
            }
        }
        ty => {
            let value = self::value(ty, wire, depth)?;
            // Those of both kinds are behind pointers, all of them.
            let is_pointer = matches!(ty, Type::Or(..)) && !value.is_null();
            if !is_zero(&value) || field.required || is_pointer || POINTERS.binary_search(&field.name).is_ok() {
                map.insert(field.name.to_owned(), value);
            } else {
                map.remove(field.name);
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// Adds to a list: one item, or several packed numbers.
fn push(item: Type, wire: Wire<'_>, items: &mut Vec<Value>, depth: usize) -> Result<(), Error> {
    match (item, wire) {
        (Type::Int32 | Type::Int64 | Type::Bool, Wire::Bytes(packed)) => {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                items.push(value(item, Wire::Varint(reader.varint()?), depth)?);
            }
        }
        _ => items.push(value(item, wire, depth)?),
    }
    Ok(())
}

fn entry(item: Type, bytes: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let mut reader = Reader::new(bytes);
    let (mut key, mut found) = (String::new(), crate::decode::zero(item));
    while let Some((tag, wire)) = reader.field()? {
        match tag {
            1 => wire.str()?.clone_into(&mut key),
            2 => found = value(item, wire, depth)?,
            _ => {}
        }
    }
    Ok((key, found))
}

fn value(ty: Type, wire: Wire<'_>, depth: usize) -> Result<Value, Error> {
    Ok(match ty {
        Type::String => wire.str()?.into(),
        Type::Bytes => STANDARD.encode(wire.bytes()?).into(),
        Type::Bool => (wire.varint()? != 0).into(),
        Type::Int32 => wire.int32()?.into(),
        Type::Int64 => wire.int()?.into(),
        Type::Double => wire.double()?.into(),
        Type::Time | Type::MicroTime => timestamp(wire.bytes()?, ty == Type::MicroTime)?,
        Type::Quantity => match first(wire.bytes()?)? {
            Some(text) => std::str::from_utf8(text).map_err(|_| Error::Malformed("invalid UTF-8"))?.into(),
            None => "0".into(),
        },
        Type::IntOrString => int_or_string(wire.bytes()?)?,
        Type::RawExtension | Type::FieldsV1 | Type::Json => match first(wire.bytes()?)? {
            None | Some([]) => Value::Null,
            Some(raw) if raw.starts_with(super::MAGIC) && depth < 2 => super::decode(raw)?,
            Some(raw) => serde_json::from_slice(raw).map_err(|e| Error::Value(e.to_string()))?,
        },
        Type::WrappedStrings => {
            let mut items = Vec::new();
            let mut reader = Reader::new(wire.bytes()?);
            while let Some((tag, wire)) = reader.field()? {
                if tag == 1 {
                    items.push(wire.str()?.into());
                }
            }
            Value::Array(items)
        }
        Type::Object(def) => object(def, wire.bytes()?, depth + 1)?,
        Type::Or(def, other) => either(def, other, wire.bytes()?, depth + 1)?,
        Type::List(_) | Type::Map(_) | Type::Any => Value::Null,
    })
}

/// As Go's encoder to JSON chooses between the two.
fn either(def: DefId, other: Alternative, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let item = match other {
        Alternative::Bool => Type::Bool,
        Alternative::List => Type::Object(def),
        Alternative::Strings => Type::String,
    };
    let (mut schema, mut allows, mut items) = (Value::Null, Value::Bool(false), Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.field()? {
        match (other, tag) {
            (Alternative::Bool, 1) => allows = value(item, wire, depth)?,
            (Alternative::Bool, 2) | (_, 1) => schema = object(def, wire.bytes()?, depth)?,
            (_, 2) => items.push(value(item, wire, depth)?),
            _ => {}
        }
    }
    Ok(match other {
        Alternative::Bool if schema.is_null() => allows,
        Alternative::List | Alternative::Strings if !items.is_empty() => items.into(),
        _ => schema,
    })
}

/// Field 1 of a message that has no other.
fn first(bytes: &[u8]) -> Result<Option<&[u8]>, Error> {
    let mut reader = Reader::new(bytes);
    let mut found = None;
    while let Some((tag, wire)) = reader.field()? {
        if tag == 1 {
            found = Some(wire.bytes()?);
        }
    }
    Ok(found)
}

fn timestamp(bytes: &[u8], micro: bool) -> Result<Value, Error> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.field()? {
        match tag {
            1 => seconds = wire.int()?,
            2 => nanos = u32::try_from(wire.int()?).unwrap_or(0).min(999_999_999),
            _ => {}
        }
    }
    // Go's zero time is written as an empty message, 1970 as two zeros (`metav1.Time.Unmarshal`).
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let at = time::from_unix(seconds, nanos).ok_or(Error::Malformed("time out of range"))?;
    Ok(if micro { time::rfc3339_micro(at) } else { time::rfc3339(at) }.into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_string, mut number, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.field()? {
        match tag {
            1 => is_string = wire.varint()? == 1,
            2 => number = wire.int32()?,
            3 => text = wire.str()?,
            _ => {}
        }
    }
    Ok(if is_string { text.into() } else { number.into() })
}
