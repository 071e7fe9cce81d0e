//! Events about objects, as client-go's `tools/record` makes them: core/v1 Events, an equal event
//! again is a higher `count` on the same object, many similar ones become a combined one, and a
//! noisy source is held back. Recording never waits and never fails its caller.

mod correlator;

use crate::retry::Backoff;
use crate::{Api, Client, Patch, PatchParams, PostParams, chain, is_not_found};
use correlator::{Correlator, Known, Verdict};
use kube::Resource;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use xebec_clock::Clock;
use xebec_types::core::{Event, EventSource, ObjectReference};
use xebec_types::time::{self, Timestamp};
use xebec_types::{ObjectMeta, namespace, object};

/// client-go's queue holds as many and drops what comes after.
const QUEUE: usize = 1000;
/// How often an event is offered to a server that does not answer, and the longest wait between:
/// client-go's `maxTriesPerEvent` and `defaultSleepDuration`.
const TRIES: usize = 12;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Records events of one component. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Report>,
    clock: Clock,
    /// Ends when the last clone is dropped.
    _writer: Arc<JoinSet<()>>,
}

/// What happened to what.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Report {
    pub object: ObjectReference,
    pub kind: EventType,
    pub reason: String,
    pub message: String,
    pub at: Timestamp,
}

impl EventRecorder {
    /// `host` is the node of a node's component and empty elsewhere; events are dated by `clock`. Needs a tokio runtime.
    #[must_use]
    pub fn new(client: Client, component: &str, host: &str, clock: Clock) -> Self {
        let (queue, reports) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            source: EventSource {
                component: Some(component.into()),
                host: Some(host.to_string()).filter(|h| !h.is_empty()),
            },
            correlator: Correlator::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(reports));
        Self { queue, clock, _writer: Arc::new(tasks) }
    }

    /// An event about a typed object.
    pub fn record<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record_ref(reference(object), kind, reason, message);
    }

    /// An event about whatever `object` refers to.
    pub fn record_ref(&self, object: ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        let (reason, message) = (reason.to_string(), message.into());
        let report = Report { object, kind, reason, message, at: time::at(self.clock.now()) };
        if let Err(dropped) = self.queue.try_send(report) {
            tracing::debug!(%dropped, "event dropped");
        }
    }

    pub fn normal<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, message: impl Into<String>) {
        self.record(object, EventType::Normal, reason, message);
    }

    pub fn warning<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, message: impl Into<String>) {
        self.record(object, EventType::Warning, reason, message);
    }
}

/// A reference to the object, with its uid and resourceVersion.
#[must_use]
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// A Node as events name it: upstream's node components put the node's name in `uid`, which is how
/// `kubectl describe node` finds them.
#[must_use]
pub fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Node".into()),
        name: Some(name.into()),
        uid: Some(name.into()),
        ..ObjectReference::default()
    }
}

struct Writer {
    client: Client,
    source: EventSource,
    correlator: Correlator,
}

impl Writer {
    async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        while let Some(report) = reports.recv().await {
            let verdict = self.correlator.correlate(&report);
            let mut backoff = Backoff::new(Duration::from_millis(200), LONGEST_WAIT);
            for _ in 0..TRIES {
                let Err(error) = self.write(&report, &verdict).await else { break };
                let reason = &report.reason;
                tracing::debug!(reason, error = chain(&error), "event not written");
                if matches!(error, crate::Error::Api(_)) {
                    break; // The server does not want it.
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }

    async fn write(&mut self, report: &Report, verdict: &Verdict) -> Result<(), crate::Error> {
        match verdict {
            Verdict::Drop => Ok(()),
            Verdict::Create { message } => self.create(report, message.clone()).await,
            Verdict::Count { known, message } => self.count(report, known.clone(), message.clone()).await,
        }
    }

    async fn create(&mut self, report: &Report, message: String) -> Result<(), crate::Error> {
        let event = event(report, &self.source, &message);
        let api: Api<Event> = Api::namespaced(self.client.clone(), event_namespace(report));
        let created = api.create(&PostParams::default(), &event).await?;
        let name = object::name(&created.metadata).to_string();
        self.correlator.wrote(report, Known { name, count: 1 });
        Ok(())
    }

    async fn count(&mut self, report: &Report, known: Known, message: String) -> Result<(), crate::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), event_namespace(report));
        let count = known.count + 1;
        let patch = json!({
            "count": count, "message": message, "lastTimestamp": time::time(report.at),
        });
        match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                self.correlator.wrote(report, Known { name: known.name, count });
                Ok(())
            }
            // Events expire after an hour.
            Err(error) if is_not_found(&error) => self.create(report, message).await,
            Err(error) => Err(error),
        }
    }
}

fn event(report: &Report, source: &EventSource, message: &str) -> Event {
    let name = report.object.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", report.at.as_nanosecond())),
            namespace: Some(event_namespace(report).into()),
            ..ObjectMeta::default()
        },
        involved_object: report.object.clone(),
        reason: Some(report.reason.clone()),
        message: Some(message.into()),
        type_: Some(report.kind.as_str().into()),
        source: Some(source.clone()),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        first_timestamp: Some(time::time(report.at)),
        last_timestamp: Some(time::time(report.at)),
        count: Some(1),
        ..Event::default()
    }
}

/// Events about cluster-scoped objects live in `default`.
fn event_namespace(report: &Report) -> &str {
    let namespace = report.object.namespace.as_deref().filter(|n| !n.is_empty());
    namespace.unwrap_or(namespace::DEFAULT)
}
