//! `xebec up`: from nothing, or from whatever is left, to a cluster whose nodes are Ready.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use xebec_client::Client;
use xebec_types::core::Node;

use super::layout::{Layout, NODES_MAX, SERVER_PORT};
use super::spec::{IpFamilies, RoutingKind, Spec, StoreKind, Wanted};
use super::{disk, preflight, supervise};
use crate::agent::load_balancer::{ForwardingMode, XdpChoice};
use crate::image;
use crate::output::{self, say};

#[derive(Args)]
pub struct Up {
    /// How many nodes [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u32>,
    /// Where all state lives
    #[arg(long, default_value = super::super::DEFAULT_DIR)]
    dir: PathBuf,
    /// Where the API server keeps its objects [default: embedded]
    #[arg(long)]
    store: Option<StoreKind>,
    /// How pods on other nodes are reached [default: vxlan; native with IPv6]
    #[arg(long)]
    routing: Option<RoutingKind>,
    /// The IP families of pods, Services and nodes [default: ipv4]
    #[arg(long)]
    ip_families: Option<IpFamilies>,
    /// How clients outside reach backends on other nodes, of Services that do not say [default: snat]
    #[arg(long, value_name = "MODE")]
    forwarding_mode: Option<ForwardingMode>,
    /// Balance in the uplinks of the nodes [default: after them]
    #[arg(long, value_name = "MODE")]
    xdp: Option<XdpChoice>,
    /// The API server's port on 127.0.0.1 [default: 6443, or a free one when it is taken]
    #[arg(long)]
    port: Option<u16>,
    /// Import this image archive on every node; may be given several times
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Give up when the nodes are not Ready after so many seconds
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    timeout: u64,
}

impl Up {
    /// # Errors
    /// A missing requirement, a cluster in the same directory that differs, or nodes that do not get Ready.
    pub async fn run(self) -> Result<()> {
        let start = Instant::now();
        let layout = Layout::new(&self.dir)?;
        let spec = self.spec(&layout)?;
        preflight::check(spec.store)?;
        if !supervise::is_running(&layout) {
            spec.save(&layout)?;
            detach_supervisor(&layout)?;
        }
        if let Some(relaxed) = disk::relaxed(&layout) {
            say!("the disk is nearly full: nodes run with --eviction-hard {relaxed}, and keep unused images")?;
        }
        let progress = Progress { start, layout: &layout };
        let deadline = start + Duration::from_secs(self.timeout);
        let client = progress.until(deadline, "API server", || connect(&layout)).await?;
        progress.until(deadline, "nodes", || ready(&client, &spec)).await?;
        for file in &self.images {
            image::import_everywhere(&layout, &spec, file).await?;
            progress.say(&format!("image {}", file.display()))?;
        }
        epilogue(&layout)?;
        Ok(())
    }

    fn spec(&self, layout: &Layout) -> Result<Spec> {
        if let Some(spec) = Spec::load(layout)? {
            spec.accept(&Wanted {
                nodes: self.nodes,
                store: self.store,
                routing: self.routing,
                ip_families: self.ip_families,
                forwarding: self.forwarding_mode,
                xdp: self.xdp,
            })?;
            return Ok(spec);
        }
        let ip_families = self.ip_families.unwrap_or_default();
        let routing = self.routing.unwrap_or(match ip_families {
            IpFamilies::Ipv4 => RoutingKind::Vxlan,
            IpFamilies::Ipv6 | IpFamilies::Dual => RoutingKind::Native,
        });
        fs::create_dir_all(layout.dir()).with_context(|| format!("create {}", layout.dir().display()))?;
        if fs::read_dir(layout.dir())?.next().is_some() {
            bail!("{} is not empty and holds no cluster: choose another --dir", layout.dir().display());
        }
        Ok(Spec {
            nodes: self.nodes.unwrap_or(3),
            store: self.store.unwrap_or(StoreKind::Embedded),
            routing,
            ip_families,
            forwarding: self.forwarding_mode.unwrap_or_default(),
            xdp: self.xdp,
            port: self.port.map_or_else(free_port, Ok)?,
        })
    }
}

/// 6443 when nobody has it, else any free port.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", SERVER_PORT))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
        .context("find a free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

fn detach_supervisor(layout: &Layout) -> Result<()> {
    fs::create_dir_all(layout.logs())?;
    let path = layout.logs().join("supervisor.log");
    let log = fs::OpenOptions::new().create(true).append(true).open(&path)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("supervise").arg("--dir").arg(layout.dir()).current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A group of its own: Ctrl-C at the terminal ends `up`, not the cluster.
    command.process_group(0).spawn().context("start the supervisor")?;
    Ok(())
}

pub async fn connect(layout: &Layout) -> Result<Client, String> {
    if !supervise::is_running(layout) {
        return Err(format!("the supervisor is not running; see {}", layout.logs().join("supervisor.log").display()));
    }
    let client =
        xebec_client::connection::from_kubeconfig(&layout.kubeconfig()).await.map_err(|error| error.to_string())?;
    let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
    client.request_text(request).await.map_err(|error| error.to_string())?;
    Ok(client)
}

async fn ready(client: &Client, spec: &Spec) -> Result<(), String> {
    let nodes = kube::Api::<Node>::all(client.clone());
    let nodes = nodes.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
    let ready = nodes.iter().filter(|node| is_ready(node)).count();
    if ready < spec.nodes as usize {
        return Err(format!("{ready} of {} Ready", spec.nodes));
    }
    Ok(())
}

pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status == "True")
}

struct Progress<'a> {
    start: Instant,
    layout: &'a Layout,
}

impl Progress<'_> {
    /// Polls until it works; the last reason is the error after the deadline.
    async fn until<T, F>(&self, deadline: Instant, what: &str, mut poll: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, String>>,
    {
        let mut last = String::new();
        loop {
            match poll().await {
                Ok(value) => {
                    self.say(&format!("{what} ready"))?;
                    return Ok(value);
                }
                Err(reason) if Instant::now() > deadline => {
                    bail!("{what} not ready: {reason}; the logs are in {}", self.layout.logs().display())
                }
                Err(reason) if reason != last => {
                    tracing::debug!(what, reason, "waiting");
                    last = reason;
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn say(&self, what: &str) -> Result<(), output::Error> {
        say!("{:6.1} s  {what}", self.start.elapsed().as_secs_f64())
    }
}

fn epilogue(layout: &Layout) -> Result<(), output::Error> {
    let kubeconfig = layout.kubeconfig();
    say!("\nexport KUBECONFIG={}\n", kubeconfig.display())?;
    say!("kubectl get nodes -o wide")?;
    say!("kubectl create deployment web --image=xebec-demo:1 --replicas=3 --port=8080")?;
    say!("kubectl expose deployment web --port=80 --target-port=8080")
}
