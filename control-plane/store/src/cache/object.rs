use std::sync::Arc;

use bytes::Bytes;

use super::{Index, Indexer, Kind, Pairs, splice::splice};
use crate::{Entry, Revision};

/// An object as clients see it: JSON with its `resourceVersion`, and what selectors need of it.
///
/// The buffer holds the whole watch event that this revision of the object is announced with
/// (`{"type":"ADDED","object":…}` and a newline), so that the object is not held a second time for its event.
pub struct Object {
    key: Arc<str>,
    frame: Bytes,
    kind: Kind,
    revision: Revision,
    create_revision: Revision,
    labels: Pairs,
    fields: Pairs,
}

/// Ends every event's JSON.
const SUFFIX: &str = "}\n";

impl Object {
    pub(super) fn new(entry: &Entry, indexer: &dyn Indexer) -> Self {
        let created = entry.create_revision == entry.mod_revision;
        let Index { labels, fields } = indexer.index(resource_of(&entry.key), &entry.value);
        Self {
            key: entry.key.clone(),
            kind: if created { Kind::Added } else { Kind::Modified },
            frame: frame(if created { Kind::Added } else { Kind::Modified }, &entry.value, entry.mod_revision),
            revision: entry.mod_revision,
            create_revision: entry.create_revision,
            labels,
            fields,
        }
    }

    /// The object's last state as the event of its removal shows it: with the revision of the removal.
    pub(super) fn removed(&self, revision: Revision) -> Self {
        Self {
            key: self.key.clone(),
            kind: Kind::Deleted,
            frame: frame(Kind::Deleted, self.as_slice(), revision),
            revision,
            create_revision: self.create_revision,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
        }
    }

    /// The store key, `/registry/<group>/<resource>/[<namespace>/]<name>`.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        split(&self.key).1
    }

    pub fn name(&self) -> &str {
        split(&self.key).2
    }

    /// JSON with `metadata.resourceVersion`. Shares the buffer.
    pub fn bytes(&self) -> Bytes {
        self.frame.slice(self.body())
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.frame[self.body()]
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn create_revision(&self) -> Revision {
        self.create_revision
    }

    pub fn labels(&self) -> &Pairs {
        &self.labels
    }

    /// Selectable fields as the indexer extracted them; `metadata.name` and `metadata.namespace` are answered by [`Object::field`].
    pub fn fields(&self) -> &Pairs {
        &self.fields
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            _ => self.fields.get(name),
        }
    }

    /// The JSON of the watch event that announced this revision of the object, if that is of `kind`. Shares the buffer.
    pub(super) fn frame_of(&self, kind: Kind) -> Option<Bytes> {
        (kind == self.kind).then(|| self.frame.clone())
    }

    /// The JSON of a watch event of `kind` that carries this object. Free for the kind that announced this revision, a copy for others.
    pub fn event_json(&self, kind: Kind) -> Bytes {
        if let Some(frame) = self.frame_of(kind) {
            return frame;
        }
        let body = self.as_slice();
        let mut out = Vec::with_capacity(kind.prefix().len() + body.len() + SUFFIX.len());
        out.extend_from_slice(kind.prefix().as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(SUFFIX.as_bytes());
        out.into()
    }

    /// Bytes that live as long as this revision of the object.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.frame.len() + self.labels.heap_size() + self.fields.heap_size()
    }

    fn body(&self) -> std::ops::Range<usize> {
        self.kind.prefix().len()..self.frame.len() - SUFFIX.len()
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.key, self.revision)
    }
}

/// `<group>/<resource>` of a store key.
pub fn resource_of(key: &str) -> &str {
    split(key).0
}

/// The store key of an object.
pub fn key(resource: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("/registry/{resource}/{namespace}/{name}"),
        None => format!("/registry/{resource}/{name}"),
    }
}

/// (`<group>/<resource>`, namespace, name)
fn split(key: &str) -> (&str, &str, &str) {
    let path = key.strip_prefix(crate::PREFIX).unwrap_or(key);
    let Some(group) = path.find('/') else { return (path, "", "") };
    let Some(resource) = path[group + 1..].find('/') else { return (path, "", "") };
    let (resource, rest) = path.split_at(group + 1 + resource);
    let rest = &rest[1..];
    match rest.split_once('/') {
        Some((namespace, name)) => (resource, namespace, name),
        None => (resource, "", rest),
    }
}

fn frame(kind: Kind, json: &[u8], revision: Revision) -> Bytes {
    let spliced = splice(kind.prefix(), json, revision.0, SUFFIX).unwrap_or_else(|| {
        // The API server writes JSON objects only; whatever else is there is shown as it is.
        [kind.prefix().as_bytes(), json, SUFFIX.as_bytes()].concat()
    });
    Bytes::from(spliced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_split_into_resource_namespace_and_name() {
        for (text, expected) in [
            ("/registry/core/pods/ns/a", ("core/pods", "ns", "a")),
            ("/registry/core/nodes/n1", ("core/nodes", "", "n1")),
            (
                "/registry/rbac.authorization.k8s.io/clusterroles/system:a",
                ("rbac.authorization.k8s.io/clusterroles", "", "system:a"),
            ),
            ("/registry/core", ("core", "", "")),
            ("/registry/core/pods", ("core/pods", "", "")),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
        assert_eq!(key("core/pods", Some("a"), "b"), "/registry/core/pods/a/b");
    }
}
