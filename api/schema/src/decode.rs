//! The typed view of a parsed object: unknown fields are found, types are checked, values take their canonical form. It is what upstream's decoding into Go
//! structs does, with the same messages.

mod scalar;

use std::fmt;

use serde_json::{Map, Value};
use xebec_machinery::{GroupVersionKind, Status};

use crate::{Alternative, DefId, Definition, Type, schema};

/// Upstream reports at most this many strict errors.
const STRICT_ERRORS_MAX: usize = 100;

/// A value of the wrong type: the object cannot be decoded at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TypeError(String);

/// Checks an object against its definition and makes it canonical: unknown fields and nulls go, empty optional lists and maps too, quantities and times are
/// rewritten. Answers the unknown fields, worded `unknown field "spec.foo"`.
pub fn check(def: DefId, object: &mut Value) -> Result<Vec<String>, TypeError> {
    let mut checker = Checker { unknown: Vec::new(), lenient: false };
    let root = Path { parent: None, segment: Segment::Root };
    checker.object(schema().definition(def), object, &root, None)?;
    Ok(checker.unknown)
}

/// What a client is told about a body that cannot be decoded.
pub fn cannot_handle(gvk: &GroupVersionKind, error: impl fmt::Display) -> Status {
    let GroupVersionKind { version, kind, .. } = gvk;
    Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {error}"))
}

/// The error of `fieldValidation=Strict`, from unknown and duplicate fields.
pub fn strict_error(gvk: &GroupVersionKind, problems: &[String]) -> Status {
    cannot_handle(gvk, format!("strict decoding error: {}", problems.join(", ")))
}

enum Segment<'a> {
    Root,
    Member(&'a str),
    /// Of a map: Go leaves it out of type errors, as it does an index.
    Key(&'a str),
    Index(usize),
}

/// Where we are; built on the stack, spelled only when something is wrong.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

impl<'a> Path<'a> {
    fn member(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Member(name) }
    }

    fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Key(key) }
    }

    fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), segment: Segment::Index(index) }
    }

    fn write(&self, out: &mut String, full: bool) {
        if let Some(parent) = self.parent {
            parent.write(out, full);
        }
        match self.segment {
            Segment::Key(_) | Segment::Index(_) if !full => {}
            Segment::Member(name) | Segment::Key(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Segment::Index(index) => out.extend(["[", &index.to_string(), "]"]),
            Segment::Root => {}
        }
    }

    fn spelled(&self, full: bool) -> String {
        let mut out = String::new();
        self.write(&mut out, full);
        out
    }
}

struct Checker {
    unknown: Vec<String>,
    /// Inside of what Go decodes by itself, and not strictly.
    lenient: bool,
}

impl Checker {
    /// `owner` is the struct whose field holds the object, for messages.
    fn object(
        &mut self,
        def: &Definition,
        value: &mut Value,
        path: &Path<'_>,
        owner: Option<&Definition>,
    ) -> Result<(), TypeError> {
        let Value::Object(map) = value else { return Err(mismatch(value, path, owner, &def.go_name())) };
        let mut result = Ok(());
        map.retain(|name, value| {
            if result.is_err() {
                return true;
            }
            let path = path.member(name);
            let Some(field) = def.field(name) else {
                self.report_unknown(&path);
                return false;
            };
            if value.is_null() {
                return false;
            }
            result = self.value(field.ty, value, &path, def);
            (field.required || !is_empty_collection(field.ty, value)) && !value.is_null()
        });
        result
    }

    fn report_unknown(&mut self, path: &Path<'_>) {
        if !self.lenient && self.unknown.len() < STRICT_ERRORS_MAX {
            self.unknown.push(format!("unknown field \"{}\"", path.spelled(true)));
        }
    }

    fn value(&mut self, ty: Type, value: &mut Value, path: &Path<'_>, owner: &Definition) -> Result<(), TypeError> {
        match ty {
            Type::Object(def) => self.object(schema().definition(def), value, path, Some(owner)),
            Type::List(item) => self.list(*item, value, path, owner),
            Type::WrappedStrings => self.list(Type::String, value, path, owner),
            Type::Map(item) => self.map(*item, value, path, owner),
            Type::Or(def, other) => self.either(def, other, value, path, owner),
            Type::RawExtension | Type::FieldsV1 | Type::Json | Type::Any => Ok(()),
            scalar => scalar::check(scalar, value).map_err(|error| match error {
                scalar::Error::Mismatch => mismatch(value, path, Some(owner), &go_type(ty)),
                scalar::Error::Message(message) => TypeError(message),
            }),
        }
    }

