//! Whether a rule fits the schema that it is about: it parses, names only what there is, and applies operators and
//! functions to types that have them.
//!
//! What a type cannot be told of is `dyn`, which everything takes. So a rule that upstream accepts is accepted here; of
//! those that it refuses, the ones with functions beyond the standard ones may be refused only when they run.

use std::fmt;

use kube_cel::cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::{program, value};
use crate::schema::{Additional, Schema, Type};

/// Libraries and types, which look like variables.
const GLOBALS: [&str; 20] = [
    "sets", "math", "optional", "ip", "cidr", "quantity", "url", "format", "base64", "strings", "semver", "cel",
    "google", "int", "uint", "double", "string", "bool", "bytes", "type",
];

/// What is wrong with a rule over values of `schema`.
pub fn rule(text: &str, schema: &Schema, optional_old_self: bool) -> Result<(), String> {
    match infer(text, schema, optional_old_self) {
        Ok(Ty::Bool | Ty::Dyn) => Ok(()),
        Ok(_) => Err("cel expression must evaluate to a bool".to_owned()),
        Err(why) => Err(format!("compilation failed: {why}")),
    }
}

/// What is wrong with the expression that makes a rule's message.
pub fn message(text: &str, schema: &Schema, optional_old_self: bool) -> Result<(), String> {
    match infer(text, schema, optional_old_self) {
        Ok(Ty::String | Ty::Dyn) => Ok(()),
        Ok(_) => Err("messageExpression must evaluate to a string".to_owned()),
        Err(why) => Err(format!("messageExpression compilation failed: {why}")),
    }
}

fn infer<'a>(text: &str, schema: &'a Schema, optional_old_self: bool) -> Result<Ty<'a>, String> {
    let expression = program::parse(text)?;
    let old = if optional_old_self { Ty::Dyn } else { Ty::of(schema) };
    Checker { scope: vec![("self".to_owned(), Ty::of(schema)), ("oldSelf".to_owned(), old)] }.infer(&expression)
}

/// A static type, named as cel-go names it.
#[derive(Clone, Debug)]
enum Ty<'a> {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Box<Ty<'a>>),
    /// Of values; keys are strings.
    Map(Box<Ty<'a>>),
    Object(&'a Schema),
}

impl fmt::Display for Ty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Dyn => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::List(item) => return write!(f, "list({item})"),
            Self::Map(value) => return write!(f, "map(string, {value})"),
            Self::Object(_) => "object",
        };
        f.write_str(name)
    }
}

impl<'a> Ty<'a> {
    /// The type of the values of a schema (`apiserver/schema/cel/model.SchemaDeclType`).
    fn of(schema: &'a Schema) -> Self {
        if schema.int_or_string {
            return Self::Dyn;
        }
        match schema.ty {
            None => Self::Dyn,
            Some(Type::Boolean) => Self::Bool,
            Some(Type::Integer) => Self::Int,
            Some(Type::Number) => Self::Double,
            Some(Type::Array) => Self::List(Box::new(schema.items.as_deref().map_or(Self::Dyn, Self::of))),
            Some(Type::String) => match schema.checks.format.as_str() {
                "date" | "date-time" => Self::Timestamp,
                "duration" => Self::Duration,
                "byte" => Self::Bytes,
                _ => Self::String,
            },
            Some(Type::Object) => match &schema.additional {
                Additional::Schema(values) => Self::Map(Box::new(Self::of(values))),
                Additional::Any => Self::Dyn,
                Additional::None if schema.preserve_unknown && schema.properties.is_empty() => Self::Dyn,
                Additional::None => Self::Object(schema),
            },
        }
    }

    fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// Whether one can stand for the other. `null` is left to the run: fields may be nullable.
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn | Self::Null, _) | (_, Self::Dyn | Self::Null) => true,
            (Self::List(a), Self::List(b)) | (Self::Map(a), Self::Map(b)) => a.agrees(b),
            // A literal of a map may be compared with an object.
            (Self::Object(_) | Self::Map(_), Self::Object(_) | Self::Map(_)) => true,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    fn is_any_of(&self, types: &[Self]) -> bool {
        self.is_dyn() || types.iter().any(|ty| std::mem::discriminant(ty) == std::mem::discriminant(self))
    }
}

struct Checker<'a> {
    /// Variables, inner ones last.
    scope: Vec<(String, Ty<'a>)>,
}

