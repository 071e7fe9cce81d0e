//! `docs/compatibility.md`: every kind of discovery with every verb, driven over HTTP, and what upstream has beyond that. The page must
//! say what was found; `cargo xtask compat --kinds` writes it.

#[path = "compat/objects.rs"]
mod objects;
#[path = "compat/page.rs"]
mod page;
#[path = "compat/parts.rs"]
mod parts;
#[path = "compat/probe.rs"]
mod probe;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Cluster;
use parts::Watch;
use probe::{Client, Found, Kind, Probe, ensure, items, same, wanted};

/// The columns of the table of kinds, in the order in which they are tried, with the verb or the subresource each needs.
const COLUMNS: [(&str, &str); 20] = [
    ("create", "create"),
    ("get", "get"),
    ("list", "list"),
    ("watch", "watch"),
    ("update", "update"),
    ("json", "patch"),
    ("merge", "patch"),
    ("strategic", "patch"),
    ("apply", "patch"),
    ("delete", "delete"),
    ("delete collection", "deletecollection"),
    ("dry run", "update"),
    ("get", "/status"),
    ("update", "/status"),
    ("patch", "/status"),
    ("scale", "/scale"),
    ("table", "get"),
    ("partial", "watch"),
    ("out", "get"),
    ("in", "create"),
];
const WATCH: usize = 3;
const STRATEGIC: usize = 7;
const DELETE: usize = 9;
const PROTOBUF: std::ops::RangeInclusive<usize> = 18..=19;

/// What came of one thing that was tried.
pub enum Mark {
    Works,
    Broken(String),
    /// Another process has to answer: a kubelet, or what runs in a pod.
    NeedsNode,
    /// Neither here nor upstream.
    NotOffered,
}

impl From<Found> for Mark {
    fn from(found: Found) -> Self {
        found.map_or_else(Self::Broken, |()| Self::Works)
    }
}

/// A row of the page.
pub struct Row {
    pub kind: Kind,
    pub marks: Vec<Mark>,
    /// Other subresources than status and scale.
    pub parts: Vec<(String, Mark)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_says_what_every_kind_can_do() {
    let cluster = Cluster::start().await;
    let client = Client::new(&cluster).await;
    for (path, name) in [("/api/v1/namespaces", "probe"), ("/api/v1/namespaces/probe/serviceaccounts", "default")] {
        wanted(client.post(path, &json!({"metadata": {"name": name}})).await, 201).unwrap();
    }
    establish(&client).await;
    let mut rows = Vec::new();
    for kind in discovered(&client).await {
        rows.push(row(&cluster, &client, kind).await);
    }
    page::check(&page::render(&rows));
}

/// Defines the custom resource, and waits until it is served.
async fn establish(client: &Client) {
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    wanted(client.post(definitions, &objects::definition("widgets")).await, 201).unwrap();
    let served = async {
        while client.get("/apis/example.com/v1/widgets").await.code != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), served).await.expect("custom resources are served");
}

async fn discovered(client: &Client) -> Vec<Kind> {
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let mut kinds = Vec::new();
    for root in ["/api", "/apis"] {
        let document = wanted(client.send("GET", root, &accept, "").await, 200).unwrap();
        for group in items(&document) {
            for version in group["versions"].as_array().into_iter().flatten() {
                let resources = version["resources"].as_array().into_iter().flatten();
                kinds.extend(resources.map(|resource| kind(group, version, resource)));
            }
        }
    }
    kinds
}

fn kind(group: &Value, version: &Value, resource: &Value) -> Kind {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let verbs = |value: &Value| value["verbs"].as_array().into_iter().flatten().map(text).collect();
    let parts = resource["subresources"].as_array().into_iter().flatten();
    Kind {
        group: text(&group["metadata"]["name"]),
        version: text(&version["version"]),
        plural: text(&resource["resource"]),
        kind: text(&resource["responseKind"]["kind"]),
        namespaced: resource["scope"] == "Namespaced",
        verbs: verbs(resource),
        subresources: parts.map(|part| (text(&part["subresource"]), verbs(part))).collect(),
    }
}

