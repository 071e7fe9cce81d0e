//! The most that an expression can cost over values of limited sizes (`checker/cost.go` of cel-go).
//!
//! Sizes come from literals, from what is declared by the path that leads to a value, or from what made the value; what has none of
//! these is without limit. Upstream's answers decide which definitions it accepts, so its peculiarities are kept.

use std::collections::HashMap;

use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::size::Sizes;
use super::{Charge, IDENT, Kind, LIST, MAP, charges, compared, makes, price, read};
use crate::cel::check::{Ty, Types, key};
use crate::cel::lists::SORT_BY_KEYS;
use crate::cel::program::namespaced;

/// How many elements or characters there are, at least and at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Size {
    min: u64,
    max: u64,
}

impl Size {
    const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    fn exactly(size: u64) -> Self {
        Self { min: size, max: size }
    }

    fn or(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }
}

/// The sizes of the keys and values of a list or map that an expression made.
#[derive(Clone, Copy, Debug)]
struct Entry {
    is_list: bool,
    key: Size,
    value: Size,
}

impl Entry {
    fn or(self, other: Self) -> Self {
        Self { is_list: self.is_list, key: self.key.or(other.key), value: self.value.or(other.value) }
    }
}

#[derive(Clone, Default, Debug)]
struct Variable {
    path: Vec<String>,
    size: Option<Size>,
    entry: Option<Entry>,
}

/// The most that `expression` can cost, where variables are as large as `declared` and the types are those that were found.
pub fn estimate(expression: &IdedExpr, declared: &dyn Sizes, types: &Types<'_>) -> u64 {
    let mut estimator = Estimator {
        declared,
        types,
        variables: Vec::new(),
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
    };
    estimator.cost(expression)
}

struct Estimator<'a, 't> {
    declared: &'t dyn Sizes,
    types: &'t Types<'a>,
    /// Those of loops, inner ones last.
    variables: Vec<(String, Variable)>,
    /// How a value is reached from a variable; empty if it was computed.
    paths: HashMap<usize, Vec<String>>,
    sizes: HashMap<usize, Size>,
    entries: HashMap<usize, Entry>,
}

