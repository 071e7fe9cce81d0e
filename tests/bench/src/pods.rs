//! Pod to pod, on one node and across two, beside a raw veth pair between two namespaces.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use xebec_datapath::{Config, Datapath, PodEndpoint};
use xebec_podnet::{EndpointInfo, Endpoints, Node, PodNetwork, PodRequest, Remote, VXLAN_PORT};

use crate::figure::Report;
use crate::netns::{Scratch, connect};
use crate::traffic::{Rates, measure};

const NODES: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 31, 1, 1), Ipv4Addr::new(172, 31, 1, 2)];

pub fn run(report: &mut Report, smoke: bool) -> Result<()> {
    let (seconds, rounds) = if smoke { (0.2, 1) } else { (2.0, 3) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let raw = runtime.block_on(raw_pair())?;
    let raw = measure(&raw.0.netns, &raw.1.netns, NODES[1], seconds, rounds)?;
    for routing in [xebec_podnet::Routing::Vxlan { port: VXLAN_PORT }, xebec_podnet::Routing::Native] {
        let name = if routing == xebec_podnet::Routing::Native { "native" } else { "vxlan" };
        let cluster = runtime.block_on(Cluster::new(routing)).map_err(|error| anyhow!("{error}"))?;
        let [one, two] = &cluster.nodes;
        let (a, b, c) = (&one.pods[0], &one.pods[1], &two.pods[0]);
        let same = measure(&a.scratch.netns, &b.scratch.netns, b.ip, seconds, rounds)?;
        let cross = measure(&a.scratch.netns, &c.scratch.netns, c.ip, seconds, rounds)?;
        if name == "vxlan" {
            add(report, "same_node", same, raw);
        }
        add(report, &format!("cross_node_{name}"), cross, raw);
    }
    Ok(())
}

fn add(report: &mut Report, path: &str, own: Rates, raw: Rates) {
    let peer = "raw veth pair";
    report.add(format!("rr_{path}"), "transactions/s", own.transactions_per_s, Some((peer, raw.transactions_per_s)));
    report.add(format!("stream_{path}"), "Gbit/s", own.bits_per_s / 1e9, Some((peer, raw.bits_per_s / 1e9)));
    report.add(format!("rr_{path}_ratio"), "%", 100.0 * own.transactions_per_s / raw.transactions_per_s, None);
    report.add(format!("stream_{path}_ratio"), "%", 100.0 * own.bits_per_s / raw.bits_per_s, None);
}

async fn raw_pair() -> Result<(Scratch, Scratch)> {
    let (one, two) = (Scratch::new()?, Scratch::new()?);
    connect((&one, NODES[0]), (&two, NODES[1])).await?;
    Ok((one, two))
}

/// Two nodes on a veth pair: two pods on the first, one on the second.
struct Cluster {
    nodes: [NodeUnderTest; 2],
}

struct NodeUnderTest {
    pods: Vec<Pod>,
    // Dropped in this order: programs first, then what they are attached to.
    _network: PodNetwork,
    _datapath: Arc<Datapath>,
    _scratch: Scratch,
    _state: tempfile::TempDir,
    bpffs: tempfile::TempDir,
    cgroup: PathBuf,
}

struct Pod {
    scratch: Scratch,
    ip: Ipv4Addr,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl Cluster {
    async fn new(routing: xebec_podnet::Routing) -> Result<Self, AnyError> {
        let (one, two) = (Scratch::new()?, Scratch::new()?);
        connect((&one, NODES[0]), (&two, NODES[1])).await?;
        let one = NodeUnderTest::new(one, 0, routing, 2).await?;
        let two = NodeUnderTest::new(two, 1, routing, 1).await?;
        Ok(Self { nodes: [one, two] })
    }
}

fn pod_cidr(index: usize) -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 244, index as u8 + 1, 0), 24)
}