    /// Their `UnmarshalJSON` drops what it does not know without a word (`apiextensions/v1/marshal.go`).
    fn either(
        &mut self,
        def: DefId,
        other: Alternative,
        value: &mut Value,
        path: &Path<'_>,
        owner: &Definition,
    ) -> Result<(), TypeError> {
        let before = std::mem::replace(&mut self.lenient, true);
        let checked = match (&*value, other) {
            (Value::Object(_), _) => self.object(schema().definition(def), value, path, Some(owner)),
            (Value::Array(_), Alternative::List) => self.list(Type::Object(def), value, path, owner),
            (Value::Array(_), Alternative::Strings) => self.list(Type::String, value, path, owner),
            (Value::Bool(_), Alternative::Bool) => Ok(()),
            (_, Alternative::Bool) => Err(TypeError("boolean or JSON schema expected".into())),
            _ => {
                *value = Value::Null;
                Ok(())
            }
        };
        self.lenient = before;
        checked
    }

    fn list(&mut self, item: Type, value: &mut Value, path: &Path<'_>, owner: &Definition) -> Result<(), TypeError> {
        let Value::Array(items) = value else {
            return Err(mismatch(value, path, Some(owner), &format!("[]{}", go_type(item))));
        };
        for (i, item_value) in items.iter_mut().enumerate() {
            if item_value.is_null() {
                *item_value = zero(item);
            } else {
                self.value(item, item_value, &path.index(i), owner)?;
            }
        }
        Ok(())
    }

    fn map(&mut self, item: Type, value: &mut Value, path: &Path<'_>, owner: &Definition) -> Result<(), TypeError> {
        let Value::Object(map) = value else {
            return Err(mismatch(value, path, Some(owner), &format!("map[string]{}", go_type(item))));
        };
        for (name, item_value) in map.iter_mut() {
            if item_value.is_null() {
                *item_value = zero(item);
            } else {
                self.value(item, item_value, &path.key(name), owner)?;
            }
        }
        Ok(())
    }
}

fn is_empty_collection(ty: Type, value: &Value) -> bool {
    match (ty, value) {
        (Type::List(_), Value::Array(items)) => items.is_empty(),
        (Type::Map(_), Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

/// What Go makes of a null in a list or a map.
pub(crate) fn zero(ty: Type) -> Value {
    match ty {
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::IntOrString => 0.into(),
        Type::Double => 0.0.into(),
        Type::Quantity => "0".into(),
        Type::String | Type::Bytes => "".into(),
        Type::Object(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

/// The type as Go names it.
fn go_type(ty: Type) -> String {
    match ty {
        Type::String => "string".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Bool => "bool".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Double => "float64".into(),
        Type::Time => "v1.Time".into(),
        Type::MicroTime => "v1.MicroTime".into(),
        Type::Quantity => "resource.Quantity".into(),
        Type::IntOrString => "intstr.IntOrString".into(),
        Type::RawExtension => "runtime.RawExtension".into(),
        Type::FieldsV1 => "v1.FieldsV1".into(),
        Type::Json | Type::Any => "interface {}".into(),
        Type::WrappedStrings => "[]string".into(),
        Type::Or(def, _) => schema().definition(def).go_name(),
        Type::Object(def) => schema().definition(def).go_name(),
        Type::List(item) => format!("[]{}", go_type(*item)),
        Type::Map(item) => format!("map[string]{}", go_type(*item)),
    }
}

/// Go's error for a JSON value that does not fit a type.
fn mismatch(value: &Value, path: &Path<'_>, owner: Option<&Definition>, go_type: &str) -> TypeError {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if go_type.starts_with("int") => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    TypeError(match owner {
        Some(owner) => {
            let field = path.spelled(false);
            format!("json: cannot unmarshal {found} into Go struct field {}.{field} of type {go_type}", owner.name)
        }
        None => format!("json: cannot unmarshal {found} into Go value of type {go_type}"),
    })
}

#[cfg(test)]
mod tests;
