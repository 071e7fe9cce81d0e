//! Defaults that the table declares.

use serde_json::Value;

use crate::{DefId, Type, schema};

/// Fills in declared defaults, wherever the object they belong to is present.
pub fn apply(def: DefId, value: &mut Value) {
    let Value::Object(map) = value else { return };
    for field in &schema().definition(def).fields {
        match map.get_mut(field.name) {
            Some(value) => apply_type(field.ty, value),
            None => {
                if let Some(default) = field.default {
                    map.insert(field.name.to_owned(), default.into());
                }
            }
        }
    }
}

fn apply_type(ty: Type, value: &mut Value) {
    match (ty, value) {
        (Type::Object(def), value) => apply(def, value),
        (Type::List(item), Value::Array(items)) => items.iter_mut().for_each(|v| apply_type(*item, v)),
        (Type::Map(item), Value::Object(map)) => map.values_mut().for_each(|v| apply_type(*item, v)),
        _ => {}
    }
}