async fn row(cluster: &Cluster, client: &Client, kind: Kind) -> Row {
    let marks = match kind.verbs.iter().any(|verb| verb == "watch") {
        true => return stored(cluster, client, kind).await,
        false if kind.verbs == ["create"] => vec![answered(client, &kind).await.into()],
        false => vec![Mark::NotOffered, Mark::NeedsNode, measured(client, &kind).await.into()],
    };
    Row { kind, marks, parts: Vec::new() }
}

async fn stored(cluster: &Cluster, client: &Client, kind: Kind) -> Row {
    let probe = Probe::new(cluster, client, &kind, "probe");
    let mut watch = Watch::open(&probe).await;
    let mut marks: Vec<Mark> = COLUMNS.iter().map(|_| Mark::NotOffered).collect();
    let mut parts = Vec::new();
    // The object goes at the end, and then the watch has seen all of it.
    let last = [DELETE, DELETE + 1, WATCH];
    for column in (0..COLUMNS.len()).filter(|column| !last.contains(column)) {
        if offered(&kind, column) {
            marks[column] = step(&probe, column).await.into();
        }
    }
    for (name, _) in kind.subresources.iter().filter(|(name, _)| name != "status" && name != "scale") {
        parts.push((name.clone(), probe.subresource(name).await.map_or(Mark::NeedsNode, Mark::from)));
    }
    for column in last.into_iter().filter(|column| offered(&kind, *column)) {
        marks[column] = match column {
            WATCH => watch.check(&probe.sample.object).await.into(),
            _ => step(&probe, column).await.into(),
        };
    }
    drop(probe);
    Row { kind, marks, parts }
}

/// Whether upstream offers it: custom resources have neither strategic merge patches nor protobuf.
fn offered(kind: &Kind, column: usize) -> bool {
    match COLUMNS[column].1.strip_prefix('/') {
        Some(subresource) => kind.has(subresource),
        None if kind.custom() && (column == STRATEGIC || PROTOBUF.contains(&column)) => false,
        None => kind.verbs.iter().any(|verb| verb == COLUMNS[column].1),
    }
}

async fn step(probe: &Probe<'_>, column: usize) -> Found {
    match column {
        0 => probe.create().await,
        1 => probe.get().await,
        2 => probe.list().await,
        4 => probe.update().await,
        5..=8 => probe.patch(COLUMNS[column].0).await,
        DELETE => probe.delete().await,
        10 => probe.delete_collection().await,
        11 => probe.dry_run().await,
        12 => probe.get_status().await,
        13 => probe.put_status().await,
        14 => probe.patch_status().await,
        15 => probe.scale().await,
        16 => probe.table().await,
        17 => probe.partial().await,
        18 => probe.protobuf_out().await,
        _ => probe.protobuf_in().await,
    }
}

/// A kind that is only posted.
async fn answered(client: &Client, kind: &Kind) -> Found {
    let mut pod = json!({"metadata": {"name": "bound"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    if kind.plural == "bindings" {
        let pods = "/api/v1/namespaces/probe/pods";
        wanted(client.post(pods, &pod).await, 201)?;
        let binding = json!({"metadata": {"name": "bound"}, "target": {"kind": "Node", "name": "n"}});
        wanted(client.post(&kind.collection(Some("probe")), &binding).await, 201)?;
        pod = wanted(client.get(&format!("{pods}/bound")).await, 200)?;
        return same("the node", &pod["spec"]["nodeName"], &"n".into());
    }
    let (question, field, expected) =
        objects::question(&kind.plural).unwrap_or_else(|| panic!("compat/objects.rs asks nothing of {}", kind.kind));
    let answer = wanted(client.post(&kind.collection(Some("default")), &question).await, 201)?;
    same(field, answer.pointer(field).unwrap_or(&Value::Null), &expected)
}

/// A kind that kubelets measure: there is none, so the list is empty.
async fn measured(client: &Client, kind: &Kind) -> Found {
    let list = wanted(client.get(&kind.collection(None)).await, 200)?;
    same("kind", &list["kind"], &format!("{}List", kind.kind).into())?;
    ensure(items(&list).next().is_none(), || format!("{list}"))
}
