//! `xebec agent`: the flags of a node.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use ipnet::Ipv4Net;
use tokio_util::sync::CancellationToken;
use xebec_agent::{Config, Routing, Thresholds};

use crate::cluster::cgroup;
use crate::cluster::spec::RoutingKind;
use crate::signal;

#[derive(Args)]
pub struct Agent {
    /// The API server, such as https://10.0.0.1:6443; several, separated by commas, are tried in turn
    #[arg(long, env = "XEBEC_SERVER", value_delimiter = ',', required = true)]
    server: Vec<String>,
    /// The join token that the server wrote; needed until this node has a certificate
    #[arg(long, env = "XEBEC_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file with the join token
    #[arg(long, conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The cluster's CA certificate, when the token carries no hash of it
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// [default: the host name]
    #[arg(long)]
    node_name: Option<String>,
    /// [default: the address from which the server is reached]
    #[arg(long)]
    node_ip: Option<Ipv4Addr>,
    /// A further interface that leads to other nodes or outside; may be given several times
    #[arg(long = "uplink", value_name = "INTERFACE")]
    uplinks: Vec<String>,
    /// Certificates, pods, logs: kept over restarts
    #[arg(long, default_value = "/var/lib/xebec/agent")]
    data_dir: PathBuf,
    /// Sockets and pid files
    #[arg(long, default_value = "/run/xebec")]
    run_dir: PathBuf,
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    container_runtime_endpoint: PathBuf,
    #[arg(long, default_value = "/opt/cni/bin")]
    cni_bin_dir: PathBuf,
    #[arg(long, default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// A mounted bpf filesystem
    #[arg(long, default_value = "/sys/fs/bpf")]
    bpffs: PathBuf,
    /// The node's cgroup, below the root of every hierarchy [default: /xebec/NODE]
    #[arg(long)]
    cgroup_root: Option<String>,
    /// How pods on other nodes are reached
    #[arg(long, default_value = "vxlan")]
    routing: RoutingKind,
    /// Pods of all nodes; as given to the server
    #[arg(long, default_value = super::CLUSTER_CIDR)]
    cluster_cidr: Ipv4Net,
    /// Services; as given to the server
    #[arg(long, default_value = super::SERVICE_CIDR)]
    service_cluster_ip_range: Ipv4Net,
    /// The address of cluster DNS [default: the tenth of the service range]
    #[arg(long)]
    cluster_dns: Option<IpAddr>,
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Where names outside the cluster's domain are resolved [default: /etc/resolv.conf]
    #[arg(long = "dns-upstream", value_name = "ADDRESS")]
    dns_upstreams: Vec<String>,
    /// The port for logs and exec
    #[arg(long, default_value_t = 10250)]
    kubelet_port: u16,
    #[arg(long, default_value_t = 110)]
    max_pods: u32,
    /// When the node is short of something and evicts pods, such as memory.available<100Mi,nodefs.available<10%
    /// [default: upstream's]
    #[arg(long, value_name = "THRESHOLDS")]
    eviction_hard: Option<Thresholds>,
    /// Above this used percentage of the images' filesystem unused images are removed; 100 is never
    #[arg(long, default_value_t = 85, value_name = "PERCENT")]
    image_gc_high_threshold: u64,
    /// Down to this
    #[arg(long, default_value_t = 80, value_name = "PERCENT")]
    image_gc_low_threshold: u64,
}

impl Agent {
    /// # Errors
    /// A missing requirement in one line, or the part of the node that failed.
    pub async fn run(self) -> Result<()> {
        if !nix::unistd::geteuid().is_root() {
            bail!("xebec agent makes namespaces, mounts and eBPF programs: run it as root");
        }
        let cgroup_mount =
            cgroup::unified().context("cgroup2 is not mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`")?;
        let config = self.config(cgroup_mount)?;
        for directory in [&config.data_dir, &config.run_dir] {
            std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        }
        let stop = CancellationToken::new();
        signal::cancel_on_termination(stop.clone())?;
        Ok(xebec_agent::run(config, stop).await?)
    }

    fn config(self, cgroup_mount: PathBuf) -> Result<Config> {
        let token = match (self.token, &self.token_file) {
            (Some(token), _) => Some(token),
            (None, Some(file)) => {
                Some(std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?)
            }
            (None, None) => None,
        };
        let token = token.map(|token| token.trim().parse()).transpose().context("--token")?;
        let node_name = self.node_name.map_or_else(host_name, Ok)?;
        let cluster_dns = self.cluster_dns.map_or_else(|| tenth(self.service_cluster_ip_range), Ok)?;
        Ok(Config {
            node_ip: self.node_ip.map_or_else(|| own_address(&self.server), Ok)?,
            cgroup_root: self.cgroup_root.unwrap_or_else(|| format!("/xebec/{node_name}")),
            servers: self.server,
            token,
            ca_file: self.ca_file,
            node_name,
            uplinks: self.uplinks,
            data_dir: self.data_dir,
            run_dir: self.run_dir,
            container_runtime_endpoint: self.container_runtime_endpoint,
            cni_bin_dir: self.cni_bin_dir,
            cni_conf_dir: self.cni_conf_dir,
            bpffs: self.bpffs,
            cgroup_mount,
            routing: match self.routing {
                RoutingKind::Vxlan => Routing::Vxlan,
                RoutingKind::Native => Routing::Native,
            },
            cluster_cidr: self.cluster_cidr,
            service_cidr: self.service_cluster_ip_range,
            cluster_dns,
            cluster_domain: self.cluster_domain,
            dns_upstreams: self.dns_upstreams,
            kubelet_port: self.kubelet_port,
            max_pods: self.max_pods,
            eviction_hard: self.eviction_hard.unwrap_or_default(),
            image_gc_high_threshold: self.image_gc_high_threshold,
            image_gc_low_threshold: self.image_gc_low_threshold,
        })
    }
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("read the host name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// The cluster DNS address by convention: the tenth of the range, as kubeadm and k3s choose it.
fn tenth(range: Ipv4Net) -> Result<IpAddr> {
    range.hosts().nth(9).map(IpAddr::V4).with_context(|| format!("--service-cluster-ip-range {range} is too small"))
}

/// The source address that the kernel chooses towards the first server.
fn own_address(servers: &[String]) -> Result<Ipv4Addr> {
    let server = servers.first().map(String::as_str).unwrap_or_default();
    let authority = server.trim_start_matches("https://").trim_end_matches('/');
    let probe = || -> std::io::Result<IpAddr> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(authority)?;
        Ok(socket.local_addr()?.ip())
    };
    match probe() {
        Ok(IpAddr::V4(ip)) => Ok(ip),
        outcome => bail!("--node-ip is needed: the address towards {server} cannot be told ({outcome:?})"),
    }
}
