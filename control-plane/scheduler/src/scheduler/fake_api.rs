//! As much of an API server as the scheduler needs: watches with initial events, bindings and patches of status.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use xebec_client::Client;
use xebec_client::kube::client::Body;

#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    revision: u64,
    /// By resource, then by `namespace/name`.
    objects: HashMap<String, BTreeMap<String, Value>>,
    watchers: HashMap<String, Vec<mpsc::UnboundedSender<Bytes>>>,
    /// Pods whose next binding is refused with this status.
    refusals: HashMap<String, u16>,
    /// Acknowledge bindings without ever showing their effect.
    silent: bool,
    bindings: u32,
    events: Vec<Value>,
}

impl FakeApi {
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Creates or replaces an object.
    pub fn put(&self, resource: &str, mut object: Value) {
        let mut state = self.0.lock().unwrap();
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        let known = state.objects.entry(resource.to_owned()).or_default().insert(key(&object), object.clone());
        state.send(resource, if known.is_some() { "MODIFIED" } else { "ADDED" }, &object);
    }

    pub fn delete(&self, resource: &str, key: &str) {
        let mut state = self.0.lock().unwrap();
        if let Some(object) = state.objects.get_mut(resource).and_then(|objects| objects.remove(key)) {
            state.send(resource, "DELETED", &object);
        }
    }

    pub fn get(&self, resource: &str, key: &str) -> Value {
        self.0.lock().unwrap().objects.get(resource).and_then(|objects| objects.get(key)).cloned().unwrap_or_default()
    }

    pub fn refuse_next_binding(&self, pod: &str, status: u16) {
        self.0.lock().unwrap().refusals.insert(pod.to_owned(), status);
    }

    pub fn never_show_bindings(&self) {
        self.0.lock().unwrap().silent = true;
    }

    pub fn bindings(&self) -> u32 {
        self.0.lock().unwrap().bindings
    }

    pub fn events(&self) -> Vec<Value> {
        self.0.lock().unwrap().events.clone()
    }

    async fn answer(&self, request: Request<Body>) -> Response<BoxBody<Bytes, Infallible>> {
        let (head, body) = request.into_parts();
        let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap_or_default();
        let path: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
        match (head.method.as_str(), &path[..]) {
            ("GET", [.., resource]) => self.watch(resource),
            ("POST", ["api", "v1", "namespaces", namespace, "pods", name, "binding"]) => {
                self.bind(&format!("{namespace}/{name}"), &body)
            }
            ("PATCH", ["api", "v1", "namespaces", namespace, "pods", name, "status"]) => {
                let mut pod = self.get("pods", &format!("{namespace}/{name}"));
                pod["status"]["conditions"] = body["status"]["conditions"].clone();
                if let Some(node) = body["status"].get("nominatedNodeName") {
                    pod["status"]["nominatedNodeName"] = node.clone();
                }
                self.put("pods", pod.clone());
                reply(StatusCode::OK, &pod)
            }
            ("DELETE", ["api", "v1", "namespaces", namespace, "pods", name]) => {
                let key = format!("{namespace}/{name}");
                let pod = self.get("pods", &key);
                self.delete("pods", &key);
                reply(StatusCode::OK, &pod)
            }
            (_, [.., "events"] | [.., "events", _]) => {
                self.0.lock().unwrap().events.push(body.clone());
                reply(StatusCode::CREATED, &body)
            }
            (method, path) => panic!("unexpected {method} {path:?}"),
        }
    }

    fn bind(&self, pod: &str, binding: &Value) -> Response<BoxBody<Bytes, Infallible>> {
        let (refused, silent) = {
            let mut state = self.0.lock().unwrap();
            state.bindings += 1;
            (state.refusals.remove(pod), state.silent)
        };
        if let Some(code) = refused {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                "message": "refused", "reason": "Conflict", "metadata": {}});
            return reply(StatusCode::from_u16(code).unwrap(), &status);
        }
        if !silent {
            let mut bound = self.get("pods", pod);
            bound["spec"]["nodeName"] = binding["target"]["name"].clone();
            self.put("pods", bound);
        }
        reply(StatusCode::CREATED, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}))
    }

    fn watch(&self, resource: &str) -> Response<BoxBody<Bytes, Infallible>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.0.lock().unwrap();
        for object in state.objects.get(resource).into_iter().flat_map(BTreeMap::values) {
            sender.send(line("ADDED", object)).unwrap();
        }
        let end = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": state.revision.to_string(),
            "annotations": {"k8s.io/initial-events-end": "true"}}, "provisioner": "",
            "spec": {"containers": [], "selector": {}, "serviceName": "", "drivers": [], "driver": "",
                "pool": {"name": "", "generation": 0, "resourceSliceCount": 1}}});
        sender.send(line("BOOKMARK", &end)).unwrap();
        state.watchers.entry(resource.to_owned()).or_default().push(sender);
        let frames = UnboundedReceiverStream::new(receiver).map(|bytes| Ok(Frame::data(bytes)));
        Response::new(BodyExt::boxed(StreamBody::new(frames)))
    }
}

impl State {
    fn send(&mut self, resource: &str, kind: &str, object: &Value) {
        for watcher in self.watchers.get(resource).into_iter().flatten() {
            let _gone = watcher.send(line(kind, object));
        }
    }
}

fn key(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}

fn reply(status: StatusCode, body: &Value) -> Response<BoxBody<Bytes, Infallible>> {
    let body = http_body_util::Full::new(Bytes::from(body.to_string())).boxed();
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}
