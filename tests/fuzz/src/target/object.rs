//! What the server does to an object of any built-in kind after it was decoded.

use serde_json::Value;
use xebec_machinery::patch::apply::{self, Manager};
use xebec_machinery::patch::strategic;
use xebec_machinery::{Status, field};
use xebec_registry::strategy::{OffsetDateTime, Strategy};
use xebec_registry::{Context, DeleteOptions, UserInfo, autoscaling, core::event};
use xebec_schema::{Resource, View, decode, default, protobuf, schema};

use super::generate::Source;
use crate::Random;

/// One of each resource, twice as many bytes for the next round of them.
pub fn seeds() -> Vec<Vec<u8>> {
    let resources = schema().resources().len();
    let seed = |n: usize| {
        let mut random = Random::new(n as u64 + 1);
        let length = 64 << (n / resources);
        std::iter::once(n % resources)
            .chain((0..length).map(|_| random.below(256)))
            .map(|n| u8::try_from(n).unwrap_or(0))
            .collect()
    };
    (0..3 * resources).map(seed).collect()
}

fn resource(source: &mut Source<'_>) -> &'static Resource {
    let resources = schema().resources();
    &resources[source.byte() % resources.len()]
}

/// An object as it comes out of the decoder, in the form of `row`.
fn decoded(row: &Resource, source: &mut Source<'_>) -> Option<Value> {
    let mut value = source.object(row.def);
    value["apiVersion"] = row.api_version().into();
    value["kind"] = row.kind.into();
    match decode::check(row.def, &mut value) {
        Ok(unknown) => assert!(unknown.is_empty(), "{unknown:?} in {value}"),
        Err(why) => {
            _ = why.to_string();
            return None;
        }
    }
    Some(value)
}

/// In the form that is stored, with its defaults.
fn stored(row: &Resource, value: &Value, strategy: &dyn Strategy) -> Value {
    let first = schema().resources().iter().find(|other| other.group == row.group && other.plural == row.plural);
    let (mut value, form) = match (row.group, first) {
        ("events.k8s.io", _) => (event::from_events_v1(value), schema().resource("", "v1", "events")),
        ("autoscaling", form) => (autoscaling::convert::from_v1(value), form),
        (_, form) => (value.clone(), form),
    };
    default::apply(form.unwrap_or(row).def, &mut value);
    strategy.default(&mut value);
    value
}

/// A create, an update and one of its status, a deletion and a line of `kubectl get`.
pub fn object(bytes: &[u8]) {
    let mut source = Source(bytes);
    let row = resource(&mut source);
    let (Some(old), Some(new)) = (decoded(row, &mut source), decoded(row, &mut source)) else { return };
    round_trip(&new);
    let group_resource = row.group_resource();
    let strategy: &dyn Strategy = match row.plural {
        "customresourcedefinitions" => &xebec_apiextensions::Definition,
        _ => xebec_dra::strategy(&group_resource).unwrap_or_else(|| xebec_registry::strategy(&group_resource)),
    };
    let (old, new) = (stored(row, &old, strategy), stored(row, &new, strategy));
    let now = OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
    let context = Context { user: UserInfo::default(), now };
    let options = DeleteOptions {
        grace_period_seconds: old.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64),
    };

    let mut created = new.clone();
    strategy.prepare_for_create(&context, &mut created);
    told(row, strategy.validate(&created));
    _ = strategy.warnings(&created, None).len();
    for shown in [&created, &new] {
        assert_eq!(strategy.row(shown, now).len(), strategy.columns().len(), "{shown}");
        _ = (
            strategy.selectable_fields(shown),
            strategy.graceful_delete(shown, &options),
            strategy.is_finalizing(shown),
        );
        _ = strategy.deletion_finalizers(shown);
    }
    let mut updated = new.clone();
    strategy.prepare_for_update(&context, &mut updated, &old);
    told(row, strategy.validate_update(&updated, &old));
    _ = (strategy.warnings(&updated, Some(&old)), strategy.spec_changed(&updated, &old));
    let mut status = new;
    strategy.prepare_for_status_update(&context, &mut status, &old);
    told(row, strategy.validate_status_update(&status, &old));
    strategy.prepare_for_deletion(&context, &mut status);
    if row.group == "autoscaling" {
        _ = autoscaling::convert::to_v1(&status);
    }
    if row.plural == "events" {
        _ = event::to_events_v1(&status);
    }
}

/// Errors are worded for the client.
fn told(row: &Resource, errors: Vec<field::Error>) {
    _ = Status::invalid(&row.group_kind(), "a", errors).message.len();
}

/// What was decoded can be written as protobuf, and says the same when it is read again.
fn round_trip(value: &Value) {
    let Ok(written) = protobuf::encode(value) else { return };
    let read = protobuf::decode(&written).unwrap_or_else(|error| panic!("{error}: {value}"));
    let said = |mut value: Value| {
        drop_empty(&mut value);
        protobuf::encode(&value).unwrap_or_else(|error| panic!("{error}: {value}"))
    };
    assert!(said(read.clone()) == said(value.clone()), "{value} became {read}");
}

/// Go's protobuf does not tell an empty string or list, zero or false from what is not there, pointers excepted.
fn drop_empty(value: &mut Value) {
    let is_empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Bool(is) => !is,
        _ => false,
    };
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(drop_empty);
            fields.retain(|_, field| !is_empty(field));
        }
        Value::Array(list) => list.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

/// One object applied to another, and as a strategic merge patch of it. What was applied can be applied again.
pub fn patch(bytes: &[u8]) {
    let mut source = Source(bytes);
    let row = resource(&mut source);
    let (Some(live), Some(config)) = (decoded(row, &mut source), decoded(row, &mut source)) else { return };
    let view = View::of(row.def);
    _ = strategic::apply(&mut live.clone(), config.clone(), view).is_ok();
    let version = row.api_version();
    let manager =
        |name| Manager { name, api_version: &version, subresource: "", now: "2026-01-01T00:00:00Z", ignored: &[] };
    if let Ok(applied) = apply::apply(Some(&live), &config, view, &manager("a"), true) {
        let again = apply::apply(Some(&applied), &config, view, &manager("a"), false);
        let again = again.unwrap_or_else(|status| panic!("{}: {config} to {live}", status.message));
        assert_eq!(again, applied, "{config} to {live}");
        let other = apply::apply(Some(&applied), &config, view, &manager("b"), true);
        assert!(other.is_ok(), "{other:?}: {config} to {live}");
    }
}
