//! Macros of upstream's environments that the parser does not have: those of optional values (cel-go's `cel/library.go`) and those with two variables
//! (`ext/comprehensions.go`), and `sortBy`. They are expanded as cel-go does, so that they cost what they cost there.

use std::collections::{HashMap, hash_map::Entry};
use std::sync::Arc;

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, operators,
};
use kube_cel::cel::objects::Key;
use kube_cel::cel::{Context, ExecutionError, Value};

use super::collect;
use super::lists::SORT_BY_KEYS;
use super::program::children;

/// `@mapInsert(map, key, value)` and `@mapInsert(map, entries)`: a map with more in it. Only loops of [`super::collect`] ask for it.
pub const MAP_INSERT: &str = "@mapInsert";
/// The items of a list with their indices, or the values of a map with their keys.
const PAIRS: &str = "@pairs";
const ACCUMULATOR: &str = "@result";
/// The list that `sortBy` sorts.
const SORTED: &str = "@__sortBy_input__";
/// Macros that copy their target may make so many parts: each doubles what it is called on.
const COPIES_MAX: usize = 20_000;

/// What is wrong with a part, which is known by its id.
pub type Fault = (u64, String);

/// Expands every macro.
///
/// # Errors
/// The first that is used wrongly.
pub fn expand(expression: &mut IdedExpr) -> Result<(), Fault> {
    expand_within(expression, &mut 0)
}

fn expand_within(expression: &mut IdedExpr, copied: &mut usize) -> Result<(), Fault> {
    children(expression).into_iter().try_for_each(|child| expand_within(child, copied))?;
    let id = expression.id;
    let Expr::Call(call) = &mut expression.expr else { return Ok(()) };
    let Some(target) = call.target.as_deref_mut() else { return Ok(()) };
    let made = match (call.func_name.as_str(), call.args.as_mut_slice()) {
        (name @ ("optMap" | "optFlatMap"), [variable, result]) => {
            *copied += parts(target);
            if *copied > COPIES_MAX {
                return Err((id, "expression is too large once its macros are expanded".to_owned()));
            }
            optional(id, name, target, variable, std::mem::take(result))?
        }
        ("sortBy", [variable, by]) => sort_by(id, std::mem::take(target), variable, std::mem::take(by))?,
        ("all" | "exists" | "existsOne" | "exists_one", [_, _, _])
        | ("transformList" | "transformMap" | "transformMapEntry", [_, _, _] | [_, _, _, _]) => {
            let name = std::mem::take(&mut call.func_name);
            two_variables(id, &name, std::mem::take(target), std::mem::take(&mut call.args))?
        }
        _ => return Ok(()),
    };
    expression.expr = made.expr;
    Ok(())
}

fn parts(expression: &mut IdedExpr) -> usize {
    1 + children(expression).into_iter().map(parts).sum::<usize>()
}

/// `target.hasValue() ? optional.of(result, where the variable is target.value()) : optional.none()`
fn optional(id: u64, name: &str, target: &IdedExpr, variable: &IdedExpr, result: IdedExpr) -> Result<IdedExpr, Fault> {
    let Expr::Ident(variable_name) = &variable.expr else {
        return Err((variable.id, format!("{name}() variable name must be a simple identifier")));
    };
    let method = |name: &str| {
        let target = Some(Box::new(target.clone()));
        part(id, Expr::Call(CallExpr { func_name: name.to_owned(), target, args: Vec::new() }))
    };
    let bound = bind(id, variable_name, method("value"), result);
    let found = if name == "optMap" { call(id, "optional.of", vec![bound]) } else { bound };
    Ok(call(id, operators::CONDITIONAL, vec![method("hasValue"), found, call(id, "optional.none", Vec::new())]))
}

