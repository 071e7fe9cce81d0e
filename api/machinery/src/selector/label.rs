//! Label selectors: `app=web,tier in (a,b),!canary,weight>3`.

use std::fmt;

use serde_json::Value;

use super::InvalidSelector;
use crate::validation;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operator {
    Equals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted, without duplicates.
    pub values: Vec<String>,
}

/// A conjunction of requirements, sorted by key; none selects everything. `Nothing` selects nothing, as a nil `metav1.LabelSelector` does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LabelSelector {
    Nothing,
    All(Vec<Requirement>),
}

impl Default for LabelSelector {
    fn default() -> Self {
        Self::everything()
    }
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::All(Vec::new())
    }

    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        let mut parser = Parser { text, rest: text };
        Ok(Self::new(parser.requirements()?))
    }

    fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self::All(requirements)
    }

    /// From a `metav1.LabelSelector`: null selects nothing, `{}` everything.
    pub fn from_object(selector: &Value) -> Result<Self, InvalidSelector> {
        let Value::Object(selector) = selector else {
            return Ok(Self::Nothing);
        };
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let values = vec![value.as_str().unwrap_or_default().to_owned()];
            requirements.push(Requirement::new(key.clone(), Operator::Equals, values)?);
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(InvalidSelector(format!("{other:?} is not a valid label selector operator")));
                }
            };
            let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
            requirements.push(Requirement::new(text("key").to_owned(), operator, values)?);
        }
        Ok(Self::new(requirements))
    }

    /// From a plain map of labels, as ReplicationController and Service have it.
    pub fn from_map<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let requirement = |(key, value): (&str, &str)| Requirement {
            key: key.to_owned(),
            operator: Operator::Equals,
            values: vec![value.to_owned()],
        };
        Self::new(labels.into_iter().map(requirement).collect())
    }

    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(requirements) if requirements.is_empty())
    }

    /// `get` answers what a label is.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(requirements) => requirements.iter().all(|r| r.matches(get(&r.key))),
        }
    }

    /// Whether the labels of `object` match.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(|key| crate::object::label(object, key))
    }
}

impl Requirement {
    /// Checks what apimachinery's `labels.NewRequirement` checks.
    pub fn new(key: String, operator: Operator, mut values: Vec<String>) -> Result<Self, InvalidSelector> {
        let fail = |path: &str, value: &str, detail: &str| {
            Err(InvalidSelector(format!("{path}: Invalid value: {value:?}: {detail}")))
        };
        if let Some(message) = validation::qualified_name(&key).first() {
            return fail("key", &key, message);
        }
        let list = || format!("[{}]", values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(", "));
        let wrong = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            Operator::GreaterThan | Operator::LessThan if values[0].parse::<i64>().is_err() => {
                return fail("values[0]", &values[0], "for 'Gt', 'Lt' operators, the value must be an integer");
            }
            _ => None,
        };
        if let Some(detail) = wrong {
            return Err(InvalidSelector(format!("values: Invalid value: {}: {detail}", list())));
        }
        for (i, value) in values.iter().enumerate() {
            if let Some(message) = validation::label_value(value).first() {
                return fail(&format!("values[{i}][{key}]"), value, message);
            }
        }
        values.sort_unstable();
        values.dedup();
        Ok(Self { key, operator, values })
    }

    pub fn matches(&self, label: Option<&str>) -> bool {
        let listed = |label: &str| self.values.iter().any(|v| v == label);
        let compare = |label: &str, ok: fn(&i64, &i64) -> bool| match (label.parse(), self.values[0].parse()) {
            (Ok(have), Ok(want)) => ok(&have, &want),
            _ => false,
        };
        match self.operator {
            Operator::In | Operator::Equals => label.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !label.is_some_and(listed),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => label.is_some_and(|l| compare(l, i64::gt)),
            Operator::LessThan => label.is_some_and(|l| compare(l, i64::lt)),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::All(requirements) = self else {
            return Ok(());
        };
        for (i, requirement) in requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator, values } = self;
        let values = values.join(",");
        match operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

/// The characters that end a word, apart from blanks.
const SPECIAL: [char; 7] = ['=', '!', '(', ')', ',', '>', '<'];

impl<'a> Parser<'a> {
    fn fail<T>(&self, expected: &str) -> Result<T, InvalidSelector> {
        let found = self.rest.split_whitespace().next().unwrap_or_default();
        Err(InvalidSelector(format!("unable to parse requirement: found '{found}', expected: {expected}")))
    }

    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        let Some(rest) = self.rest.strip_prefix(token) else {
            return false;
        };
        self.rest = rest;
        true
    }

    /// The next word; empty if a special character or the end comes first.
    fn word(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| c.is_whitespace() || SPECIAL.contains(&c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, InvalidSelector> {
        let mut found = Vec::new();
        if self.text.trim().is_empty() {
            return Ok(found);
        }
        loop {
            found.push(self.requirement()?);
            if self.eat(",") {
                if self.rest.trim().is_empty() {
                    return self.fail("identifier after ','");
                }
            } else if self.rest.trim().is_empty() {
                return Ok(found);
            } else {
                return self.fail("',' or 'end of string'");
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, InvalidSelector> {
        let absent = self.eat("!");
        let key = self.word();
        if key.is_empty() {
            return self.fail("!, identifier, or 'end of string'");
        }
        let new = |operator, values| {
            Requirement::new(key.to_owned(), operator, values)
                .map_err(|e| InvalidSelector(format!("unable to parse requirement: {e}")))
        };
        if absent {
            return new(Operator::DoesNotExist, Vec::new());
        }
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return new(Operator::Exists, Vec::new());
        }
        let operators = [
            ("!=", Operator::NotEquals),
            ("==", Operator::Equals),
            ("=", Operator::Equals),
            (">", Operator::GreaterThan),
            ("<", Operator::LessThan),
        ];
        if let Some(&(_, operator)) = operators.iter().find(|(token, _)| self.eat(token)) {
            return new(operator, vec![self.word().to_owned()]);
        }
        let operator = match self.word() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            _ => return self.fail("in, notin, =, ==, !=, gt, lt"),
        };
        new(operator, self.values()?)
    }

    fn values(&mut self) -> Result<Vec<String>, InvalidSelector> {
        if !self.eat("(") {
            return self.fail("'('");
        }
        let mut values = Vec::new();
        loop {
            values.push(self.word().to_owned());
            if self.eat(")") {
                return Ok(values);
            }
            if !self.eat(",") {
                return self.fail("',' or ')'");
            }
        }
    }
}
