//! What nodes and pods use: the source of `metrics.k8s.io`, which upstream's metrics-server is.
//!
//! Kubelets are asked for `/metrics/resource` while somebody reads the API or an autoscaler exists, and not otherwise. Two readings make a
//! figure. Nothing is stored: each server holds the last two readings of every container.

mod parse;
mod reading;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use xebec_machinery::object;
use xebec_store::cache::{At, Filter, Query};

use crate::app::{App, parse as parse_object, store_error};
use crate::proxy;
pub use parse::parse;
pub use reading::{Readings, Usage};

/// As metrics-server's `--metric-resolution`.
const PERIOD: Duration = Duration::from_secs(15);
/// Between the first two readings, so that whoever asks first is answered soon.
const FIRST_PERIOD: Duration = Duration::from_secs(1);
/// How long after the last question kubelets are still asked.
const IDLE: Duration = Duration::from_secs(300);
/// How long the first question waits for the first figures.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
const CONCURRENT: usize = 32;
/// A node of some hundred pods answers with a tenth of this.
const ANSWER_BYTES_MAX: usize = 8 << 20;

const AUTOSCALERS: &str = "autoscaling/horizontalpodautoscalers";

/// See the module.
pub struct ResourceMetrics {
    nodes: RwLock<HashMap<String, Readings>>,
    asked: Mutex<Option<Instant>>,
    question: Notify,
    /// How many times all kubelets were asked since that began.
    rounds: watch::Sender<u64>,
}

impl ResourceMetrics {
    pub fn new() -> Self {
        Self {
            nodes: RwLock::default(),
            asked: Mutex::default(),
            question: Notify::new(),
            rounds: watch::Sender::new(0),
        }
    }

    /// Keeps kubelets being asked, and waits for the first figures if there are none yet.
    pub async fn ask(&self) {
        *self.asked.lock() = Some(Instant::now());
        self.question.notify_one();
        let mut rounds = self.rounds.subscribe();
        // Whoever asks too early learns that there is nothing, as from metrics-server.
        let _ = tokio::time::timeout(FIRST_ANSWER, rounds.wait_for(|rounds| *rounds >= 2)).await;
    }

    /// What a node uses; `None` without two readings of it.
    pub fn node(&self, name: &str) -> Option<Usage> {
        self.nodes.read().get(name)?.node()
    }

    /// What each container of a pod uses; empty without two readings.
    pub fn pod(&self, namespace: &str, name: &str, node: &str) -> BTreeMap<String, Usage> {
        self.nodes.read().get(node).map(|readings| readings.pod(namespace, name)).unwrap_or_default()
    }

    fn is_wanted(&self, app: &App) -> bool {
        let asked = self.asked.lock().is_some_and(|asked| asked.elapsed() < IDLE);
        asked || app.cache.counts().iter().any(|(resource, count)| &**resource == AUTOSCALERS && *count > 0)
    }
}

/// Asks kubelets for as long as somebody wants to know.
pub async fn run(app: Arc<App>) {
    let metrics = &app.resource_metrics;
    loop {
        let pause = if metrics.is_wanted(&app) {
            scrape(&app).await;
            metrics.rounds.send_modify(|rounds| *rounds += 1);
            let pause = if *metrics.rounds.borrow() == 1 { FIRST_PERIOD } else { PERIOD };
            tokio::time::sleep(pause)
        } else {
            metrics.nodes.write().clear();
            metrics.rounds.send_replace(0);
            tokio::time::sleep(PERIOD)
        };
        let idle = *metrics.rounds.borrow() == 0;
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = pause => {}
            () = metrics.question.notified(), if idle => {}
        }
    }
}

/// Asks every kubelet once. What does not answer has no figures, until it answers twice.
async fn scrape(app: &Arc<App>) {
    let query = Query { resource: "core/nodes", filter: Filter::all(), at: At::Any, ..Query::default() };
    let nodes = match app.cache.list(&query).await.map_err(store_error) {
        Ok(snapshot) => snapshot.objects,
        Err(status) => return tracing::warn!(error = status.message, "list nodes for their metrics"),
    };
    let now = || i64::try_from(app.now().unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    let readings = futures::stream::iter(nodes)
        .map(|node| async move {
            let name = node.name().to_owned();
            match tokio::time::timeout(SCRAPE_TIMEOUT, read(app, &node)).await {
                Ok(Ok(text)) => Some((name, parse(&text, now()))),
                Ok(Err(why)) => {
                    tracing::debug!(node = name, why, "read the metrics of a node");
                    None
                }
                Err(_) => None,
            }
        })
        .buffer_unordered(CONCURRENT)
        .filter_map(std::future::ready)
        .collect::<HashMap<_, _>>()
        .await;
    let mut known = app.resource_metrics.nodes.write();
    let before = std::mem::take(&mut *known);
    let joined = join(before, readings);
    *known = joined;
}

fn join(
    mut before: HashMap<String, Readings>,
    readings: HashMap<String, reading::Reading>,
) -> HashMap<String, Readings> {
    let joined = readings.into_iter().map(|(name, reading)| {
        let before = before.remove(&name).unwrap_or_default();
        (name, before.followed_by(reading))
    });
    joined.collect()
}

async fn read(app: &App, node: &xebec_store::cache::Object) -> Result<String, String> {
    let node = parse_object(node).map_err(|status| status.message)?;
    let kubelet = proxy::kubelet_of(&node).map_err(|status| status.message)?;
    let dialer = app.kubelets.read().clone().ok_or("no client certificate for kubelets")?;
    let request = Request::get("/metrics/resource").body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let answer = dialer.forward(kubelet, "/metrics/resource", request).await.map_err(|status| status.message)?;
    if !answer.status().is_success() {
        return Err(format!("node {} answered {}", object::name(&node), answer.status()));
    }
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| e.to_string())?;
    String::from_utf8(body.to_bytes().to_vec()).map_err(|e| e.to_string())
}
