//! One kind after another: every verb is used, and what it led to is looked at.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::objects::{Sample, sample};
use crate::harness::{Answer, Cluster, answer, request};

/// What a step found wrong.
pub type Found = Result<(), String>;

pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const SELECTED: &str = "labelSelector=probe%3Dcompat";
/// Jobs and ReplicationControllers orphan what is theirs if nothing else is asked for, and there is nobody here to do that.
const AT_ONCE: &str = "propagationPolicy=Background";

/// One connection of an administrator.
pub struct Client(Mutex<SendRequest<Full<Bytes>>>);

impl Client {
    pub async fn new(cluster: &Cluster) -> Self {
        Self(Mutex::new(cluster.connect(Some(("admin", &["system:masters"]))).await))
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut sender = self.0.lock().await;
        sender.ready().await.unwrap();
        answer(sender.send_request(request(method, path, headers, body)).await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[], body.to_string()).await
    }

    pub async fn patch(&self, kind: &str, path: &str, body: &Value) -> Answer {
        let media_type = match kind {
            "json" => "application/json-patch+json",
            "merge" => "application/merge-patch+json",
            "strategic" => "application/strategic-merge-patch+json",
            _ => "application/apply-patch+yaml",
        };
        self.send("PATCH", path, &[("content-type", media_type)], body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "").await
    }
}

/// A kind, as discovery describes it.
pub struct Kind {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    /// Names and verbs.
    pub subresources: Vec<(String, Vec<String>)>,
}

impl Kind {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The collection in a namespace, or of the cluster.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        let within = namespace.filter(|_| self.namespaced).map(|n| format!("/namespaces/{n}")).unwrap_or_default();
        format!("{root}/{}{within}/{}", self.version, self.plural)
    }

    pub fn has(&self, subresource: &str) -> bool {
        self.subresources.iter().any(|(name, _)| name == subresource)
    }

    pub fn custom(&self) -> bool {
        self.group == "example.com"
    }

    pub fn sample(&self, number: usize) -> Sample {
        let (group, version, plural) = (&self.group, &self.version, &self.plural);
        let mut sample = sample(group, version, plural, number)
            .unwrap_or_else(|| panic!("compat/objects.rs has no object of {} {}", self.api_version(), self.kind));
        sample.object["apiVersion"] = self.api_version().into();
        sample.object["kind"] = self.kind.clone().into();
        sample
    }
}

/// A kind in a namespace of its own.
pub struct Probe<'a> {
    pub cluster: &'a Cluster,
    pub client: &'a Client,
    pub kind: &'a Kind,
    pub collection: String,
    /// Of the first object.
    pub path: String,
    pub sample: Sample,
}

impl<'a> Probe<'a> {
    pub fn new(cluster: &'a Cluster, client: &'a Client, kind: &'a Kind, namespace: &str) -> Self {
        let collection = kind.collection(Some(namespace));
        let sample = kind.sample(1);
        let path = format!("{collection}/{}", name(&sample.object));
        Self { cluster, client, kind, collection, path, sample }
    }

    pub async fn create(&self) -> Found {
        let made = self.client.post(&self.collection, &self.sample.object).await;
        let made = wanted(made, 201)?;
        same("kind", &made["kind"], &self.kind.kind.clone().into())?;
        ensure(made["metadata"]["uid"].is_string(), || format!("no uid: {made}"))?;
        // What follows definitions writes the status of this one at once, and then no more.
        let settled = |stored: &Value| {
            self.kind.plural != "customresourcedefinitions" || stored["status"]["conditions"][1].is_object()
        };
        let stored = loop {
            let stored = wanted(self.client.get(&self.path).await, 200)?;
            if settled(&stored) {
                break stored;
            }
        };
        same("what is stored", &stored["spec"], &made["spec"])?;
        same("what is stored", &stored["metadata"]["uid"], &made["metadata"]["uid"])?;
        let again = self.client.post(&self.collection, &self.sample.object).await;
        wanted(again, 409).map(drop)
    }

    pub async fn get(&self) -> Found {
        let found = wanted(self.client.get(&self.path).await, 200)?;
        same("name", &found["metadata"]["name"], &self.sample.object["metadata"]["name"])?;
        same("apiVersion", &found["apiVersion"], &self.kind.api_version().into())?;
        wanted(self.client.get(&format!("{}/none", self.collection)).await, 404).map(drop)
    }

    pub async fn list(&self) -> Found {
        for collection in [self.collection.clone(), self.kind.collection(None)] {
            let list = wanted(self.client.get(&format!("{collection}?{SELECTED}")).await, 200)?;
            same("kind", &list["kind"], &format!("{}List", self.kind.kind).into())?;
            let names: Vec<_> = items(&list).map(name).collect();
            ensure(names.contains(&name(&self.sample.object)), || format!("{collection} has {names:?}"))?;
        }
        let other = wanted(self.client.get(&format!("{}?labelSelector=probe%3Dnone", self.collection)).await, 200)?;
        ensure(items(&other).next().is_none(), || "the selector does not select".into())
    }

