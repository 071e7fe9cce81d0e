//! Makes a rule count what it costs while it runs, by the table that it was judged by ([`super::cost`]).
//!
//! The interpreter has no hooks, so the expression is rewritten: what a stretch of it costs whatever the values are is paid
//! where the stretch begins, and operands whose size matters go through functions that look at them.

use std::collections::HashSet;

use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::collect::Loop;
use super::cost::{Charge, IDENT, Kind, LIST, MAP, charges};
use super::lists::SORT_BY_KEYS;
use super::macros;
use super::made::MADE;
use super::program::namespaced;

/// `@pay(cost)`: true, once the cost is paid.
pub const PAY: &str = "@pay";
/// `@look(value, place)`: the value, whose size is kept for the operand that follows.
pub const LOOK: &str = "@look";
/// `@meet(value, place, call)`: the value, once the call that is about to be made of both is paid.
pub const MEET: &str = "@meet";

/// The calls that are paid by the sizes of what they are given, and whether they are methods.
const CALLS: [(&str, bool); 47] = [
    ("_==_", false),
    ("_!=_", false),
    ("_<_", false),
    ("_<=_", false),
    ("_>_", false),
    ("_>=_", false),
    ("_+_", false),
    ("@in", false),
    ("string", false),
    ("bytes", false),
    ("url", false),
    ("quantity", false),
    ("isQuantity", false),
    ("semver", false),
    ("isSemver", false),
    ("ip", false),
    ("isIP", false),
    ("ip.isCanonical", false),
    ("cidr", false),
    ("isCIDR", false),
    ("strings.quote", false),
    ("sets.contains", false),
    ("sets.intersects", false),
    ("sets.equivalent", false),
    ("startsWith", true),
    ("endsWith", true),
    ("contains", true),
    ("matches", true),
    ("find", true),
    ("findAll", true),
    ("isSorted", true),
    ("sum", true),
    ("max", true),
    ("min", true),
    ("indexOf", true),
    ("lastIndexOf", true),
    ("distinct", true),
    ("lists.range", false),
    ("reverse", true),
    ("flatten", true),
    ("sort", true),
    (SORT_BY_KEYS, true),
    ("lowerAscii", true),
    ("upperAscii", true),
    ("substring", true),
    ("trim", true),
    ("validate", true),
];

/// Those that read their results, or what they were called on, in order to make something of their size.
const MAKES: [(&str, bool); 5] =
    [("join", true), ("replace", true), ("split", true), ("format", true), ("slice", true)];

/// The calls by their numbers.
pub fn known() -> impl Iterator<Item = (&'static str, bool)> {
    CALLS.into_iter().chain(MAKES)
}

/// Puts the counting into an expression.
pub fn meter(expression: &mut IdedExpr) {
    let mut meter = Meter { places: 0, locals: HashSet::new() };
    let cost = meter.walk(expression);
    pay(expression, cost);
}

struct Meter {
    places: usize,
    /// The variables of loops, which hide libraries of their names.
    locals: HashSet<String>,
}

