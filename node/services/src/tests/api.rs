//! Just enough of an API server for watches of Services and EndpointSlices.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use http::{Request, Response};
use http_body_util::StreamBody;
use serde_json::{Value, json};
use xebec_client::Client;
use xebec_client::kube::client::Body;

type Event = Result<http_body::Frame<Bytes>, Infallible>;

#[derive(Clone, Default)]
pub struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    /// By plural and then by name.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    watchers: Vec<(String, UnboundedSender<Event>)>,
    /// Watches are held back until this is set.
    open: bool,
    held: Vec<(String, UnboundedSender<Event>)>,
}

impl Api {
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let events = api.watch(request.uri().path());
                Ok::<_, Infallible>(Response::new(StreamBody::new(events)))
            }
        });
        Client::new(service, "default")
    }

    /// Lets watches begin.
    pub fn open(&self) {
        let mut state = self.0.lock().unwrap();
        state.open = true;
        for (plural, sender) in std::mem::take(&mut state.held) {
            state.start(plural, sender);
        }
    }

    pub fn put(&self, object: impl serde::Serialize) {
        let mut object = serde_json::to_value(object).unwrap();
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let plural = if object.get("addressType").is_some() {
            "endpointslices"
        } else if object["spec"].get("containers").is_some() {
            "pods"
        } else {
            "services"
        };
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let known = state.objects.entry(plural.to_owned()).or_default().insert(name, object.clone());
        state.send(plural, if known.is_some() { "MODIFIED" } else { "ADDED" }, &object);
    }

    pub fn delete(&self, plural: &str, name: &str) {
        let mut state = self.0.lock().unwrap();
        let object = state.objects.get_mut(plural).unwrap().remove(name).unwrap();
        state.send(plural, "DELETED", &object);
    }

    fn watch(&self, path: &str) -> UnboundedReceiver<Event> {
        let (sender, receiver) = unbounded();
        let plural = path.rsplit('/').next().unwrap().to_owned();
        let mut state = self.0.lock().unwrap();
        if state.open {
            state.start(plural, sender);
        } else {
            state.held.push((plural, sender));
        }
        receiver
    }
}

impl State {
    fn start(&mut self, plural: String, sender: UnboundedSender<Event>) {
        for object in self.objects.get(&plural).into_iter().flat_map(BTreeMap::values) {
            let _ = sender.unbounded_send(line(&plural, "ADDED", object));
        }
        let end = json!({ "metadata": { "resourceVersion": self.version.to_string(),
            "annotations": { "k8s.io/initial-events-end": "true" } } });
        let _ = sender.unbounded_send(line(&plural, "BOOKMARK", &end));
        self.watchers.push((plural, sender));
    }

    fn send(&mut self, plural: &str, kind: &str, object: &Value) {
        self.watchers
            .retain(|(watched, sender)| watched != plural || sender.unbounded_send(line(plural, kind, object)).is_ok());
    }
}

fn line(plural: &str, kind: &str, object: &Value) -> Event {
    let mut object = object.clone();
    let (version, name) = match plural {
        "services" => ("v1", "Service"),
        "pods" => ("v1", "Pod"),
        "nodes" => ("v1", "Node"),
        _ => ("discovery.k8s.io/v1", "EndpointSlice"),
    };
    object["apiVersion"] = json!(version);
    object["kind"] = json!(name);
    if plural == "endpointslices" && object.get("addressType").is_none() {
        object["addressType"] = json!("IPv4");
        object["endpoints"] = json!([]);
    }
    let bytes = format!("{}\n", json!({ "type": kind, "object": object }));
    Ok(http_body::Frame::data(Bytes::from(bytes)))
}