    pub async fn update(&self) -> Found {
        let old = wanted(self.client.get(&self.path).await, 200)?;
        let mut new = old.clone();
        new["metadata"]["annotations"]["update"] = "1".into();
        let answered = wanted(self.client.put(&self.path, &new).await, 200)?;
        self.changed("update", &answered).await?;
        wanted(self.client.put(&self.path, &old).await, 409).map(drop)
    }

    /// `kind`: json, merge, strategic or apply.
    pub async fn patch(&self, kind: &str) -> Found {
        let mut patch = json!({"metadata": {"annotations": {kind: "1"}}});
        let mut path = self.path.clone();
        match kind {
            "json" => patch = json!([{"op": "add", "path": "/metadata/labels/json", "value": "1"}]),
            "apply" => {
                path.push_str("?fieldManager=probe");
                patch["apiVersion"] = self.sample.object["apiVersion"].clone();
                patch["kind"] = self.sample.object["kind"].clone();
            }
            _ => (),
        }
        let answered = wanted(self.client.patch(kind, &path, &patch).await, 200)?;
        if kind == "apply" {
            let mut managers = answered["metadata"]["managedFields"].as_array().into_iter().flatten();
            let applied = |m: &Value| m["manager"] == "probe" && m["operation"] == "Apply";
            ensure(managers.any(applied), || "no managedFields of the manager".into())?;
        }
        if kind == "json" {
            let stored = wanted(self.client.get(&self.path).await, 200)?;
            return same("the label", &stored["metadata"]["labels"]["json"], &"1".into());
        }
        self.changed(kind, &answered).await
    }

    /// Nothing of what is only tried may be seen.
    pub async fn dry_run(&self) -> Found {
        let before = wanted(self.client.get(&self.path).await, 200)?;
        let (path, collection) = (format!("{}?dryRun=All", self.path), format!("{}?dryRun=All", self.collection));
        let other = self.kind.sample(2).object;
        wanted(self.client.post(&collection, &other).await, 201)?;
        wanted(self.client.get(&format!("{}/{}", self.collection, name(&other))).await, 404)?;
        let mut put = before.clone();
        put["metadata"]["annotations"]["dry"] = "1".into();
        let answered = wanted(self.client.put(&path, &put).await, 200)?;
        same("the answer", &answered["metadata"]["annotations"]["dry"], &"1".into())?;
        let patch = json!({"metadata": {"annotations": {"dry": "1"}}});
        wanted(self.client.patch("merge", &path, &patch).await, 200)?;
        wanted(self.client.delete(&format!("{path}&{AT_ONCE}")).await, 200)?;
        same("what is stored", &wanted(self.client.get(&self.path).await, 200)?, &before)
    }

    pub async fn table(&self) -> Found {
        for path in [format!("{}?{SELECTED}", self.collection), self.path.clone()] {
            let table = wanted(self.client.send("GET", &path, &[("accept", TABLE)], "").await, 200)?;
            same("kind", &table["kind"], &"Table".into())?;
            let columns = table["columnDefinitions"].as_array().map_or(0, Vec::len);
            let rows = table["rows"].as_array().into_iter().flatten();
            let cells: Vec<_> = rows.map(|row| row["cells"].as_array().map_or(0, Vec::len)).collect();
            let full = columns > 1 && !cells.is_empty() && cells.iter().all(|count| *count == columns);
            ensure(full, || format!("{path}: {columns} columns, rows of {cells:?} cells"))?;
        }
        Ok(())
    }

    pub async fn partial(&self) -> Found {
        let one = wanted(self.client.send("GET", &self.path, &[("accept", PARTIAL)], "").await, 200)?;
        same("kind", &one["kind"], &"PartialObjectMetadata".into())?;
        same("name", &one["metadata"]["name"], &self.sample.object["metadata"]["name"])?;
        let keys = |value: &Value| value.as_object().map_or(0, serde_json::Map::len);
        ensure(keys(&one) == 3, || format!("more than metadata: {one}"))?;
        let path = format!("{}?{SELECTED}", self.collection);
        let list = wanted(self.client.send("GET", &path, &[("accept", PARTIAL_LIST)], "").await, 200)?;
        same("kind", &list["kind"], &"PartialObjectMetadataList".into())?;
        ensure(items(&list).count() > 0, || "an empty list".into())
    }

    pub async fn protobuf_out(&self) -> Found {
        let plain = wanted(self.client.get(&self.path).await, 200)?;
        let decoded = self.protobuf(&self.path).await?;
        same("the object in protobuf", &decoded["metadata"]["uid"], &plain["metadata"]["uid"])?;
        same("the spec in protobuf", &full(&decoded["spec"]), &full(&plain["spec"]))?;
        let list = self.protobuf(&format!("{}?{SELECTED}", self.collection)).await?;
        ensure(items(&list).count() > 0, || "an empty list".into())
    }