/// `bind(input, target, input.@sortByAssociatedKeys(input.map(variable, by)))` (`ext/lists.go`)
fn sort_by(id: u64, target: IdedExpr, variable: &IdedExpr, by: IdedExpr) -> Result<IdedExpr, Fault> {
    let why = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
    if matches!(target.expr, Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified) {
        return Err((target.id, why.to_owned()));
    }
    if !matches!(variable.expr, Expr::Ident(_)) {
        return Err((variable.id, "argument is not an identifier".to_owned()));
    }
    let input = || part(id, Expr::Ident(SORTED.to_owned()));
    let keys = two_variables(id, "transformList", input(), vec![variable.clone(), by])?;
    let sorted = CallExpr { func_name: SORT_BY_KEYS.to_owned(), target: Some(Box::new(input())), args: vec![keys] };
    Ok(bind(id, SORTED, target, part(id, Expr::Call(sorted))))
}

/// The result, where the variable has this value.
fn bind(id: u64, variable: &str, value: IdedExpr, result: IdedExpr) -> IdedExpr {
    let bound = ComprehensionExpr {
        iter_range: part(id, Expr::List(ListExpr::new(Vec::new()))),
        iter_var: "#unused".to_owned(),
        iter_var2: None,
        accu_var: variable.to_owned(),
        accu_init: value,
        loop_cond: boolean(id, false),
        loop_step: part(id, Expr::Ident(variable.to_owned())),
        result,
    };
    part(id, Expr::Comprehension(Box::new(bound)))
}

fn two_variables(id: u64, name: &str, range: IdedExpr, mut args: Vec<IdedExpr>) -> Result<IdedExpr, Fault> {
    let body = args.pop().unwrap_or_default();
    let filter = if args.len() == 3 { args.pop() } else { None };
    let mut names = Vec::new();
    for variable in &args {
        match &variable.expr {
            Expr::Ident(name) if names.contains(name) => {
                return Err((variable.id, format!("duplicate variable name: {name}")));
            }
            Expr::Ident(name) => names.push(name.clone()),
            _ => return Err((variable.id, "argument must be a simple name".to_owned())),
        }
    }
    let accumulated = || part(id, Expr::Ident(ACCUMULATOR.to_owned()));
    let number = |number: i64| part(id, Expr::Literal(LiteralValue::Int(number.into())));
    let of = |operator: &str, args: Vec<IdedExpr>| call(id, operator, args);
    let goes_on = |value: IdedExpr| of(operators::NOT_STRICTLY_FALSE, vec![value]);
    let key = args.first().cloned().unwrap_or_default();
    let (accu_init, loop_cond, loop_step, result) = match name {
        "all" => {
            let step = of(operators::LOGICAL_AND, vec![accumulated(), body]);
            (boolean(id, true), goes_on(accumulated()), step, accumulated())
        }
        "exists" => {
            let step = of(operators::LOGICAL_OR, vec![accumulated(), body]);
            (boolean(id, false), goes_on(of(operators::LOGICAL_NOT, vec![accumulated()])), step, accumulated())
        }
        "existsOne" | "exists_one" => {
            let more = of(operators::ADD, vec![accumulated(), number(1)]);
            let step = of(operators::CONDITIONAL, vec![body, more, accumulated()]);
            (number(0), boolean(id, true), step, of(operators::EQUALS, vec![accumulated(), number(1)]))
        }
        _ => {
            let more = match name {
                "transformList" => {
                    of(operators::ADD, vec![accumulated(), part(id, Expr::List(ListExpr::new(vec![body])))])
                }
                "transformMap" => of(MAP_INSERT, vec![accumulated(), key, body]),
                _ => of(MAP_INSERT, vec![accumulated(), body]),
            };
            let step = match filter {
                Some(filter) => of(operators::CONDITIONAL, vec![filter, more, accumulated()]),
                None => more,
            };
            let init = match name {
                "transformList" => Expr::List(ListExpr::new(Vec::new())),
                _ => Expr::Map(MapExpr { entries: Vec::new() }),
            };
            (part(id, init), boolean(id, true), step, accumulated())
        }
    };
    let mut names = names.into_iter();
    let loops = ComprehensionExpr {
        iter_range: range,
        iter_var: names.next().unwrap_or_default(),
        iter_var2: names.next(),
        accu_var: ACCUMULATOR.to_owned(),
        accu_init,
        loop_cond,
        loop_step,
        result,
    };
    Ok(part(id, Expr::Comprehension(Box::new(loops))))
}

