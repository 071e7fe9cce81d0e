//! Whether a rule fits the schema that it is about: it parses, names only what there is, and applies operators and
//! functions to types that have them.
//!
//! What a type cannot be told of is `dyn`, which everything takes. So a rule that upstream accepts is accepted here; of
//! those that it refuses, the ones with functions beyond the standard ones may be refused only when they run.

mod function;
mod ty;

use std::collections::HashMap;

use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use serde_json::Value;

use super::cost::estimate;
use super::cost::size::{Node, Sizes};
use super::issue::{self, Places};
use super::{depth, program, types};
use crate::schema::Schema;

pub use ty::Ty;

/// The types of the parts of an expression, by their places in memory.
pub type Types<'a> = HashMap<usize, Ty<'a>>;

/// Tells the parts of an expression apart; good as long as the expression stays where it is.
pub fn key(expression: &IdedExpr) -> usize {
    std::ptr::from_ref(expression).addr()
}

/// What a rule is about.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    pub schema: &'a Schema,
    /// Whether `schema` is that of a whole resource, which has `metadata` whatever the schema says.
    pub is_root: bool,
    pub optional_old_self: bool,
}

/// The most that a rule can cost.
///
/// # Errors
/// What is wrong with it.
pub fn rule(text: &str, scope: Scope<'_>) -> Result<u64, String> {
    match over_self(text, scope) {
        Ok((Ty::Bool | Ty::Dyn, cost)) => Ok(cost),
        Ok(_) => Err("cel expression must evaluate to a bool".to_owned()),
        Err(why) => Err(format!("compilation failed: {why}")),
    }
}

/// The most that the expression that makes a rule's message can cost.
///
/// # Errors
/// What is wrong with it.
pub fn message(text: &str, scope: Scope<'_>) -> Result<u64, String> {
    match over_self(text, scope) {
        Ok((Ty::String | Ty::Dyn, cost)) => Ok(cost),
        Ok(_) => Err("messageExpression must evaluate to a string".to_owned()),
        Err(why) => Err(format!("messageExpression compilation failed: {why}")),
    }
}

/// What is known of an expression before it runs.
pub struct Inferred {
    /// As cel-go names it.
    pub ty: String,
    /// At most.
    pub cost: u64,
}

/// The type and the cost of an expression over one variable, whose values fit an OpenAPI schema and are of limited sizes. It was parsed from `text`.
///
/// # Errors
/// What is wrong with it, and where, as cel-go shows it.
pub fn infer(
    text: &str,
    expression: &IdedExpr,
    variable: &str,
    schema: &Value,
    sizes: &dyn Sizes,
) -> Result<Inferred, String> {
    let schema = Schema::compile(schema);
    let inferred = roomy(expression, || {
        let scope = vec![(variable.to_owned(), Ty::of(&schema))];
        let mut checker = Checker { root: None, scope, types: Types::new(), faults: Vec::new() };
        let ty = checker.infer(expression).to_string();
        checker.done()?;
        Ok(Inferred { ty, cost: estimate::estimate(expression, sizes, &checker.types) })
    });
    inferred.map_err(|faults| shown(text, faults))
}

/// The type of an expression, and its cost at most.
fn over_self<'a>(text: &str, scope: Scope<'a>) -> Result<(Ty<'a>, u64), String> {
    let expression = program::parse(text)?;
    roomy(&expression, || judged(&expression, scope)).map_err(|faults| shown(text, faults))
}

/// What is wrong with parts of an expression, which are known by their ids.
type Faults = Vec<(u64, String)>;

/// What is wrong with one part of the expression that was parsed from `text`, and where, as cel-go shows it.
pub fn fault(text: &str, part: u64, why: &str) -> String {
    shown(text, vec![(part, why.to_owned())])
}

fn shown(text: &str, faults: Faults) -> String {
    let places = Places::of(text);
    issue::display(text, faults.into_iter().map(|(part, why)| places.issue(part, why)).collect())
}