impl Meter {
    /// Rewrites an expression; what it costs besides is left to the caller.
    fn walk(&mut self, expression: &mut IdedExpr) -> u64 {
        if let Expr::Comprehension(c) = &mut expression.expr
            && let Some(collects) = Loop::of(c)
        {
            return self.collect(expression, collects);
        }
        match &mut expression.expr {
            Expr::Unspecified | Expr::Literal(_) | Expr::Struct(_) => 0,
            Expr::Ident(_) => IDENT,
            Expr::Select(select) => self.walk(&mut select.operand) + u64::from(!select.test),
            Expr::List(list) => LIST + list.elements.iter_mut().map(|item| self.part(item)).sum::<u64>(),
            Expr::Map(map) => {
                let mut cost = MAP;
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        cost += self.walk(&mut entry.key) + self.part(&mut entry.value);
                    }
                }
                cost
            }
            Expr::Comprehension(c) => {
                let before = self.walk(&mut c.iter_range) + self.walk(&mut c.accu_init);
                self.locals.extend([c.accu_var.clone(), c.iter_var.clone()].into_iter().chain(c.iter_var2.clone()));
                let condition = self.walk(&mut c.loop_cond);
                let step = self.walk(&mut c.loop_step);
                // Every turn pays something, so that no loop is free.
                pay(&mut c.loop_cond, condition.max(1));
                pay(&mut c.loop_step, step);
                before + self.walk(&mut c.result)
            }
            Expr::Call(_) => self.call(expression),
        }
    }

    fn collect(&mut self, expression: &mut IdedExpr, mut collects: Loop) -> u64 {
        let cost = collects.fixed + self.walk(&mut collects.range);
        self.locals.extend(collects.variables.iter().cloned());
        let parts = collects.parts.iter_mut().map(|part| self.walk(part)).sum::<u64>();
        // Every turn pays one, and one that the filter ends what it takes to keep what there is.
        let (mut passed, ended) = (1 + collects.turn + parts, 1 + IDENT);
        if let Some(filter) = &mut collects.filter {
            let own = self.walk(filter);
            pay(filter, own + ended);
            passed -= ended;
        }
        if let Some(first) = collects.parts.first_mut() {
            pay(first, passed);
        }
        expression.expr = collects.into_call();
        cost
    }

    /// What is copied into a list, a map or an optional value.
    fn part(&mut self, part: &mut IdedExpr) -> u64 {
        let is_copied = !matches!(part.expr, Expr::Literal(_) | Expr::List(_) | Expr::Map(_));
        let cost = self.walk(part);
        if is_copied {
            wrap(part, MADE, Vec::new());
        }
        cost
    }

    fn call(&mut self, expression: &mut IdedExpr) -> u64 {
        let Expr::Call(call) = &mut expression.expr else { return 0 };
        let (name, target) = namespaced(call, |name| self.locals.contains(name));
        let (name, is_method) = (name.into_owned(), target.is_some());
        let mut cost = 0;
        if is_method && let Some(target) = call.target.as_deref_mut() {
            cost += self.walk(target);
        }
        // What comes behind the first operand of these may not be reached.
        let is_lazy = [operators::LOGICAL_AND, operators::LOGICAL_OR, operators::CONDITIONAL].contains(&name.as_str());
        let keeps = name == "optional.of" || name == "optional.ofNonZeroValue";
        for (index, arg) in call.args.iter_mut().enumerate() {
            let own = if keeps { self.part(arg) } else { self.walk(arg) };
            if is_lazy && index > 0 {
                pay(arg, own);
            } else {
                cost += own;
            }
        }
        if is_lazy {
            return cost;
        }
        match known().position(|known| known == (name.as_str(), is_method)) {
            Some(_) if is_small(call) => cost + 1,
            Some(number) => {
                self.measure(expression, number, is_method);
                cost
            }
            None => cost + 1,
        }
    }

    /// Lets the operands of a call be looked at.
    fn measure(&mut self, expression: &mut IdedExpr, number: usize, is_method: bool) {
        let Expr::Call(called) = &mut expression.expr else { return };
        let place = self.places;
        self.places += 1;
        let target = called.target.as_deref_mut().filter(|_| is_method);
        let mut operands: Vec<&mut IdedExpr> = target.into_iter().chain(&mut called.args).collect();
        let numbers = |numbers: &[usize]| numbers.iter().map(|n| number_literal(*n)).collect::<Vec<_>>();
        let (name, is_method) = known().nth(number).unwrap_or_default();
        let charges = charges(name, is_method, &vec![Kind::Unknown; operands.len()]);
        match operands.as_mut_slice() {
            _ if charges.iter().any(|charge| [Charge::ReadResult, Charge::Slice].contains(charge)) => {
                wrap(expression, MEET, numbers(&[place, number]))
            }
            [first, second, ..] if charges.iter().any(|charge| charge.is_of_two()) => {
                wrap(first, LOOK, numbers(&[place]));
                wrap(second, MEET, numbers(&[place, number]));
            }
            [only, ..] => wrap(only, MEET, numbers(&[place, number])),
            [] => {}
        }
    }
}

/// Whether one operand of a comparison is so short that the other does not matter.
fn is_small(call: &CallExpr) -> bool {
    let compares = call.args.len() == 2
        && charges(&call.func_name, call.target.is_some(), &[Kind::Text, Kind::Text]) == [Charge::Shorter];
    let small = |e: &IdedExpr| match &e.expr {
        Expr::Literal(LiteralValue::String(text)) => text.inner().len() <= 10,
        Expr::Literal(LiteralValue::Bytes(bytes)) => bytes.inner().len() <= 10,
        Expr::Literal(_) => true,
        _ => false,
    };
    compares && call.args.iter().any(small)
}

/// `@pay(cost) ? expression : false`
fn pay(expression: &mut IdedExpr, cost: u64) {
    if cost > 0 {
        let cost = number_literal(usize::try_from(cost).unwrap_or(usize::MAX));
        let paid = macros::call(0, PAY, vec![cost]);
        let args = vec![paid, std::mem::take(expression), macros::boolean(0, false)];
        *expression = macros::call(0, operators::CONDITIONAL, args);
    }
}

fn number_literal(number: usize) -> IdedExpr {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(number.into())) }
}

fn wrap(expression: &mut IdedExpr, function: &str, more: Vec<IdedExpr>) {
    let args = std::iter::once(std::mem::take(expression)).chain(more).collect();
    expression.expr = Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args });
}
