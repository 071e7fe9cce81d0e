//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply.

use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::Value;
use xebec_machinery::patch::apply::untyped;
use xebec_machinery::patch::{json, merge, strategic};
use xebec_machinery::{GroupVersionKind, Status, object};

use super::decode::kind::{self, Mismatch};
use super::update::{Part, change};
use super::{Answer, Call, convert, create_object, decode, encode, managed, meta, scale};
use crate::kinds::Resource;
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
        .and_then(|kind| match kind {
            // Only built-in types say how their lists merge.
            Self::Strategic if call.resource.as_custom().is_some() => {
                Err(Status::unsupported_media_type(&[TYPES[0], TYPES[1], TYPES[3]]))
            }
            kind => Ok(kind),
        })
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
    encode::object(call, StatusCode::OK, convert::shown(&call.resource, value)?)
}

/// A patch that is not an apply.
pub struct Patch {
    kind: Kind,
    /// As sent, for a JSON patch.
    bytes: Bytes,
    value: Value,
    /// Fields that are there twice.
    duplicates: Vec<String>,
    validation: FieldValidation,
}

impl Patch {
    fn parse(call: &Call, kind: Kind, body: &Bytes, options: &WriteOptions) -> Result<Self, Status> {
        let (value, mut duplicates) = xebec_machinery::json::parse_strict(body)
            .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
        if kind != Kind::Json && !value.is_object() {
            let why = xebec_machinery::json::mistyped(&value, "map[string]interface {}");
            return Err(Status::bad_request(format!("error decoding patch: {why}")));
        }
        match options.field_validation {
            FieldValidation::Warn => duplicates.drain(..).for_each(|text| call.warn(text)),
            FieldValidation::Ignore => duplicates.clear(),
            FieldValidation::Strict => {}
        }
        Ok(Self { kind, bytes: body.clone(), value, duplicates, validation: options.field_validation })
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
        if !self.duplicates.is_empty() {
            return Err(self.unfit(target, &strict_error(&self.duplicates)));
        }
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
        let patched = || -> Result<Value, Status> {
            let mut new = convert::shown(resource, old.clone())?;
            match self.kind {
                Kind::Strategic => strategic::apply(&mut new, self.value.clone(), resource.row.patch_schema())?,
                _ => self.apply_untyped(&mut new)?,
            }
            Ok(new)
        };
        let mut new = patched()?;
        self.check_type(resource, &mut new)?;
        let unknown = match resource.as_custom() {
            Some(custom) => custom.decode(&mut new).map_err(|why| why.to_string()),
            None => decode::unknown(&mut new, resource.definition()),
        };
        let problem = match unknown {
            Err(why) => Some(why),
            Ok(unknown) if self.validation == FieldValidation::Strict => {
                let found = [self.duplicates.clone(), unknown].concat();
                (!found.is_empty()).then(|| strict_error(&found))
            }
            Ok(unknown) => {
                let heard = self.validation == FieldValidation::Warn;
                unknown.into_iter().filter(|_| heard).for_each(|text| call.warn(text));
                None
            }
        };
        if let Some(problem) = problem {
            return Err(self.unfit(&patched()?, &problem));
        }
        meta::check_name(call, &new)?;
        convert::stored(resource, &mut new);
        Ok(new)
    }

    /// A patch cannot make an object of another kind of this one. What a strategic merge patch makes has the type that it had: it is read into one.
    fn check_type(&self, resource: &Resource, new: &mut Value) -> Result<(), Status> {
        let custom = resource.as_custom().is_some();
        if self.kind == Kind::Strategic || (!custom && object::kind(new).is_empty()) {
            object::set_type(new, &resource.api_version, resource.row.kind);
            return Ok(());
        }
        if object::kind(new).is_empty() {
            return Err(self.unfit(new, &format!("Object 'Kind' is missing in '{new}'")));
        }
        let given = GroupVersionKind::from_api_version(object::api_version(new), object::kind(new));
        let given = given.map_err(|error| self.unfit(new, &error.to_string()))?;
        let fits = if custom { kind::custom } else { kind::built_in };
        fits(&given, &resource.gvk).map_err(|mismatch| match mismatch {
            Mismatch::Version => kind::other_version(&given, &resource.gvk),
            Mismatch::Unfit(why) => self.unfit(new, &why),
        })?;
        if custom { kind::custom_kind(resource, new) } else { Ok(()) }
    }

    /// What the patch makes is no object of its type (apiserver's `handlers/patch.go`, which knows no kind here).
    fn unfit(&self, patched: &Value, problem: &str) -> Status {
        use xebec_machinery::field::{Error, Path};
        let shown = match self.kind {
            Kind::Strategic => go_text(&self.value),
            _ => patched.to_string(),
        };
        let error = Error::invalid(&Path::new("patch"), shown, problem);
        Status::invalid(&xebec_machinery::GroupKind::new("", ""), "", vec![error])
    }
}

