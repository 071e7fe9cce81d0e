//! Query and path parameters.

use serde_json::{Value, json};

use super::Dialect;

#[derive(Clone, Copy)]
pub(super) enum Kind {
    String,
    Integer,
    Boolean,
}

use Kind::{Boolean, Integer, String};

pub(super) type Parameters = &'static [(&'static str, Kind)];

pub(super) const LIST: Parameters = &[
    ("allowWatchBookmarks", Boolean),
    ("continue", String),
    ("fieldSelector", String),
    ("labelSelector", String),
    ("limit", Integer),
    ("resourceVersion", String),
    ("resourceVersionMatch", String),
    ("sendInitialEvents", Boolean),
    ("timeoutSeconds", Integer),
    ("watch", Boolean),
];

pub(super) const WRITE: Parameters = &[("dryRun", String), ("fieldManager", String), ("fieldValidation", String)];

pub(super) const PATCH: Parameters =
    &[("dryRun", String), ("fieldManager", String), ("fieldValidation", String), ("force", Boolean)];

pub(super) const DELETE: Parameters = &[
    ("dryRun", String),
    ("gracePeriodSeconds", Integer),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", Boolean),
    ("orphanDependents", Boolean),
    ("propagationPolicy", String),
];

pub(super) const DELETE_COLLECTION: Parameters = &[
    ("continue", String),
    ("dryRun", String),
    ("fieldSelector", String),
    ("gracePeriodSeconds", Integer),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", Boolean),
    ("labelSelector", String),
    ("limit", Integer),
    ("orphanDependents", Boolean),
    ("propagationPolicy", String),
    ("resourceVersion", String),
    ("resourceVersionMatch", String),
    ("sendInitialEvents", Boolean),
    ("timeoutSeconds", Integer),
];

pub(super) const LOG: Parameters = &[
    ("container", String),
    ("follow", Boolean),
    ("insecureSkipTLSVerifyBackend", Boolean),
    ("limitBytes", Integer),
    ("previous", Boolean),
    ("sinceSeconds", Integer),
    ("stream", String),
    ("tailLines", Integer),
    ("timestamps", Boolean),
];

pub(super) const EXEC: Parameters = &[
    ("command", String),
    ("container", String),
    ("stderr", Boolean),
    ("stdin", Boolean),
    ("stdout", Boolean),
    ("tty", Boolean),
];

pub(super) const PROXY: Parameters = &[("path", String)];

pub(super) const PORT_FORWARD: Parameters = &[("ports", Integer)];

/// The parameters every path has, with those its template names.
pub(super) fn of_path(dialect: Dialect, path: &str) -> Value {
    let templated = ["name", "namespace"].into_iter().filter(|name| path.contains(&format!("{{{name}}}")));
    let mut all: Vec<Value> = templated.map(|name| one(dialect, "path", name, String)).collect();
    all.push(one(dialect, "query", "pretty", String));
    all.into()
}

pub(super) fn query(dialect: Dialect, parameters: Parameters) -> Vec<Value> {
    parameters.iter().map(|(name, kind)| one(dialect, "query", name, *kind)).collect()
}

fn one(dialect: Dialect, place: &str, name: &str, kind: Kind) -> Value {
    let ty = match kind {
        String => "string",
        Integer => "integer",
        Boolean => "boolean",
    };
    let mut made = json!({"name": name, "in": place, "uniqueItems": true});
    match dialect {
        Dialect::V2 => made["type"] = ty.into(),
        Dialect::V3 => made["schema"] = json!({"type": ty, "uniqueItems": true}),
    }
    if dialect == Dialect::V3 {
        made.as_object_mut().map(|made| made.remove("uniqueItems"));
    }
    if place == "path" {
        made["required"] = true.into();
    }
    made
}
