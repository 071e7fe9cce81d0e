//! How much the rules of one object may cost, and what the functions of [`super::meter`] do about it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_cel::KubeCelExt;
use kube_cel::cel::{Context, ExecutionError, Value};
use parking_lot::Mutex;

use super::cost::{Charge, Kind, charges, price, read};
use super::meter::{self, LOOK, MEET, PAY};
use super::{macros, optional, types};

/// As cel-go words it.
pub const EXCEEDED: &str = "operation cancelled: actual cost limit exceeded";

pub const SPENT: &str = "validation failed due to running out of cost budget, no further validation rules will be run";

/// `RuntimeCELCostBudget`: what all rules of an object may cost.
const OBJECT_MAX: u64 = 10_000_000;
/// `PerCallLimit`: what one rule may cost, each time.
const CALL_MAX: u64 = 1_000_000;
/// For what the units do not measure.
const TIME_MAX: Duration = Duration::from_secs(2);

/// What is left, shared by all rules of one object.
#[derive(Clone)]
pub struct Budget(Arc<Mutex<Left>>);

struct Left {
    object: u64,
    call: u64,
    ends: Instant,
    /// Why nothing runs any more.
    end: Option<&'static str>,
    /// The operands that were looked at, by their places in the rule.
    seen: HashMap<i64, (u64, Kind)>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl Budget {
    pub fn new() -> Self {
        Self::of(OBJECT_MAX, TIME_MAX)
    }

    pub fn of(units: u64, time: Duration) -> Self {
        let ends = Instant::now() + time;
        Self(Arc::new(Mutex::new(Left { object: units, call: CALL_MAX, ends, end: None, seen: HashMap::new() })))
    }

    /// Why no further rule runs: [`EXCEEDED`] or [`SPENT`].
    pub fn end(&self) -> Option<&'static str> {
        self.0.lock().end
    }

    /// What is left for all rules.
    #[cfg(test)]
    pub fn left(&self) -> u64 {
        self.0.lock().object
    }

    /// A rule begins.
    pub fn begin(&self) {
        let mut left = self.0.lock();
        left.call = CALL_MAX;
        left.seen.clear();
    }

    fn meet(&self, value: &Value, place: i64, call: i64) -> Result<(), ExecutionError> {
        let known = usize::try_from(call).ok().and_then(|call| meter::known().nth(call));
        let Some((name, is_method)) = known else { return Ok(()) };
        let mut left = self.0.lock();
        let own = (size(value), kind(value));
        let (sizes, kinds): (Vec<u64>, Vec<Kind>) = left.seen.remove(&place).into_iter().chain([own]).unzip();
        // What makes one thing of several is told by its first operand.
        let kinds = if is_method && kinds.len() == 1 { vec![kinds[0], Kind::Other] } else { kinds };
        let charge = charge(name, is_method, &kinds);
        left.pay(match charge {
            Charge::ReadElements => elements(value),
            charge => price(charge, &sizes),
        })
    }

    /// All functions that rules may call.
    pub fn context(&self) -> Context<'static> {
        let mut context = Context::default().with_all();
        // Types are not checked beforehand, so every value is dynamic already.
        context.add_function("dyn", |value: Value| Ok::<Value, ExecutionError>(value));
        types::add_to(&mut context);
        optional::add_to(&mut context);
        macros::add_to(&mut context);
        let budget = self.clone();
        context.add_function(PAY, move |value: Value, cost: i64| {
            budget.0.lock().pay(u64::try_from(cost).unwrap_or(u64::MAX)).map(|()| value)
        });
        let budget = self.clone();
        context.add_function(LOOK, move |value: Value, place: i64| {
            budget.0.lock().seen.insert(place, (size(&value), kind(&value)));
            Ok::<Value, ExecutionError>(value)
        });
        let budget = self.clone();
        context.add_function(MEET, move |value: Value, place: i64, call: i64| {
            budget.meet(&value, place, call).map(|()| value)
        });
        context
    }
}

impl Left {
    fn pay(&mut self, cost: u64) -> Result<(), ExecutionError> {
        let spent = self.object < cost;
        let exceeded = self.call < cost || Instant::now() >= self.ends;
        self.object = self.object.saturating_sub(cost);
        self.call = self.call.saturating_sub(cost);
        self.end = self.end.or(match (exceeded, spent) {
            (true, _) => Some(EXCEEDED),
            (false, true) => Some(SPENT),
            (false, false) => None,
        });
        match self.end {
            Some(why) => Err(ExecutionError::function_error(PAY, why)),
            None => Ok(()),
        }
    }
}

/// The charge of a call whose operands are there; the count of operands is right for one of these.
fn charge(name: &str, is_method: bool, kinds: &[Kind]) -> Charge {
    let of = |kinds: &[Kind]| charges(name, is_method, kinds).pop().unwrap_or(Charge::One);
    match of(kinds) {
        Charge::One if kinds.len() > 1 => of(&kinds[..1]),
        charge => charge,
    }
}

/// As `size()` says; one where it does not.
fn size(value: &Value) -> u64 {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.map.len(),
        _ => 1,
    };
    size as u64
}

fn kind(value: &Value) -> Kind {
    match value {
        Value::String(_) | Value::Bytes(_) => Kind::Text,
        Value::List(_) => Kind::List,
        Value::Map(_) => Kind::Map,
        _ => Kind::Other,
    }
}

/// What it costs to go through the elements of a list once.
fn elements(value: &Value) -> u64 {
    let Value::List(list) = value else { return 1 };
    let of = |item: &Value| match item {
        Value::String(_) | Value::Bytes(_) => 1 + read(size(item), 1),
        _ => 1,
    };
    list.iter().map(of).sum()
}
