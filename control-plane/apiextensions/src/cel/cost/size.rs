//! How large values of a schema can be (`apiserver/pkg/cel/common/schemas.go`, `apiserver/pkg/cel/limits.go`).

use crate::schema::{Additional, Schema, Type};

/// `MaxRequestSizeBytes`: nothing larger arrives.
pub const REQUEST_BYTES_MAX: u64 = 3 << 20;
/// A string between its quotes.
const TEXT_MAX: u64 = REQUEST_BYTES_MAX - 2;
/// `MaxDurationSizeJSON`, `MaxDatetimeSizeJSON`.
const TIME_BYTES_MAX: u64 = 32;
/// `JSONDateSize`.
const DATE_BYTES: u64 = 12;

/// What an expression can reach from its variables.
pub trait Sizes: Sync {
    /// The most elements or characters of what `path` leads to: a variable, then fields by their escaped names, `@items`,
    /// `@values` and `@keys`. None if that is not known.
    fn largest(&self, path: &[String]) -> Option<u64>;
}

/// `self` and `oldSelf`, which are of one schema.
impl Sizes for Node<'_> {
    fn largest(&self, path: &[String]) -> Option<u64> {
        let (_, below) = path.split_first()?;
        self.at(below).map(Self::elements_max)
    }
}

/// A type that an expression can reach from `self`.
#[derive(Clone, Copy, Debug)]
pub enum Node<'a> {
    Of(&'a Schema, Place),
    /// `apiVersion`, `kind` and the fields of `metadata`, which every resource has.
    Text,
    Metadata,
    /// The key of a map. Upstream knows no limit of it and takes none to be nothing.
    Key,
}

/// Whether the values of a schema are resources.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Resource,
    Part,
}

impl<'a> Node<'a> {
    pub fn of(schema: &'a Schema, is_root: bool) -> Self {
        Self::Of(schema, if is_root || schema.embedded { Place::Resource } else { Place::Part })
    }

    /// What `path` leads to: fields by their escaped names, `@items`, `@values` and `@keys`.
    pub fn at(self, path: &[String]) -> Option<Self> {
        path.iter().try_fold(self, |node, step| node.step(step))
    }

    fn step(self, step: &str) -> Option<Self> {
        match (self, step) {
            (Self::Of(schema, _), "@items" | "@values") => {
                element(schema).filter(|s| is_known(s)).map(|s| Self::of(s, false))
            }
            (Self::Of(schema, _), "@keys") => matches!(&schema.additional, Additional::Schema(_)).then_some(Self::Key),
            (Self::Of(_, Place::Resource), "apiVersion" | "kind") => Some(Self::Text),
            (Self::Of(_, Place::Resource), "metadata") => Some(Self::Metadata),
            (Self::Of(schema, _), name) if element(schema).is_none() => {
                schema.field(name).filter(|field| is_known(field)).map(|field| Self::of(field, false))
            }
            (Self::Metadata, "name" | "generateName") => Some(Self::Text),
            _ => None,
        }
    }

    /// The most elements or characters that a value can have; none are counted in scalars and objects.
    pub fn elements_max(self) -> u64 {
        match self {
            Self::Of(schema, _) => elements_max(schema),
            Self::Text => TEXT_MAX,
            Self::Metadata | Self::Key => 0,
        }
    }
}

fn element(schema: &Schema) -> Option<&Schema> {
    match (schema.ty, &schema.additional) {
        (Some(Type::Array), _) => schema.items.as_deref(),
        (Some(Type::Object), Additional::Schema(values)) => Some(values),
        _ => None,
    }
}

/// Whether rules see values of this schema at all.
fn is_known(schema: &Schema) -> bool {
    schema.int_or_string
        || match schema.ty {
            None => false,
            Some(Type::Array) => schema.items.as_deref().is_some_and(is_known),
            Some(Type::Object) => element(schema).is_none_or(is_known),
            Some(_) => true,
        }
}

fn elements_max(schema: &Schema) -> u64 {
    let limit = |limit: Option<i64>| limit.map(|limit| u64::try_from(limit).unwrap_or(0));
    let checks = &schema.checks;
    // A character has up to four bytes.
    let length = limit(checks.max_length).map(|length| length.saturating_mul(4));
    if schema.int_or_string {
        return length.unwrap_or(TEXT_MAX);
    }
    match schema.ty {
        Some(Type::Array) => limit(checks.max_items).unwrap_or_else(|| {
            let item = schema.items.as_deref().map_or(0, |item| item.bytes_min);
            TEXT_MAX / (item + 1)
        }),
        Some(Type::Object) => match element(schema) {
            // A key of no characters in quotes, a colon, a comma and two bytes of grace.
            Some(values) => limit(checks.max_properties).unwrap_or_else(|| TEXT_MAX / (values.bytes_min + 6)),
            None => 0,
        },
        Some(Type::String) => match checks.format.as_str() {
            "byte" => limit(checks.max_length).unwrap_or(TEXT_MAX),
            "duration" | "date-time" => TIME_BYTES_MAX,
            "date" => DATE_BYTES,
            _ => length.unwrap_or_else(|| checks.enumeration.as_ref().map_or(TEXT_MAX, |values| longest(values))),
        },
        _ => 0,
    }
}

fn longest(values: &[serde_json::Value]) -> u64 {
    values.iter().filter_map(|v| v.as_str()).map(|text| text.len() as u64).max().unwrap_or(0)
}

/// The least bytes that a value takes in JSON. Those of the schemas below are known already.
pub fn bytes_min(schema: &Schema) -> u64 {
    if schema.int_or_string {
        return 1;
    }
    match schema.ty {
        Some(Type::Boolean) => 4,
        Some(Type::Integer | Type::Number) => 1,
        Some(Type::Array) => 2,
        Some(Type::String) => match schema.checks.format.as_str() {
            "duration" => 3,
            "date" => DATE_BYTES,
            "date-time" => 21,
            _ => 2,
        },
        Some(Type::Object) if element(schema).is_some() => 2,
        Some(Type::Object) => {
            let field = |name: &String| {
                let field = schema.properties.get(name).filter(|field| field.default.is_none() && is_known(field))?;
                Some(name.len() as u64 + field.bytes_min + 4)
            };
            schema.checks.required.iter().filter_map(field).fold(2, u64::saturating_add)
        }
        None => 0,
    }
}
