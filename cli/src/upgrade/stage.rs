//! The pods and the Service between which flows go. Their programs are processes of ours inside the pods' namespaces,
//! so the pods need no image but the one that the agent brings.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use xebec_client::Client;
use xebec_types::core::{Namespace, Pod, Service};

use super::load::{Load, Target};
use super::serve::Serve;
use crate::cluster::layout::{Layout, NodeNumber, OUTSIDE};
use crate::cluster::spec::Spec;
use crate::inside::{Place, Running};

const NAMESPACE: &str = "xebec-upgrade-prove";
const PORT: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Lives as long as the value's servers; [`Stage::remove`] takes the objects away.
pub struct Stage {
    client: Client,
    servers: Vec<Running>,
    /// Where flows come from, and where each goes.
    sources: Vec<(Place, Vec<Target>)>,
}

impl Stage {
    /// Two pods on the first node, one on the last, a Service in front of two of them, and a host outside.
    ///
    /// # Errors
    /// When the objects cannot be made, or do not work within a minute.
    pub async fn new(client: Client, layout: &Layout, spec: &Spec) -> Result<Self> {
        remove(&client).await?;
        let mut stage = Self { client, servers: Vec::new(), sources: Vec::new() };
        match stage.build(layout, spec).await {
            Ok(()) => Ok(stage),
            Err(error) => {
                stage.remove().await?;
                Err(error)
            }
        }
    }

    async fn build(&mut self, layout: &Layout, spec: &Spec) -> Result<()> {
        let (first, last) = (NodeNumber(1), NodeNumber(spec.nodes));
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await.context("create a namespace")?;
        let near = self.pod("near", first, "server").await?;
        let far = self.pod("far", last, "server").await?;
        let from = self.pod("client", first, "client").await?;
        let service = self.service().await?;
        let outside = Place::namespace(layout, "outside");
        for place in [&near.place, &far.place, &outside] {
            let mut server = Serve::start(place, PORT)?;
            server.wait_ready()?;
            self.servers.push(server);
        }
        let target =
            |name: &str, ip: IpAddr, port: u16| Target { name: name.into(), address: SocketAddr::new(ip, port) };
        let pods = vec![
            target("pod to service", service.ip, PORT),
            target("pod to pod on its node", near.ip, PORT),
            target("pod to pod elsewhere", far.ip, PORT),
            target("pod to outside", OUTSIDE.ipv4(), PORT),
        ];
        self.sources.push((from.place, pods));
        self.sources.push((Place::node(layout, first)?, vec![target("node to service", service.ip, PORT)]));
        let nodes = spec.nodes().map(|node| {
            target(&format!("outside to NodePort on {}", node.name()), node.host().ipv4(), service.node_port)
        });
        self.sources.push((outside, nodes.collect()));
        Ok(())
    }

    /// Starts every flow; each has been answered when this returns.
    ///
    /// # Errors
    /// When a target does not answer.
    pub fn start(&self) -> Result<Vec<Running>> {
        let mut loads =
            self.sources.iter().map(|(place, targets)| Load::start(place, targets)).collect::<Result<Vec<_>>>()?;
        loads.iter_mut().try_for_each(Running::wait_ready)?;
        Ok(loads)
    }

    /// # Errors
    /// When the API server refuses.
    pub async fn remove(self) -> Result<()> {
        drop(self.servers);
        delete(&self.client).await.map(drop)
    }

