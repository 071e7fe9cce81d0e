//! Objects as JSON, in the namespace `ns`.

use serde_json::{Value, json};
use xebec_client::Error;

use crate::harness::Cluster;

/// `RESOURCE` or `RESOURCE/NAME…`: where it is served.
pub fn path(at: &str) -> String {
    let root = match at.split('/').next().unwrap_or(at) {
        "controllerrevisions" | "daemonsets" | "deployments" | "replicasets" => "apis/apps/v1/namespaces/ns",
        "cronjobs" | "jobs" => "apis/batch/v1/namespaces/ns",
        "endpointslices" => "apis/discovery.k8s.io/v1/namespaces/ns",
        "poddisruptionbudgets" => "apis/policy/v1/namespaces/ns",
        "namespaces" | "nodes" => "api/v1",
        _ => "api/v1/namespaces/ns",
    };
    format!("/{root}/{at}")
}

/// What replicates `template` and selects its pods by `app=web`.
pub fn replicated(replicas: u32, template: &Value) -> Value {
    json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template})
}

impl Cluster {
    async fn send(&self, method: &str, at: &str, kind: &str, body: &Value) -> Result<Value, Error> {
        let request = http::Request::builder().method(method).uri(path(at)).header("content-type", kind);
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.client.request(request.body(body).expect("a request")).await
    }

    pub async fn try_make(&self, resource: &str, object: &Value) -> Result<Value, Error> {
        self.send("POST", resource, "application/json", object).await
    }

    pub async fn make(&self, resource: &str, object: &Value) -> Value {
        self.try_make(resource, object).await.unwrap_or_else(|error| panic!("{resource} {object}: {error}"))
    }

    pub async fn change(&self, at: &str, patch: &Value) -> Value {
        let changed = self.send("PATCH", at, "application/merge-patch+json", patch).await;
        changed.unwrap_or_else(|error| panic!("{at} {patch}: {error}"))
    }

    pub async fn remove(&self, at: &str, options: &Value) {
        self.send("DELETE", at, "application/json", options).await.unwrap_or_else(|error| panic!("{at}: {error}"));
    }

    /// `None` if there is no such object.
    pub async fn read(&self, at: &str) -> Option<Value> {
        match self.send("GET", at, "application/json", &Value::Null).await {
            Ok(found) => Some(found),
            Err(Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{at}: {error}"),
        }
    }

    pub async fn all_of(&self, resource: &str) -> Vec<Value> {
        let list = self.read(resource).await.unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    pub async fn gone(&self, at: &str) {
        self.until(&format!("end of {at}"), || async { self.read(at).await.is_none().then_some(()) }).await;
    }

    /// Waits until an object is as wanted.
    pub async fn becomes(&self, at: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let ask = || async { self.read(at).await.filter(&holds) };
        self.until(&format!("{at}: {what}"), ask).await
    }
}

pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The controller among the owners.
pub fn controller(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}
