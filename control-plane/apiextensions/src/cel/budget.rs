//! How much the rules of one object may cost, and what the functions of [`super::meter`] do about it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_cel::KubeCelExt;
use kube_cel::cel::common::ast::operators;
use kube_cel::cel::{Context, ExecutionError, Value};
use parking_lot::Mutex;

use super::cost::{Charge, Kind, charges, compared, makes, price, read};
use super::gate::Place;
use super::made::weight;
use super::meter::{self, LOOK, MEET, PAY};
use super::{borrow, collect, lists, macros, made, optional, types};

/// As cel-go words it.
pub const EXCEEDED: &str = "operation cancelled: actual cost limit exceeded";

pub const SPENT: &str = "validation failed due to running out of cost budget, no further validation rules will be run";

/// `RuntimeCELCostBudget`: what all rules of an object may cost.
const OBJECT_MAX: u64 = 10_000_000;
/// `PerCallLimit`: what one rule may cost, each time.
const CALL_MAX: u64 = 1_000_000;
/// For what the units do not measure.
const TIME_MAX: Duration = Duration::from_secs(2);
/// What one rule may make, each time, in bytes.
const MADE_MAX: usize = 128 << 20;
/// From so much on it waits for its place among the rules that do so.
const MADE_MUCH: usize = 8 << 20;

/// What is left, shared by all rules of one object.
#[derive(Clone)]
pub struct Budget(Arc<Mutex<Left>>);

struct Left {
    object: u64,
    call: u64,
    /// Bytes.
    room: usize,
    place: Option<Place>,
    ends: Instant,
    /// Why nothing runs any more.
    end: Option<&'static str>,
    /// The operands that were looked at, by their places in the rule.
    seen: HashMap<i64, Seen>,
}

struct Seen {
    size: u64,
    kind: Kind,
    /// Of a list, what a copy of it takes in bytes.
    weight: usize,
}

impl Seen {
    fn of(value: &Value) -> Self {
        let kind = kind(value);
        Self { size: size(value), kind, weight: if kind == Kind::List { weight(value) } else { 0 } }
    }
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
        Self(Arc::new(Mutex::new(Left {
            object: units,
            call: CALL_MAX,
            room: MADE_MAX,
            place: None,
            ends,
            end: None,
            seen: HashMap::new(),
        })))
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
        left.room = MADE_MAX;
        left.seen.clear();
    }

    /// A rule has ended; says why no further one runs.
    pub fn finish(&self) -> Option<&'static str> {
        let mut left = self.0.lock();
        left.place = None;
        left.end
    }

    /// Takes room for a copy.
    pub fn make(&self, bytes: usize) -> Result<(), ExecutionError> {
        self.0.lock().make(bytes)
    }

    /// Gives room back.
    pub fn drop_made(&self, bytes: usize) {
        self.0.lock().room += bytes;
    }

    fn meet(&self, value: &Value, place: i64, call: i64) -> Result<(), ExecutionError> {
        let known = usize::try_from(call).ok().and_then(|call| meter::known().nth(call));
        let Some((name, is_method)) = known else { return Ok(()) };
        let mut left = self.0.lock();
        let seen: Vec<Seen> = left.seen.remove(&place).into_iter().chain([Seen::of(value)]).collect();
        let sizes: Vec<u64> = seen.iter().map(|seen| seen.size).collect();
        let kinds: Vec<Kind> = seen.iter().map(|seen| seen.kind).collect();
        if name == operators::ADD {
            left.make(seen.iter().map(|seen| seen.weight).sum())?;
        }
        // What makes one thing of several is told by its first operand.
        let kinds = if is_method && kinds.len() == 1 { vec![kinds[0], Kind::Other] } else { kinds };
        let charge = charge(name, is_method, &kinds);
        left.pay(match charge {
            Charge::ReadElements => elements(value),
            Charge::Range => makes(number(value)),
            Charge::Flatten if seen.len() > 1 => makes(sizes[0].saturating_mul(number(value))),
            Charge::Compared(_) => makes(compared(size(value), is_of_texts(value), f64::floor)),
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
        lists::add_to(&mut context);
        borrow::add_to(&mut context);
        collect::add_to(&mut context, self);
        made::add_to(&mut context, self);
        let budget = self.clone();
        context.add_function(PAY, move |cost: i64| {
            budget.0.lock().pay(u64::try_from(cost).unwrap_or(u64::MAX)).map(|()| true)
        });
        let budget = self.clone();
        context.add_function(LOOK, move |value: Value, place: i64| {
            budget.0.lock().seen.insert(place, Seen::of(&value));
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
        self.end_if(exceeded, EXCEEDED)?;
        self.end_if(spent, SPENT)
    }

    fn make(&mut self, bytes: usize) -> Result<(), ExecutionError> {
        let is_full = self.room < bytes;
        self.room = self.room.saturating_sub(bytes);
        let waits = !is_full && self.place.is_none() && MADE_MAX - self.room.min(MADE_MAX) > MADE_MUCH;
        if waits {
            self.place = Place::until(self.ends);
        }
        self.end_if(is_full || (waits && self.place.is_none()), EXCEEDED)
    }

    /// Nothing runs any more if there is or was a reason.
    fn end_if(&mut self, holds: bool, why: &'static str) -> Result<(), ExecutionError> {
        self.end = self.end.or(holds.then_some(why));
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

/// What an integer says; nothing less than nothing.
fn number(value: &Value) -> u64 {
    match value {
        Value::Int(number) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

fn is_of_texts(list: &Value) -> bool {
    matches!(list, Value::List(items) if items.first().is_some_and(|item| kind(item) == Kind::Text))
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
