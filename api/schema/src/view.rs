//! Types as patches see them.

use xebec_machinery::patch::{ListKind, PatchSchema, PatchStrategy, Shape};

use crate::{DefId, Field, ListType, Resource, Type, schema};

/// A type, and the field it was reached through: list and patch attributes belong to the field.
#[derive(Clone, Copy, Debug)]
pub struct View {
    ty: Type,
    field: Option<&'static Field>,
}

impl View {
    pub fn of(def: DefId) -> Self {
        Self { ty: Type::Object(def), field: None }
    }
}

impl Resource {
    /// The type of this resource's objects, for patches.
    pub fn patch_schema(&self) -> View {
        View::of(self.def)
    }
}

impl PatchSchema for View {
    fn member(self, name: &str) -> Option<Self> {
        match self.ty {
            Type::Object(def) => {
                let field = schema().definition(def).field(name)?;
                Some(Self { ty: field.ty, field: Some(field) })
            }
            Type::Map(value) => Some(Self { ty: *value, field: None }),
            _ => Some(Self { ty: Type::Any, field: None }),
        }
    }

    fn item(self) -> Self {
        let ty = match self.ty {
            Type::List(item) => *item,
            Type::WrappedStrings => Type::String,
            _ => Type::Any,
        };
        Self { ty, field: None }
    }

    fn shape(self) -> Shape {
        let field_is_atomic = self.field.is_some_and(|f| f.atomic);
        match self.ty {
            Type::Object(def) => Shape::Object { atomic: field_is_atomic || schema().definition(def).atomic },
            Type::Map(_) => Shape::Object { atomic: field_is_atomic },
            Type::List(_) => Shape::List(match self.field.map(|f| f.list_type) {
                Some(ListType::Set) => ListKind::Set,
                Some(ListType::Map(keys)) => ListKind::Map(keys),
                _ => ListKind::Atomic,
            }),
            Type::WrappedStrings => Shape::List(ListKind::Atomic),
            // Their inside belongs to whoever wrote them.
            Type::RawExtension | Type::FieldsV1 | Type::Json => Shape::Object { atomic: true },
            Type::Any | Type::Or(..) => Shape::Deduced,
            _ => Shape::Scalar,
        }
    }

    fn strategy(self) -> PatchStrategy {
        let strategy = |f: &Field| PatchStrategy { merge_key: f.patch_merge_key, retain_keys: f.retain_keys };
        self.field.map(strategy).unwrap_or_default()
    }

    fn member_default(self, name: &str) -> Option<&'static str> {
        let Type::Object(def) = self.ty else { return None };
        schema().definition(def).field(name)?.default
    }

    fn unset(self) -> Option<serde_json::Value> {
        self.field.filter(|field| field.always).map(|field| crate::unset::value(field.ty))
    }
}
