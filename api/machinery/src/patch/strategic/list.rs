//! Merging of lists by key, and the order that comes out.

use serde_json::Value;

use super::{Object, PATCH, malformed, merge_object, unprocessable};
use crate::Status;
use crate::patch::PatchSchema;

/// What identifies an item: the value of its merge key, or the item itself if it is a scalar.
fn identity<'a>(item: &'a Value, key: &str) -> Option<&'a Value> {
    match item {
        Value::Object(object) => object.get(key),
        scalar => Some(scalar),
    }
}

fn position(items: &[Value], wanted: &Value, key: &str) -> Option<usize> {
    let wanted = identity(wanted, key)?;
    items.iter().position(|item| identity(item, key) == Some(wanted))
}

/// Merges `patch` into `old`: items with the same key merge, others are added; `$patch: delete` removes an item, `$patch: replace` the rest of the list.
pub(super) fn merge<S: PatchSchema>(old: &mut Vec<Value>, patch: Vec<Value>, key: &str, item: S) -> Result<(), Status> {
    let server = old.clone();
    let mut order = Vec::with_capacity(patch.len());
    let (directives, items): (Vec<_>, Vec<_>) = patch.into_iter().partition(|item| item.get(PATCH).is_some());
    let mut replaced = false;
    for directive in directives {
        match directive.get(PATCH).and_then(Value::as_str) {
            Some("delete") => {
                let Some(wanted) = directive.get(key) else { return Err(no_key(&directive, key)) };
                old.retain(|item| item.get(key) != Some(wanted));
            }
            Some("replace") => replaced = true,
            Some("merge") => return Err(unprocessable("merging lists cannot yet be specified in the patch")),
            other => {
                let other = other.unwrap_or_default();
                return Err(unprocessable(format!("unknown patch type found: {other}")));
            }
        }
    }
    if replaced {
        *old = items;
        return Ok(());
    }
    for patch in items {
        let at = position(old, &patch, key);
        match patch {
            Value::Object(patch) => {
                let Some(id) = patch.get(key).cloned() else { return Err(no_key(&Value::Object(patch), key)) };
                order.push(Value::Object(Object::from_iter([(key.to_owned(), id)])));
                match at.map(|at| &mut old[at]) {
                    Some(Value::Object(old)) => merge_object(old, patch, item)?,
                    _ => {
                        let mut made = Object::new();
                        merge_object(&mut made, patch, item)?;
                        old.push(Value::Object(made));
                    }
                }
            }
            scalar => {
                order.push(scalar.clone());
                if at.is_none() {
                    old.push(scalar);
                }
            }
        }
    }
    let merged = std::mem::take(old);
    *old = reorder(merged, &order, &server, key);
    Ok(())
}

fn no_key(item: &Value, key: &str) -> Status {
    unprocessable(format!("map: {item} does not contain declared merge key: {key}"))
}

/// `$deleteFromPrimitiveList`: removes scalars from a list.
pub(super) fn delete_scalars(original: &mut Object, name: &str, remove: Value) -> Result<(), Status> {
    let Value::Array(remove) = remove else {
        return Err(malformed("invalid patch format of primitive list"));
    };
    if let Some(Value::Array(items)) = original.get_mut(name) {
        items.retain(|item| !remove.contains(item));
    }
    Ok(())
}

/// The items of a patch must appear in `$setElementOrder`, in its order.
pub(super) fn check_order(patch: Option<&Value>, order: &[Value], key: &str) -> Result<(), Status> {
    let mut from = 0;
    for item in patch.and_then(Value::as_array).into_iter().flatten() {
        if item.get(PATCH).is_some() {
            continue;
        }
        match position(&order[from..], item, key) {
            Some(at) => from += at,
            None => {
                let order = Value::from(order.to_vec());
                let message = "The order in patch list:\n%1\n doesn't match %2 list:\n%3\n";
                let message = message.replace("%1", &patch.map(ToString::to_string).unwrap_or_default());
                return Err(unprocessable(message.replace("%2", "$setElementOrder").replace("%3", &order.to_string())));
            }
        }
    }
    Ok(())
}

/// Orders items: those in `order` follow it, the others keep the order they have on the server, and the two interleave as on the server where that is
/// possible.
pub(super) fn reorder(items: Vec<Value>, order: &[Value], server: &[Value], key: &str) -> Vec<Value> {
    let (mut asked, mut rest): (Vec<_>, Vec<_>) = items.into_iter().partition(|i| position(order, i, key).is_some());
    asked.sort_by_key(|item| position(order, item, key));
    rest.sort_by_key(|item| position(server, item, key).unwrap_or(usize::MAX));
    let mut merged = Vec::with_capacity(asked.len() + rest.len());
    let (mut asked, mut rest) = (asked.into_iter().peekable(), rest.into_iter().peekable());
    while let (Some(left), Some(right)) = (rest.peek(), asked.peek()) {
        let before = match (position(server, left, key), position(server, right, key)) {
            (Some(left), Some(right)) => left < right,
            _ => false,
        };
        merged.extend(if before { rest.next() } else { asked.next() });
    }
    merged.extend(asked);
    merged.extend(rest);
    merged
}
