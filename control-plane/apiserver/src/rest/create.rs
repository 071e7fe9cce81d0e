//! CREATE.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use xebec_machinery::{Status, object};
use xebec_store::Expect;

use super::store::{self, Written};
use super::write::{self, admit, aside, validate_admission};
use super::{Answer, Call, convert, decode, encode, managed, meta};
use crate::admission::Operation;
use crate::options::WriteOptions;

/// How often a generated name may be taken before the client is told (as upstream's `RetryGenerateName`).
const GENERATE_ATTEMPTS: usize = 8;

pub async fn create(call: &Call, body: Bytes) -> Answer {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let resource = &call.resource;
    let value = decode::object(call, &body, &resource.gvk, resource.definition(), options.field_validation)?;
    if let Some(review) = super::subresource::review(call, &value).await {
        return encode::value(call, StatusCode::CREATED, review?);
    }
    let value = create_object(call, value, &options).await?;
    encode::object(call, StatusCode::CREATED, convert::shown(resource, value)?)
}

/// Takes an object through admission, defaults and validation into the store.
pub async fn create_object(call: &Call, mut value: Value, options: &WriteOptions) -> Result<Value, Status> {
    let resource = &call.resource;
    crate::crd::may_create(resource)?;
    meta::match_namespace(call, &mut value)?;
    if object::name(&value).is_empty() && object::generate_name(&value).is_empty() {
        // Validation words this as upstream does; a missing name passes through here unnamed.
        tracing::trace!("object without name");
    }
    convert::stored(resource, &mut value);
    write::default(resource, &mut value);
    // Whoever calls owns what they sent and the defaults of it, not what admission and the strategy make of it (apiserver's `handlers/create.go`).
    if !call.is_apply() {
        object::metadata_mut(&mut value).remove("managedFields");
        managed::update(call, None, &mut value, options, "");
    }
    let mut value = admit(call, Operation::Create, value, None, options.dry_run).await?;
    write::default(resource, &mut value);
    let generated = object::name(&value).is_empty() && !object::generate_name(&value).is_empty();
    meta::born(resource, &mut value, call.app.now());
    if !generated {
        resource.strategy.prepare_for_create(&call.context(), &mut value);
        store_new(call, &mut value, options).await?;
        return Ok(value);
    }
    for attempt in 1.. {
        let mut candidate = value.clone();
        object::set_name(&mut candidate, &meta::generate_name(object::generate_name(&value)));
        resource.strategy.prepare_for_create(&call.context(), &mut candidate);
        match store_new(call, &mut candidate, options).await {
            Err(status) if status.reason == xebec_machinery::status::Reason::AlreadyExists => {
                if attempt >= GENERATE_ATTEMPTS {
                    return Err(Status::generate_name_conflict(&resource.gr, object::name(&candidate), 1));
                }
            }
            Err(status) => return Err(status),
            Ok(()) => return Ok(candidate),
        }
    }
    Err(Status::internal("unreachable: names are tried until one answer is final"))
}

async fn store_new(call: &Call, value: &mut Value, options: &WriteOptions) -> Result<(), Status> {
    let resource = &call.resource;
    let lease = call.app.services.for_create(resource, value)?;
    let errors = aside(resource, || resource.strategy.validate(value));
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.gk, object::name(value), errors));
    }
    resource.strategy.warnings(value, None).into_iter().for_each(|text| call.warn(text));
    validate_admission(call, Operation::Create, value, None, options.dry_run).await?;
    super::escalation::check(call, value, None).await?;
    let key = resource.key(object::namespace(value), object::name(value));
    if options.dry_run {
        return match call.app.find_consistent(resource, object::namespace(value), object::name(value)).await? {
            Some(_) => Err(Status::already_exists(&resource.gr, object::name(value))),
            None => Ok(()),
        };
    }
    let store = &*call.app.store;
    let mut lease = lease.claim(&call.app, resource, value, None).await?;
    match store::put_object(&call.app, resource, &key, Expect::Absent, value).await? {
        Written::At(_) => {
            lease.keep(store, value).await;
            Ok(())
        }
        Written::Conflict(entry) => {
            lease.abandon(store, value).await;
            let mut status = Status::already_exists(&resource.gr, object::name(value));
            let existing = entry.as_ref().and_then(|entry| store::from_entry(entry).ok());
            if existing.is_some_and(|existing| object::deletion_timestamp(&existing).is_some()) {
                status.message = format!("object is being deleted: {}", status.message);
            }
            Err(status)
        }
    }
}
