//! The programs of a cluster, in the order in which they start.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk;
use super::layout::{Layout, NodeNumber, SERVER as SERVER_HOST, SERVER_PORT};
use super::spec::{IpFamilies, Spec, StoreKind, word};
use super::unit::Unit;

/// etcd's client port inside the server's namespace.
const ETCD_URL: &str = "http://127.0.0.1:2379";
/// Of the underlay: `outside` finds these addresses by ARP and neighbour discovery.
const LOAD_BALANCER_POOLS: [(IpFamilies, &str); 2] =
    [(IpFamilies::Ipv4, "172.30.0.210-172.30.0.250"), (IpFamilies::Ipv6, "fd00:172:30::210-fd00:172:30::250")];

pub fn units(layout: &Layout, spec: &Spec, xebec: &Path, listener: &Arc<OwnedFd>) -> Vec<Unit> {
    let mut units = Vec::new();
    if spec.store == StoreKind::Etcd {
        units.push(etcd(layout));
    }
    units.push(server(layout, spec, xebec, listener));
    for node in spec.nodes() {
        units.push(containerd(layout, node));
        units.push(agent(layout, spec, xebec, node));
    }
    units
}

pub const SERVER: &str = "server";

fn etcd(layout: &Layout) -> Unit {
    let mut args = Args::default();
    args.flag("--name", "xebec").flag("--data-dir", layout.etcd_dir());
    args.flag("--listen-client-urls", ETCD_URL).flag("--advertise-client-urls", ETCD_URL);
    args.flag("--listen-peer-urls", "http://127.0.0.1:2380");
    args.flag("--initial-advertise-peer-urls", "http://127.0.0.1:2380");
    args.flag("--initial-cluster", "xebec=http://127.0.0.1:2380");
    args.flag("--log-level", "warn");
    Unit {
        name: "etcd".to_owned(),
        program: PathBuf::from("etcd"),
        args: args.0,
        netns: layout.netns(SERVER),
        mount_namespace: None,
        cgroup: layout.cgroup(SERVER),
        listener: None,
        needs: Vec::new(),
    }
}

fn server(layout: &Layout, spec: &Spec, xebec: &Path, listener: &Arc<OwnedFd>) -> Unit {
    let mut args = Args(vec!["server".into()]);
    args.flag("--data-dir", layout.server_dir());
    let address = spec.ip_families.primary(SERVER_HOST).to_string();
    args.flag("--bind-address", &address).flag("--secure-port", SERVER_PORT.to_string());
    args.flag("--advertise-address", &address);
    args.flag("--cluster-cidr", spec.ip_families.cluster_cidr());
    args.flag("--service-cluster-ip-range", spec.ip_families.service_cidr());
    args.flag("--tls-san", "127.0.0.1,localhost");
    let pools = LOAD_BALANCER_POOLS.into_iter();
    let pools = pools.filter(|(family, _)| spec.ip_families == IpFamilies::Dual || spec.ip_families == *family);
    args.flag("--load-balancer-pool", pools.map(|(_, pool)| pool).collect::<Vec<_>>().join(","));
    args.flag("--write-kubeconfig", layout.kubeconfig());
    args.flag("--kubeconfig-server", format!("https://127.0.0.1:{}", spec.port));
    if spec.store == StoreKind::Etcd {
        args.flag("--etcd-servers", ETCD_URL);
    }
    Unit {
        name: SERVER.to_owned(),
        program: xebec.to_path_buf(),
        args: args.0,
        netns: layout.netns(SERVER),
        mount_namespace: None,
        cgroup: layout.cgroup(SERVER),
        listener: Some(Arc::clone(listener)),
        needs: Vec::new(),
    }
}

fn containerd(layout: &Layout, node: NodeNumber) -> Unit {
    Unit {
        name: format!("{}.containerd", node.name()),
        program: PathBuf::from("containerd"),
        args: vec!["--config".into(), containerd_config(layout, node).into()],
        netns: layout.netns(&node.name()),
        mount_namespace: Some(layout.mount_namespace(node)),
        cgroup: format!("{}/sys", layout.cgroup(&node.name())),
        listener: None,
        needs: Vec::new(),
    }
}

/// Where [`containerd`]'s configuration is.
pub fn containerd_config(layout: &Layout, node: NodeNumber) -> PathBuf {
    layout.node_dir(node).join("containerd.toml")
}

fn agent(layout: &Layout, spec: &Spec, xebec: &Path, node: NodeNumber) -> Unit {
    let data = layout.node_dir(node);
    let mut args = Args(vec!["agent".into()]);
    let server = SocketAddr::new(spec.ip_families.primary(SERVER_HOST), SERVER_PORT);
    args.flag("--server", format!("https://{server}")).flag("--token-file", layout.join_token());
    let ips: Vec<String> = spec.ip_families.underlay(node.host()).iter().map(|(ip, _)| ip.to_string()).collect();
    args.flag("--node-name", node.name()).flag("--node-ip", ips.join(",")).flag("--uplink", "eth0");
    args.flag("--cluster-cidr", spec.ip_families.cluster_cidr());
    args.flag("--service-cluster-ip-range", spec.ip_families.service_cidr());
    args.flag("--data-dir", data.join("agent")).flag("--run-dir", layout.node_run(node));
    args.flag("--container-runtime-endpoint", layout.containerd_socket(node));
    args.flag("--cni-bin-dir", data.join("cni/bin")).flag("--cni-conf-dir", data.join("cni/conf"));
    args.flag("--cgroup-root", format!("/{}", layout.cgroup(&node.name()))).flag("--routing", word(spec.routing));
    args.flag("--forwarding-mode", word(spec.forwarding));
    if let Some(mode) = spec.xdp {
        args.flag("--xdp", word(mode));
    }
    if let Some(relaxed) = disk::relaxed(layout) {
        args.flag("--eviction-hard", relaxed).flag("--image-gc-high-threshold", "100");
    }
    Unit {
        name: format!("{}.agent", node.name()),
        program: xebec.to_path_buf(),
        args: args.0,
        netns: layout.netns(&node.name()),
        mount_namespace: Some(layout.mount_namespace(node)),
        cgroup: format!("{}/sys", layout.cgroup(&node.name())),
        listener: None,
        needs: vec![layout.join_token(), layout.containerd_socket(node)],
    }
}

#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    fn flag(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.push(name.into());
        self.0.push(value.into());
        self
    }
}
