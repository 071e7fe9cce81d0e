//! `metrics.k8s.io`: objects made of what kubelets measured, for nodes and pods that exist.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::{Quantity, Status, object};
use xebec_store::cache::{At, Query};

use super::{Answer, Call, encode, list, table};
use crate::app::{parse, store_error};
use crate::kinds::Resource;
use crate::negotiate::Shape;
use crate::options::ListOptions;
use crate::request_info::Verb;
use crate::resource_metrics::Usage;

/// Whether the objects of a resource are made when they are asked for.
pub fn is_computed(resource: &Resource) -> bool {
    resource.row.group == "metrics.k8s.io"
}

pub async fn serve(call: &Call) -> Answer {
    call.app.resource_metrics.ask().await;
    let measured = call.app.kinds.find("", call.resource.row.plural).ok_or_else(Status::not_found_path)?;
    if call.info.verb == Verb::Get {
        let found = call.app.find(measured, call.namespace(), call.name()).await?;
        let found = parse(&*found.ok_or_else(|| measured.not_found(call.name()))?)?;
        let metrics = metrics(call, &found).ok_or_else(|| call.resource.not_found(call.name()))?;
        return encode::object(call, StatusCode::OK, metrics);
    }
    let options = ListOptions::parse(&call.query, false)?;
    let query = Query {
        resource: &measured.storage,
        namespace: Some(call.namespace()).filter(|n| !n.is_empty()),
        filter: list::filter(measured, &options.labels, &options.fields)?,
        at: At::Any,
        ..Query::default()
    };
    let snapshot = call.app.cache.list(&query).await.map_err(store_error)?;
    let mut items = Vec::new();
    for object in &snapshot.objects {
        items.extend(metrics(call, &parse(object)?));
    }
    encode::value(call, StatusCode::OK, collection(call, items))
}

fn collection(call: &Call, items: Vec<Value>) -> Value {
    match call.accept.shape {
        Shape::Object => json!({
            "kind": call.resource.list_kind(), "apiVersion": call.resource.api_version, "metadata": {}, "items": items,
        }),
        Shape::Metadata(version) => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": {},
            "items": items.into_iter().map(|item| encode::partial_metadata(item, version)).collect::<Vec<_>>(),
        }),
        Shape::Table(version) => {
            let include = call.query.text("includeObject");
            let row = |item: &Value| table::row(&call.resource, item, include, version, call.app.now());
            json!({
                "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": {},
                "columnDefinitions": call.resource.strategy.column_definitions(),
                "rows": items.iter().map(row).collect::<Vec<_>>(),
            })
        }
    }
}

/// The metrics of a node or a pod; `None` as long as nothing was measured.
fn metrics(call: &Call, of: &Value) -> Option<Value> {
    let (name, namespace) = (object::name(of), object::namespace(of));
    let mut metadata = json!({"name": name, "creationTimestamp": call.app.now_rfc3339()});
    if let Some(labels) = of.pointer("/metadata/labels") {
        metadata["labels"] = labels.clone();
    }
    let mut metrics = json!({"kind": call.resource.row.kind, "apiVersion": call.resource.api_version});
    let figures = if call.resource.namespaced() {
        metadata["namespace"] = namespace.into();
        let node = object::str_at(of, &["spec", "nodeName"]);
        let containers = call.app.resource_metrics.pod(namespace, name, node);
        metrics["containers"] =
            containers.iter().map(|(name, usage)| json!({"name": name, "usage": amounts(usage)})).collect();
        *containers.values().min_by_key(|usage| usage.at_ms)?
    } else {
        let usage = call.app.resource_metrics.node(name)?;
        metrics["usage"] = amounts(&usage);
        usage
    };
    let at = OffsetDateTime::from_unix_timestamp(figures.at_ms.div_euclid(1000)).ok()?;
    metrics["metadata"] = metadata;
    metrics["timestamp"] = xebec_machinery::time::rfc3339(at.into()).into();
    metrics["window"] = go_duration(figures.window).into();
    Some(metrics)
}

fn amounts(usage: &Usage) -> Value {
    // Kibibytes, as metrics-server shows whatever is a multiple of them: pages are.
    json!({
        "cpu": Quantity::from_nanos(usage.cpu_nanocores).to_string(),
        "memory": Quantity::from_bytes(usage.memory_bytes).to_string(),
    })
}

/// As Go prints a `time.Duration`: `1m2.5s`.
fn go_duration(duration: Duration) -> String {
    let (minutes, millis) = (duration.as_secs() / 60, duration.as_millis() % 60_000);
    let mut seconds = format!("{}.{:03}", millis / 1000, millis % 1000);
    seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
    if minutes > 0 { format!("{minutes}m{seconds}s") } else { format!("{seconds}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_written_as_go_writes_durations() {
        for (millis, expected) in [(15_034, "15.034s"), (15_000, "15s"), (62_500, "1m2.5s"), (120_000, "2m0s")] {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        }
    }
}
