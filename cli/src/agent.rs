//! `xebec agent`: the flags of a node.

pub mod load_balancer;
mod places;
mod reset;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use xebec_agent::{Capacity, Config, Routing, Thresholds};
use xebec_machinery::net::{self, IpFamily};

use crate::cluster::cgroup;
use crate::cluster::spec::RoutingKind;
use crate::signal;
use load_balancer::LoadBalancerArgs;
use places::Places;
use reset::Reset;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Agent {
    #[command(subcommand)]
    command: Option<Command>,
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
    #[command(flatten)]
    places: Places,
    /// One address, or one of each family [default: those from which the server and the default route are reached]
    #[arg(long, value_delimiter = ',')]
    node_ip: Vec<IpAddr>,
    /// A further interface that leads to other nodes or outside; may be given several times
    #[arg(long = "uplink", value_name = "INTERFACE")]
    uplinks: Vec<String>,
    /// How pods on other nodes are reached
    #[arg(long, default_value = "vxlan")]
    routing: RoutingKind,
    #[command(flatten)]
    load_balancer: LoadBalancerArgs,
    /// Ports of the node's addresses from which flows of pods and clients go on, where they leave with such an address. The
    /// kernel gives them to nobody else; flows that have ports outside of another range end when it is chosen
    #[arg(long, default_value = SNAT_PORTS, value_name = "FIRST-LAST", value_parser = snat_ports)]
    snat_ports: RangeInclusive<u16>,
    /// Entries of the datapath's maps of Services, of each family, such as frontends=500000,backends=2000000; also of
    /// members, source-ranges and maglev-blocks. Other sizes are taken over without loss
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME=ENTRIES,...")]
    datapath_capacity: Capacity,
    /// Pods of all nodes; as given to the server
    #[arg(long, value_delimiter = ',', default_value = super::CLUSTER_CIDR)]
    cluster_cidr: Vec<IpNet>,
    /// Services; as given to the server
    #[arg(long, value_delimiter = ',', default_value = super::SERVICE_CIDR)]
    service_cluster_ip_range: Vec<IpNet>,
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

#[derive(Subcommand)]
enum Command {
    Reset(Reset),
}

impl Agent {
    /// Whether it runs until it is told to stop.
    pub fn is_daemon(&self) -> bool {
        self.command.is_none()
    }

    /// # Errors
    /// A missing requirement in one line, or the part of the node that failed.
    pub async fn run(mut self) -> Result<()> {
        match self.command.take() {
            Some(Command::Reset(reset)) => reset.run().await,
            None => self.run_node().await,
        }
    }

    async fn run_node(self) -> Result<()> {
        if !nix::unistd::geteuid().is_root() {
            bail!("xebec agent makes namespaces, mounts and eBPF programs: run it as root");
        }
        let cgroup_mount =
            cgroup::unified().context("cgroup2 is not mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`")?;
        let _lock = self.places.lock()?;
        let config = self.config(cgroup_mount)?;
        let data_dir = &config.data_dir;
        std::fs::create_dir_all(data_dir).with_context(|| format!("create {}", data_dir.display()))?;
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
        let (node_name, cgroup_root) = (self.places.node_name()?, self.places.cgroup_root()?);
        super::server::check_networks(&self.service_cluster_ip_range, &self.cluster_cidr)?;
        let cluster_dns = match (self.cluster_dns, self.service_cluster_ip_range.first()) {
            (Some(address), _) => address,
            // By convention, as kubeadm and k3s choose it.
            (None, Some(range)) => net::address(*range, 10),
            (None, None) => bail!("--service-cluster-ip-range is empty"),
        };
        let is_dual = self.node_ip.iter().any(IpAddr::is_ipv4) && self.node_ip.iter().any(IpAddr::is_ipv6);
        let node_ips = match self.node_ip.len() {
            0 => own_addresses(&self.server, &self.cluster_cidr)?,
            1 => self.node_ip,
            2 if is_dual => primary_first(self.node_ip, &self.cluster_cidr),
            _ => bail!("--node-ip takes one address, or one of each family"),
        };
        check_families(&node_ips, &self.cluster_cidr)?;
        Ok(Config {
            node_ips,
            cgroup_root,
            servers: self.server,
            token,
            ca_file: self.ca_file,
            node_name,
            uplinks: self.uplinks,
            data_dir: self.places.data_dir,
            run_dir: self.places.run_dir,
            container_runtime_endpoint: self.places.container_runtime_endpoint,
            cni_bin_dir: self.places.cni_bin_dir,
            cni_conf_dir: self.places.cni_conf_dir,
            bpffs: self.places.bpffs,
            cgroup_mount,
            routing: match self.routing {
                RoutingKind::Vxlan => Routing::Vxlan,
                RoutingKind::Native => Routing::Native,
            },
            snat_ports: self.snat_ports,
            load_balancer: self.load_balancer.config(),
            capacity: self.datapath_capacity,
            cluster_cidrs: self.cluster_cidr,
            service_cidrs: self.service_cluster_ip_range,
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

/// [`xebec_datapath::Config::SNAT_PORTS`].
const SNAT_PORTS: &str = "61000-65535";
/// Below are the ports of well-known services.
const SNAT_PORT_LEAST: u16 = 1024;

fn snat_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let ports = text.split_once('-').and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    let ports: RangeInclusive<u16> = ports
        .filter(|ports: &RangeInclusive<u16>| !ports.is_empty())
        .ok_or_else(|| format!("{text:?} is no range of ports, such as {SNAT_PORTS}"))?;
    let node_ports = xebec_datapath::Config::NODE_PORTS;
    if *ports.start() < SNAT_PORT_LEAST {
        return Err(format!("ports below {SNAT_PORT_LEAST} are for well-known services"));
    }
    if ports.start() <= node_ports.end() && ports.end() >= node_ports.start() {
        return Err(format!("{}-{} are for NodePorts", node_ports.start(), node_ports.end()));
    }
    Ok(ports)
}

/// An address of each family that pods have: the one that the kernel chooses towards the first server, or else towards
/// the default route.
fn own_addresses(servers: &[String], cluster: &[IpNet]) -> Result<Vec<IpAddr>> {
    let server = servers.first().map(String::as_str).unwrap_or_default();
    let authority = server.trim_start_matches("https://").trim_end_matches('/');
    let resolved: Vec<SocketAddr> =
        authority.to_socket_addrs().with_context(|| format!("resolve {authority}"))?.collect();
    let of_family = |cidr: &IpNet| {
        let is_ipv4 = cidr.addr().is_ipv4();
        let towards = resolved.iter().find(|server| server.is_ipv4() == is_ipv4).copied();
        let towards = towards.unwrap_or_else(|| outside(is_ipv4));
        source(towards).with_context(|| {
            let family = IpFamily::of_net(*cidr).as_str();
            format!("--node-ip is needed: the node's {family} address towards {towards} cannot be told")
        })
    };
    cluster.iter().map(of_family).collect()
}

/// The source address that the kernel chooses: connecting a UDP socket sends nothing.
fn source(towards: SocketAddr) -> std::io::Result<IpAddr> {
    let any = if towards.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(towards)?;
    Ok(socket.local_addr()?.ip())
}

/// An address of nobody (RFC 5737, RFC 3849): the way to it is the default route.
fn outside(is_ipv4: bool) -> SocketAddr {
    let ip = if is_ipv4 {
        Ipv4Addr::new(203, 0, 113, 1).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
    };
    SocketAddr::new(ip, 9)
}

/// As the cluster's families are.
fn primary_first(mut ips: Vec<IpAddr>, cluster: &[IpNet]) -> Vec<IpAddr> {
    let primary_is_ipv4 = cluster.first().is_none_or(|cidr| cidr.addr().is_ipv4());
    ips.sort_by_key(|ip| ip.is_ipv4() != primary_is_ipv4);
    ips
}

/// A node may lack one of the families that pods have, not all.
fn check_families(node_ips: &[IpAddr], cluster: &[IpNet]) -> Result<()> {
    let is_reached = |cidr: &IpNet| node_ips.iter().any(|ip| ip.is_ipv4() == cidr.addr().is_ipv4());
    if let (Some(cidr), false) = (cluster.first(), cluster.iter().any(is_reached)) {
        let family = IpFamily::of_net(*cidr).as_str();
        bail!("--cluster-cidr {cidr} needs an {family} address of the node, and --node-ip has none: add one");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn ports_for_masquerading_are_nobody_elses() {
        assert_eq!(snat_ports(SNAT_PORTS), Ok(xebec_datapath::Config::SNAT_PORTS));
        assert_eq!(snat_ports("32768-32768"), Ok(32_768..=32_768));
        let fails = |text: &str, reason: &str| {
            let error = snat_ports(text).expect_err("refused");
            assert!(error.contains(reason), "{text}: {error}");
        };
        for text in ["", "61000", "61000-65536", "65535-61000", "61000-", "a-b"] {
            fails(text, "is no range of ports");
        }
        fails("1023-2000", "below 1024");
        fails("20000-30000", "30000-32767 are for NodePorts");
        fails("32767-40000", "30000-32767 are for NodePorts");
        fails("1024-65535", "30000-32767 are for NodePorts");
    }

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        agent: Agent,
    }

    #[test]
    fn reset_takes_the_places_of_a_node_and_nothing_else_of_an_agent() {
        let parse = |args: &str| Flags::try_parse_from(["agent"].into_iter().chain(args.split_whitespace()));
        let daemon = |args: &str| parse(args).map(|flags| flags.agent.is_daemon()).map_err(|error| error.to_string());
        assert_eq!(daemon("--server https://10.0.0.1:6443 --data-dir /d"), Ok(true));
        assert_eq!(daemon("reset --data-dir /d --run-dir /r --bpffs /b --node-name n --cgroup-root /c -f"), Ok(false));
        let refused = |args: &str, reason: &str| {
            let error = daemon(args).expect_err("refused");
            assert!(error.contains(reason), "{args}: {error}");
        };
        refused("", "--server");
        refused("--data-dir /d reset", "--data-dir");
        refused("reset --server https://10.0.0.1:6443", "--server");
    }

    #[test]
    fn a_node_has_an_address_of_its_pods_family() {
        let check = |ips: &[&str], cluster: &[&str]| {
            let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
            let cluster: Vec<IpNet> = cluster.iter().map(|net| net.parse().expect("a network")).collect();
            check_families(&ips, &cluster).map_err(|error| error.to_string())
        };
        let (four, six) = ("10.244.0.0/16", "fd00:244::/48");
        for (ips, cluster) in [(&["10.0.0.1"], [four, six]), (&["fd00::1"], [four, six]), (&["fd00::1"], [six, six])] {
            assert_eq!(check(ips, &cluster), Ok(()));
        }
        let lacks = |cidr: &str, family: &str| {
            Err(format!("--cluster-cidr {cidr} needs an {family} address of the node, and --node-ip has none: add one"))
        };
        assert_eq!(check(&["fd00::1"], &[four]), lacks(four, "IPv4"));
        assert_eq!(check(&["10.0.0.1"], &[six]), lacks(six, "IPv6"));
    }

    #[test]
    fn the_clusters_primary_family_comes_first() {
        let ips: Vec<IpAddr> = ["10.0.0.1", "fd00::1"].map(|ip| ip.parse().expect("an address")).to_vec();
        let check = |cluster: &str, first: &str| {
            let cluster: Vec<IpNet> = cluster.split(',').map(|net| net.parse().expect("a network")).collect();
            assert_eq!(primary_first(ips.clone(), &cluster)[0].to_string(), first);
        };
        check("10.244.0.0/16,fd00:244::/48", "10.0.0.1");
        check("fd00:244::/48,10.244.0.0/16", "fd00::1");
    }

    #[test]
    fn the_source_is_of_the_servers_family() {
        let servers = ["https://127.0.0.1:6443".to_owned()];
        let ips = own_addresses(&servers, &["10.244.0.0/16".parse().expect("a network")]).expect("an address");
        assert_eq!(ips, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    }
}
