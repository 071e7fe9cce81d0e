//! Which representation a client asked for.

use http::{HeaderMap, header};
use xebec_machinery::Status;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

impl Format {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// What of the object is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Object,
    Table(&'static str),
    /// Metadata only; the meta.k8s.io version.
    Metadata(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accept {
    pub format: Format,
    pub shape: Shape,
    pub gzip: bool,
}

impl Accept {
    pub const JSON: Self = Self { format: Format::Json, shape: Shape::Object, gzip: false };
}

const OFFERED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// What resources without built-in types can be.
pub const UNTYPED: [&str; 2] = ["application/json", "application/yaml"];

/// As [`accept`], for a resource that has no form in protobuf but its metadata.
pub fn accept_untyped(headers: &HeaderMap) -> Result<Accept, Status> {
    accept_where(headers, |format, shape| format != Format::Protobuf || matches!(shape, Shape::Metadata(_)))
        .ok_or_else(|| Status::not_acceptable(&UNTYPED))
}

/// The first acceptable clause of the Accept header; JSON without one.
pub fn accept(headers: &HeaderMap) -> Result<Accept, Status> {
    accept_where(headers, |_, _| true).ok_or_else(|| Status::not_acceptable(&OFFERED))
}

fn accept_where(headers: &HeaderMap, offered: impl Fn(Format, Shape) -> bool) -> Option<Accept> {
    let gzip = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|e| e.trim().split(';').next() == Some("gzip")));
    let header = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    if header.trim().is_empty() {
        return Some(Accept { gzip, ..Accept::JSON });
    }
    let clauses = header.split(',').filter_map(clause);
    let wanted = { clauses }.find(|(format, shape)| offered(*format, *shape));
    wanted.map(|(format, shape)| Accept { format, shape, gzip })
}

fn clause(clause: &str) -> Option<(Format, Shape)> {
    let mut parts = clause.split(';').map(str::trim);
    let format = match parts.next()? {
        "application/json" | "*/*" | "application/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        "application/vnd.kubernetes.protobuf" => Format::Protobuf,
        _ => return None,
    };
    let (mut target, mut group, mut version) = ("", "", "v1");
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        match key {
            "as" => target = value,
            "g" => group = value,
            "v" => version = value,
            _ => {}
        }
    }
    let version = match version {
        "v1" => "v1",
        "v1beta1" => "v1beta1",
        _ => return None,
    };
    let shape = match (target, group) {
        ("", _) => Shape::Object,
        ("Table", "meta.k8s.io") if format != Format::Protobuf => Shape::Table(version),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io") => Shape::Metadata(version),
        _ => return None,
    };
    Some((format, shape))
}

/// The format of a request body; JSON without a Content-Type.
pub fn content_type(headers: &HeaderMap) -> Result<Format, Status> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    match value.split(';').next().unwrap_or("").trim() {
        "" | "application/json" | "text/json" => Ok(Format::Json),
        "application/yaml" | "text/yaml" | "application/x-yaml" => Ok(Format::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(&OFFERED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: Option<(Format, Shape)>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.parse().unwrap());
        assert_eq!(accept(&headers).ok().map(|a| (a.format, a.shape)), expected, "{value}");
    }

    #[test]
    fn the_first_acceptable_clause_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        check(table, Some((Format::Json, Shape::Table("v1"))));
        check("application/json", Some((Format::Json, Shape::Object)));
        check("*/*", Some((Format::Json, Shape::Object)));
        check("application/cbor, application/json", Some((Format::Json, Shape::Object)));
        check("application/vnd.kubernetes.protobuf,application/json", Some((Format::Protobuf, Shape::Object)));
        let partial = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        check(partial, Some((Format::Protobuf, Shape::Metadata("v1"))));
        check("application/json;as=Table;v=v7;g=meta.k8s.io", None);
        check("text/html", None);
    }
}
