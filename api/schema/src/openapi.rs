//! OpenAPI documents of what is served: version 2 as one document, version 3 one per group and version.

mod extra;
mod operation;
mod parameter;
mod path;
mod types;

use serde_json::{Map, Value, json};
use xebec_machinery::GroupVersion;

use crate::{Resource, schema};

pub use extra::Extra;

/// The version of Kubernetes whose API this is.
pub const KUBERNETES_VERSION: &str = "v1.36.0";

/// What differs between the two versions of OpenAPI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// The whole API as Swagger 2.0, `extra` resources among it.
pub fn v2(extra: &[Extra<'_>]) -> Value {
    let resources: Vec<&Resource> = schema().resources().iter().chain(extra.iter().map(|e| &e.row)).collect();
    let (paths, definitions) = parts(Dialect::V2, &resources, extra);
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": definitions})
}

/// `/openapi/v3`: where the document of each group and version is.
pub fn v3_index(extra: &[Extra<'_>]) -> Value {
    let hash = hash();
    let entry = |gv: &GroupVersion| {
        let path = path_of(gv);
        let of_group = extra.iter().filter(|e| e.row.group_version() == *gv);
        let hash = of_group.fold(hash.clone(), |hash, extra| format!("{hash}{:016X}", extra.fingerprint));
        let url = format!("/openapi/v3/{path}?hash={hash}");
        (path, json!({"serverRelativeURL": url}))
    };
    let versions = schema().group_versions().into_iter().chain(extra.iter().map(|e| e.row.group_version()));
    let paths: Map<String, Value> = versions.map(|gv| entry(&gv)).collect();
    json!({"paths": paths})
}

/// The document of one group and version; none if it is not served.
pub fn v3(gv: &GroupVersion, extra: &[Extra<'_>]) -> Option<Value> {
    let of_group = |r: &&Resource| r.group == gv.group && r.version == gv.version;
    let all = schema().resources().iter().chain(extra.iter().map(|e| &e.row));
    let resources: Vec<&Resource> = all.filter(of_group).collect();
    if resources.is_empty() {
        return None;
    }
    let (paths, schemas) = parts(Dialect::V3, &resources, extra);
    let schemas = json!({"schemas": schemas});
    Some(json!({"openapi": "3.0.0", "info": info(), "paths": paths, "components": schemas}))
}

/// Where the API of a group and version is: `api/v1`, `apis/apps/v1`.
pub fn path_of(gv: &GroupVersion) -> String {
    let root = if gv.group.is_empty() { "api" } else { "apis" };
    format!("{root}/{gv}")
}

/// Changes whenever a document may.
pub fn hash() -> String {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let text = concat!(env!("CARGO_PKG_VERSION"), include_str!("table.txt"));
    format!("{:016X}", text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv))
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": KUBERNETES_VERSION})
}

fn parts(dialect: Dialect, resources: &[&Resource], extra: &[Extra<'_>]) -> (Value, Value) {
    let mut types = types::Types::new(dialect);
    extra.iter().filter(|e| resources.iter().any(|r| **r == e.row)).for_each(|e| types.add(e));
    let mut paths = Map::new();
    for resource in resources {
        path::add(resource, &mut types, &mut paths);
    }
    (paths.into(), types.finish().into())
}

#[cfg(test)]
mod tests;