/// Walks an expression on a stack that is large enough for it.
fn roomy<T: Send>(expression: &IdedExpr, walk: impl FnOnce() -> T + Send) -> T {
    if depth::of(expression) > depth::SHALLOW { depth::with_room(walk) } else { walk() }
}

fn judged<'a>(expression: &IdedExpr, scope: Scope<'a>) -> Result<(Ty<'a>, u64), Faults> {
    let own = Ty::of(scope.schema);
    let old = if scope.optional_old_self { Ty::Optional(Box::new(own.clone())) } else { own.clone() };
    let variables = vec![("self".to_owned(), own), ("oldSelf".to_owned(), old)];
    let root = scope.is_root.then_some(scope.schema);
    let mut checker = Checker { root, scope: variables, types: Types::new(), faults: Vec::new() };
    let ty = checker.infer(expression);
    checker.done()?;
    let cost = estimate::estimate(expression, &Node::of(scope.schema, scope.is_root), &checker.types);
    Ok((ty, cost))
}

struct Checker<'a> {
    /// The schema of the resource, where it can be met.
    root: Option<&'a Schema>,
    /// Variables, inner ones last.
    scope: Vec<(String, Ty<'a>)>,
    types: Types<'a>,
    faults: Faults,
}

impl<'a> Checker<'a> {
    fn done(&mut self) -> Result<(), Faults> {
        if self.faults.is_empty() { Ok(()) } else { Err(std::mem::take(&mut self.faults)) }
    }

