//! CEL expressions that choose devices (`k8s.io/dynamic-resource-allocation/cel`).
//!
//! `device.driver`, `device.attributes["domain"].name` and `device.capacity["domain"].name`. A domain that a device says nothing of is empty rather than
//! missing, so that `has(device.attributes["domain"].name)` is false and not an error.

mod bind;
mod size;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use xebec_apiextensions::cel::language::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use xebec_apiextensions::cel::language::objects::{Key, Map};
use xebec_apiextensions::cel::language::{Context, ExecutionError, Value as CelValue};
use xebec_apiextensions::cel::{self, Budget, Inferred, Program};
use xebec_registry::value::string;

/// The function that the compiler puts where a domain is looked up.
const DOMAIN: &str = "@domain";
const MAPS: [&str; 2] = ["attributes", "capacity"];

/// A compiled selector.
#[derive(Debug)]
pub struct Selector {
    program: Program,
    /// What it costs to ask it of a device, at most.
    pub cost: u64,
}

impl Selector {
    /// # Errors
    /// Why the text is no selector, as upstream words it after `Invalid value: "…": `.
    pub fn compile(text: &str) -> Result<Self, String> {
        let failed = |why: String| format!("compilation failed: {why}");
        let mut expression = cel::parse(text).map_err(failed)?;
        bind::expand(&mut expression).map_err(|(part, why)| failed(cel::fault(text, part, why)))?;
        let Inferred { ty, cost } =
            cel::infer(text, &expression, "device", &schema(), &size::OfDevice).map_err(failed)?;
        if !["bool", "dyn"].contains(&ty.as_str()) {
            return Err(format!("must evaluate to bool or the unknown type, not {ty}"));
        }
        look_up_domains(&mut expression);
        Ok(Self { program: Program::of(expression), cost })
    }

    /// Whether the device is meant.
    ///
    /// # Errors
    /// What went wrong at run time, as cel-go words it: a claim with such a selector is not allocated.
    pub fn matches(&self, device: &Device, evaluator: &Evaluator) -> Result<bool, String> {
        let mut scope = evaluator.context.new_inner_scope();
        scope.add_variable_from_value("device", device.0.clone());
        match self.program.run(&scope, &evaluator.budget)? {
            CelValue::Bool(matches) => Ok(matches),
            other => Err(format!("CEL expression did not evaluate to bool, but {other:?}")),
        }
    }
}

/// What selectors are run with: the functions, and what all of them together may cost.
pub struct Evaluator {
    context: Context<'static>,
    budget: Budget,
    version: Program,
    quantity: Program,
}

impl Evaluator {
    /// # Errors
    /// None in practice: two fixed expressions are compiled.
    pub fn new() -> Result<Self, String> {
        let budget = Budget::new();
        let mut context = budget.context();
        context
            .add_function(DOMAIN, |map: CelValue, domain: CelValue| Ok::<_, ExecutionError>(domain_of(&map, &domain)));
        let (version, quantity) = (Program::compile("semver(text)")?, Program::compile("quantity(text)")?);
        Ok(Self { context, budget, version, quantity })
    }

    /// A device as selectors see it. `attributes` and `capacity` are the maps of a slice's device; a name without a domain is of the driver's.
    pub fn device(&self, driver: &str, attributes: &Value, capacity: &Value) -> Device {
        let attribute = |value: &Value| match value {
            value if value["bool"].is_boolean() => CelValue::Bool(value["bool"] == true),
            value if value["int"].is_i64() => CelValue::Int(value["int"].as_i64().unwrap_or(0)),
            value if value["version"].is_string() => self.converted(&self.version, string(value, "version")),
            value => text(string(value, "string")),
        };
        let amount = |value: &Value| match &value["value"] {
            Value::String(amount) => self.converted(&self.quantity, amount),
            amount => self.converted(&self.quantity, &amount.to_string()),
        };
        Device(map([
            ("driver", text(driver)),
            ("attributes", by_domain(driver, attributes, attribute)),
            ("capacity", by_domain(driver, capacity, amount)),
            ("allowMultipleAllocations", CelValue::Bool(false)),
        ]))
    }

    fn converted(&self, program: &Program, from: &str) -> CelValue {
        let mut scope = self.context.new_inner_scope();
        scope.add_variable_from_value("text", text(from));
        program.run(&scope, &self.budget).unwrap_or_else(|_| text(from))
    }
}

/// A device as selectors see it.
pub struct Device(CelValue);

/// Whether the text is a version by semver.org, which attributes of that type hold.
pub fn is_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let canonical = |part: &str| part == "0" || !part.starts_with('0');
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers.iter().all(|part| digits(part) && canonical(part))
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!digits(part) || canonical(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

/// `device`, for the compiler.
fn schema() -> Value {
    let any = json!({"x-kubernetes-preserve-unknown-fields": true});
    let domains = json!({"type": "object", "additionalProperties": {"type": "object", "additionalProperties": any}});
    json!({"type": "object", "properties": {
        "driver": {"type": "string"}, "attributes": domains, "capacity": domains, "allowMultipleAllocations": {"type": "boolean"},
    }})
}

/// Replaces `device.attributes[x]` and `device.attributes.x`, and of capacity, by a look-up that never fails.
fn look_up_domains(expression: &mut IdedExpr) {
    cel::children(expression).into_iter().for_each(look_up_domains);
    let arguments = match &mut expression.expr {
        Expr::Call(call) if call.func_name == operators::INDEX && call.args.first().is_some_and(is_map) => {
            std::mem::take(&mut call.args)
        }
        Expr::Select(select) if !select.test && is_map(&select.operand) => {
            let field = LiteralValue::String(select.field.clone().into());
            vec![std::mem::take(&mut *select.operand), IdedExpr { id: 0, expr: Expr::Literal(field) }]
        }
        _ => return,
    };
    expression.expr = Expr::Call(CallExpr { func_name: DOMAIN.to_owned(), target: None, args: arguments });
}

/// `device.attributes` or `device.capacity`.
fn is_map(expression: &IdedExpr) -> bool {
    let Expr::Select(select) = &expression.expr else { return false };
    let of_device = matches!(&select.operand.expr, Expr::Ident(name) if name == "device");
    of_device && !select.test && MAPS.contains(&select.field.as_str())
}

fn domain_of(map: &CelValue, domain: &CelValue) -> CelValue {
    let found = match (map, domain) {
        (CelValue::Map(map), CelValue::String(domain)) => map.map.get(&Key::String(domain.clone())).cloned(),
        _ => None,
    };
    found.unwrap_or_else(|| self::map(std::iter::empty::<(&str, CelValue)>()))
}

fn by_domain(driver: &str, members: &Value, value: impl Fn(&Value) -> CelValue) -> CelValue {
    let mut domains: HashMap<&str, Vec<(&str, CelValue)>> = HashMap::new();
    for (name, member) in members.as_object().into_iter().flatten() {
        let (domain, id) = name.split_once('/').unwrap_or((driver, name));
        domains.entry(domain).or_default().push((id, value(member)));
    }
    map(domains.into_iter().map(|(domain, members)| (domain, map(members))))
}

fn map<'a>(members: impl IntoIterator<Item = (&'a str, CelValue)>) -> CelValue {
    let members = members.into_iter().map(|(name, value)| (Key::String(Arc::new(name.to_owned())), value));
    CelValue::Map(Map { map: Arc::new(members.collect()) })
}

fn text(text: &str) -> CelValue {
    CelValue::String(Arc::new(text.to_owned()))
}

#[cfg(test)]
mod tests;
