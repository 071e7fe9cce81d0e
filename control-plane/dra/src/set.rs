//! Lists and maps with limits (`validateSlice`, `validateSet`, `validateMap`).

use serde_json::Value;
use xebec_machinery::field::Path;
use xebec_registry::errors::Errors;

/// A longer list is not looked into, so that a request cannot make much work.
pub fn list(
    items: &[Value],
    max: usize,
    path: &Path,
    errors: &mut Errors,
    mut check: impl FnMut(&Value, &Path, &mut Errors),
) {
    if items.len() > max {
        return errors.too_many(path, items.len(), max);
    }
    for (index, item) in items.iter().enumerate() {
        check(item, &path.index(index), errors);
    }
}

/// A list without two items of the same key.
pub fn set(
    items: &[Value],
    max: usize,
    path: &Path,
    errors: &mut Errors,
    key: impl Fn(&Value) -> Value,
    check: impl FnMut(&Value, &Path, &mut Errors),
) {
    list(items, max, path, errors, check);
    if items.len() > max {
        return;
    }
    let keys: Vec<Value> = items.iter().map(key).collect();
    for (index, key) in keys.iter().enumerate().filter(|(index, key)| keys[..*index].contains(key)) {
        errors.duplicate(&path.index(index), key.clone());
    }
}

/// The members of a map in the order of their keys, each with its path.
pub fn members<'a>(map: &'a Value, path: &Path) -> impl Iterator<Item = (&'a str, &'a Value, Path)> {
    map.as_object().into_iter().flatten().map(move |(key, value)| (key.as_str(), value, path.key(key)))
}
