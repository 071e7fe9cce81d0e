//! Loops that gather a list or a map. The interpreter copies all that a loop has gathered in each of its turns, so these loops run here.

use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, operators};
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, ExecutionError, FunctionContext, Value};

use super::Budget;
use super::cost::{IDENT, LIST, MAP};
use super::macros::{self, MAP_INSERT};
use super::made::weight;

/// `@collectItems(range, variables, filter, item)`: a list.
const ITEMS: &str = "@collectItems";
/// `@collectEntry(range, variables, filter, key, value)`, `@collectEntries(range, variables, filter, entries)`: a map.
const ENTRY: &str = "@collectEntry";
const ENTRIES: &str = "@collectEntries";

/// A loop that does nothing but gather.
pub struct Loop {
    pub range: IdedExpr,
    pub variables: Vec<String>,
    pub filter: Option<IdedExpr>,
    /// What is gathered in a turn: an item, a key and its value, or entries.
    pub parts: Vec<IdedExpr>,
    /// What a turn costs besides, if the filter lets it pass.
    pub turn: u64,
    /// What the loop costs besides its turns.
    pub fixed: u64,
    function: &'static str,
}

impl Loop {
    /// Takes the loop apart if it is of this kind. Macros alone can write one: the name of what they gather is none that a
    /// rule can have.
    pub fn of(c: &mut ComprehensionExpr) -> Option<Self> {
        let accumulated = c.accu_var.clone();
        let is_accumulated = |e: &IdedExpr| matches!(&e.expr, Expr::Ident(name) if *name == accumulated);
        let is_always = matches!(&c.loop_cond.expr, Expr::Literal(LiteralValue::Boolean(on)) if *on.inner());
        if !accumulated.starts_with('@') || !is_always || !is_accumulated(&c.result) {
            return None;
        }
        let (init, is_list) = match &c.accu_init.expr {
            Expr::List(list) if list.elements.is_empty() => (LIST, true),
            Expr::Map(map) if map.entries.is_empty() => (MAP, false),
            _ => return None,
        };
        let (filter, more) = match &mut c.loop_step.expr {
            Expr::Call(call) if call.func_name == operators::CONDITIONAL => match call.args.as_mut_slice() {
                [filter, more, otherwise] if is_accumulated(otherwise) => (Some(filter), more),
                _ => return None,
            },
            _ => (None, &mut c.loop_step),
        };
        let Expr::Call(more) = &mut more.expr else { return None };
        let (function, parts, own) = match (more.func_name.as_str(), more.args.as_mut_slice()) {
            (operators::ADD, [before, item]) if is_list && is_accumulated(before) => match &mut item.expr {
                Expr::List(item) if item.elements.len() == 1 && item.optional_indices.is_empty() => {
                    (ITEMS, std::mem::take(&mut item.elements), LIST)
                }
                _ => return None,
            },
            (MAP_INSERT, [before, parts @ ..]) if !is_list && is_accumulated(before) => {
                let function = if parts.len() == 2 { ENTRY } else { ENTRIES };
                (function, parts.iter_mut().map(std::mem::take).collect(), 0)
            }
            _ => return None,
        };
        Some(Self {
            filter: filter.map(std::mem::take),
            range: std::mem::take(&mut c.iter_range),
            variables: std::iter::once(c.iter_var.clone()).chain(c.iter_var2.clone()).collect(),
            parts,
            // What was gathered is read, and added to.
            turn: IDENT + own + 1,
            fixed: init + IDENT,
            function,
        })
    }

    /// The call that runs it.
    pub fn into_call(self) -> Expr {
        let text = |name: String| IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::String(name.into())) };
        let variables = self.variables.into_iter().map(text).collect();
        let variables = IdedExpr { id: 0, expr: Expr::List(ListExpr::new(variables)) };
        let filter = self.filter.unwrap_or_else(|| macros::boolean(0, true));
        let args = [self.range, variables, filter].into_iter().chain(self.parts).collect();
        Expr::Call(CallExpr { func_name: self.function.to_owned(), target: None, args })
    }
}