    /// The type of an expression. A wrong part fits everything, so that what else is wrong is found too.
    fn infer(&mut self, expression: &IdedExpr) -> Ty<'a> {
        let ty = self.of(expression).unwrap_or_else(|why| self.fault(expression, why));
        self.types.insert(key(expression), ty.clone());
        ty
    }

    fn fault(&mut self, part: &IdedExpr, why: String) -> Ty<'a> {
        self.faults.push((part.id, why));
        Ty::Dyn
    }

    fn of(&mut self, expression: &IdedExpr) -> Result<Ty<'a>, String> {
        match &expression.expr {
            Expr::Unspecified => Err("expression is incomplete".into()),
            Expr::Struct(_) => Err("message literals are not supported".into()),
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => match self.variable(name) {
                Some(ty) => Ok(ty.clone()),
                None if name == "google" || types::NAMES.contains(&name.as_str()) => Ok(Ty::Dyn),
                None => Err(undeclared(name)),
            },
            Expr::List(list) => {
                let items = list.elements.iter().enumerate();
                let items =
                    items.map(|(at, item)| self.infer(item).entry(list.optional_indices.contains(&at))).collect();
                Ok(Ty::List(Box::new(Ty::common(items))))
            }
            Expr::Map(map) => {
                let mut values = Vec::new();
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.infer(&entry.key);
                        values.push(self.infer(&entry.value).entry(entry.optional));
                    }
                }
                Ok(Ty::Map(Box::new(Ty::common(values))))
            }
            Expr::Select(select) => {
                let operand = self.infer(&select.operand);
                let field = self.select(operand, &select.field)?;
                Ok(if select.test { Ty::Bool } else { field })
            }
            Expr::Call(CallExpr { func_name, args, .. }) if func_name == operators::OPT_SELECT => {
                let [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }] = args.as_slice()
                else {
                    return Err("unsupported optional field selection".into());
                };
                let operand = self.infer(operand);
                Ok(self.select(operand, field.inner())?.optional())
            }
            Expr::Call(call) => {
                let (name, target) = program::namespaced(call, |name| self.variable(name).is_some());
                let operands = target.into_iter().chain(&call.args);
                let types: Vec<Ty<'a>> = operands.map(|operand| self.infer(operand)).collect();
                if !function::is_declared(&name) {
                    return Err(undeclared(&call.func_name));
                }
                let is_method = target.is_some();
                function::result(&name, &types, is_method).ok_or_else(|| {
                    let args: Vec<String> = types.iter().map(ToString::to_string).collect();
                    let signature = match (is_method, args.split_first()) {
                        (true, Some((target, args))) => format!("{target}.({})", args.join(", ")),
                        _ => format!("({})", args.join(", ")),
                    };
                    format!("found no matching overload for '{name}' applied to '{signature}'")
                })
            }
            Expr::Comprehension(comprehension) => Ok(self.comprehension(comprehension)),
        }
    }

    fn variable(&self, name: &str) -> Option<&Ty<'a>> {
        self.scope.iter().rev().find(|(known, _)| known == name).map(|(_, ty)| ty)
    }

    fn select(&self, operand: Ty<'a>, field: &str) -> Result<Ty<'a>, String> {
        match operand {
            Ty::Object(owner) => {
                let is_resource = owner.embedded || self.root.is_some_and(|root| std::ptr::eq(root, owner));
                match (field, owner.field(field)) {
                    ("apiVersion" | "kind", _) if is_resource => Ok(Ty::String),
                    ("metadata", _) if is_resource => Ok(Ty::Metadata),
                    (_, Some(schema)) => Ok(Ty::of(schema)),
                    (_, None) if owner.preserve_unknown || owner.embedded => Ok(Ty::Dyn),
                    (_, None) => Err(format!("undefined field '{field}'")),
                }
            }
            Ty::Metadata if ["name", "generateName"].contains(&field) => Ok(Ty::String),
            Ty::Metadata => Err(format!("undefined field '{field}'")),
            Ty::Map(values) => Ok(*values),
            Ty::Dyn | Ty::Free => Ok(Ty::Dyn),
            Ty::Optional(inner) => Ok(Ty::Optional(Box::new(self.select(*inner, field)?))),
            other => Err(format!("type '{other}' does not support field selection")),
        }
    }

    fn comprehension(&mut self, c: &ComprehensionExpr) -> Ty<'a> {
        let (key, item) = match self.infer(&c.iter_range) {
            Ty::List(item) => (Ty::Int, *item),
            Ty::Map(value) => (Ty::String, *value),
            Ty::Dyn | Ty::Free => (Ty::Dyn, Ty::Dyn),
            other => {
                let of = "cannot be range of a comprehension (must be list, map, or dynamic)";
                self.fault(&c.iter_range, format!("expression of type '{other}' {of}"));
                (Ty::Dyn, Ty::Dyn)
            }
        };
        let of_map = matches!(key, Ty::String);
        let accumulated = self.infer(&c.accu_init);
        let depth = self.scope.len();
        self.scope.push((c.accu_var.clone(), accumulated));
        match &c.iter_var2 {
            Some(second) => self.scope.extend([(c.iter_var.clone(), key), (second.clone(), item)]),
            None => self.scope.push((c.iter_var.clone(), if of_map { key } else { item })),
        }
        self.infer(&c.loop_cond);
        let step = self.infer(&c.loop_step);
        self.scope.truncate(depth);
        // A list that starts empty is of what the steps add.
        self.scope.push((c.accu_var.clone(), step));
        let result = self.infer(&c.result);
        self.scope.truncate(depth);
        result
    }
}

fn undeclared(name: &str) -> String {
    format!("undeclared reference to '{name}' (in container '')")
}

fn of_literal(literal: &LiteralValue) -> Ty<'static> {
    match literal {
        LiteralValue::Boolean(_) => Ty::Bool,
        LiteralValue::Bytes(_) => Ty::Bytes,
        LiteralValue::Double(_) => Ty::Double,
        LiteralValue::Int(_) => Ty::Int,
        LiteralValue::Null => Ty::Null,
        LiteralValue::String(_) => Ty::String,
        LiteralValue::UInt(_) => Ty::Uint,
    }
}
