//! The four kinds of patch: JSON, merge, strategic merge and apply. They know no kind; [`PatchSchema`] answers what they must know about a type.

pub mod apply;
pub mod fields;
pub mod json;
pub mod merge;
pub mod strategic;

/// How a list merges in server-side apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListKind {
    Atomic,
    Set,
    /// The fields that make an item's key.
    Map(&'static [&'static str]),
}

/// What a value is for server-side apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Scalar,
    /// A struct or a map; its members have owners of their own unless it is atomic.
    Object {
        atomic: bool,
    },
    List(ListKind),
    /// Nothing is known: objects are granular, lists atomic.
    Deduced,
}

/// How strategic merge treats the list or object in a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PatchStrategy {
    /// The list merges by this key, or as a set of scalars if the key is empty; a list without this is replaced.
    pub merge_key: Option<&'static str>,
    pub retain_keys: bool,
}

/// The type of a value, as far as patches must know it.
pub trait PatchSchema: Copy {
    /// The type of a member of an object; none if a struct has no such field.
    fn member(self, name: &str) -> Option<Self>;
    /// The type of the items of a list.
    fn item(self) -> Self;
    fn shape(self) -> Shape;
    fn strategy(self) -> PatchStrategy;
    /// The default of a field that is part of a list's key.
    fn member_default(self, name: &str) -> Option<&'static str>;
    /// What a value of this type is in an object that says nothing of it: upstream's structs that are not behind pointers, and its fields without
    /// `omitempty`, are always there. None if it is absent then.
    fn unset(self) -> Option<serde_json::Value> {
        None
    }
}

/// The schema of what has no schema.
#[derive(Clone, Copy, Debug)]
pub struct Untyped;

impl PatchSchema for Untyped {
    fn member(self, _name: &str) -> Option<Self> {
        Some(self)
    }

    fn item(self) -> Self {
        self
    }

    fn shape(self) -> Shape {
        Shape::Deduced
    }

    fn strategy(self) -> PatchStrategy {
        PatchStrategy::default()
    }

    fn member_default(self, _name: &str) -> Option<&'static str> {
        None
    }
}

#[cfg(test)]
pub(crate) mod fixture;
