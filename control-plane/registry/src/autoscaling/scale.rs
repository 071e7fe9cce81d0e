//! Scales are views of other kinds' replicas, and never stored.

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::strategy::{Column, Strategy, named};
use crate::value::integer;

/// What a Scale looks like in a table.
pub struct Scale;

impl Strategy for Scale {
    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::integer("Desired", "How many replicas are wanted."),
                Column::integer("Available", "How many replicas there are."),
                Column::AGE,
            ]
        }
    }

    fn row(&self, scale: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(scale, now, ["spec.replicas", "status.replicas"].map(|path| json!(integer(scale, path).unwrap_or(0))))
    }
}