impl NodeUnderTest {
    async fn new(
        scratch: Scratch,
        index: usize,
        routing: xebec_podnet::Routing,
        pods: usize,
    ) -> Result<Self, AnyError> {
        let (state, bpffs) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("bpffs"), bpffs.path(), Some("bpf"), flags, None::<&str>)?;
        let cgroup = crate::netns::unified().context("cgroup2 is not mounted")?;
        let cgroup = cgroup.join(format!("xebec-bench-{}-node-{index}", std::process::id()));
        std::fs::create_dir_all(&cgroup)?;
        let node = Node::prepare(&xebec_podnet::Config {
            netns: scratch.netns.clone(),
            state_dir: state.path().to_path_buf(),
            node_ip: NODES[index],
            pod_cidr: pod_cidr(index),
            routing,
        })
        .await?;
        let config = Config {
            node_name: format!("bench-{index}"),
            bpffs: bpffs.path().to_path_buf(),
            cgroup_pods: cgroup.clone(),
            cgroup_node: cgroup.clone(),
            node_ip: NODES[index],
            pod_cidr: node.pod_cidr,
            cluster_cidr: "10.244.0.0/16".parse()?,
            service_cidr: "10.96.0.0/12".parse()?,
            routing: match &node.vxlan {
                Some(device) => xebec_datapath::Routing::Vxlan { ifindex: device.index, vni: 1 },
                None => xebec_datapath::Routing::Native,
            },
            uplinks: vec![node.uplink.index],
            gateway: node.gateway,
            netns_cookie: 0,
            snat_ports: Config::SNAT_PORTS,
        };
        let datapath = Arc::new(scratch.netns.run(|| Datapath::open(config))??);
        let other = 1 - index;
        datapath.put_remote(pod_cidr(other), NODES[other])?;
        node.ensure_remotes(&[Remote { pod_cidr: pod_cidr(other), node_ip: NODES[other] }]).await?;
        let endpoints = Arc::new(Attach(Arc::clone(&datapath), scratch.netns.clone()));
        let network = PodNetwork::open(node, state.path(), endpoints).await?;
        let mut made = Vec::new();
        for number in 0..pods {
            let pod = Scratch::new()?;
            let request = PodRequest {
                container: format!("bench-{index}-{number}"),
                ifname: "eth0".to_owned(),
                netns: pod.netns.path().to_path_buf(),
                namespace: "bench".to_owned(),
                name: format!("pod-{number}"),
                uid: format!("{index}-{number}"),
            };
            let attachment = network.add(&request).await?;
            made.push(Pod { scratch: pod, ip: attachment.endpoint.ip });
        }
        Ok(Self { pods: made, _network: network, _datapath: datapath, _scratch: scratch, _state: state, bpffs, cgroup })
    }
}

impl Drop for NodeUnderTest {
    fn drop(&mut self) {
        let left = [
            nix::mount::umount2(self.bpffs.path(), nix::mount::MntFlags::MNT_DETACH).map_err(Into::into),
            std::fs::remove_dir(&self.cgroup),
        ];
        for error in left.into_iter().filter_map(Result::err) {
            eprintln!("clean up: {error}");
        }
    }
}

struct Attach(Arc<Datapath>, xebec_netlink::Netns);

#[async_trait::async_trait]
impl Endpoints for Attach {
    async fn attach(&self, endpoint: &EndpointInfo) -> Result<(), AnyError> {
        let pod = PodEndpoint {
            ip: endpoint.ip,
            host_ifindex: endpoint.host_ifindex,
            pod_mac: endpoint.pod_mac.0,
            host_mac: endpoint.host_mac.0,
            netns_cookie: endpoint.netns_cookie,
        };
        Ok(self.1.run(|| self.0.attach_pod(&pod))??)
    }

    async fn detach(&self, ip: Ipv4Addr) -> Result<(), AnyError> {
        self.0.detach_pod(ip)?;
        Ok(())
    }
}
