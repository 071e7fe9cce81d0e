//! `x-kubernetes-validations`: CEL rules over a value and what it replaces.
//!
//! The language and its Kubernetes libraries are `kube-cel`'s. What is ours: which values a rule sees ([`value`]), whether it fits its schema ([`check`]), what it
//! can cost there ([`cost`]), and that no rule costs more when it runs ([`meter`], [`budget`]). Selectors of devices are made of the same parts (`xebec-dra`).

mod borrow;
mod budget;
mod check;
mod collect;
mod cost;
mod depth;
mod gate;
mod issue;
mod lists;
mod macros;
mod made;
mod meter;
mod optional;
mod program;
mod types;
mod value;

use std::sync::OnceLock;

use kube_cel::cel::{Context, Value as CelValue};
use serde_json::Value;
use xebec_machinery::field::{Error, Path};
use xebec_registry::value::{boolean, string};

pub use budget::Budget;
pub use check::{Inferred, Scope, fault, infer};
pub use cost::size;
pub use kube_cel::cel as language;
pub use program::{Program, children, parse};
pub use value::escape;

use crate::correlate;
use crate::schema::{Schema, Type};

/// Upstream's `MaxEvaluatedMessageExpressionSizeBytes`.
const MESSAGE_BYTES_MAX: usize = 5 << 10;

/// One rule; compiled when it is first needed.
#[derive(Debug, Default)]
pub struct Rule {
    pub text: String,
    message: String,
    pub message_expression: String,
    reason: String,
    field_path: String,
    pub optional_old_self: bool,
    compiled: OnceLock<Result<(Program, Option<Program>), String>>,
}

/// The most that an expression can cost, or what is wrong with it.
pub type Judgement = Result<u64, String>;

/// What a rule is asked about.
struct Subject<'a> {
    new: &'a Value,
    old: Option<&'a Value>,
    schema: &'a Schema,
    path: &'a Path,
}

impl Rule {
    pub fn compile(raw: &Value) -> Self {
        Self {
            text: string(raw, "rule").to_owned(),
            message: string(raw, "message").trim().to_owned(),
            message_expression: string(raw, "messageExpression").to_owned(),
            reason: string(raw, "reason").to_owned(),
            field_path: string(raw, "fieldPath").to_owned(),
            optional_old_self: boolean(raw, "optionalOldSelf"),
            compiled: OnceLock::new(),
        }
    }

    /// What the rule and its message expression can cost at most over the values of a schema, or why they cannot run; none without a message expression.
    pub fn judge(&self, scope: Scope<'_>) -> (Judgement, Option<Judgement>) {
        let rule = check::rule(&self.text, scope);
        let message = match self.message_expression.as_str() {
            "" => None,
            text => Some(check::message(text, scope)),
        };
        (rule, message)
    }

    /// The rule as upstream's messages show it: its validation has a struct without names for JSON.
    pub fn shown(&self) -> Value {
        let given = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
        serde_json::json!({
            "Rule": self.text, "Message": self.message, "MessageExpression": self.message_expression,
            "Reason": given(&self.reason), "FieldPath": self.field_path,
            "OptionalOldSelf": if self.optional_old_self { Value::Bool(true) } else { Value::Null },
        })
    }

    /// Whether the rule compares with what was before.
    pub fn is_transition(&self) -> bool {
        matches!(self.programs(), Ok((rule, _)) if rule.uses_old_self)
    }

    fn programs(&self) -> &Result<(Program, Option<Program>), String> {
        self.compiled.get_or_init(|| {
            let rule = Program::compile(&self.text)?;
            let message = match self.message_expression.as_str() {
                "" => None,
                text => Some(Program::compile(text)?),
            };
            Ok((rule, message))
        })
    }

    /// The message of the rule, or the rule itself.
    fn described(&self) -> &str {
        if self.message.is_empty() { self.text.trim() } else { &self.message }
    }

    fn check(&self, subject: &Subject<'_>, budget: &Budget, errors: &mut Vec<Error>) {
        let (rule, message) = match self.programs() {
            Ok(programs) => programs,
            Err(problem) => {
                let why = format!("rule compile error: {problem}");
                return errors.push(Error::invalid(subject.path, type_of(subject.schema), why));
            }
        };
        let has_old = self.optional_old_self || subject.old.is_some();
        if rule.uses_old_self && !has_old {
            return;
        }
        // What did not change was accepted once; rules about the change itself do not forgive.
        if !rule.uses_old_self && subject.old == Some(subject.new) {
            return;
        }
        let context = self.context(subject, budget);
        match rule.run(&context, budget) {
            Ok(CelValue::Bool(true)) => {}
            Ok(CelValue::Bool(false)) => errors.push(self.failed(subject, &context, message.as_ref(), budget)),
            Ok(_) => errors.push(self.problem(subject, "rule did not evaluate to a boolean")),
            Err(why) => errors.push(self.problem(subject, &why)),
        }
    }

