//! A parsed rule, whose loops are counted.

use std::panic::AssertUnwindSafe;

use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, operators};
use kube_cel::cel::parser::Parser;
use kube_cel::cel::{Context, Value};

use super::budget::{Budget, EXCEEDED, SHORT, TICK};

/// Functions whose cost grows with the square of a list.
const QUADRATIC: [&str; 6] =
    ["sets.contains", "sets.equivalent", "sets.intersects", "distinct", "indexOf", "lastIndexOf"];
/// Longer rules are refused.
const RULE_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub struct Program {
    expression: IdedExpr,
    pub uses_old_self: bool,
}

impl Program {
    pub fn compile(text: &str) -> Result<Self, String> {
        let mut expression = parse(text)?;
        let uses_old_self = expression.references().has_variable("oldSelf");
        count_loops(&mut expression);
        Ok(Self { expression, uses_old_self })
    }

    pub fn run(&self, context: &Context<'_>, budget: &Budget) -> Result<Value, String> {
        let run = AssertUnwindSafe(|| Value::resolve(&self.expression, context));
        let outcome =
            std::panic::catch_unwind(run).unwrap_or_else(|_| Err(kube_cel::cel::ExecutionError::NoSuchOverload));
        if budget.is_spent() {
            return Err(EXCEEDED.to_owned());
        }
        outcome.map_err(|error| worded(&error))
    }
}

/// The error as cel-go words it.
fn worded(error: &kube_cel::cel::ExecutionError) -> String {
    use kube_cel::cel::ExecutionError as E;
    match error {
        E::NoSuchKey(key) => format!("no such key: {key}"),
        E::NoSuchOverload
        | E::UnexpectedType { .. }
        | E::ValuesNotComparable(..)
        | E::UnsupportedBinaryOperator(..) => "no such overload".into(),
        E::UndeclaredReference(name) => format!("undeclared reference to '{name}'"),
        E::DivisionByZero(_) => "division by zero".into(),
        E::RemainderByZero(_) => "modulus by zero".into(),
        E::Overflow(..) => "integer overflow".into(),
        E::IndexOutOfBounds(index) => format!("index out of bounds: {index:?}"),
        E::FunctionError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// The expression, its macros expanded.
pub fn parse(text: &str) -> Result<IdedExpr, String> {
    if text.len() > RULE_BYTES_MAX {
        return Err(format!("expression is longer than {RULE_BYTES_MAX} bytes"));
    }
    let parse = AssertUnwindSafe(|| Parser::new().enable_optional_syntax(true).parse(text));
    match std::panic::catch_unwind(parse) {
        Ok(parsed) => parsed.map_err(|error| error.to_string()),
        Err(_) => Err("expression cannot be parsed".to_owned()),
    }
}

/// Every expression right below one.
fn children(expression: &mut IdedExpr) -> Vec<&mut IdedExpr> {
    match &mut expression.expr {
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).collect(),
        Expr::Comprehension(c) => {
            let c = &mut **c;
            vec![&mut c.iter_range, &mut c.accu_init, &mut c.loop_cond, &mut c.loop_step, &mut c.result]
        }
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Map(map) => map.entries.iter_mut().flat_map(|entry| entry_parts(&mut entry.expr)).collect(),
        Expr::Struct(s) => s.entries.iter_mut().flat_map(|entry| entry_parts(&mut entry.expr)).collect(),
        Expr::Select(select) => vec![&mut select.operand],
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

fn entry_parts(entry: &mut EntryExpr) -> Vec<&mut IdedExpr> {
    match entry {
        EntryExpr::MapEntry(entry) => vec![&mut entry.key, &mut entry.value],
        EntryExpr::StructField(field) => vec![&mut field.value],
    }
}

fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}

/// Puts a tick into the condition of every loop, and a limit before what is quadratic.
fn count_loops(expression: &mut IdedExpr) {
    children(expression).into_iter().for_each(count_loops);
    match &mut expression.expr {
        Expr::Comprehension(comprehension) => {
            let condition = std::mem::take(&mut comprehension.loop_cond);
            let never = IdedExpr {
                id: 0,
                expr: Expr::Literal(kube_cel::cel::common::ast::LiteralValue::Boolean(false.into())),
            };
            comprehension.loop_cond = call(operators::CONDITIONAL, vec![call(TICK, Vec::new()), condition, never]);
        }
        Expr::Call(called) => {
            let is_set =
                matches!(called.target.as_deref(), Some(IdedExpr { expr: Expr::Ident(name), .. }) if name == "sets");
            let name = if is_set { format!("sets.{}", called.func_name) } else { called.func_name.clone() };
            if !QUADRATIC.contains(&name.as_str()) {
                return;
            }
            let short = |expression: &mut IdedExpr| *expression = call(SHORT, vec![std::mem::take(expression)]);
            if !is_set && let Some(target) = called.target.as_deref_mut() {
                short(target);
            }
            called.args.iter_mut().for_each(short);
        }
        _ => {}
    }
}
