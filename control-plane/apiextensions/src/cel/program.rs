//! A parsed rule that counts what it costs.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;

use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr};
use kube_cel::cel::{Context, Value};

use super::budget::Budget;
use super::{borrow, depth, issue, macros, meter, optional};

/// What functions are named after.
const LIBRARIES: [&str; 7] = ["cel", "format", "ip", "lists", "optional", "sets", "strings"];
/// Longer rules are refused.
const RULE_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub struct Program {
    expression: IdedExpr,
    is_deep: bool,
    pub uses_old_self: bool,
}

impl Program {
    pub fn compile(text: &str) -> Result<Self, String> {
        Ok(Self::of(parse(text)?))
    }

    /// An expression that was parsed before.
    pub fn of(mut expression: IdedExpr) -> Self {
        let uses_old_self = expression.references().has_variable("oldSelf");
        let is_deep = depth::of(&expression) > depth::SHALLOW;
        optional::rewrite(&mut expression);
        meter::meter(&mut expression);
        macros::pair(&mut expression);
        borrow::rewrite(&mut expression);
        Self { expression, is_deep, uses_old_self }
    }

    pub fn run(&self, context: &Context<'_>, budget: &Budget) -> Result<Value, String> {
        budget.begin();
        let run = || {
            let run = AssertUnwindSafe(|| Value::resolve(&self.expression, context));
            std::panic::catch_unwind(run).unwrap_or_else(|_| Err(kube_cel::cel::ExecutionError::NoSuchOverload))
        };
        let outcome = if self.is_deep { depth::with_room(run) } else { run() };
        if let Some(why) = budget.finish() {
            return Err(why.to_owned());
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

/// The expression, its macros expanded; neither deeper than it can be walked.
///
/// # Errors
/// What cannot be read, and where, as cel-go shows it.
pub fn parse(text: &str) -> Result<IdedExpr, String> {
    if text.len() > RULE_BYTES_MAX {
        return Err(format!("expression is longer than {RULE_BYTES_MAX} bytes"));
    }
    let too_deep = || format!("expression recursion limit exceeded: {}", depth::MAX);
    if depth::of_text(text) > depth::MAX {
        return Err(too_deep());
    }
    // A chain of operators is as deep as it is long: the parser needs room to tell so.
    depth::with_room(|| match issue::parsed(text) {
        Ok(expression) if depth::of(&expression) > depth::MAX => Err(too_deep()),
        Ok(mut expression) => match macros::expand(&mut expression) {
            Ok(()) if depth::of(&expression) > depth::MAX => Err(too_deep()),
            Ok(()) => Ok(expression),
            Err((part, why)) => Err(issue::display(text, vec![issue::Places::of(text).issue(part, why)])),
        },
        Err(errors) if errors.errors.is_empty() => Err("expression cannot be parsed".to_owned()),
        Err(errors) => Err(issue::display(text, issue::of_parser(errors))),
    })
}

/// Every expression right below one.
pub fn children(expression: &mut IdedExpr) -> Vec<&mut IdedExpr> {
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

/// A call by its full name, and the target that it has as a method. A function of a library looks like a method of a variable,
/// unless there is a variable of that name.
pub fn namespaced(call: &CallExpr, is_variable: impl Fn(&str) -> bool) -> (Cow<'_, str>, Option<&IdedExpr>) {
    match call.target.as_deref() {
        Some(IdedExpr { expr: Expr::Ident(library), .. })
            if LIBRARIES.contains(&library.as_str()) && !is_variable(library) =>
        {
            (format!("{library}.{}", call.func_name).into(), None)
        }
        target => (call.func_name.as_str().into(), target),
    }
}