    async fn pod(&self, name: &str, node: NodeNumber, role: &str) -> Result<RunningPod> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"role": role}},
            "spec": {
                "nodeName": node.name(),
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "image": xebec_agent::pause::IMAGE, "imagePullPolicy": "Never"}],
            },
        }))?;
        let api = Api::<Pod>::namespaced(self.client.clone(), NAMESPACE);
        // Refused until the namespace has its service account.
        poll("a service account", async || Ok(api.create(&PostParams::default(), &pod).await.ok())).await?;
        poll(&format!("pod {name} to be Ready"), async || {
            let pod = api.get(name).await?;
            let (uid, status) = (pod.metadata.uid.unwrap_or_default(), pod.status.unwrap_or_default());
            let conditions = status.conditions.iter().flatten();
            let ready = conditions.filter(|condition| condition.type_ == "Ready").any(|ready| ready.status == "True");
            let Some(ip) = status.pod_ip.filter(|_| ready) else { return Ok(None) };
            let place = inside_pod(&uid)?;
            Ok(place.map(|place| (place, ip)))
        })
        .await
        .and_then(|(place, ip)| Ok(RunningPod { place, ip: ip.parse().with_context(|| format!("podIP {ip}"))? }))
    }

    async fn service(&self) -> Result<Reachable> {
        let ports =
            ["TCP", "UDP"].map(|protocol| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": PORT}));
        let service = json!({
            "metadata": {"name": "server"},
            "spec": {"type": "NodePort", "selector": {"role": "server"}, "ports": ports},
        });
        let api = Api::<Service>::namespaced(self.client.clone(), NAMESPACE);
        let mut service: Service = serde_json::from_value(service)?;
        service = api.create(&PostParams::default(), &service).await.context("create a Service")?;
        let mut spec = service.spec.context("a Service has a spec")?;
        let ip = spec.cluster_ip.as_deref().unwrap_or_default();
        let ip = ip.parse().with_context(|| format!("the cluster IP {ip:?}"))?;
        // One number for both protocols.
        let ports = spec.ports.get_or_insert_default();
        let node_port = ports.first().and_then(|port| port.node_port).context("a NodePort Service has a nodePort")?;
        if ports.iter().any(|port| port.node_port != Some(node_port)) {
            let ports: Vec<_> = ports
                .iter()
                .map(|port| json!({"name": port.name, "protocol": port.protocol, "port": PORT, "nodePort": node_port}))
                .collect();
            let patch = kube::api::Patch::Merge(json!({"spec": {"ports": ports}}));
            api.patch("server", &Default::default(), &patch).await.context("choose the Service's nodePort")?;
        }
        Ok(Reachable { ip, node_port: u16::try_from(node_port)? })
    }
}

struct RunningPod {
    place: Place,
    ip: IpAddr,
}

struct Reachable {
    ip: IpAddr,
    node_port: u16,
}

/// Removes what an earlier run left, and waits until it is gone.
async fn remove(client: &Client) -> Result<()> {
    poll("the namespace of an earlier run to go", async || Ok((!delete(client).await?).then_some(()))).await
}

/// False if there is none.
async fn delete(client: &Client) -> Result<bool> {
    match Api::<Namespace>::all(client.clone()).delete(NAMESPACE, &DeleteParams::default()).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        // It is being deleted already.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(true),
        Err(error) => Err(error).with_context(|| format!("delete namespace {NAMESPACE}")),
    }
}

/// The namespace and cgroup of a pod's processes. The kubelet puts a pod's uid into its cgroups' names, with dashes or
/// with underscores.
fn inside_pod(uid: &str) -> Result<Option<Place>> {
    let names = [uid.to_owned(), uid.replace('-', "_")];
    let root = crate::cluster::cgroup::unified().context("cgroup2 is not mounted")?;
    for entry in std::fs::read_dir("/proc").context("read /proc")?.flatten() {
        // A process may end while it is looked at.
        let Ok(cgroups) = std::fs::read_to_string(entry.path().join("cgroup")) else { continue };
        if names.iter().any(|name| cgroups.contains(name.as_str())) {
            let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).map(|own| root.join(own));
            return Ok(Some(Place { netns: Some(netns(&entry.path())), cgroup: own }));
        }
    }
    Ok(None)
}

fn netns(process: &Path) -> PathBuf {
    process.join("ns/net")
}

async fn poll<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {PATIENCE:?} for {what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