    fn context(&self, subject: &Subject<'_>, budget: &Budget) -> Context<'static> {
        let mut context = budget.context();
        context.add_variable_from_value("self", value::of(subject.new, Some(subject.schema)));
        let old = subject.old.map(|old| value::of(old, Some(subject.schema)));
        if self.optional_old_self {
            context.add_variable_from_value("oldSelf", value::optional(old));
        } else if let Some(old) = old {
            context.add_variable_from_value("oldSelf", old);
        }
        context
    }

    fn problem(&self, subject: &Subject<'_>, why: &str) -> Error {
        let rule = self.described();
        let why = if why.starts_with("no such overload") {
            format!(
                "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {rule}"
            )
        } else if why == budget::SPENT {
            why.to_owned()
        } else if why == budget::EXCEEDED {
            format!("'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {rule}")
        } else {
            format!("{why} evaluating rule: {rule}")
        };
        Error::invalid(subject.path, type_of(subject.schema), why)
    }

    fn failed(
        &self,
        subject: &Subject<'_>,
        context: &Context<'_>,
        message: Option<&Program>,
        budget: &Budget,
    ) -> Error {
        let evaluated = message.and_then(|program| match program.run(context, budget) {
            Ok(CelValue::String(text)) => Some(text.trim().to_owned()),
            _ => None,
        });
        let usable = |text: &String| !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
        let detail = evaluated.filter(usable).unwrap_or_else(|| match self.message.as_str() {
            "" => format!("failed rule: {}", self.text.trim()),
            message => message.to_owned(),
        });
        let path = match self.field_path.as_str() {
            "" => subject.path.clone(),
            below => subject.path.child(&spelled(below)),
        };
        let error = match self.reason.as_str() {
            "FieldValueForbidden" => Error::forbidden(&path, detail),
            "FieldValueRequired" => Error::required(&path, detail),
            "FieldValueDuplicate" => Error::duplicate(&path, subject.new.clone()),
            _ => Error::invalid(&path, subject.new.clone(), detail),
        };
        match subject.schema.ty {
            Some(Type::Object | Type::Array) => Error { value: None, ..error },
            _ => error,
        }
    }
}

/// `.a['b']` as a field path: `a.b`.
fn spelled(path: &str) -> String {
    path.trim_start_matches('.').replace("['", ".").replace("']", "")
}

fn type_of(schema: &Schema) -> &'static str {
    schema.ty.map_or("", Type::name)
}

/// What the rules of a schema say of `new`.
pub fn check(new: &Value, old: Option<&Value>, schema: &Schema, budget: &Budget) -> Vec<Error> {
    let mut errors = Vec::new();
    if schema.has_rules {
        walk(&Subject { new, old, schema, path: &Path::root() }, budget, &mut errors);
    }
    errors
}

fn walk(subject: &Subject<'_>, budget: &Budget, errors: &mut Vec<Error>) {
    let Subject { new, old, schema, path } = *subject;
    if !schema.has_rules || (new.is_null() && schema.nullable) {
        return;
    }
    for rule in &schema.rules {
        if budget.end().is_some() {
            return;
        }
        rule.check(subject, budget, errors);
    }
    match new {
        Value::Object(map) => {
            for (name, member) in map {
                let Some(member_schema) = schema.member(name) else { continue };
                let is_field = schema.properties.contains_key(name);
                let path = if is_field { path.child(name) } else { path.key(name) };
                let old = old.and_then(|old| old.get(name));
                walk(&Subject { new: member, old, schema: member_schema, path: &path }, budget, errors);
            }
        }
        Value::Array(items) => {
            let Some(item_schema) = &schema.items else { return };
            // Only items with keys can be told to be the ones that were there before.
            let old_items = correlate::items(old, schema);
            for (index, item) in items.iter().enumerate() {
                let (old, path) = (old_items.keyed(item), path.index(index));
                walk(&Subject { new: item, old, schema: item_schema, path: &path }, budget, errors);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
