//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply.

use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::Value;
use xebec_machinery::patch::{json, merge, strategic};
use xebec_machinery::{Status, object};

use super::update::{Part, change};
use super::{Answer, Call, create_object, decode, encode, events, managed};
use crate::options::{FieldValidation, WriteOptions};
use crate::wire;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

const TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

impl Kind {
    fn of(call: &Call) -> Result<Self, Status> {
        let value = call.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        match value.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+json" => Ok(Self::Apply),
            _ => Err(Status::unsupported_media_type(&TYPES)),
        }
    }
}

pub async fn patch(call: &Call, body: Bytes) -> Answer {
    patch_part(call, body, Part::Main).await
}

pub async fn patch_part(call: &Call, body: Bytes, part: Part) -> Answer {
    let kind = Kind::of(call)?;
    let options = WriteOptions::parse(&call.query, "PatchOptions")?;
    if kind == Kind::Apply {
        return apply(call, &body, &options, part).await;
    }
    if options.force {
        use xebec_machinery::field::{Error, Path};
        let error = Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch");
        let kind = xebec_machinery::GroupKind::new("meta.k8s.io", "PatchOptions");
        return Err(Status::invalid(&kind, "", vec![error]));
    }
    let patch = Patch::parse(call, kind, &body, &options)?;
    let changed = change(call, &options, part, |old| patch.apply(call, old)).await?;
    let value = changed.ok_or_else(|| call.resource.not_found(call.name()))?;
    encode::object(call, StatusCode::OK, events::shown(&call.resource, value)?)
}

/// A patch that is not an apply.
pub struct Patch {
    kind: Kind,
    /// As sent, for a JSON patch.
    bytes: Bytes,
    value: Value,
    validation: FieldValidation,
}

impl Patch {
    fn parse(call: &Call, kind: Kind, body: &Bytes, options: &WriteOptions) -> Result<Self, Status> {
        let (value, duplicates) = xebec_machinery::json::parse_strict(body)
            .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
        if kind != Kind::Json && !value.is_object() {
            return Err(Status::bad_request(
                "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
            ));
        }
        match options.field_validation {
            FieldValidation::Strict if !duplicates.is_empty() => {
                return Err(Status::bad_request(format!("strict decoding error: {}", duplicates.join(", "))));
            }
            FieldValidation::Warn => duplicates.into_iter().for_each(|text| call.warn(text)),
            _ => {}
        }
        Ok(Self { kind, bytes: body.clone(), value, validation: options.field_validation })
    }

    /// For bodies that have no schema of the resource (`scale`).
    pub fn for_subresource(call: &Call, body: &Bytes, options: &WriteOptions) -> Result<Self, Status> {
        match Kind::of(call)? {
            Kind::Strategic => Self::parse(call, Kind::Merge, body, options),
            Kind::Apply => Err(Status::unsupported_media_type(&TYPES[..3])),
            kind => Self::parse(call, kind, body, options),
        }
    }

    pub fn apply_untyped(&self, target: &mut Value) -> Result<(), Status> {
        match self.kind {
            Kind::Json => json::apply(target, &self.bytes),
            _ => {
                merge::apply(target, self.value.clone());
                Ok(())
            }
        }
    }

    fn apply(&self, call: &Call, old: &Value) -> Result<Value, Status> {
        let resource = &call.resource;
        let mut new = events::shown(resource, old.clone())?;
        match self.kind {
            Kind::Strategic => strategic::apply(&mut new, self.value.clone(), resource.row.patch_schema())?,
            _ => self.apply_untyped(&mut new)?,
        }
        check_identity(call, &new)?;
        decode::strict(call, &mut new, &resource.gvk, Some(resource.row.def), Vec::new(), self.validation)?;
        events::stored(resource, &mut new);
        Ok(new)
    }
}

/// A patch cannot make another object of this one.
fn check_identity(call: &Call, new: &Value) -> Result<(), Status> {
    let resource = &call.resource;
    if object::api_version(new) != resource.api_version || object::kind(new) != resource.row.kind {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {} {:?}",
            resource.row.kind,
            object::api_version(new),
            object::kind(new)
        )));
    }
    if object::name(new) != call.name() {
        use xebec_machinery::field::{Error, Path};
        let error = Error::invalid(&Path::new("metadata.name"), object::name(new), "field is immutable");
        return Err(Status::invalid(&resource.gk, call.name(), vec![error]));
    }
    Ok(())
}

async fn apply(call: &Call, body: &Bytes, options: &WriteOptions, part: Part) -> Answer {
    use xebec_machinery::field::{Error, Path};
    let resource = &call.resource;
    if options.field_manager.is_empty() {
        let error = Error::required(&Path::new("fieldManager"), "is required for apply patch");
        let kind = xebec_machinery::GroupKind::new("meta.k8s.io", "PatchOptions");
        return Err(Status::invalid(&kind, "", vec![error]));
    }
    let decoded = wire::decode(body, crate::negotiate::Format::Yaml)
        .map_err(|status| Status::bad_request(format!("error decoding YAML: {}", status.message)))?;
    let mut config = decoded.value;
    if object::api_version(&config) != resource.api_version || object::kind(&config) != resource.row.kind {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {} {:?}",
            resource.row.kind,
            object::api_version(&config),
            object::kind(&config)
        )));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    decode::strict(
        call,
        &mut config,
        &resource.gvk,
        Some(resource.row.def),
        decoded.duplicates,
        options.field_validation,
    )?;
    super::meta::match_name(call, &mut config)?;
    super::meta::match_namespace(call, &mut config)?;
    events::stored(resource, &mut config);
    let changed = change(call, options, part, |old| {
        managed::apply(resource, Some(old), &config, options, &call.info.subresource)
    })
    .await?;
    match changed {
        Some(value) => encode::object(call, StatusCode::OK, events::shown(resource, value)?),
        None if part == Part::Main => {
            let new = managed::apply(resource, None, &config, options, "")?;
            let value = create_object(call, new, options).await?;
            encode::object(call, StatusCode::CREATED, events::shown(resource, value)?)
        }
        None => Err(resource.not_found(call.name())),
    }
}
