//! A schema as patches see it.

use xebec_machinery::patch::{ListKind, PatchSchema, PatchStrategy, Shape};
use xebec_schema::{DefId, View as TypedView, schema};

use crate::intern;
use crate::schema::{ListType, Schema, Type};

/// The type of a value of a custom resource.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    Root(&'a Schema),
    At(&'a Schema),
    /// Below `metadata`, whose type is built in.
    Meta(TypedView),
    /// A member of the object itself that is no part of the schema: a name or a type.
    Scalar,
    Unknown,
}

fn object_meta() -> Option<DefId> {
    schema().by_name("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
}

impl PatchSchema for View<'_> {
    fn member(self, name: &str) -> Option<Self> {
        let (schema, resource) = match self {
            Self::Root(schema) => (schema, true),
            Self::At(schema) => (schema, schema.embedded),
            Self::Meta(view) => return view.member(name).map(Self::Meta),
            Self::Scalar | Self::Unknown => return Some(Self::Unknown),
        };
        match name {
            "apiVersion" | "kind" if resource => return Some(Self::Scalar),
            "metadata" if resource => return object_meta().map(|def| Self::Meta(TypedView::of(def))),
            _ => {}
        }
        match schema.member(name) {
            Some(schema) => Some(Self::At(schema)),
            None if schema.preserve_unknown || schema.is_map() || schema.ty.is_none() => Some(Self::Unknown),
            None => None,
        }
    }

    fn item(self) -> Self {
        match self {
            Self::Root(schema) | Self::At(schema) => schema.items.as_deref().map_or(Self::Unknown, Self::At),
            Self::Meta(view) => Self::Meta(view.item()),
            Self::Scalar | Self::Unknown => Self::Unknown,
        }
    }

    fn shape(self) -> Shape {
        let schema = match self {
            Self::Root(_) => return Shape::Object { atomic: false },
            Self::At(schema) => schema,
            Self::Meta(view) => return view.shape(),
            Self::Scalar => return Shape::Scalar,
            Self::Unknown => return Shape::Deduced,
        };
        match schema.ty {
            Some(Type::Object) if schema.preserve_unknown && schema.properties.is_empty() && !schema.embedded => {
                if schema.map_atomic {
                    Shape::Object { atomic: true }
                } else {
                    Shape::Deduced
                }
            }
            Some(Type::Object) => Shape::Object { atomic: schema.map_atomic },
            Some(Type::Array) => Shape::List(match schema.list_type {
                ListType::Atomic => ListKind::Atomic,
                ListType::Set => ListKind::Set,
                ListType::Map => ListKind::Map(schema.list_map_keys),
            }),
            Some(_) => Shape::Scalar,
            None if schema.int_or_string => Shape::Scalar,
            None => Shape::Deduced,
        }
    }

    fn strategy(self) -> PatchStrategy {
        PatchStrategy::default()
    }

    fn member_default(self, name: &str) -> Option<&'static str> {
        match self {
            Self::Root(schema) | Self::At(schema) => schema.member(name)?.default.as_ref()?.as_str().map(intern::text),
            Self::Meta(view) => view.member_default(name),
            Self::Scalar | Self::Unknown => None,
        }
    }
}
