//! Steps that every write has in common.

use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};
use xebec_apiextensions::CustomResource;
use xebec_machinery::{Status, object};

use super::Call;
use crate::admission::{Attributes, Operation, Reader};
use crate::kinds::Resource;

/// Defaults of an object in the form that it is stored in.
pub fn default(resource: &Resource, value: &mut Value) {
    if resource.as_custom().is_none() {
        xebec_schema::default::apply(resource.stored.def, value);
    }
    resource.strategy.default(value);
}

/// Validation of an object. Rules of custom resources may take seconds: another thread serves the other requests meanwhile.
pub fn aside<T>(resource: &Resource, validation: impl FnOnce() -> T) -> T {
    let has_rules = resource.as_custom().is_some_and(CustomResource::has_rules);
    if has_rules && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(validation)
    } else {
        validation()
    }
}

/// Mutating admission.
pub async fn admit(
    call: &Call,
    operation: Operation,
    value: Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Value, Status> {
    let name = name(call, &value);
    let mut attributes = attributes(call, operation, &name, value, old, dry_run);
    call.app.admission.admit(&mut attributes, &*call.app).await?;
    attributes.warnings.drain(..).for_each(|text| call.warn(text));
    Ok(attributes.object)
}

/// Validating admission.
pub async fn validate_admission(
    call: &Call,
    operation: Operation,
    value: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<(), Status> {
    let name = name(call, value);
    let attributes = attributes(call, operation, &name, value.take(), old, dry_run);
    let outcome = match admin_access(call, &attributes) {
        Ok(()) => call.app.admission.validate(&attributes, &*call.app).await,
        refused => refused,
    };
    *value = attributes.object;
    outcome
}

/// Upstream's strategies ask for the namespace; ours are pure.
fn admin_access(call: &Call, attributes: &Attributes<'_>) -> Result<(), Status> {
    let Attributes { subresource, object, old_object, .. } = attributes;
    let namespace = || call.app.get("", "namespaces", "", attributes.namespace);
    match xebec_dra::admin_access::check(&call.resource.gr, subresource, object, *old_object, namespace) {
        Some(error) => Err(Status::invalid(&call.resource.gk, attributes.name, vec![error])),
        None => Ok(()),
    }
}

fn name(call: &Call, value: &Value) -> String {
    if call.name().is_empty() { object::name(value).to_owned() } else { call.name().to_owned() }
}

fn attributes<'a>(
    call: &'a Call,
    operation: Operation,
    name: &'a str,
    object: Value,
    old_object: Option<&'a Value>,
    dry_run: bool,
) -> Attributes<'a> {
    Attributes {
        operation,
        resource: &call.resource.gvr,
        kind: &call.resource.gvk,
        subresource: &call.info.subresource,
        namespace: call.namespace(),
        name,
        user: &call.user,
        dry_run,
        now: call.app.now(),
        object,
        old_object,
        warnings: Vec::new(),
    }
}