    async fn protobuf(&self, path: &str) -> Result<Value, String> {
        let response = self.cluster.open(request("GET", path, &[("accept", PROTOBUF)], Bytes::new())).await;
        ensure(response.status() == 200, || format!("{}", response.status()))?;
        let bytes = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
        xebec_schema::protobuf::decode(&bytes).map_err(|e| e.to_string())
    }

    pub async fn protobuf_in(&self) -> Found {
        let object = self.kind.sample(5).object;
        let body = xebec_schema::protobuf::encode(&object).map_err(|e| e.to_string())?;
        let made = self.client.send("POST", &self.collection, &[("content-type", PROTOBUF)], body).await;
        let made = wanted(made, 201)?;
        let path = format!("{}/{}", self.collection, name(&object));
        let stored = wanted(self.client.get(&path).await, 200)?;
        same("what is stored", &stored["spec"], &made["spec"])?;
        same("what is stored", &stored["metadata"]["uid"], &made["metadata"]["uid"])?;
        wanted(self.client.delete(&format!("{path}?{AT_ONCE}")).await, 200)?;
        self.gone(&path).await
    }

    pub async fn delete(&self) -> Found {
        wanted(self.client.delete(&format!("{}?{AT_ONCE}", self.path)).await, 200)?;
        self.gone(&self.path).await
    }

    pub async fn delete_collection(&self) -> Found {
        for number in [2, 3, 4] {
            wanted(self.client.post(&self.collection, &self.kind.sample(number).object).await, 201)?;
        }
        let mut bystander = self.kind.sample(5).object;
        bystander["metadata"]["labels"] = json!({});
        wanted(self.client.post(&self.collection, &bystander).await, 201)?;
        let selected = format!("{}?{SELECTED}", self.collection);
        wanted(self.client.delete(&format!("{selected}&{AT_ONCE}&dryRun=All")).await, 200)?;
        let left = wanted(self.client.get(&selected).await, 200)?;
        ensure(items(&left).count() == 3, || "a dry run deletes".into())?;
        let two = self.kind.sample(2).object["metadata"]["name"].clone();
        let one = format!("{selected}&{AT_ONCE}&fieldSelector=metadata.name%3D{}", two.as_str().unwrap_or(""));
        let deleted = wanted(self.client.delete(&one).await, 200)?;
        ensure(items(&deleted).count() == 1, || "a field selector is not heeded".into())?;
        wanted(self.client.delete(&format!("{selected}&{AT_ONCE}")).await, 200)?;
        for number in [2, 3, 4] {
            self.gone(&format!("{}/{}", self.collection, name(&self.kind.sample(number).object))).await?;
        }
        let path = format!("{}/{}", self.collection, name(&bystander));
        wanted(self.client.get(&path).await, 200)?;
        wanted(self.client.delete(&format!("{path}?{AT_ONCE}")).await, 200)?;
        self.gone(&path).await
    }

    /// What `verb` wrote is in the answer and in the store.
    async fn changed(&self, verb: &str, answered: &Value) -> Found {
        let stored = wanted(self.client.get(&self.path).await, 200)?;
        same("what is stored", &stored, answered)?;
        same("the annotation", &stored["metadata"]["annotations"][verb], &"1".into())
    }

    /// Ends the object's finalizers, as the controllers do that run nowhere here, and waits for it to go.
    async fn gone(&self, path: &str) -> Found {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let found = self.client.get(path).await;
            if found.code == 404 {
                return Ok(());
            }
            let mut found = wanted(found, 200)?;
            ensure(found["metadata"]["deletionTimestamp"].is_string(), || "not deleted".into())?;
            ensure(Instant::now() < deadline, || format!("is not gone after 5 s: {found}"))?;
            if self.kind.has("finalize") {
                found["spec"] = json!({"finalizers": []});
                self.client.put(&format!("{path}/finalize"), &found).await;
            } else if self.kind.plural != "customresourcedefinitions" {
                self.client.patch("merge", path, &json!({"metadata": {"finalizers": null}})).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The body, if the answer has this code.
pub fn wanted(answer: Answer, code: u16) -> Result<Value, String> {
    ensure(answer.code == code, || format!("{} instead of {code}: {}", answer.code, answer.text))?;
    Ok(answer.body)
}

pub fn same(what: &str, found: &Value, expected: &Value) -> Found {
    ensure(found == expected, || format!("{what} is {found}, not {expected}"))
}

pub fn ensure(holds: bool, fault: impl FnOnce() -> String) -> Found {
    if holds { Ok(()) } else { Err(fault()) }
}

/// Without what is empty, which protobuf does not tell from what is absent.
fn full(value: &Value) -> Value {
    let Some(fields) = value.as_object() else { return value.clone() };
    let filled = fields.iter().map(|(key, value)| (key.clone(), full(value)));
    filled.filter(|(_, value)| *value != json!("") && *value != json!([])).collect::<serde_json::Map<_, _>>().into()
}

pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or("")
}
