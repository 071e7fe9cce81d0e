//! Static types.

use std::fmt;

use crate::schema::{Additional, Schema, Type};

/// A static type, named as cel-go names it.
#[derive(Clone, Debug)]
pub enum Ty<'a> {
    Dyn,
    /// Of what an empty list holds: whatever is needed.
    Free,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Box<Ty<'a>>),
    /// Of values; keys are strings.
    Map(Box<Ty<'a>>),
    Optional(Box<Ty<'a>>),
    Object(&'a Schema),
    /// The `metadata` of a resource.
    Metadata,
    /// A type of a library.
    Opaque(&'static str),
}

impl fmt::Display for Ty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Dyn | Self::Free => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::List(item) => return write!(f, "list({item})"),
            Self::Map(value) => return write!(f, "map(string, {value})"),
            Self::Optional(value) => return write!(f, "optional_type({value})"),
            Self::Object(_) | Self::Metadata => "object",
            Self::Opaque(name) => name,
        };
        f.write_str(name)
    }
}

impl<'a> Ty<'a> {
    /// The type of the values of a schema (`apiserver/schema/cel/model.SchemaDeclType`).
    pub fn of(schema: &'a Schema) -> Self {
        if schema.int_or_string {
            return Self::Dyn;
        }
        match schema.ty {
            None => Self::Dyn,
            Some(Type::Boolean) => Self::Bool,
            Some(Type::Integer) => Self::Int,
            Some(Type::Number) => Self::Double,
            Some(Type::Array) => Self::List(Box::new(schema.items.as_deref().map_or(Self::Dyn, Self::of))),
            Some(Type::String) => match schema.checks.format.as_str() {
                "date" | "date-time" => Self::Timestamp,
                "duration" => Self::Duration,
                "byte" => Self::Bytes,
                _ => Self::String,
            },
            Some(Type::Object) => match &schema.additional {
                Additional::Schema(values) => Self::Map(Box::new(Self::of(values))),
                Additional::Any => Self::Dyn,
                Additional::None => Self::Object(schema),
            },
        }
    }

    /// What a value of this type is that may not be there.
    pub fn optional(self) -> Self {
        match self {
            Self::Optional(_) => self,
            other => Self::Optional(Box::new(other)),
        }
    }

    /// The type of what an optional entry of a list or map adds to it.
    pub fn entry(self, is_optional: bool) -> Self {
        match self {
            Self::Optional(inner) if is_optional => *inner,
            other => other,
        }
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Free)
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// Whether one can stand for the other. `null` is left to the run: fields may be nullable.
    pub fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn | Self::Free | Self::Null, _) | (_, Self::Dyn | Self::Free | Self::Null) => true,
            (Self::List(a), Self::List(b)) | (Self::Map(a), Self::Map(b)) | (Self::Optional(a), Self::Optional(b)) => {
                a.agrees(b)
            }
            // A literal of a map may be compared with an object.
            (Self::Object(_) | Self::Map(_) | Self::Metadata, Self::Object(_) | Self::Map(_) | Self::Metadata) => true,
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    pub fn is_any_of(&self, types: &[Self]) -> bool {
        self.is_dyn() || types.iter().any(|ty| std::mem::discriminant(ty) == std::mem::discriminant(self))
    }

    /// The type that all have, if they are of one; none at all are free to be anything.
    pub fn common(types: Vec<Self>) -> Self {
        types.into_iter().reduce(Self::join).unwrap_or(Self::Free)
    }

    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Free, ty) | (ty, Self::Free) => ty,
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.join(*b))),
            (Self::Map(a), Self::Map(b)) => Self::Map(Box::new(a.join(*b))),
            (Self::Optional(a), Self::Optional(b)) => Self::Optional(Box::new(a.join(*b))),
            (Self::Object(a), Self::Object(b)) if std::ptr::eq(a, b) => Self::Object(a),
            (Self::Null, _) | (_, Self::Null) | (Self::Object(_), _) | (_, Self::Object(_)) => Self::Dyn,
            (a, b) if a.agrees(&b) && !a.is_dyn() && !b.is_dyn() && a.to_string() == b.to_string() => a,
            _ => Self::Dyn,
        }
    }
}
