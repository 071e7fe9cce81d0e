//! `x.?field` and `x[?key]`: what is not there is no value, where the interpreter finds an error. What is selected further from what may be missing may be
//! missing too.

use std::sync::Arc;

use kube_cel::cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use kube_cel::cel::extractors::This;
use kube_cel::cel::objects::{Key, OptionalValue};
use kube_cel::cel::{Context, ExecutionError, Value};

use super::program::children;

/// `@find(x, key)`: the member or the item, as an optional value.
const FIND: &str = "@find";

/// Makes every optional selection a call that finds nothing rather than fail.
pub fn rewrite(expression: &mut IdedExpr) {
    children(expression).into_iter().for_each(rewrite);
    match &mut expression.expr {
        Expr::Call(call) if [operators::OPT_SELECT, operators::OPT_INDEX].contains(&call.func_name.as_str()) => {
            FIND.clone_into(&mut call.func_name);
        }
        Expr::Call(call) if call.func_name == operators::INDEX && call.args.first().is_some_and(is_find) => {
            FIND.clone_into(&mut call.func_name);
        }
        Expr::Select(select) if !select.test && is_find(&select.operand) => {
            let field = Expr::Literal(LiteralValue::String(std::mem::take(&mut select.field).into()));
            let args = vec![std::mem::take(&mut *select.operand), IdedExpr { id: expression.id, expr: field }];
            expression.expr = Expr::Call(CallExpr { func_name: FIND.to_owned(), target: None, args });
        }
        _ => {}
    }
}

pub fn add_to(context: &mut Context<'_>) {
    context.add_function(FIND, |of: Value, key: Value| {
        let found = find(&of, &key)?;
        Ok::<Value, ExecutionError>(Value::Opaque(Arc::new(found.map_or_else(OptionalValue::none, OptionalValue::of))))
    });
    for name in ["optional.unwrap", "unwrapOpt"] {
        context.add_function(name, |This(list): This<Value>| unwrap(&list));
    }
}

/// The values of a list that are there.
fn unwrap(of: &Value) -> Result<Value, ExecutionError> {
    let Value::List(items) = of else { return Err(ExecutionError::NoSuchOverload) };
    let found: Result<Vec<Option<Value>>, _> =
        items.iter().map(|item| Ok(<&OptionalValue>::try_from(item)?.value().cloned())).collect();
    found.map(|found: Vec<Option<Value>>| Value::List(Arc::new(found.into_iter().flatten().collect())))
}

fn is_find(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Call(call) if call.func_name == FIND)
}

fn find(of: &Value, key: &Value) -> Result<Option<Value>, ExecutionError> {
    match (of, key) {
        (Value::Opaque(_), _) => match <&OptionalValue>::try_from(of)?.value() {
            Some(inner) => find(inner, key),
            None => Ok(None),
        },
        (Value::Map(map), key) => {
            let key = match key {
                Value::String(key) => Key::String(Arc::clone(key)),
                Value::Int(key) => Key::Int(*key),
                Value::UInt(key) => Key::Uint(*key),
                Value::Bool(key) => Key::Bool(*key),
                _ => return Err(ExecutionError::NoSuchOverload),
            };
            Ok(map.map.get(&key).cloned())
        }
        (Value::List(items), Value::Int(index)) => Ok(usize::try_from(*index).ok().and_then(|i| items.get(i).cloned())),
        _ => Err(ExecutionError::NoSuchOverload),
    }
}
