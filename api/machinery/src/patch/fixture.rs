//! A small schema for tests of patches: what pods and services are made of, as far as merging cares.

use super::{ListKind, PatchSchema, PatchStrategy, Shape};

pub(crate) struct Node {
    pub shape: Shape,
    pub merge_key: Option<&'static str>,
    pub retain_keys: bool,
    pub members: &'static [(&'static str, Node)],
    pub item: Option<&'static Node>,
    /// In every object, as upstream's structs and fields without `omitempty` are.
    pub always: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct View(Option<&'static Node>);

impl PatchSchema for View {
    fn member(self, name: &str) -> Option<Self> {
        let Some(node) = self.0 else { return Some(self) };
        match node.members {
            [] => Some(Self(node.item)),
            members => members.iter().find(|(n, _)| *n == name).map(|(_, node)| Self(Some(node))),
        }
    }

    fn item(self) -> Self {
        Self(self.0.and_then(|node| node.item))
    }

    fn shape(self) -> Shape {
        self.0.map_or(Shape::Deduced, |node| node.shape)
    }

    fn strategy(self) -> PatchStrategy {
        let get = |node: &Node| PatchStrategy { merge_key: node.merge_key, retain_keys: node.retain_keys };
        self.0.map(get).unwrap_or_default()
    }

    fn member_default(self, name: &str) -> Option<&'static str> {
        (name == "protocol").then_some("TCP")
    }

    fn unset(self) -> Option<serde_json::Value> {
        self.0.filter(|node| node.always).map(|node| match node.shape {
            Shape::List(_) => serde_json::json!([]),
            _ => serde_json::json!({}),
        })
    }
}

const SCALAR: Node =
    Node { shape: Shape::Scalar, merge_key: None, retain_keys: false, members: &[], item: None, always: false };
const STRUCT: Node = Node { shape: Shape::Object { atomic: false }, ..SCALAR };
const STRINGS: Node = Node { item: Some(&SCALAR), ..STRUCT };
const LIST: Node = Node { shape: Shape::List(ListKind::Atomic), ..SCALAR };

const CONTAINER: Node = Node {
    members: &[
        ("name", SCALAR),
        ("image", SCALAR),
        ("args", Node { item: Some(&SCALAR), ..LIST }),
        (
            "env",
            Node { shape: Shape::List(ListKind::Map(&["name"])), merge_key: Some("name"), item: Some(&ENV), ..SCALAR },
        ),
        (
            "ports",
            Node {
                shape: Shape::List(ListKind::Map(&["containerPort", "protocol"])),
                merge_key: Some("containerPort"),
                item: Some(&PORT),
                ..SCALAR
            },
        ),
    ],
    ..STRUCT
};
const ENV: Node = Node { members: &[("name", SCALAR), ("value", SCALAR)], ..STRUCT };
const PORT: Node = Node { members: &[("containerPort", SCALAR), ("protocol", SCALAR), ("name", SCALAR)], ..STRUCT };
const VOLUME: Node = Node {
    members: &[
        ("name", SCALAR),
        ("emptyDir", Node { members: &[("medium", SCALAR)], ..STRUCT }),
        ("configMap", Node { members: &[("name", SCALAR)], ..STRUCT }),
    ],
    ..STRUCT
};
const META: Node = Node {
    always: true,
    members: &[
        ("name", SCALAR),
        ("labels", STRINGS),
        ("annotations", STRINGS),
        ("managedFields", LIST),
        ("resourceVersion", SCALAR),
        ("finalizers", Node { shape: Shape::List(ListKind::Set), merge_key: Some(""), item: Some(&SCALAR), ..SCALAR }),
    ],
    ..STRUCT
};
const SPEC: Node = Node {
    always: true,
    members: &[
        ("replicas", SCALAR),
        ("nodeName", SCALAR),
        ("nodeSelector", Node { shape: Shape::Object { atomic: true }, item: Some(&SCALAR), ..SCALAR }),
        (
            "strategy",
            Node {
                always: true,
                retain_keys: true,
                members: &[("type", SCALAR), ("rollingUpdate", STRINGS)],
                ..STRUCT
            },
        ),
        ("tolerations", Node { item: Some(&STRINGS), ..LIST }),
        (
            "containers",
            Node {
                always: true,
                shape: Shape::List(ListKind::Map(&["name"])),
                merge_key: Some("name"),
                item: Some(&CONTAINER),
                ..SCALAR
            },
        ),
        (
            "volumes",
            Node {
                shape: Shape::List(ListKind::Map(&["name"])),
                merge_key: Some("name"),
                retain_keys: true,
                item: Some(&VOLUME),
                ..SCALAR
            },
        ),
    ],
    ..STRUCT
};
static OBJECT: Node = Node {
    members: &[
        ("apiVersion", SCALAR),
        ("kind", SCALAR),
        ("metadata", META),
        ("spec", SPEC),
        ("status", Node { always: true, members: &[("phase", SCALAR), ("replicas", SCALAR)], ..STRUCT }),
        ("data", STRINGS),
    ],
    ..STRUCT
};

/// The type of a whole object.
pub(crate) const ROOT: View = View(Some(&OBJECT));