impl<'a> Checker<'a> {
    fn infer(&mut self, expression: &IdedExpr) -> Result<Ty<'a>, String> {
        match &expression.expr {
            Expr::Unspecified => Err("expression is incomplete".into()),
            Expr::Struct(_) => Err("message literals are not supported".into()),
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => match self.scope.iter().rev().find(|(known, _)| known == name) {
                Some((_, ty)) => Ok(ty.clone()),
                None if GLOBALS.contains(&name.as_str()) => Ok(Ty::Dyn),
                None => Err(format!("undeclared reference to '{name}' (in container '')")),
            },
            Expr::List(list) => {
                let items = list.elements.iter().map(|item| self.infer(item)).collect::<Result<Vec<_>, _>>()?;
                Ok(Ty::List(Box::new(common(items))))
            }
            Expr::Map(map) => {
                let mut values = Vec::new();
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.infer(&entry.key)?;
                        values.push(self.infer(&entry.value)?);
                    }
                }
                Ok(Ty::Map(Box::new(common(values))))
            }
            Expr::Select(select) => {
                let field = self.select(&select.operand, &select.field)?;
                Ok(if select.test { Ty::Bool } else { field })
            }
            Expr::Call(call) => {
                let operands = call.target.as_deref().into_iter().chain(&call.args);
                let types = operands.map(|operand| self.infer(operand)).collect::<Result<Vec<_>, _>>()?;
                let is_method = call.target.is_some();
                result(&call.func_name, &types, is_method).ok_or_else(|| {
                    let args: Vec<String> = types.iter().map(ToString::to_string).collect();
                    let signature = match (is_method, args.split_first()) {
                        (true, Some((target, args))) => format!("{target}.({})", args.join(", ")),
                        _ => format!("({})", args.join(", ")),
                    };
                    format!("found no matching overload for '{}' applied to '{signature}'", call.func_name)
                })
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
        }
    }

    fn select(&mut self, operand: &IdedExpr, field: &str) -> Result<Ty<'a>, String> {
        match self.infer(operand)? {
            Ty::Object(owner) => match member(owner, field) {
                Some(schema) => Ok(Ty::of(schema)),
                // Every object has these, whether its schema says so or not.
                None if ["apiVersion", "kind", "metadata"].contains(&field) => Ok(Ty::Dyn),
                None if owner.preserve_unknown || owner.embedded => Ok(Ty::Dyn),
                None => Err(format!("undefined field '{field}'")),
            },
            Ty::Map(values) => Ok(*values),
            Ty::Dyn => Ok(Ty::Dyn),
            other => Err(format!("type '{other}' does not support field selection")),
        }
    }

    fn comprehension(&mut self, c: &ComprehensionExpr) -> Result<Ty<'a>, String> {
        let (key, item) = match self.infer(&c.iter_range)? {
            Ty::List(item) => (Ty::Int, *item),
            Ty::Map(value) => (Ty::String, *value),
            Ty::Dyn => (Ty::Dyn, Ty::Dyn),
            other => {
                return Err(format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                ));
            }
        };
        let of_map = matches!(key, Ty::String);
        let accumulated = self.infer(&c.accu_init)?;
        let depth = self.scope.len();
        match &c.iter_var2 {
            Some(second) => self.scope.extend([(c.iter_var.clone(), key), (second.clone(), item)]),
            None => self.scope.push((c.iter_var.clone(), if of_map { key } else { item })),
        }
        self.scope.push((c.accu_var.clone(), accumulated));
        self.infer(&c.loop_cond)?;
        self.infer(&c.loop_step)?;
        let result = self.infer(&c.result);
        self.scope.truncate(depth);
        result
    }
}

