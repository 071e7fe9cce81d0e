//! What one request costs one quota (`resourcequota.CheckRequest`).

use std::time::SystemTime;

use serde_json::Value;
use xebec_machinery::object;
use xebec_machinery::quota::{self, Amounts};

use super::shown;
use crate::admission::Attributes;

/// A request, as far as quotas are concerned.
#[derive(Clone)]
pub struct Charge {
    pub group: String,
    pub resource: String,
    pub object: Value,
    /// What an update replaces.
    pub old: Option<Value>,
    pub dry_run: bool,
    pub now: SystemTime,
}

impl Charge {
    pub fn of(attributes: &Attributes<'_>) -> Self {
        Self {
            group: attributes.resource.group.clone(),
            resource: attributes.resource.resource.clone(),
            object: attributes.object.clone(),
            old: attributes.old_object.cloned(),
            dry_run: attributes.dry_run,
            now: attributes.now.into(),
        }
    }

    fn usage(&self, object: &Value) -> Amounts {
        quota::usage(&self.group, &self.resource, object, self.now)
    }
}

/// What the quota has used after the request; `None` if it is not concerned, an error if it is exceeded.
pub fn charge(quota: &Value, wanted: &Charge) -> Result<Option<Amounts>, String> {
    let (group, resource) = (wanted.group.as_str(), wanted.resource.as_str());
    if !quota::matches(quota, group, resource, &wanted.object) {
        return Ok(None);
    }
    let name = object::name(quota);
    let hard: Amounts = quota::amounts(quota.pointer("/status/hard"))
        .into_iter()
        .filter(|(name, _)| quota::counted(name) == Some((group, resource)))
        .collect();
    let used = quota::amounts(quota.pointer("/status/used"));
    quota::constraints(&hard, group, resource, &wanted.object).map_err(|why| format!("failed quota: {name}: {why}"))?;
    let unknown: Vec<&str> = hard.keys().filter(|name| !used.contains_key(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let resources: Vec<&str> = hard.keys().map(String::as_str).collect();
        return Err(format!("status unknown for quota: {name}, resources: {}", resources.join(",")));
    }
    let mut delta = wanted.usage(&wanted.object);
    if let Some(old) = wanted.old.as_ref().filter(|old| quota::matches(quota, group, resource, old)) {
        delta = quota::subtract(&delta, &wanted.usage(old));
    }
    delta.retain(|name, amount| hard.contains_key(name) && !amount.is_zero());
    if delta.is_empty() {
        return Ok(None);
    }
    let mut after = used.clone();
    quota::add(&mut after, &delta);
    let exceeded = |amounts: &Amounts| -> Amounts {
        let over = |name: &String| delta.contains_key(name) && after.get(name) > hard.get(name);
        amounts.iter().filter(|(name, _)| over(name)).map(|(name, amount)| (name.clone(), *amount)).collect()
    };
    let requested = exceeded(&delta);
    if requested.is_empty() {
        return Ok(Some(after));
    }
    let (requested, used, limited) = (shown(&requested), shown(&exceeded(&used)), shown(&exceeded(&hard)));
    Err(format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}"))
}
