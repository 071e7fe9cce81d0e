//! What is only looked at is not copied: the interpreter copies what it selects, and what it gives to a function, with all that is below.

use kube_cel::cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use kube_cel::cel::common::types::{CelBytes, CelList, CelMap, CelString};
use kube_cel::cel::{Context, ExecutionError, FunctionContext, Value};

use super::macros::call;
use super::program::children;

/// `@size(value)`
const SIZE: &str = "@size";

/// `a.b` becomes `a['b']`, which lends, and `a.size()` a call that looks at its argument where it is.
pub fn rewrite(expression: &mut IdedExpr) {
    children(expression).into_iter().for_each(rewrite);
    let id = expression.id;
    match &mut expression.expr {
        Expr::Select(select) if !select.test => {
            let field = LiteralValue::String(std::mem::take(&mut select.field).into());
            let field = IdedExpr { id, expr: Expr::Literal(field) };
            *expression = call(id, operators::INDEX, vec![std::mem::take(&mut *select.operand), field]);
        }
        Expr::Call(CallExpr { func_name, target, args }) if func_name == "size" => {
            let mut operands: Vec<IdedExpr> = target.take().map(|target| *target).into_iter().collect();
            operands.append(args);
            *expression = call(id, SIZE, operands);
        }
        _ => {}
    }
}

pub fn add_to(context: &mut Context<'_>) {
    context.add_function(SIZE, |call: &FunctionContext<'_, '_>| size(call));
}

/// Characters, bytes, items or entries.
fn size(call: &FunctionContext<'_, '_>) -> Result<Value, ExecutionError> {
    let [operand] = call.args else { return Err(ExecutionError::NoSuchOverload) };
    let value = Value::resolve_val(operand, call.ptx)?;
    let size = if let Some(text) = value.downcast_ref::<CelString>() {
        text.inner().chars().count()
    } else if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        bytes.inner().len()
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner().len()
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        map.inner().len()
    } else {
        return Err(ExecutionError::NoSuchOverload);
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}