/// The variables of a call that [`Loop::into_call`] made.
pub fn variables(call: &CallExpr) -> Option<impl Iterator<Item = &str>> {
    match (call.func_name.as_str(), call.args.as_slice()) {
        (ITEMS | ENTRY | ENTRIES, [_, variables, ..]) => Some(names(variables)),
        _ => None,
    }
}

fn names(variables: &IdedExpr) -> impl Iterator<Item = &str> {
    let elements = match &variables.expr {
        Expr::List(list) => list.elements.as_slice(),
        _ => &[],
    };
    elements.iter().filter_map(|element| match &element.expr {
        Expr::Literal(LiteralValue::String(name)) => Some(name.inner()),
        _ => None,
    })
}

pub fn add_to(context: &mut Context<'_>, budget: &Budget) {
    for function in [ITEMS, ENTRY, ENTRIES] {
        let budget = budget.clone();
        context.add_function(function, move |call: &FunctionContext<'_, '_>| run(call, &budget));
    }
}

fn run(call: &FunctionContext<'_, '_>, budget: &Budget) -> Result<Value, ExecutionError> {
    let [range, rest @ ..] = call.args else { return Err(ExecutionError::NoSuchOverload) };
    let range = call.ptx.resolve(range)?;
    let held = weight(&range);
    budget.make(held)?;
    let gathered = gather(call, &range, rest, budget);
    budget.drop_made(held);
    gathered
}

fn gather(
    call: &FunctionContext<'_, '_>,
    range: &Value,
    rest: &[IdedExpr],
    budget: &Budget,
) -> Result<Value, ExecutionError> {
    let [variables, filter, parts @ ..] = rest else { return Err(ExecutionError::NoSuchOverload) };
    let names: Vec<&str> = names(variables).collect();
    let mut scope = call.ptx.new_inner_scope();
    let (mut list, mut map) = (Vec::new(), HashMap::new());
    for turn in turns(range, names.len())? {
        for (name, value) in names.iter().zip(turn) {
            scope.add_variable_from_value(*name, value);
        }
        match scope.resolve(filter)? {
            Value::Bool(true) => {}
            Value::Bool(false) => continue,
            _ => return Err(ExecutionError::NoSuchOverload),
        }
        let parts = parts.iter().map(|part| scope.resolve(part)).collect::<Result<Vec<Value>, _>>()?;
        budget.make(parts.iter().map(weight).sum())?;
        match (call.name, <[Value; 2]>::try_from(parts)) {
            (ENTRY, Ok([key, value])) => {
                macros::insert(&mut map, key.try_into().map_err(|_| ExecutionError::NoSuchOverload)?, value)?;
            }
            (ITEMS, Err(item)) => list.extend(item),
            (ENTRIES, Err(entries)) => {
                let [Value::Map(entries)] = entries.as_slice() else { return Err(ExecutionError::NoSuchOverload) };
                entries.map.iter().try_for_each(|(k, v)| macros::insert(&mut map, k.clone(), v.clone()))?;
            }
            _ => return Err(ExecutionError::NoSuchOverload),
        }
    }
    Ok(if call.name == ITEMS { Value::List(Arc::new(list)) } else { Value::Map(Map { map: Arc::new(map) }) })
}

/// What the variables are in each turn: an item, or its index and it; a key, or it and its value.
fn turns(range: &Value, variables: usize) -> Result<Box<dyn Iterator<Item = Vec<Value>> + '_>, ExecutionError> {
    let has_two = variables == 2;
    Ok(match range {
        Value::List(items) if has_two => {
            Box::new((0..).zip(items.iter()).map(|(index, item)| vec![Value::Int(index), item.clone()]))
        }
        Value::List(items) => Box::new(items.iter().map(|item| vec![item.clone()])),
        Value::Map(map) => Box::new(map.map.iter().map(move |(key, value): (&Key, &Value)| {
            let key = std::iter::once(Value::from(key.clone()));
            key.chain(has_two.then(|| value.clone())).collect()
        })),
        _ => return Err(ExecutionError::NoSuchOverload),
    })
}
