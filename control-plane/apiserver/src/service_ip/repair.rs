//! Keeps what this server holds for taken, and the claims in the store, in step with the Services.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use xebec_machinery::net::IpFamily;
use xebec_machinery::object;
use xebec_registry::network::service::allocation::{Number, numbers};
use xebec_store::cache::{At, Filter, Kind, Query, Start};
use xebec_store::{Result, chain};

use super::claim::{self, ADDRESSES, Claimed, PORTS};
use crate::app::App;
use crate::server::event;

/// Who upstream's events about addresses and ports come from.
const COMPONENT: &str = "ipallocator-repair-controller";
/// As upstream's repair controllers of addresses and ports.
const INTERVAL: Duration = Duration::from_secs(180);
/// A claim without a Service is an orphan when no request can be about to write the Service any more.
const ORPHAN_AGE: Duration = Duration::from_secs(90);
const SERVICES: &str = "core/services";

/// Marks what other servers claim, and frees what they give back, until the server stops.
pub async fn follow(app: Arc<App>, resource: &'static str) {
    app.follow(resource, || follow_once(&app, resource)).await;
}

async fn follow_once(app: &Arc<App>, resource: &'static str) -> Result<()> {
    let mut watcher = app.cache.watch(resource, None, Filter::all(), Start::Snapshot)?;
    let claims = watcher.take_snapshot().into_iter().flat_map(|snapshot| snapshot.objects);
    let mut held: HashSet<Number> = claims.filter_map(|object| claim::number(resource, object.name())).collect();
    held.iter().for_each(|number| app.services.mark(*number));
    // What was given back before the snapshot is not told of any more. A Service may have what nobody has claimed for it.
    held.extend(list(app, SERVICES).await?.iter().flat_map(numbers));
    app.services.retain(|number| !claim::is_of(resource, number) || held.contains(&number));
    loop {
        let event = watcher.next().await?;
        let Some(number) = claim::number(resource, event.object.name()) else { continue };
        if event.kind != Kind::Deleted {
            app.services.mark(number);
            continue;
        }
        let claim: Value = serde_json::from_slice(event.object.as_slice()).unwrap_or_default();
        match holder(app, &claim, number).await? {
            // Somebody deleted the record of what is in use.
            Some(service) => reclaim(app, &service, number).await?,
            // It may have been taken again since; then its claim is refused, and marks it.
            None => app.services.free(number),
        }
    }
}

/// Repairs at start and then now and again: after a server died half way, or an administrator restored a part.
pub async fn run(app: Arc<App>) {
    loop {
        if let Err(error) = repair(&app).await {
            tracing::warn!(error = chain(&error), "repair what services hold");
        }
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// Every Service has its claims, every old claim has its Service.
async fn repair(app: &Arc<App>) -> Result<()> {
    let mut held: HashSet<(String, String, Number)> = HashSet::new();
    for service in list(app, SERVICES).await? {
        for number in numbers(&service) {
            let owner = (object::namespace(&service), object::name(&service));
            held.insert((owner.0.to_owned(), owner.1.to_owned(), number));
            reclaim(app, &service, number).await?;
        }
    }
    let oldest = app.now() - ORPHAN_AGE;
    for resource in [ADDRESSES, PORTS] {
        for claim in list(app, resource).await?.into_iter().filter(claim::is_ours) {
            let Some(number) = claim::number(resource, object::name(&claim)) else { continue };
            let (namespace, name) = claim::owner(&claim);
            let created = object::creation_timestamp(&claim).and_then(xebec_machinery::time::parse);
            let is_old = created.is_none_or(|at| time::OffsetDateTime::from(at) < oldest);
            if !is_old || held.contains(&(namespace.to_owned(), name.to_owned(), number)) {
                continue;
            }
            // A Service of this name may have come since: it would have taken the old claim for its own.
            if holder(app, &claim, number).await?.is_some() {
                continue;
            }
            tracing::info!(namespace, service = name, ?number, "a service that is gone gives back what it held");
            if let Number::Ip(ip) = number {
                let message =
                    format!("IPAddress: {ip} for Service {namespace}/{name} appears to have leaked: cleaning up");
                event::warn(app, COMPONENT, &claim, "IPAddressNotAllocated", &message).await;
            }
            let owner = serde_json::json!({"metadata": {"namespace": namespace, "name": name}});
            claim::give_back(&*app.store, number, &owner).await?;
        }
    }
    Ok(())
}

/// The Service that a claim is for, if it still has the number.
async fn holder(app: &App, claim: &Value, number: Number) -> Result<Option<Value>> {
    let (namespace, name) = claim::owner(claim);
    let key = xebec_store::cache::key(SERVICES, Some(namespace), name);
    let service = app.store.get(&key).await?.and_then(|entry| serde_json::from_slice(&entry.value).ok());
    Ok(service.filter(|service| numbers(service).contains(&number)))
}

/// Makes sure of the claim for a number that a Service has.
async fn reclaim(app: &Arc<App>, service: &Value, number: Number) -> Result<()> {
    let claimed = claim::take(&*app.store, number, service, &app.now_rfc3339()).await?;
    let (namespace, name) = (object::namespace(service), object::name(service));
    if claimed == Claimed::Taken {
        tracing::warn!(namespace, service = name, ?number, "another service holds its number");
    }
    let fault = match (claimed, number) {
        (Claimed::Before, _) if app.services.is_in_range(number) => return Ok(()),
        (Claimed::Before, Number::Ip(ip)) => (
            "ClusterIPOutOfRange",
            format!(
                "Cluster IP [{}]: {ip} is not within any configured Service CIDR; please recreate service",
                IpFamily::of(ip).as_str()
            ),
        ),
        (Claimed::Before, Number::Port(port)) => {
            ("PortOutOfRange", format!("Port {port} is not within the port range; please recreate service"))
        }
        (Claimed::Now, Number::Ip(ip)) => (
            "ClusterIPNotAllocated",
            format!("Cluster IP [{}]: {ip} is not allocated; repairing", IpFamily::of(ip).as_str()),
        ),
        (Claimed::Now, Number::Port(port)) => ("PortNotAllocated", format!("Port {port} is not allocated; repairing")),
        (Claimed::Taken, Number::Ip(ip)) => (
            "ClusterIPAlreadyAllocated",
            format!(
                "Cluster IP [{}]: {ip} was assigned to multiple services; please recreate service",
                IpFamily::of(ip).as_str()
            ),
        ),
        (Claimed::Taken, Number::Port(port)) => {
            ("PortAlreadyAllocated", format!("Port {port} was assigned to multiple services; please recreate service"))
        }
    };
    event::warn(app, COMPONENT, service, fault.0, &fault.1).await;
    Ok(())
}

async fn list(app: &App, resource: &str) -> Result<Vec<Value>> {
    let query = Query { resource, filter: Filter::all(), at: At::Consistent, ..Query::default() };
    let objects = app.cache.list(&query).await?.objects;
    Ok(objects.iter().map(|object| serde_json::from_slice(object.as_slice()).unwrap_or_default()).collect())
}
