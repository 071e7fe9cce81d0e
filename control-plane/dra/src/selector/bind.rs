//! `cel.bind(name, value, expression)` (cel-go's `ext.Bindings`), so that a domain need be written once only.

use xebec_apiextensions::cel;
use xebec_apiextensions::cel::language::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue,
};

/// Replaces every binding by what cel-go's macro makes of it: a loop over nothing, whose accumulator is the value.
///
/// # Errors
/// What is there for a name, and what is wrong with it.
pub(super) fn expand(expression: &mut IdedExpr) -> Result<(), (u64, &'static str)> {
    if let Expr::Call(call) = &mut expression.expr
        && is_bind(call)
        && let Ok([name, value, body]) = <[IdedExpr; 3]>::try_from(std::mem::take(&mut call.args))
    {
        let Expr::Ident(name) = name.expr else {
            return Err((name.id, "cel.bind() variable names must be simple identifiers"));
        };
        let ided = |expr| IdedExpr { id: 0, expr };
        expression.expr = Expr::Comprehension(Box::new(ComprehensionExpr {
            iter_range: ided(Expr::List(ListExpr::new(Vec::new()))),
            iter_var: "#unused".to_owned(),
            iter_var2: None,
            accu_init: value,
            loop_cond: ided(Expr::Literal(LiteralValue::Boolean(false.into()))),
            loop_step: ided(Expr::Ident(name.clone())),
            accu_var: name,
            result: body,
        }));
    }
    cel::children(expression).into_iter().try_for_each(expand)
}

fn is_bind(call: &CallExpr) -> bool {
    let of_cel = call.target.as_deref().is_some_and(|of| matches!(&of.expr, Expr::Ident(name) if name == "cel"));
    of_cel && call.func_name == "bind" && call.args.len() == 3
}
