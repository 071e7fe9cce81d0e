//! The networks that addresses of Services are of: those of the ServiceCIDRs (KEP-1880).

use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;
use xebec_machinery::object;
use xebec_store::Result;
use xebec_store::cache::{At, Cache, Filter, Query, Start};

use super::ServiceAllocator;
use crate::app::App;
use crate::bootstrap::SERVICE_CIDR;
use crate::server::{LocalService, hooks};
use crate::user::UserInfo;

const RANGES: &str = "networking.k8s.io/servicecidrs";
const PATH: &str = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";

/// Takes over the ranges that are stored, before the first Service is served.
pub async fn load(cache: &Cache, allocator: &ServiceAllocator, configured: &[IpNet]) -> Result<()> {
    let query = Query { resource: RANGES, filter: Filter::all(), at: At::Any, ..Query::default() };
    let objects = cache.list(&query).await?.objects;
    let stored: Vec<Value> =
        objects.iter().map(|object| serde_json::from_slice(object.as_slice()).unwrap_or_default()).collect();
    allocator.set_ranges(&networks(&stored, configured));
    Ok(())
}

/// Follows the ServiceCIDRs until the server stops.
pub async fn follow(app: Arc<App>) {
    app.follow(RANGES, || follow_once(&app)).await;
}

async fn follow_once(app: &Arc<App>) -> Result<()> {
    let mut watcher = app.cache.watch(RANGES, None, Filter::all(), Start::Snapshot)?;
    watcher.take_snapshot();
    loop {
        load(&app.cache, &app.services, &app.config.service_cluster_ip_range).await?;
        widen(app).await;
        watcher.next().await?;
    }
}

/// What is handed out: the range of the flags, under its own name and in its own state once it is stored, and every
/// other one that is ready.
fn networks(stored: &[Value], configured: &[IpNet]) -> Vec<IpNet> {
    let mut networks = Vec::new();
    if !stored.iter().any(|range| object::name(range) == SERVICE_CIDR) {
        networks.extend(configured);
    }
    let mut ready: Vec<&Value> = stored.iter().filter(|range| is_ready(range)).collect();
    ready.sort_by_key(|range| (object::name(range) != SERVICE_CIDR, object::name(range)));
    networks.extend(ready.into_iter().flat_map(cidrs));
    networks
}

fn cidrs(range: &Value) -> Vec<IpNet> {
    let cidrs = range.pointer("/spec/cidrs").and_then(Value::as_array).into_iter().flatten();
    cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok()).collect()
}

/// Without a condition it is: the controller that writes it may not run.
fn is_ready(range: &Value) -> bool {
    let conditions = range.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
    object::deletion_timestamp(range).is_none() && ready.next().is_none_or(|condition| condition["status"] == "True")
}

/// The stored range of a cluster whose flags became dual-stack gets the second family. Every other difference is an
/// administrator's to solve.
async fn widen(app: &Arc<App>) {
    let service = LocalService::new(Arc::clone(app), UserInfo::loopback());
    let Ok((200, mut range)) = hooks::send(&service, http::Method::GET, PATH, None).await else { return };
    let (stored, configured) = (cidrs(&range), &app.config.service_cluster_ip_range);
    if stored == *configured {
        return;
    }
    if stored.len() != 1 || configured.len() != 2 || stored.first() != configured.first() {
        tracing::warn!(?stored, ?configured, "the ServiceCIDR kubernetes differs from --service-cluster-ip-range");
        return;
    }
    range["spec"]["cidrs"] = serde_json::json!(configured);
    match hooks::send(&service, http::Method::PUT, PATH, Some(&range)).await {
        Ok((200, _)) => tracing::info!(?configured, "the ServiceCIDR kubernetes has both families"),
        outcome => tracing::warn!(?outcome, "the ServiceCIDR kubernetes was not widened"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(stored: Value, expected: &[&str]) {
        let stored = stored.as_array().cloned().unwrap_or_default();
        let configured: Vec<IpNet> = vec!["10.96.0.0/16".parse().expect("a network")];
        let got: Vec<String> = networks(&stored, &configured).iter().map(ToString::to_string).collect();
        assert_eq!(got, expected, "{stored:?}");
    }

    fn range(name: &str, cidr: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}})
    }

    #[test]
    fn every_range_that_is_ready_is_handed_out() {
        check(json!([]), &["10.96.0.0/16"]);
        let own = range("kubernetes", "10.96.0.0/16");
        check(json!([range("a", "10.98.0.0/24"), own]), &["10.96.0.0/16", "10.98.0.0/24"]);
        let mut terminating = range("a", "10.98.0.0/24");
        terminating["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        check(json!([own, terminating]), &["10.96.0.0/16"]);
        let mut unready = range("a", "10.98.0.0/24");
        unready["status"] = json!({"conditions": [{"type": "Ready", "status": "False"}]});
        check(json!([own, unready]), &["10.96.0.0/16"]);
        unready["status"]["conditions"][0]["status"] = json!("True");
        check(json!([own, unready]), &["10.96.0.0/16", "10.98.0.0/24"]);
    }
}
