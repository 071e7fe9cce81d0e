//! What belongs to an object and has a path of its own: status, scale and the rest; and watches.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::probe::{Found, Probe, ensure, name, same, wanted};
use crate::harness::request;

/// A watch over a collection.
pub struct Watch {
    body: hyper::body::Incoming,
    buffer: Vec<u8>,
}

impl Watch {
    pub async fn open(probe: &Probe<'_>) -> Self {
        let list = probe.client.get(&probe.collection).await.body;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0");
        let path = format!("{}?watch=1&resourceVersion={version}", probe.collection);
        let response = probe.cluster.open(request("GET", &path, &[], Bytes::new())).await;
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    async fn next(&mut self) -> Result<Value, String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|e| e.to_string());
            }
            let frame = tokio::time::timeout(Duration::from_secs(5), self.body.frame()).await;
            let frame = frame.map_err(|_| "no event within 5 s")?.ok_or("the watch ended")?;
            let data = frame.map_err(|e| e.to_string())?.into_data();
            self.buffer.extend_from_slice(&data.unwrap_or_default());
        }
    }

    /// The life of the probe's object: it comes, changes and goes, in the order of its versions.
    pub async fn check(&mut self, object: &Value) -> Found {
        let (mut version, mut seen) = (0, Vec::new());
        loop {
            let event = self.next().await?;
            if name(&event["object"]) != name(object) {
                continue;
            }
            same("kind", &event["object"]["kind"], &object["kind"])?;
            let newer =
                event["object"]["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0);
            ensure(newer > version, || format!("version {newer} after {version}"))?;
            version = newer;
            seen.push(event["type"].as_str().unwrap_or("").to_owned());
            if seen.last().is_some_and(|event| event == "DELETED") {
                break;
            }
        }
        let inner = &seen[1..seen.len() - 1];
        let whole = seen[0] == "ADDED" && !inner.is_empty() && inner.iter().all(|event| event == "MODIFIED");
        ensure(whole, || format!("events {seen:?}"))
    }
}

