//! Which old value a new one replaces: members by name, items of a map list by their keys, others by place (`apiserver/pkg/cel/common/equality.go`).

use std::collections::HashMap;

use serde_json::Value;

use crate::schema::{ListType, Schema};

/// The old items of a list, findable by new ones.
pub struct Items<'a> {
    list: &'a [Value],
    keyed: Option<(&'static [&'static str], HashMap<String, &'a Value>)>,
}

pub fn items<'a>(old: Option<&'a Value>, schema: &Schema) -> Items<'a> {
    let list = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let keyed = (schema.list_type == ListType::Map && !list.is_empty()).then(|| {
        let keys = schema.list_map_keys;
        // Of items with one key the first counts, and it must be the only one to be told apart.
        let mut found = HashMap::with_capacity(list.len());
        for item in list {
            found.entry(key_of(item, keys)).or_insert(item);
        }
        (keys, found)
    });
    Items { list, keyed }
}

impl<'a> Items<'a> {
    /// The item that `new` replaces, if it can be told.
    pub fn keyed(&self, new: &Value) -> Option<&'a Value> {
        let (keys, found) = self.keyed.as_ref()?;
        found.get(&key_of(new, keys)).copied()
    }

    /// As [`Items::keyed`], or else the item at the same place that did not change.
    pub fn get(&self, new: &Value, index: usize) -> Option<&'a Value> {
        match &self.keyed {
            Some(_) => self.keyed(new),
            None => self.list.get(index).filter(|old| *old == new),
        }
    }
}

/// What identifies an item of a map list.
pub fn key_of(item: &Value, keys: &[&str]) -> String {
    keys.iter().map(|key| item.get(*key).map_or_else(|| "null".into(), Value::to_string)).collect::<Vec<_>>().join("\0")
}