impl<'a> Estimator<'a, '_> {
    fn cost(&mut self, expression: &IdedExpr) -> u64 {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) | Expr::Struct(_) => 0,
            Expr::Ident(name) => {
                let path = self.variable(name).map_or_else(|| vec![name.clone()], |variable| variable.path.clone());
                self.paths.insert(key(expression), path);
                IDENT
            }
            // The name of a type is one, however many parts it has.
            Expr::Select(select) if self.is_type_name(&select.operand) => {
                self.paths.insert(key(expression), vec![select.field.clone()]);
                IDENT
            }
            Expr::Select(select) => {
                let below = self.cost(&select.operand);
                if select.test {
                    return below;
                }
                let path = self.below(&select.operand, &select.field);
                self.paths.insert(key(expression), path);
                let own = matches!(self.ty(&select.operand), Ty::Map(_) | Ty::Object(_) | Ty::Metadata | Ty::Free);
                below.saturating_add(if own { IDENT } else { 0 })
            }
            Expr::List(list) => {
                let below = self.sum(list.elements.iter());
                let value = self.union(list.elements.iter());
                self.entries.insert(key(expression), Entry { is_list: true, key: Size::exactly(1), value });
                below.saturating_add(LIST)
            }
            Expr::Map(map) => {
                let entries = map.entries.iter().filter_map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => Some((&entry.key, &entry.value)),
                    EntryExpr::StructField(_) => None,
                });
                let (keys, values): (Vec<&IdedExpr>, Vec<&IdedExpr>) = entries.unzip();
                let below = self.sum(keys.iter().chain(&values).copied());
                let entry =
                    Entry { is_list: false, key: self.union(keys.into_iter()), value: self.union(values.into_iter()) };
                self.entries.insert(key(expression), entry);
                below.saturating_add(MAP)
            }
            Expr::Call(call) => self.call(expression, call),
            Expr::Comprehension(comprehension) => self.comprehension(expression, comprehension),
        }
    }

    fn sum<'e>(&mut self, expressions: impl Iterator<Item = &'e IdedExpr>) -> u64 {
        expressions.fold(0, |sum: u64, e| sum.saturating_add(self.cost(e)))
    }

    /// The sizes that any of these has; of none, nothing.
    fn union<'e>(&mut self, expressions: impl Iterator<Item = &'e IdedExpr>) -> Size {
        let sizes: Vec<Size> = expressions.map(|e| self.size(e)).collect();
        sizes.into_iter().reduce(Size::or).unwrap_or(Size::exactly(0))
    }

    fn comprehension(&mut self, expression: &IdedExpr, c: &ComprehensionExpr) -> u64 {
        let mut cost = self.cost(&c.iter_range).saturating_add(self.cost(&c.accu_init));
        let depth = self.variables.len();
        let accumulated = Variable {
            path: self.path(&c.accu_init),
            size: self.known_size(&c.accu_init),
            entry: self.entry(&c.accu_init),
        };
        self.variables.push((c.accu_var.clone(), accumulated));
        if is_bind(c) {
            cost = cost.saturating_add(self.cost(&c.result));
            self.variables.truncate(depth);
            let (size, entry) = (self.known_size(&c.result), self.entry(&c.result));
            self.remember(expression, size, entry);
            return cost;
        }
        let outer = self.variables.len();
        let entry = self.entry(&c.iter_range);
        let is_list = entry.map_or_else(|| matches!(self.ty(&c.iter_range), Ty::List(_)), |entry| entry.is_list);
        let (keys, values) = if is_list { ("@indices", "@items") } else { ("@keys", "@values") };
        let member = |this: &Self, step: &str, size: Option<Size>| Variable {
            path: this.below(&c.iter_range, step),
            size,
            entry: None,
        };
        let key_size = entry.map(|entry| entry.key);
        let value_size = entry.map(|entry| entry.value);
        match &c.iter_var2 {
            Some(second) => {
                let (first, value) = (member(self, keys, key_size), member(self, values, value_size));
                self.variables.extend([(c.iter_var.clone(), first), (second.clone(), value)]);
            }
            None if is_list => {
                let item = member(self, values, value_size);
                self.variables.push((c.iter_var.clone(), item));
            }
            None => {
                let name = member(self, keys, key_size);
                self.variables.push((c.iter_var.clone(), name));
            }
        }
        let step = self.cost(&c.loop_cond).saturating_add(self.cost(&c.loop_step));
        self.variables.truncate(outer);
        cost = cost.saturating_add(self.cost(&c.result));
        self.variables.truncate(depth);
        let count = self.size(&c.iter_range);
        match &c.accu_init.expr {
            Expr::Literal(_) => {
                let size = self.size(&c.accu_init);
                self.sizes.insert(key(expression), size);
            }
            Expr::List(_) | Expr::Map(_) => {
                self.sizes.insert(key(expression), count);
                if let Some(entry) = self.entry(&c.loop_step) {
                    self.entries.insert(key(expression), entry);
                }
            }
            _ => {}
        }
        cost.saturating_add(count.max.saturating_mul(step))
    }

    fn call(&mut self, expression: &IdedExpr, call: &CallExpr) -> u64 {
        let (name, target) = namespaced(call, |name| self.variable(name).is_some());
        if name == "dyn"
            && let [inner] = call.args.as_slice()
        {
            let below = self.cost(inner);
            let (size, entry) = (self.known_size(inner), self.entry(inner));
            self.remember(expression, size, entry);
            return below.saturating_add(1);
        }
        let costs: Vec<u64> = call.args.iter().map(|arg| self.cost(arg)).collect();
        let mut below = costs.iter().fold(0, |sum: u64, cost| sum.saturating_add(*cost));
        if name == operators::CONDITIONAL
            && let [condition, yes, no] = costs.as_slice()
        {
            below = condition.saturating_add(*yes.max(no));
        }
        if let Some(target) = target {
            below = below.saturating_add(self.cost(target));
        }
        let operands: Vec<&IdedExpr> = target.into_iter().chain(&call.args).collect();
        let own = self.own_cost(&name, target.is_some(), &operands);
        let (size, entry) = self.made(expression, &name, target.is_some(), &operands);
        self.remember(expression, size, entry);
        below.saturating_add(own)
    }

    fn own_cost(&mut self, name: &str, is_method: bool, operands: &[&IdedExpr]) -> u64 {
        let sizes: Vec<u64> = operands.iter().map(|operand| self.size(operand).max).collect();
        let types: Vec<Ty<'a>> = operands.iter().map(|operand| self.ty(operand)).collect();
        if let ("_==_", [Ty::Opaque(a), Ty::Opaque(b)]) = (name, types.as_slice())
            && a == b
        {
            return if *a == "net.url" { read(sizes[1].max(1), 1) } else { 1 };
        }
        let kinds: Vec<Kind> = types.iter().map(kind).collect();
        let of = |charge: Charge| match charge {
            Charge::Parse => 1,
            Charge::ReadResult => read(self.joined(operands).max, 1),
            Charge::Slice => makes(self.sliced(operands).max),
            Charge::Range => makes(number(operands[0]).unwrap_or(u64::MAX)),
            Charge::Flatten => {
                let levels = operands.get(1).map_or(1, |levels| number(levels).unwrap_or(u64::MAX));
                makes(sizes[0].saturating_mul(levels))
            }
            Charge::Compared(index) => {
                let may_be_text = match &types[index] {
                    Ty::List(item) => matches!(kind(item), Kind::Text | Kind::Unknown),
                    _ => true,
                };
                makes(compared(sizes[index], may_be_text, f64::ceil))
            }
            Charge::ReadElements => match &types[0] {
                Ty::List(item) if matches!(kind(item), Kind::Text) => {
                    let item = self.element_size(operands[0]);
                    sizes[0].saturating_mul(read(item.max, 1).saturating_add(1))
                }
                _ => sizes[0],
            },
            // Addresses have 16 bytes at most; one that is written out is parsed as well.
            Charge::Read(1, 1) if name == "containsIP" || name == "containsCIDR" => {
                let compared = if name == "containsIP" { read(32, 1) } else { read(32, 1) + read(16, 1) + 1 };
                compared.saturating_add(if matches!(kinds[1], Kind::Text) { read(sizes[1], 1) } else { 0 })
            }
            charge => price(charge, &sizes),
        };
        charges(name, is_method, &kinds).into_iter().map(of).max().unwrap_or(0)
    }

    /// What is known of the size of a call's result.
    fn made(
        &mut self,
        expression: &IdedExpr,
        name: &str,
        is_method: bool,
        operands: &[&IdedExpr],
    ) -> (Option<Size>, Option<Entry>) {
        let known = match (name, is_method, operands) {
            (operators::INDEX, _, [list, _]) => {
                let is_list = matches!(self.ty(list), Ty::List(_));
                let path = self.below(list, if is_list { "@items" } else { "@values" });
                self.paths.insert(key(expression), path);
                self.entry(list).map(|entry| entry.value)
            }
            (operators::CONDITIONAL, _, [_, yes, no]) => {
                let entry = self.entry(yes).zip(self.entry(no)).map(|(yes, no)| yes.or(no));
                return (Some(self.size(yes).or(self.size(no))), entry);
            }
            (operators::ADD, _, [a, b]) => match self.ty(expression) {
                Ty::String | Ty::Bytes | Ty::List(_) | Ty::Dyn => {
                    let entry = self.entry(a).zip(self.entry(b)).map(|(a, b)| a.or(b));
                    return (Some(self.size(a).plus(self.size(b))), entry);
                }
                _ => None,
            },
            ("string", false, [text]) if !self.is_scalar(text) => {
                let size = self.size(text);
                matches!(self.ty(text), Ty::Bytes).then_some(Size { min: size.min / 4, max: size.max })
            }
            ("bytes", false, [text]) => {
                let size = self.size(text);
                Some(Size { min: size.min, max: size.max.saturating_mul(4) })
            }
            ("strings.quote", _, [text]) => {
                let size = self.size(text);
                Some(Size { min: size.min.saturating_add(2), max: size.max.saturating_mul(2).saturating_add(2) })
            }
            ("url", false, [text]) | ("lowerAscii" | "upperAscii" | "substring" | "trim", true, [text, ..]) => {
                Some(self.size(text))
            }
            ("replace", true, [text, old, new, ..]) => Some(replaced(self.size(text), self.size(old), self.size(new))),
            ("split", true, [text, _, count]) => match &count.expr {
                Expr::Literal(LiteralValue::Int(count)) => {
                    Some(Size { min: 0, max: u64::try_from(*count.inner()).unwrap_or(u64::MAX) })
                }
                _ => Some(Size { min: 0, max: self.size(text).max }),
            },
            ("split" | "find" | "findAll", true, [text, ..]) => Some(Size { min: 0, max: self.size(text).max }),
            ("join", true, _) => Some(self.joined(operands)),
            ("slice", true, [_, _, _]) => Some(self.sliced(operands)),
            ("lists.range", _, [count]) => Some(Size::exactly(number(count).unwrap_or(u64::MAX))),
            ("reverse" | "flatten", true, [list, ..]) => Some(self.size(list)),
            // Upstream takes what is compared for what comes of it.
            ("distinct" | "sort", true, [list]) | (SORT_BY_KEYS, true, [_, list]) => {
                Some(self.size(list).times(self.size(list)))
            }
            _ => None,
        };
        (known.or_else(|| self.known_size(expression)), None)
    }

    fn joined(&self, operands: &[&IdedExpr]) -> Size {
        let [list, ..] = operands else { return Size::UNKNOWN };
        let count = self.size(list);
        let items = match self.ty(list) {
            Ty::List(_) => count.times(self.element_size(list)),
            _ => Size::exactly(0),
        };
        let between = Size { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
        operands.get(1).map_or(items, |separator| items.plus(self.size(separator).times(between)))
    }

    fn sliced(&self, operands: &[&IdedExpr]) -> Size {
        let [list, start, end] = operands else { return Size::UNKNOWN };
        let end = number(end).unwrap_or_else(|| self.size(list).max);
        Size::exactly(end.wrapping_sub(number(start).unwrap_or(0)))
    }

    /// The size of what a list holds, by what is declared alone.
    fn element_size(&self, list: &IdedExpr) -> Size {
        if self.path(list).is_empty() {
            return Size::UNKNOWN;
        }
        self.declared_size(&self.below(list, "@items")).unwrap_or(Size::UNKNOWN)
    }

    fn remember(&mut self, expression: &IdedExpr, size: Option<Size>, entry: Option<Entry>) {
        if let Some(size) = size {
            self.sizes.insert(key(expression), size);
        }
        if let Some(entry) = entry {
            self.entries.insert(key(expression), entry);
        }
    }

    fn is_type_name(&self, expression: &IdedExpr) -> bool {
        match &expression.expr {
            Expr::Ident(name) => name == "google" && self.variable(name).is_none(),
            Expr::Select(select) => self.is_type_name(&select.operand),
            _ => false,
        }
    }

    fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().rev().find(|(known, _)| known == name).map(|(_, variable)| variable)
    }

    fn ty(&self, expression: &IdedExpr) -> Ty<'a> {
        self.types.get(&key(expression)).cloned().unwrap_or(Ty::Dyn)
    }

    fn is_scalar(&self, expression: &IdedExpr) -> bool {
        is_scalar(&self.ty(expression))
    }

    fn path(&self, expression: &IdedExpr) -> Vec<String> {
        if let Expr::Ident(name) = &expression.expr
            && let Some(variable) = self.variable(name)
        {
            return variable.path.clone();
        }
        self.paths.get(&key(expression)).cloned().unwrap_or_default()
    }

    fn below(&self, expression: &IdedExpr, step: &str) -> Vec<String> {
        let mut path = self.path(expression);
        path.push(step.to_owned());
        path
    }

    fn declared_size(&self, path: &[String]) -> Option<Size> {
        self.declared.largest(path).map(|max| Size { min: 0, max })
    }

    fn size(&self, expression: &IdedExpr) -> Size {
        self.known_size(expression).unwrap_or(Size::UNKNOWN)
    }

    fn known_size(&self, expression: &IdedExpr) -> Option<Size> {
        if let Some(size) = self.sizes.get(&key(expression)) {
            return Some(*size);
        }
        let exact = match &expression.expr {
            Expr::Literal(LiteralValue::String(text)) => Some(text.inner().chars().count()),
            Expr::Literal(LiteralValue::Bytes(bytes)) => Some(bytes.inner().len()),
            Expr::Literal(_) => Some(1),
            Expr::List(list) => Some(list.elements.len()),
            Expr::Map(map) => Some(map.entries.len()),
            _ => None,
        };
        if let Some(exact) = exact {
            return Some(Size::exactly(exact as u64));
        }
        let declared = self.declared_size(&self.path(expression));
        declared.or_else(|| self.is_scalar(expression).then_some(Size::exactly(1))).or_else(|| match &expression.expr {
            Expr::Ident(name) => self.variable(name).and_then(|variable| variable.size),
            _ => None,
        })
    }

    fn entry(&self, expression: &IdedExpr) -> Option<Entry> {
        self.entries.get(&key(expression)).copied().or_else(|| match &expression.expr {
            Expr::Ident(name) => self.variable(name).and_then(|variable| variable.entry),
            _ => None,
        })
    }
}

