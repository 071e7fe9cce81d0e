//! What a client sent, checked and made canonical: pruned, with metadata of the right type at the root and in embedded resources.

use serde_json::Value;
use xebec_schema::DefId;

use crate::prune;
use crate::schema::Schema;

/// The definition of what every object has.
pub fn metadata_only() -> DefId {
    let schema = xebec_schema::schema();
    // The table has it; the fallback is never seen.
    schema
        .kind("", "v1", "PartialObjectMetadata")
        .or_else(|| schema.kind("", "v1", "Status"))
        .unwrap_or_else(|| unreachable!("the table defines Status"))
}

/// Unknown fields, worded as the strict decoder does; an error if metadata has a wrong type.
pub fn check(value: &mut Value, schema: &Schema) -> Result<Vec<String>, String> {
    let mut unknown = metadata(value, "")?;
    let dropped = prune::prune(value, schema);
    unknown.extend(dropped.into_iter().map(|path| format!("unknown field \"{path}\"")));
    prune::prune_nulls(value, schema);
    embedded(value, schema, "", &mut unknown)?;
    Ok(unknown)
}

/// Checks the metadata of the object at `path`.
fn metadata(object: &mut Value, path: &str) -> Result<Vec<String>, String> {
    let Some(found) = object.get_mut("metadata") else { return Ok(Vec::new()) };
    if found.is_null() {
        *found = Value::Object(serde_json::Map::new());
    }
    let mut wrapped = serde_json::json!({ "metadata": found.take() });
    let unknown = xebec_schema::decode::check(metadata_only(), &mut wrapped).map_err(|error| error.to_string())?;
    *found = wrapped["metadata"].take();
    if found.is_null() {
        *found = Value::Object(serde_json::Map::new());
    }
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    Ok(unknown.into_iter().map(|text| text.replacen("field \"", &format!("field \"{prefix}"), 1)).collect())
}

fn embedded(value: &mut Value, schema: &Schema, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    if !schema.has_identities {
        return Ok(());
    }
    if schema.embedded && value.is_object() {
        unknown.extend(metadata(value, path)?);
    }
    match value {
        Value::Object(map) => {
            for (name, member) in map {
                let Some(schema) = schema.member(name) else { continue };
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                embedded(member, schema, &path, unknown)?;
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return Ok(()) };
            for (index, item) in items.iter_mut().enumerate() {
                embedded(item, schema, &format!("{path}[{index}]"), unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}
