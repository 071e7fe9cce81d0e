//! What the API serves: every definition with its fields, and every resource with its names, verbs and subresources.
//!
//! The structure of types is generated (`cargo xtask codegen`, [`table`]); what no definition says is written by hand ([`resource`]). Everything that must
//! know a type is driven by this table: strict decoding, defaults, protobuf, patches, OpenAPI.

pub mod decode;
pub mod default;
mod describe;
pub mod openapi;
pub mod protobuf;
mod resource;
mod table;
mod unset;
mod view;

use std::collections::HashMap;
use std::sync::LazyLock;

use xebec_machinery::{GroupVersion, GroupVersionKind};

pub use resource::{Resource, Subresource};
pub use table::{Alternative, DefId, Definition, Field, ListType, Type};
pub use view::View;

/// The table, parsed and indexed.
pub struct Schema {
    definitions: Vec<Definition>,
    resources: Vec<Resource>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), DefId>,
}

/// The one schema of this process; parsed on first use.
pub fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        let definitions = table::parse(include_str!("table.txt"));
        let by_kind = definitions.iter().enumerate().filter_map(|(id, def)| Some((def.gvk?, DefId::new(id)))).collect();
        let resources = resource::rows(&by_kind);
        Schema { definitions, resources, by_kind }
    });
    &SCHEMA
}

impl Schema {
    /// Every resource that is served.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.plural == plural && r.group == group && r.version == version)
    }

    /// The resource whose objects are of a kind.
    pub fn resource_of_kind(&self, gvk: &GroupVersionKind) -> Option<&Resource> {
        self.resources.iter().find(|r| r.kind == gvk.kind && r.group == gvk.group && r.version == gvk.version)
    }

    pub fn group_versions(&self) -> Vec<GroupVersion> {
        let mut found: Vec<_> = self.resources.iter().map(|r| GroupVersion::new(r.group, r.version)).collect();
        found.sort();
        found.dedup();
        found
    }

    pub fn definition(&self, id: DefId) -> &Definition {
        &self.definitions[id.index()]
    }

    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// The definition of a kind, served or not. `DeleteOptions` and the like belong to every group.
    pub fn by_kind(&self, gvk: &GroupVersionKind) -> Option<DefId> {
        self.kind(&gvk.group, &gvk.version, &gvk.kind)
    }

    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<DefId> {
        let find = |group, version| self.by_kind.get(&(group, version, kind)).copied();
        find(group, version).or_else(|| {
            let everywhere =
                ["DeleteOptions", "WatchEvent", "Status", "PartialObjectMetadata", "PartialObjectMetadataList"];
            everywhere.contains(&kind).then(|| find("", "v1"))?
        })
    }

    /// A definition by its full name: `io.k8s.api.core.v1.PodSpec`.
    pub fn by_name(&self, name: &str) -> Option<DefId> {
        let (package, name) = name.rsplit_once('.')?;
        self.definitions.iter().position(|d| d.name == name && d.package == package).map(DefId::new)
    }
}

#[cfg(test)]
mod tests;
