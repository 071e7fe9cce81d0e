//! Numbers as the store knows them: one key for each that a Service has, written before the Service.
//!
//! A key is created only if it is absent, so of several servers on one store one gets the number. An address's key is the
//! `IPAddress` object that upstream keeps (KEP-1880); a node port's is of the same form, outside of any served resource.

use serde_json::{Value, json};
use xebec_machinery::net::IpFamily;
use xebec_machinery::object;
use xebec_registry::network::service::allocation::Number;
use xebec_store::{Entry, Expect, Op, Outcome, Result, Store, Txn};

pub const ADDRESSES: &str = "networking.k8s.io/ipaddresses";
pub const PORTS: &str = "ranges/servicenodeports";
/// Upstream's `LabelManagedBy`: other addresses are none of ours.
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";

/// What became of an attempt to claim a number.
#[derive(PartialEq, Eq, Debug)]
pub enum Claimed {
    /// Written by this attempt.
    Now,
    /// The Service of this name had it already.
    Before,
    /// Another Service has it.
    Taken,
}

pub fn key(number: Number) -> String {
    match number {
        Number::Ip(ip) => xebec_store::cache::key(ADDRESSES, None, &ip.to_string()),
        Number::Port(port) => xebec_store::cache::key(PORTS, None, &port.to_string()),
    }
}

/// The number that a claim of `resource` is named after.
pub fn number(resource: &str, name: &str) -> Option<Number> {
    match resource {
        ADDRESSES => name.parse().ok().map(Number::Ip),
        _ => name.parse().ok().map(Number::Port),
    }
}

/// Whether claims of `resource` are of such numbers.
pub fn is_of(resource: &str, number: Number) -> bool {
    matches!((resource, number), (ADDRESSES, Number::Ip(_)) | (PORTS, Number::Port(_)))
}

/// Whether this server's kind wrote the claim.
pub fn is_ours(claim: &Value) -> bool {
    object::label(claim, MANAGED_BY.0) == Some(MANAGED_BY.1)
}

/// (namespace, name) of the Service that a claim is for.
pub fn owner(claim: &Value) -> (&str, &str) {
    let part = |name| object::str_at(claim, &["spec", "parentRef", name]);
    (part("namespace"), part("name"))
}

/// Claims `number` for `service`; `now` as objects carry it.
pub async fn take(store: &dyn Store, number: Number, service: &Value, now: &str) -> Result<Claimed> {
    let key = key(number);
    let op = Op::Put(serde_json::to_vec(&claim(number, service, now)).unwrap_or_default().into());
    match store.txn(Txn { key, expect: Expect::Absent, op }).await? {
        Outcome::Committed(_) => Ok(Claimed::Now),
        Outcome::Conflict(Some(entry)) if is_for(&entry, service) => Ok(Claimed::Before),
        Outcome::Conflict(_) => Ok(Claimed::Taken),
    }
}

/// Gives `number` back if `service` has it.
pub async fn give_back(store: &dyn Store, number: Number, service: &Value) -> Result<()> {
    match store.get(&key(number)).await? {
        Some(entry) if is_for(&entry, service) => remove(store, &entry).await,
        _ => Ok(()),
    }
}

/// Removes a claim as it was read; if it was written since, it is another's.
pub async fn remove(store: &dyn Store, entry: &Entry) -> Result<()> {
    let expect = Expect::Revision(entry.mod_revision);
    store.txn(Txn { key: entry.key.to_string(), expect, op: Op::Delete }).await.map(|_| ())
}

fn is_for(entry: &Entry, service: &Value) -> bool {
    let claim: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
    owner(&claim) == (object::namespace(service), object::name(service))
}

fn claim(number: Number, service: &Value, now: &str) -> Value {
    let (name, kind) = match number {
        Number::Ip(ip) => (ip.to_string(), json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress"})),
        Number::Port(port) => (port.to_string(), json!({})),
    };
    let mut claim = kind;
    let mut labels = json!({MANAGED_BY.0: MANAGED_BY.1});
    if let Number::Ip(ip) = number {
        labels[FAMILY] = IpFamily::of(ip).as_str().into();
    }
    claim["metadata"] = json!({
        "name": name,
        "uid": uuid::Uuid::new_v4().to_string(),
        "creationTimestamp": now,
        "labels": labels,
    });
    let parent = json!({
        "group": "",
        "resource": "services",
        "namespace": object::namespace(service),
        "name": object::name(service),
    });
    claim["spec"] = json!({ "parentRef": parent });
    claim
}