fn strict_error(found: &[String]) -> String {
    format!("strict decoding error: {}", found.join(", "))
}

/// A value as Go's `%v` prints it: `map[a:1 b:[x y]]`.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().map(|(name, value)| format!("{name}:{}", go_text(value))).collect();
            members.sort();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

/// The configuration in the body of an apply, and what is in it twice.
fn configuration(body: &Bytes, options: &WriteOptions) -> Result<(Value, Vec<String>), Status> {
    use xebec_machinery::field::{Error, Path};
    if options.field_manager.is_empty() {
        let error = Error::required(&Path::new("fieldManager"), "is required for apply patch");
        let kind = xebec_machinery::GroupKind::new("meta.k8s.io", "PatchOptions");
        return Err(Status::invalid(&kind, "", vec![error]));
    }
    let decoded = wire::decode(body, crate::negotiate::Format::Yaml)
        .map_err(|status| Status::bad_request(format!("error decoding YAML: {}", status.message)))?;
    Ok((decoded.value, decoded.duplicates))
}

/// Applies a Scale: the replicas of the object, owned under the subresource (`scalehandler.go`).
pub async fn apply_scale(call: &Call, body: &Bytes, options: &WriteOptions) -> Answer {
    let resource = &call.resource;
    let (mut config, twice) = configuration(body, options)?;
    check_config(&config, "autoscaling/v1", "Scale")?;
    duplicates(call, twice, options.field_validation)?;
    let scale = xebec_schema::schema().kind("autoscaling", "v1", "Scale");
    let unknown = decode::unknown(&mut config, scale).map_err(|why| untyped(&config, &why))?;
    if !unknown.is_empty() {
        return Err(untyped(&config, &unknown.join(", ")));
    }
    let replicas = config.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    scale::check_replicas(call, replicas)?;
    let mut parent = serde_json::json!({
        "apiVersion": resource.api_version, "kind": resource.row.kind,
        "metadata": {"resourceVersion": object::resource_version(&config)},
    });
    match resource.as_custom().and_then(|custom| custom.scale.as_ref()) {
        Some(paths) => paths.spec_replicas.set(&mut parent, replicas.into()),
        None => parent["spec"] = serde_json::json!({"replicas": replicas}),
    }
    let applied = |old: &Value| managed::apply(call, Some(old), &parent, options, "scale");
    let changed = change(call, options, Part::Main, applied).await?;
    let value = changed.ok_or_else(|| resource.not_found(call.name()))?;
    scale::answer(call, scale::scale_of(resource, &value))
}

async fn apply(call: &Call, body: &Bytes, options: &WriteOptions, part: Part) -> Answer {
    let resource = &call.resource;
    let (mut config, twice) = configuration(body, options)?;
    check_config(&config, &resource.api_version, resource.row.kind)?;
    managed::typed(call, &mut config, options, &call.info.subresource)?;
    duplicates(call, twice, options.field_validation)?;
    let named = !object::name(&config).is_empty();
    meta::match_name(call, &mut config)?;
    meta::match_namespace(call, &mut config)?;
    convert::stored(resource, &mut config);
    let changed =
        change(call, options, part, |old| managed::apply(call, Some(old), &config, options, &call.info.subresource))
            .await?;
    match changed {
        Some(value) => encode::object(call, StatusCode::OK, convert::shown(resource, value)?),
        None if part == Part::Main && !named => Err(meta::unnamed(call)),
        None if part == Part::Main => {
            let new = managed::apply(call, None, &config, options, "")?;
            let value = create_object(call, new, options).await?;
            encode::object(call, StatusCode::CREATED, convert::shown(resource, value)?)
        }
        None => Err(resource.not_found(call.name())),
    }
}

/// What an applied configuration must be, whatever its type (`versioncheck.go`, `structuredmerge.go`).
fn check_config(config: &Value, api_version: &str, kind: &str) -> Result<(), Status> {
    let (given, of_kind) = (object::api_version(config), object::kind(config));
    if given != api_version || of_kind != kind {
        let slash = if given.contains('/') { "" } else { "/" };
        return Err(Status::bad_request(format!("invalid object type: {slash}{given}, Kind={of_kind}")));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// Fields that an applied configuration has twice.
fn duplicates(call: &Call, found: Vec<String>, validation: FieldValidation) -> Result<(), Status> {
    match validation {
        FieldValidation::Strict if !found.is_empty() => {
            let errors = xebec_machinery::yaml::strict_error(&found);
            Err(Status::bad_request(format!("error strict decoding YAML: error converting YAML to JSON: {errors}")))
        }
        FieldValidation::Warn => {
            found.into_iter().for_each(|text| call.warn(text));
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::go_text;

    #[test]
    fn values_are_shown_as_go_shows_them() {
        let value = json!({"spec": {"b": null, "a": [1, "x"]}, "kind": "K"});
        assert_eq!(go_text(&value), "map[kind:K spec:map[a:[1 x] b:<nil>]]");
    }
}