impl Probe<'_> {
    pub async fn get_status(&self) -> Found {
        let object = wanted(self.client.get(&self.path).await, 200)?;
        same(
            "the object by its status",
            &wanted(self.client.get(&format!("{}/status", self.path)).await, 200)?,
            &object,
        )
    }

    pub async fn put_status(&self) -> Found {
        let before = wanted(self.client.get(&self.path).await, 200)?;
        let mut new = before.clone();
        merge(&mut new["status"], &self.sample.status);
        merge(&mut new["spec"], &self.sample.spec);
        wanted(self.client.put(&format!("{}/status", self.path), &new).await, 200)?;
        self.status_alone(&before).await?;
        // Nor is a status written by the object itself.
        let before = wanted(self.client.get(&self.path).await, 200)?;
        let mut new = before.clone();
        new["status"] = json!({});
        wanted(self.client.put(&self.path, &new).await, 200)?;
        same(
            "the status after an update",
            &wanted(self.client.get(&self.path).await, 200)?["status"],
            &before["status"],
        )
    }

    pub async fn patch_status(&self) -> Found {
        let before = wanted(self.client.get(&self.path).await, 200)?;
        let patch = json!({"status": self.sample.status, "spec": self.sample.spec});
        wanted(self.client.patch("merge", &format!("{}/status", self.path), &patch).await, 200)?;
        self.status_alone(&before).await?;
        let apply = json!({"apiVersion": before["apiVersion"], "kind": before["kind"], "status": self.sample.status});
        let path = format!("{}/status?fieldManager=status&force=true", self.path);
        wanted(self.client.patch("apply", &path, &apply).await, 200)?;
        self.status_alone(&before).await
    }

    /// The status is written, the spec is what it was.
    async fn status_alone(&self, before: &Value) -> Found {
        let after = wanted(self.client.get(&self.path).await, 200)?;
        same("the spec", &after["spec"], &before["spec"])?;
        let mut expected = after["status"].clone();
        merge(&mut expected, &self.sample.status);
        same("the status", &after["status"], &expected)
    }

    pub async fn scale(&self) -> Found {
        let path = format!("{}/scale", self.path);
        let mut scale = wanted(self.client.get(&path).await, 200)?;
        same("kind", &scale["kind"], &"Scale".into())?;
        scale["spec"]["replicas"] = 3.into();
        wanted(self.client.put(&path, &scale).await, 200)?;
        same("replicas", &wanted(self.client.get(&self.path).await, 200)?["spec"]["replicas"], &3.into())?;
        wanted(self.client.patch("merge", &path, &json!({"spec": {"replicas": 1}})).await, 200)?;
        same("replicas", &wanted(self.client.get(&self.path).await, 200)?["spec"]["replicas"], &1.into())
    }

    /// `None` for what needs a node behind it.
    pub async fn subresource(&self, subresource: &str) -> Option<Found> {
        Some(match subresource {
            "approval" => self.approval().await,
            "binding" => self.binding().await,
            "ephemeralcontainers" => self.ephemeral_containers().await,
            "eviction" => self.eviction().await,
            "finalize" => self.finalize().await,
            "resize" => self.resize().await,
            "token" => self.token().await,
            _ => return None,
        })
    }

    async fn approval(&self) -> Found {
        let condition = json!({"type": "Approved", "status": "True", "reason": "R", "message": "m"});
        let path = format!("{}/approval", self.path);
        let mut request = wanted(self.client.get(&path).await, 200)?;
        request["status"]["conditions"] = json!([condition]);
        wanted(self.client.put(&path, &request).await, 200)?;
        let stored = wanted(self.client.get(&self.path).await, 200)?;
        same("the condition", &stored["status"]["conditions"][0]["type"], &"Approved".into())
    }

    async fn binding(&self) -> Found {
        let path = format!("{}/binding", self.path);
        let target = json!({"metadata": {"name": name(&self.sample.object)}, "target": {"kind": "Node", "name": "n"}});
        wanted(self.client.post(&path, &target).await, 201)?;
        same("the node", &wanted(self.client.get(&self.path).await, 200)?["spec"]["nodeName"], &"n".into())?;
        wanted(self.client.post(&path, &target).await, 409).map(drop)
    }

    async fn ephemeral_containers(&self) -> Found {
        let path = format!("{}/ephemeralcontainers", self.path);
        wanted(self.client.get(&path).await, 200)?;
        let patch = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}});
        wanted(self.client.patch("strategic", &path, &patch).await, 200)?;
        let stored = wanted(self.client.get(&self.path).await, 200)?;
        same("the container", &stored["spec"]["ephemeralContainers"][0]["name"], &"e".into())
    }

    async fn resize(&self) -> Found {
        let path = format!("{}/resize", self.path);
        let requests = json!({"cpu": "2"});
        let pod = json!({"metadata": {"name": "resized"}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}});
        wanted(self.client.post(&self.collection, &pod).await, 201)?;
        let path = path.replace(&format!("/{}/", name(&self.sample.object)), "/resized/");
        let patch = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
        let resized = wanted(self.client.patch("strategic", &path, &patch).await, 200)?;
        same("the requests", &resized["spec"]["containers"][0]["resources"]["requests"], &requests)
    }

    async fn eviction(&self) -> Found {
        let pod = self.kind.sample(4).object;
        wanted(self.client.post(&self.collection, &pod).await, 201)?;
        let path = format!("{}/{}", self.collection, name(&pod));
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name(&pod)}});
        wanted(self.client.post(&format!("{path}/eviction"), &eviction).await, 201)?;
        wanted(self.client.get(&path).await, 404).map(drop)
    }

    async fn finalize(&self) -> Found {
        let mut namespace = wanted(self.client.get(&self.path).await, 200)?;
        namespace["spec"]["finalizers"] = json!(["kubernetes", "example.com/f"]);
        wanted(self.client.put(&format!("{}/finalize", self.path), &namespace).await, 200)?;
        let stored = wanted(self.client.get(&self.path).await, 200)?;
        same("the finalizers", &stored["spec"]["finalizers"], &namespace["spec"]["finalizers"])
    }

    async fn token(&self) -> Found {
        let asked = json!({"spec": {"expirationSeconds": 3600}});
        let given = wanted(self.client.post(&format!("{}/token", self.path), &asked).await, 201)?;
        let token = given["status"]["token"].as_str().unwrap_or("");
        let review = json!({"spec": {"token": token}});
        let review = self.client.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
        same("the token", &wanted(review, 201)?["status"]["authenticated"], &true.into())
    }
}

/// RFC 7396 without deletions.
fn merge(into: &mut Value, patch: &Value) {
    match patch.as_object() {
        Some(patch) => patch.iter().for_each(|(key, value)| merge(&mut into[key.as_str()], value)),
        None => *into = patch.clone(),
    }
}