/// A loop that gives a value its name, and never turns.
fn is_bind(c: &ComprehensionExpr) -> bool {
    let never = matches!(&c.loop_cond.expr, Expr::Literal(LiteralValue::Boolean(on)) if !*on.inner());
    never && matches!(&c.iter_range.expr, Expr::List(list) if list.elements.is_empty()) && c.accu_var != "@result"
}

fn kind(ty: &Ty<'_>) -> Kind {
    match ty {
        Ty::Dyn | Ty::Free => Kind::Unknown,
        Ty::String | Ty::Bytes => Kind::Text,
        Ty::List(_) => Kind::List,
        Ty::Map(_) => Kind::Map,
        _ => Kind::Other,
    }
}

/// An integer that is written out; nothing less than nothing.
fn number(expression: &IdedExpr) -> Option<u64> {
    match &expression.expr {
        Expr::Literal(LiteralValue::Int(number)) => Some(u64::try_from(*number.inner()).unwrap_or(0)),
        _ => None,
    }
}

fn is_scalar(ty: &Ty<'_>) -> bool {
    match ty {
        Ty::Bool | Ty::Int | Ty::Uint | Ty::Double | Ty::Duration | Ty::Timestamp => true,
        Ty::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}

/// The size of a text after replacements.
fn replaced(text: Size, old: Size, new: Size) -> Size {
    // An empty text is found around every character.
    let max = if old.min == 0 {
        text.max.saturating_add(1).saturating_mul(new.max).saturating_add(text.max)
    } else if new.max <= old.min {
        text.max
    } else {
        text.max.div_ceil(old.min).saturating_mul(new.max)
    };
    let min = if old.max == 0 {
        text.min.saturating_add(1).saturating_mul(new.min).saturating_add(text.min)
    } else if old.max <= new.min {
        text.min
    } else {
        text.min.div_ceil(old.max).saturating_mul(new.min)
    };
    Size { min, max }
}
