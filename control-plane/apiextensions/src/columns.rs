//! Printer columns (`apiextensions-apiserver/pkg/registry/customresource/tableconvertor`).

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_registry::strategy::Column;
use xebec_registry::value::{integer, items, string};
use xebec_registry::{duration, meta};

use crate::jsonpath::JsonPath;

/// One of `additionalPrinterColumns`.
#[derive(Debug)]
struct Printed {
    definition: Value,
    kind: String,
    path: Option<JsonPath>,
}

/// The columns of a version.
#[derive(Debug)]
pub struct Columns(Vec<Printed>);

impl Columns {
    pub fn new(version: &Value) -> Self {
        let declared = items(version, "additionalPrinterColumns");
        if declared.is_empty() {
            let age = json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": meta::CREATED_AT });
            return Self(vec![Printed::new(&age)]);
        }
        Self(declared.iter().map(Printed::new).collect())
    }

    /// `columnDefinitions` of a Table.
    pub fn definitions(&self) -> Vec<Value> {
        let name = json!({
            "name": "Name", "type": "string", "format": "name", "description": Column::NAME.description, "priority": 0,
        });
        std::iter::once(name).chain(self.0.iter().map(|column| column.definition.clone())).collect()
    }

    pub fn row(&self, object: &Value, now: OffsetDateTime) -> Vec<Value> {
        let cells = self.0.iter().map(|column| column.cell(object, now));
        std::iter::once(json!(meta::name(object))).chain(cells).collect()
    }
}

impl Printed {
    fn new(column: &Value) -> Self {
        let name = string(column, "name");
        let path = string(column, "jsonPath");
        let description = match string(column, "description") {
            // Upstream falls back on what it says of the field in metadata, or on the path.
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            text => text.to_owned(),
        };
        Self {
            definition: json!({
                "name": name,
                "type": string(column, "type"),
                "format": string(column, "format"),
                "description": description,
                "priority": integer(column, "priority").unwrap_or(0),
            }),
            kind: string(column, "type").to_owned(),
            path: JsonPath::parse(path).ok(),
        }
    }

    fn cell(&self, object: &Value, now: OffsetDateTime) -> Value {
        let value = self.path.as_ref().and_then(|path| path.first(object)).unwrap_or(&Value::Null);
        match (self.kind.as_str(), value) {
            (_, Value::Null) => Value::Null,
            ("integer", Value::Number(n)) => n.as_i64().map_or_else(|| whole(n.as_f64()), Value::from),
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) | ("string", Value::String(_)) => value.clone(),
            ("string", other) => other.to_string().into(),
            ("date", Value::String(text)) => match parse_time(text) {
                true => duration::since(text, now).into(),
                false => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // As Go's conversion of a float.
fn whole(number: Option<f64>) -> Value {
    number.map_or(Value::Null, |n| (n as i64).into())
}

fn parse_time(text: &str) -> bool {
    OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok()
}
