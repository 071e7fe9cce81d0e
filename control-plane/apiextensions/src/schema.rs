//! A structural schema, compiled from the `openAPIV3Schema` of a version (`apiextensions.k8s.io/v1` JSONSchemaProps).

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;
use xebec_registry::value::{at, boolean, entries, integer, items, string, strings};

use crate::cel::{Rule, escape, size};
use crate::intern;

/// The `type` of a schema; none where the schema leaves it open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// `additionalProperties`.
#[derive(Debug, Default)]
pub enum Additional {
    /// Absent or false.
    #[default]
    None,
    Any,
    Schema(Box<Schema>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// A schema, or a part of one. Inside `allOf`, `anyOf`, `oneOf` and `not` only the checks count.
#[derive(Debug, Default)]
pub struct Schema {
    pub ty: Option<Type>,
    pub nullable: bool,
    pub int_or_string: bool,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Additional,
    pub items: Option<Box<Schema>>,
    pub default: Option<Value>,
    pub list_type: ListType,
    pub list_map_keys: &'static [&'static str],
    pub map_atomic: bool,
    pub rules: Vec<Rule>,
    pub checks: Checks,
    /// Whether this or something below has a default.
    pub has_defaults: bool,
    /// Whether this or something below has rules.
    pub has_rules: bool,
    /// Whether this or something below is an embedded resource, a set or a map list.
    pub has_identities: bool,
    /// The least bytes that a value takes in JSON.
    pub bytes_min: u64,
}

/// What a value must satisfy besides its type.
#[derive(Debug, Default)]
pub struct Checks {
    pub format: String,
    pub pattern: Option<Pattern>,
    pub enumeration: Option<Vec<Value>>,
    pub maximum: Option<(f64, bool)>,
    pub minimum: Option<(f64, bool)>,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Vec<String>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
}

#[derive(Debug)]
pub struct Pattern {
    pub text: String,
    /// None if the expression is beyond this engine; definitions with such patterns are refused.
    pub regex: Option<Regex>,
}

/// The size of a compiled regular expression: hostile patterns are refused, not compiled at length.
const REGEX_BYTES_MAX: usize = 4 << 20;

pub fn regex(pattern: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build()
}

impl Schema {
    /// Compiles a schema; what definitions may not say was refused before and is ignored here.
    pub fn compile(raw: &Value) -> Self {
        let optional = |key: &str| raw.get(key).filter(|v| v.is_object()).map(|v| Box::new(Self::compile(v)));
        let list = |key: &str| items(raw, key).iter().map(Self::compile).collect::<Vec<_>>();
        let mut schema = Self {
            ty: Type::parse(string(raw, "type")),
            nullable: boolean(raw, "nullable"),
            int_or_string: boolean(raw, "x-kubernetes-int-or-string"),
            preserve_unknown: boolean(raw, "x-kubernetes-preserve-unknown-fields"),
            embedded: boolean(raw, "x-kubernetes-embedded-resource"),
            properties: entries(raw, "properties").map(|(name, s)| (name.clone(), Self::compile(s))).collect(),
            additional: match at(raw, "additionalProperties") {
                Value::Bool(true) => Additional::Any,
                Value::Object(_) => Additional::Schema(Box::new(Self::compile(at(raw, "additionalProperties")))),
                _ => Additional::None,
            },
            items: optional("items"),
            default: raw.get("default").cloned(),
            list_type: match string(raw, "x-kubernetes-list-type") {
                "set" => ListType::Set,
                "map" => ListType::Map,
                _ => ListType::Atomic,
            },
            list_map_keys: intern::list(strings(raw, "x-kubernetes-list-map-keys")),
            map_atomic: string(raw, "x-kubernetes-map-type") == "atomic",
            rules: items(raw, "x-kubernetes-validations").iter().map(Rule::compile).collect(),
            checks: Checks {
                all_of: list("allOf"),
                any_of: list("anyOf"),
                one_of: list("oneOf"),
                not: optional("not"),
                ..Checks::compile(raw)
            },
            ..Self::default()
        };
        schema.summarize();
        schema
    }

    fn summarize(&mut self) {
        self.has_defaults = self.default.is_some() || self.children().any(|s| s.has_defaults);
        self.has_rules = !self.rules.is_empty() || self.children().any(|s| s.has_rules);
        let identity = self.embedded || self.list_type != ListType::Atomic;
        self.has_identities = identity || self.children().any(|s| s.has_identities);
        self.bytes_min = size::bytes_min(self);
    }

    /// The schemas of members, of items and of other members.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        let additional = match &self.additional {
            Additional::Schema(schema) => Some(&**schema),
            _ => None,
        };
        self.properties.values().chain(additional).chain(self.items.as_deref())
    }

    /// The schema of a member of an object; none if nothing is known of it.
    pub fn member(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        })
    }

    /// The field that rules spell so.
    pub fn field(&self, spelled: &str) -> Option<&Self> {
        // Few names are spelled otherwise than they are written.
        match self.properties.get(spelled) {
            Some(field) if escape(spelled).as_deref() == Some(spelled) => Some(field),
            _ => self.properties.iter().find(|(name, _)| escape(name).as_deref() == Some(spelled)).map(|(_, s)| s),
        }
    }

    /// Whether the members of an object are keys, not fields.
    pub fn is_map(&self) -> bool {
        !matches!(self.additional, Additional::None)
    }
}

impl Checks {
    fn compile(raw: &Value) -> Self {
        let number = |key: &str| raw.get(key).and_then(Value::as_f64);
        let count = |key: &str| integer(raw, key);
        Self {
            format: string(raw, "format").to_owned(),
            pattern: raw
                .get("pattern")
                .and_then(Value::as_str)
                .filter(|p| !p.is_empty())
                .map(|text| Pattern { text: text.to_owned(), regex: regex(text).ok() }),
            enumeration: raw.get("enum").and_then(Value::as_array).filter(|e| !e.is_empty()).cloned(),
            maximum: number("maximum").map(|n| (n, boolean(raw, "exclusiveMaximum"))),
            minimum: number("minimum").map(|n| (n, boolean(raw, "exclusiveMinimum"))),
            multiple_of: number("multipleOf"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            required: strings(raw, "required").map(str::to_owned).collect(),
            ..Self::default()
        }
    }
}