/// What a function makes of these types; None if it has no such overload. A method's target comes first.
fn result<'a>(name: &str, types: &[Ty<'a>], is_method: bool) -> Option<Ty<'a>> {
    let all = |allowed: &[Ty<'a>]| types.iter().all(|ty| ty.is_any_of(allowed));
    match (name, types) {
        (
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE,
            _,
        ) => all(&[Ty::Bool]).then_some(Ty::Bool),
        (operators::EQUALS | operators::NOT_EQUALS, [a, b]) => a.agrees(b).then_some(Ty::Bool),
        (operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS, [a, b]) => {
            let ordered = [Ty::Bool, Ty::String, Ty::Bytes, Ty::Duration, Ty::Timestamp];
            let numbers = all(&[Ty::Int, Ty::Uint, Ty::Double]);
            (numbers || (all(&ordered) && a.agrees(b))).then_some(Ty::Bool)
        }
        (operators::ADD, [a, b]) => add(a, b),
        (operators::SUBSTRACT, [a, b]) => subtract(a, b),
        (operators::MULTIPLY | operators::DIVIDE, [a, b]) => arithmetic(a, b),
        (operators::MODULO, [a, b]) => arithmetic(a, b).filter(|ty| !matches!(ty, Ty::Double)),
        (operators::NEGATE, [a]) => a.is_any_of(&[Ty::Int, Ty::Double]).then(|| a.clone()),
        (operators::CONDITIONAL, [condition, a, b]) => {
            let fits = condition.is_any_of(&[Ty::Bool]) && a.agrees(b);
            fits.then(|| common(vec![a.clone(), b.clone()]))
        }
        (operators::INDEX, [Ty::List(item), index]) => {
            index.is_any_of(&[Ty::Int, Ty::Uint, Ty::Double]).then(|| (**item).clone())
        }
        (operators::INDEX, [Ty::Map(value), _]) => Some((**value).clone()),
        (operators::INDEX, [Ty::Dyn | Ty::Object(_), _]) => Some(Ty::Dyn),
        (operators::INDEX, _) => None,
        (operators::IN, [item, Ty::List(items)]) => item.agrees(items).then_some(Ty::Bool),
        (operators::IN, [_, Ty::Map(_) | Ty::Dyn]) => Some(Ty::Bool),
        (operators::IN, _) => None,
        ("size", [a]) => {
            let sized = matches!(a, Ty::String | Ty::Bytes | Ty::List(_) | Ty::Map(_) | Ty::Dyn);
            sized.then_some(Ty::Int)
        }
        ("startsWith" | "endsWith" | "contains" | "matches", [_, _]) if is_method => {
            all(&[Ty::String]).then_some(Ty::Bool)
        }
        ("duration", [_]) => Some(Ty::Duration),
        ("timestamp", [_]) => Some(Ty::Timestamp),
        ("string", [_]) => Some(Ty::String),
        ("int", [_]) => Some(Ty::Int),
        ("double", [_]) => Some(Ty::Double),
        _ => Some(Ty::Dyn),
    }
}

fn arithmetic<'a>(a: &Ty<'a>, b: &Ty<'a>) -> Option<Ty<'a>> {
    let numbers = [a, b].iter().all(|ty| ty.is_dyn() || ty.is_number());
    (numbers && a.agrees(b)).then(|| common(vec![a.clone(), b.clone()]))
}

fn add<'a>(a: &Ty<'a>, b: &Ty<'a>) -> Option<Ty<'a>> {
    match (a, b) {
        (Ty::Dyn, _) | (_, Ty::Dyn) => Some(Ty::Dyn),
        (Ty::String, Ty::String) => Some(Ty::String),
        (Ty::Bytes, Ty::Bytes) => Some(Ty::Bytes),
        (Ty::Duration, Ty::Duration) => Some(Ty::Duration),
        (Ty::Timestamp, Ty::Duration) | (Ty::Duration, Ty::Timestamp) => Some(Ty::Timestamp),
        (Ty::List(x), Ty::List(y)) => Some(if x.agrees(y) { common(vec![a.clone(), b.clone()]) } else { return None }),
        _ => arithmetic(a, b),
    }
}

fn subtract<'a>(a: &Ty<'a>, b: &Ty<'a>) -> Option<Ty<'a>> {
    match (a, b) {
        (Ty::Timestamp, Ty::Timestamp) | (Ty::Duration, Ty::Duration) => Some(Ty::Duration),
        (Ty::Timestamp, Ty::Duration) => Some(Ty::Timestamp),
        (Ty::Dyn, _) | (_, Ty::Dyn) => Some(Ty::Dyn),
        _ => arithmetic(a, b),
    }
}

/// The type that all have, if they are of one.
fn common(types: Vec<Ty<'_>>) -> Ty<'_> {
    let mut types = types.into_iter();
    let Some(first) = types.next() else { return Ty::Dyn };
    let same = |a: &Ty<'_>, b: &Ty<'_>| {
        !matches!(a, Ty::Null) && !b.is_dyn() && !matches!(b, Ty::Null) && a.agrees(b) && a.to_string() == b.to_string()
    };
    if types.all(|other| same(&first, &other)) { first } else { Ty::Dyn }
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

fn member<'a>(schema: &'a Schema, spelled: &str) -> Option<&'a Schema> {
    schema.properties.iter().find(|(name, _)| value::escape(name).as_deref() == Some(spelled)).map(|(_, schema)| schema)
}
