//! Functions of lists (`ext/lists.go` of cel-go, version 3), with its errors.

use std::cmp::Ordering;
use std::sync::Arc;

use kube_cel::cel::extractors::This;
use kube_cel::cel::{Context, ExecutionError, Value};

/// `list.@sortByAssociatedKeys(keys)`: what the macro `sortBy` asks for.
pub const SORT_BY_KEYS: &str = "@sortByAssociatedKeys";

type Items = Arc<Vec<Value>>;

pub fn add_to(context: &mut Context<'_>) {
    context.add_function("lists.range", range);
    context.add_function("slice", |This(items): This<Items>, start: i64, end: i64| slice(&items, start, end));
    context.add_function("sort", |This(items): This<Items>| sort(&items, &items));
    context.add_function(SORT_BY_KEYS, |This(items): This<Items>, keys: Items| sort(&items, &keys));
}

/// What it costs is paid before: so long a list as would not fit is none.
fn range(count: i64) -> Result<Value, ExecutionError> {
    if count < 0 {
        let why = format!("lists.range: size must be non-negative, got {count}");
        return Err(ExecutionError::function_error("lists.range", why));
    }
    Ok(list((0..count).map(Value::Int).collect()))
}

fn slice(items: &[Value], start: i64, end: i64) -> Result<Value, ExecutionError> {
    let fails =
        |why: &str| Err(ExecutionError::function_error("slice", format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return fails("negative indexes not supported");
    };
    if from > to {
        return fails("start index must be less than or equal to end index");
    }
    match items.get(from..to) {
        Some(part) => Ok(list(part.to_vec())),
        None => fails(&format!("list is length {}", items.len())),
    }
}

/// The items in the order of their keys; those of equal keys stay in theirs.
fn sort(items: &[Value], keys: &[Value]) -> Result<Value, ExecutionError> {
    let fails = |why: &str| Err(ExecutionError::function_error("sort", why));
    let mut sorted: Vec<(&Value, &Value)> = keys.iter().zip(items).collect();
    if let Some(first) = keys.first() {
        if compare(first, first).is_none() && !matches!(first, Value::Float(_)) {
            return fails("list elements must be comparable");
        }
        let is_alike = |key: &Value| std::mem::discriminant(key) == std::mem::discriminant(first);
        if !keys.iter().all(is_alike) {
            return fails("list elements must have the same type");
        }
    }
    sorted.sort_by(|(a, _), (b, _)| compare(a, b).unwrap_or(Ordering::Equal));
    Ok(list(sorted.into_iter().map(|(_, item)| item.clone()).collect()))
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::UInt(a), Value::UInt(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn list(items: Vec<Value>) -> Value {
    Value::List(Arc::new(items))
}
