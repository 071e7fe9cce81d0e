//! `xebec rollout prove`: load through a Service while its Deployment is replaced, and every request that failed.

mod load;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use xebec_client::Client;
use xebec_types::apps::Deployment;
use xebec_types::core::{Pod, Service};

use crate::DEFAULT_DIR;
use crate::cluster::layout::Layout;
use crate::cluster::spec::Spec;
use crate::inside::{Place, Running};
use crate::output::say;
use load::{Load, Report};

#[derive(Args)]
pub struct Rollout {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replace every pod of a Deployment under load, several times, and say which requests failed
    Prove(Prove),
    /// The load from one node; `prove` starts it
    #[command(hide = true)]
    Load(Load),
}

#[derive(Args)]
struct Prove {
    /// The Deployment, as deploy/NAME or NAME; a Service must select its pods
    deployment: String,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// How many times the pods are replaced
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// What is asked for by HTTP
    #[arg(long, default_value = "/")]
    path: String,
    /// The Service's port [default: its first TCP port]
    #[arg(long)]
    port: Option<i32>,
    /// The cluster's directory: load comes from every node
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// On a node of a cluster that `xebec up` did not make: use this kubeconfig, load comes from this host
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Give up when the pods are not replaced after so many seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    timeout: u64,
}

impl Rollout {
    /// # Errors
    /// No Service in front of the Deployment, a rollout that does not end, or requests that failed.
    pub async fn run(self) -> Result<()> {
        match self.command {
            Command::Prove(prove) => prove.run().await,
            Command::Load(load) => load.run(),
        }
    }
}

impl Prove {
    async fn run(self) -> Result<()> {
        let layout = Layout::new(&self.dir)?;
        let kubeconfig = self.kubeconfig.clone().unwrap_or_else(|| layout.kubeconfig());
        let client = xebec_client::connection::from_kubeconfig(&kubeconfig).await?;
        let name = self.deployment.rsplit('/').next().unwrap_or_default().to_owned();
        let target = self.target(&client, &name).await?;
        let sources = if self.kubeconfig.is_some() { vec![Place::default()] } else { sources(&layout)? };
        say!("{name}: GET http://{target}{} from {} nodes, {} runs", self.path, sources.len(), self.runs)?;
        let (start, mut total, mut runs, mut broken) = (Instant::now(), Report::default(), 0, None);
        while runs < self.runs && broken.is_none() {
            runs += 1;
            let start = Instant::now();
            let (report, replaced) = self.run_once(&client, &name, target, &sources).await?;
            let seconds = start.elapsed().as_secs_f64();
            match replaced {
                Ok(pods) => say!("run {runs}: {pods} pods replaced in {seconds:.1} s, {report}")?,
                Err(error) => {
                    say!("run {runs}: {error:#}, {report}")?;
                    broken = Some(error);
                }
            }
            total = total.join(report);
        }
        // Also when a run broke off: what was seen until then is worth as much.
        say!("{runs} runs in {:.0} s: {total}", start.elapsed().as_secs_f64())?;
        if let Some(error) = broken {
            return Err(error);
        }
        if total.failed() > 0 {
            bail!("{} of {} requests failed", total.failed(), total.requests);
        }
        Ok(())
    }

    /// One replacement under load: what the load saw, and how many pods were replaced.
    async fn run_once(
        &self,
        client: &Client,
        name: &str,
        target: SocketAddr,
        sources: &[Place],
    ) -> Result<(Report, Result<usize>)> {
        let loads = sources.iter().map(|place| Load::start(place, target, &self.path)).collect::<Result<Vec<_>>>()?;
        // Requests before, during and after.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let replaced = self.replace(client, name).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let reports = loads.into_iter().map(Running::stop::<Report>).collect::<Result<Vec<_>>>()?;
        Ok((reports.into_iter().fold(Report::default(), Report::join), replaced))
    }

    /// The address of the Service in front of the Deployment's pods.
    async fn target(&self, client: &Client, name: &str) -> Result<SocketAddr> {
        let deployment = Api::<Deployment>::namespaced(client.clone(), &self.namespace).get(name).await;
        let deployment = deployment.with_context(|| format!("read deployment {}/{name}", self.namespace))?;
        let labels = deployment.spec.and_then(|spec| spec.template.metadata).and_then(|meta| meta.labels);
        let labels = labels.unwrap_or_default();
        let services = Api::<Service>::namespaced(client.clone(), &self.namespace).list(&ListParams::default()).await?;
        let found = services.items.iter().find_map(|service| address(service, &labels, self.port));
        found.with_context(|| format!("no Service with a cluster IP and a TCP port selects the pods of {name}"))
    }

    /// Restarts the Deployment as `kubectl rollout restart` does, and waits until the old pods are gone.
    async fn replace(&self, client: &Client, name: &str) -> Result<usize> {
        let api = Api::<Deployment>::namespaced(client.clone(), &self.namespace);
        let pods = Api::<Pod>::namespaced(client.clone(), &self.namespace);
        let now = xebec_types::time::now().to_string();
        let patch =
            json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}});
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        let spec = patched.spec.context("a Deployment has a spec")?;
        let selector = spec.selector.match_labels.unwrap_or_default();
        let selector: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let list = ListParams::default().labels(&selector.join(","));
        let wanted = spec.replicas.unwrap_or(1);
        let generation = patched.metadata.generation;
        let deadline = Instant::now() + Duration::from_secs(self.timeout);
        loop {
            let status = api.get(name).await?.status.unwrap_or_default();
            let all = [status.replicas, status.updated_replicas, status.available_replicas];
            let done = status.observed_generation >= generation && all.iter().all(|count| count.unwrap_or(0) == wanted);
            if done {
                let pods = pods.list(&list).await?;
                if pods.items.len() == wanted as usize {
                    return Ok(pods.items.len());
                }
            }
            if Instant::now() > deadline {
                bail!("{name} is not replaced after {} s", self.timeout);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn address(service: &Service, labels: &BTreeMap<String, String>, port: Option<i32>) -> Option<SocketAddr> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    if !selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return None;
    }
    let is_tcp = |protocol: Option<&str>| protocol.is_none_or(|protocol| protocol == "TCP");
    let mut ports = spec.ports.iter().flatten().filter(|known| is_tcp(known.protocol.as_deref()));
    let found = ports.find(|known| port.is_none_or(|port| port == known.port))?;
    Some(SocketAddr::new(spec.cluster_ip.as_ref()?.parse().ok()?, u16::try_from(found.port).ok()?))
}

/// Every node of a cluster that `xebec up` made.
fn sources(layout: &Layout) -> Result<Vec<Place>> {
    let Some(spec) = Spec::load(layout)? else {
        bail!("no cluster in {}: name another --dir, or a --kubeconfig", layout.dir().display());
    };
    spec.nodes().map(|node| Place::node(layout, node)).collect()
}

#[cfg(test)]
mod tests;
