//! Events are forgotten after a while (`--event-ttl`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use xebec_store::cache::{At, Filter, Query};
use xebec_store::{Expect, Op, Txn};

use crate::app::App;

const INTERVAL: Duration = Duration::from_secs(60);
const RESOURCE: &str = "core/events";

/// Removes what is too old, now and then.
pub async fn run(app: Arc<App>) {
    loop {
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if let Err(error) = sweep(&app).await {
            tracing::warn!(error = xebec_store::chain(&error), "forget old events");
        }
    }
}

async fn sweep(app: &App) -> xebec_store::Result<()> {
    let query = Query { resource: RESOURCE, filter: Filter::all(), at: At::Any, ..Query::default() };
    let oldest = app.now() - app.config.event_ttl;
    for object in app.cache.list(&query).await?.objects {
        let event: Value = serde_json::from_slice(object.as_slice()).unwrap_or_default();
        if last_seen(&event).is_none_or(|at| at < oldest) {
            let expect = Expect::Revision(object.revision());
            // Whoever wrote it meanwhile has renewed it.
            app.store.txn(Txn { key: object.key().to_string(), expect, op: Op::Delete }).await?;
        }
    }
    Ok(())
}

/// When the event was last heard of.
fn last_seen(event: &Value) -> Option<OffsetDateTime> {
    let places =
        ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/firstTimestamp", "/metadata/creationTimestamp"];
    places
        .iter()
        .filter_map(|place| xebec_machinery::time::parse(event.pointer(place)?.as_str()?))
        .map(OffsetDateTime::from)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(event: &Value, expected: Option<&str>) {
        let expected = expected.and_then(xebec_machinery::time::parse).map(OffsetDateTime::from);
        assert_eq!(last_seen(event), expected, "{event}");
    }

    #[test]
    fn the_newest_time_counts() {
        let created = json!({ "creationTimestamp": "2026-01-01T00:00:00Z" });
        check(&json!({ "metadata": created }), Some("2026-01-01T00:00:00Z"));
        let later = "2026-01-02T00:00:00Z";
        check(&json!({ "metadata": created, "lastTimestamp": later }), Some(later));
        check(&json!({ "metadata": created, "series": { "lastObservedTime": later } }), Some(later));
        check(&json!({ "lastTimestamp": null }), None);
    }
}
