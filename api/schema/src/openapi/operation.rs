//! One method of one path.

use serde_json::{Value, json};

use super::Dialect;
use super::parameter::{self, Parameters};

const OBJECT_TYPES: [&str; 4] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"];
const STREAM_TYPES: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// What an operation is about.
pub(super) struct Operation<'a> {
    /// `x-kubernetes-action`.
    pub(super) action: &'a str,
    pub(super) id: String,
    pub(super) tag: String,
    pub(super) gvk: (&'a str, &'a str, &'a str),
    pub(super) parameters: Parameters,
    pub(super) body: Option<Value>,
    /// None: plain text.
    pub(super) response: Option<Value>,
}

impl Operation<'_> {
    /// Only built-in types say how strategic merges treat their lists.
    fn patch_types(&self) -> &'static [&'static str] {
        let (group, version, kind) = self.gvk;
        let built_in = crate::schema().kind(group, version, kind).is_some();
        if built_in { &PATCH_TYPES } else { &PATCH_TYPES[..3] }
    }

    pub(super) fn render(self, dialect: Dialect) -> Value {
        let (group, version, kind) = self.gvk;
        let mut made = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        let mut parameters = parameter::query(dialect, self.parameters);
        let accepted: &[&str] = if self.action == "patch" { self.patch_types() } else { &["*/*"] };
        match (self.body, dialect) {
            (None, _) => {}
            (Some(body), Dialect::V2) => {
                parameters
                    .push(json!({"name": "body", "in": "body", "required": self.action != "delete", "schema": body}));
                made["consumes"] = accepted.to_vec().into();
            }
            (Some(body), Dialect::V3) => made["requestBody"] = json!({"content": content(accepted, &body)}),
        }
        let streams: &[&str] = if self.action == "list" { &STREAM_TYPES } else { &[] };
        let (schema, produced) = match self.response {
            Some(schema) => (schema, [&OBJECT_TYPES, streams].concat()),
            None => (json!({"type": "string"}), vec!["text/plain"]),
        };
        let codes: &[(&str, &str)] = match self.action {
            "post" => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
            "put" | "patch" => &[("200", "OK"), ("201", "Created")],
            "delete" => &[("200", "OK"), ("202", "Accepted")],
            _ => &[("200", "OK")],
        };
        let mut responses = json!({"401": {"description": "Unauthorized"}});
        for (code, text) in codes {
            responses[code] = match dialect {
                Dialect::V2 => json!({"description": text, "schema": schema}),
                Dialect::V3 => json!({"description": text, "content": content(&produced, &schema)}),
            };
        }
        made["responses"] = responses;
        if dialect == Dialect::V2 {
            made["produces"] = produced.into();
            made["schemes"] = json!(["https"]);
        }
        if !parameters.is_empty() {
            made["parameters"] = parameters.into();
        }
        made
    }
}

fn content(types: &[&str], schema: &Value) -> Value {
    types.iter().map(|ty| ((*ty).to_owned(), json!({"schema": schema}))).collect::<serde_json::Map<_, _>>().into()
}
