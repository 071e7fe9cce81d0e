//! Each `check` names a change to a valid object, and the complete errors that it makes.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::GroupResource;
use xebec_machinery::patch::merge;
use xebec_registry::strategy::{Context, Scope, Strategy, UserInfo};

use crate::GROUP;

mod claim;
mod class;
mod slice;

fn strategy(resource: &str) -> &'static dyn Strategy {
    crate::strategy(&GroupResource::new(GROUP, resource)).unwrap()
}

fn context() -> Context {
    Context { user: UserInfo::default(), now: OffsetDateTime::UNIX_EPOCH }
}

/// An object as a create makes it of what a client sends.
fn made(resource: &str, base: &Value, change: Value) -> Value {
    let strategy = strategy(resource);
    let mut object = base.clone();
    object["metadata"] = json!({"name": "o"});
    if strategy.scope() == Scope::Namespaced {
        object["metadata"]["namespace"] = json!("n");
    }
    merge::apply(&mut object, change);
    strategy.default(&mut object);
    strategy.prepare_for_create(&context(), &mut object);
    object
}

fn texts(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(resource: &str, base: &Value, change: Value, expected: &[&str]) {
    assert_eq!(texts(strategy(resource).validate(&made(resource, base, change))), expected);
}

#[track_caller]
fn check_update(resource: &str, base: &Value, change: Value, expected: &[&str]) {
    let old = made(resource, base, json!({}));
    let mut new = old.clone();
    merge::apply(&mut new, change);
    let strategy = strategy(resource);
    strategy.default(&mut new);
    strategy.prepare_for_update(&context(), &mut new, &old);
    assert_eq!(texts(strategy.validate_update(&new, &old)), expected);
}

fn cells(resource: &str, object: &Value) -> Vec<String> {
    let row = strategy(resource).row(object, OffsetDateTime::UNIX_EPOCH);
    row.iter().map(|cell| cell.as_str().unwrap().to_owned()).collect()
}
