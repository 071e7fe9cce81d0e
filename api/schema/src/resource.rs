//! The resources that are served, with what no definition says: names, scope, verbs, subresources.

mod rows;

use std::collections::HashMap;

use xebec_machinery::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};

use crate::table::DefId;
use rows::{ROWS, Row};

type Strs = &'static [&'static str];

/// A part of an object with a path of its own: `pods/log`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subresource {
    pub name: &'static str,
    /// Group, version and kind of the body; none for the kind of the resource itself.
    pub gvk: Option<(&'static str, &'static str, &'static str)>,
    pub verbs: Strs,
}

/// A kind of object that the API serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: Strs,
    pub categories: Strs,
    pub namespaced: bool,
    pub verbs: Strs,
    pub subresources: &'static [Subresource],
    pub def: DefId,
}

impl Resource {
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(self.group, self.version)
    }

    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group, self.version, self.kind)
    }

    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(self.group, self.version, self.plural)
    }

    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group, self.plural)
    }

    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.group, self.kind)
    }

    /// What objects of this resource say as `apiVersion`.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }

    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

/// The rows whose kind the table defines: all of them, as a test checks.
pub(crate) fn rows(by_kind: &HashMap<(&'static str, &'static str, &'static str), DefId>) -> Vec<Resource> {
    let row = |Row((group, version, kind, plural, short_names, categories), namespaced, verbs, subresources): &Row| {
        Some(Resource {
            group,
            version,
            kind,
            plural,
            singular: kind.to_lowercase().leak(),
            short_names,
            categories,
            namespaced: *namespaced,
            verbs,
            subresources,
            def: *by_kind.get(&(*group, *version, *kind))?,
        })
    };
    let resources: Vec<_> = ROWS.iter().filter_map(row).collect();
    debug_assert_eq!(resources.len(), ROWS.len(), "a row names a kind without definition");
    resources
}
