//! Defaulting (`apiextensions-apiserver/pkg/apiserver/schema/defaulting`): a missing field gets its default, also a null one that may not be null; then what is
//! inside, defaults included, gets its own.

use serde_json::Value;

use crate::schema::Schema;

pub fn apply(value: &mut Value, schema: &Schema) {
    if !schema.has_defaults {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, schema) in &schema.properties {
                let Some(default) = &schema.default else { continue };
                match map.get(name) {
                    None => _ = map.insert(name.clone(), default.clone()),
                    Some(Value::Null) if !schema.nullable => _ = map.insert(name.clone(), default.clone()),
                    Some(_) => {}
                }
            }
            for (name, member) in map.iter_mut() {
                let Some(schema) = schema.member(name) else { continue };
                replace_null(member, schema);
                apply(member, schema);
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            for item in items {
                replace_null(item, schema);
                apply(item, schema);
            }
        }
        _ => {}
    }
}

fn replace_null(value: &mut Value, schema: &Schema) {
    if let (true, false, Some(default)) = (value.is_null(), schema.nullable, &schema.default) {
        value.clone_from(default);
    }
}