fn part(id: u64, expr: Expr) -> IdedExpr {
    IdedExpr { id, expr }
}

pub fn boolean(id: u64, value: bool) -> IdedExpr {
    part(id, Expr::Literal(LiteralValue::Boolean(value.into())))
}

pub fn call(id: u64, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    part(id, Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
}

/// The interpreter knows loops with one variable: those with two go over pairs. What it costs to read a variable was counted before.
pub fn pair(expression: &mut IdedExpr) {
    pair_within(expression, 0);
}

fn pair_within(expression: &mut IdedExpr, depth: usize) {
    if let Expr::Comprehension(c) = &mut expression.expr
        && let Some(second) = c.iter_var2.take()
    {
        let name = format!("@pair{depth}");
        let first = std::mem::replace(&mut c.iter_var, name.clone());
        let range = std::mem::take(&mut c.iter_range);
        c.iter_range = call(range.id, PAIRS, vec![range]);
        for body in [&mut c.loop_cond, &mut c.loop_step] {
            put(body, &first, &name, 0);
            put(body, &second, &name, 1);
        }
    }
    children(expression).into_iter().for_each(|child| pair_within(child, depth + 1));
}

/// Puts a half of the pair wherever a variable is read that no inner loop hides.
fn put(expression: &mut IdedExpr, variable: &str, pair: &str, half: i64) {
    match &mut expression.expr {
        Expr::Ident(name) if name == variable => {
            let number = part(0, Expr::Literal(LiteralValue::Int(half.into())));
            let pair = part(0, Expr::Ident(pair.to_owned()));
            expression.expr = call(0, operators::INDEX, vec![pair, number]).expr;
        }
        Expr::Call(call) if collect::variables(call).is_some_and(|mut names| names.any(|name| name == variable)) => {
            call.args.iter_mut().take(1).for_each(|range| put(range, variable, pair, half));
        }
        Expr::Comprehension(c) => {
            put(&mut c.iter_range, variable, pair, half);
            put(&mut c.accu_init, variable, pair, half);
            let is_accumulator = c.accu_var == variable;
            let is_hidden = is_accumulator || c.iter_var == variable || c.iter_var2.as_deref() == Some(variable);
            if !is_hidden {
                put(&mut c.loop_cond, variable, pair, half);
                put(&mut c.loop_step, variable, pair, half);
            }
            if !is_accumulator {
                put(&mut c.result, variable, pair, half);
            }
        }
        _ => children(expression).into_iter().for_each(|child| put(child, variable, pair, half)),
    }
}

pub fn add_to(context: &mut Context<'_>) {
    context.add_function(PAIRS, |of: Value| pairs(&of));
}

fn pairs(of: &Value) -> Result<Value, ExecutionError> {
    let pair = |key: Value, value: &Value| Value::List(Arc::new(vec![key, value.clone()]));
    let pairs: Vec<Value> = match of {
        Value::List(items) => (0_i64..).zip(items.iter()).map(|(index, item)| pair(Value::Int(index), item)).collect(),
        Value::Map(map) => map.map.iter().map(|(key, value)| pair(Value::from(key.clone()), value)).collect(),
        _ => return Err(ExecutionError::NoSuchOverload),
    };
    Ok(Value::List(Arc::new(pairs)))
}

/// What [`MAP_INSERT`] does.
pub fn insert(map: &mut HashMap<Key, Value>, key: Key, value: Value) -> Result<(), ExecutionError> {
    match map.entry(key) {
        Entry::Vacant(place) => drop(place.insert(value)),
        Entry::Occupied(known) => {
            let why = format!("insert failed: key {} already exists", known.key());
            return Err(ExecutionError::function_error(MAP_INSERT, why));
        }
    }
    Ok(())
}
