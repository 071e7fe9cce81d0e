//! What the rules of a schema may cost (`apiextensions/validation/cel_validation.go`).

use std::collections::HashMap;

use serde_json::Value;
use xebec_machinery::field::Path;
use xebec_registry::errors::Errors;

use crate::cel::size::REQUEST_BYTES_MAX;
use crate::schema::{Additional, Schema, Type};

/// `StaticEstimatedCostLimit`, of one expression.
const RULE_MAX: u64 = 10_000_000;
/// `StaticEstimatedCRDCostLimit`, of all of a schema.
const SCHEMA_MAX: u64 = 100_000_000;
/// How many expressions are blamed for a schema that costs too much.
const BLAMED_MAX: usize = 4;

/// How often a value of a schema can be in an object.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    AtMost(u64),
    /// As often as a request has room.
    Unbounded,
}

impl Count {
    /// Of the values right below a value of `schema`.
    pub fn below(self, schema: &Schema) -> Self {
        let limit = match (schema.ty, &schema.additional) {
            (Some(Type::Object), Additional::None) => Some(1),
            (Some(Type::Object), _) => schema.checks.max_properties,
            (Some(Type::Array), _) => schema.checks.max_items,
            _ => Some(1),
        };
        match (self, limit) {
            (Self::AtMost(count), Some(limit)) => Self::AtMost(count.saturating_mul(u64::try_from(limit).unwrap_or(0))),
            _ => Self::Unbounded,
        }
    }

    fn of(self, schema: &Schema) -> u64 {
        match self {
            Self::AtMost(count) => count,
            Self::Unbounded => REQUEST_BYTES_MAX / (schema.bytes_min + 1),
        }
    }
}

/// An expression, and what it costs in all.
struct Charged {
    path: Path,
    /// Where it is and what it says, whatever its number.
    place: String,
    cost: u64,
}

/// What the expressions of a schema cost together.
#[derive(Default)]
pub struct Costs(Vec<Charged>);

impl Costs {
    /// A rule over each value of `schema`, of which there are so many.
    pub fn rule(&mut self, path: &Path, text: &str, cost: u64, schema: &Schema, count: Count) {
        self.add(path, "rule", text, cost.saturating_mul(count.of(schema)));
    }

    /// The expression of a message, which is evaluated once.
    pub fn message(&mut self, path: &Path, text: &str, cost: u64) {
        self.add(path, "messageExpression", text, cost);
    }

    fn add(&mut self, path: &Path, field: &str, text: &str, cost: u64) {
        let schema = path.as_str().rsplit_once(".x-kubernetes-validations").map_or("", |(schema, _)| schema);
        self.0.push(Charged { path: path.child(field), place: format!("{schema} {field} {text}"), cost });
    }

    fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, charged| sum.saturating_add(charged.cost))
    }

    /// Refuses what costs too much, unless it cost as much before.
    pub fn check(&self, path: &Path, errors: &mut Errors, before: impl FnOnce() -> Option<Self>) {
        let total = self.total();
        if total <= SCHEMA_MAX && self.0.iter().all(|charged| charged.cost <= RULE_MAX) {
            return;
        }
        let before = before();
        let old: HashMap<&str, u64> =
            before.iter().flat_map(|before| &before.0).map(|c| (c.place.as_str(), c.cost)).collect();
        for charged in self.0.iter().filter(|charged| charged.cost > RULE_MAX) {
            if old.get(charged.place.as_str()).is_some_and(|before| charged.cost <= *before) {
                continue;
            }
            let is_message = charged.path.as_str().ends_with(".messageExpression");
            let what = if is_message { "estimated messageExpression cost" } else { "estimated rule cost" };
            errors.forbidden(&charged.path, exceeds(what, charged.cost, RULE_MAX));
        }
        if total <= SCHEMA_MAX || before.as_ref().is_some_and(|before| total <= before.total()) {
            return;
        }
        let mut dear: Vec<&Charged> = self.0.iter().filter(|charged| charged.cost >= SCHEMA_MAX / 100).collect();
        dear.sort_by_key(|charged| std::cmp::Reverse(charged.cost));
        for charged in dear.into_iter().take(BLAMED_MAX) {
            let why = "contributed to estimated rule & messageExpression cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.forbidden(&charged.path, why);
        }
        let what = "x-kubernetes-validations estimated rule & messageExpression cost total for entire OpenAPIv3 schema";
        errors.forbidden(path, exceeds(what, total, SCHEMA_MAX));
    }
}

/// `getCostErrorMessage`.
#[allow(clippy::cast_precision_loss)]
fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule(s), or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// What the rules of a schema that was accepted before cost.
pub fn of(raw: &Value, path: &Path) -> Costs {
    super::schema::costs(&Schema::compile(raw), path, &mut Errors::default())
}
