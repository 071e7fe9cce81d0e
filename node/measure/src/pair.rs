//! A client and a server in namespaces of their own, and the eBPF datapath on the client's side.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use xebec_datapath::{
    Backend, Capacity, Config, Datapath, Frontend, FrontendKey, LoadBalancer, MapLayout, Network, Routing, Service,
};
use xebec_netlink::Netns;

use crate::netns::{Scratch, connect};
use crate::packet_filter::{SERVICE_PORT, address};
use crate::run::{Cgroup, Directory};
use crate::traffic::Server;

const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
const SERVER_PORTS: [u16; 2] = [8080, 8081];
const TCP: u8 = 6;

/// Every service's backends.
pub fn backends() -> Vec<(Ipv4Addr, u16)> {
    SERVER_PORTS.iter().map(|port| (SERVER, *port)).collect()
}

/// The n-th service, as clients dial it.
pub fn service_address(n: u32) -> SocketAddrV4 {
    SocketAddrV4::new(address(n), SERVICE_PORT)
}

pub struct Pair {
    // Dropped in this order.
    server: Server,
    pub client: Scratch,
    _far: Scratch,
}

impl Pair {
    /// # Errors
    /// When the namespaces cannot be made.
    pub fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, far) = (Scratch::new()?, Scratch::new()?);
        runtime.block_on(connect((&client, CLIENT), (&far, SERVER)))?;
        runtime.block_on(default_route(&client))?;
        let server = Server::start(&far.netns, &backends())?;
        Ok(Self { server, client, _far: far })
    }

    /// The servers themselves, one for each of `numbers`: the same two as behind a service, or a client would find the one
    /// server awake and those of the service asleep.
    pub fn direct(&self, numbers: &[u32]) -> Vec<SocketAddrV4> {
        let servers = self.server.addresses();
        numbers.iter().map(|number| servers[*number as usize % servers.len()]).collect()
    }
}

async fn default_route(client: &Scratch) -> Result<()> {
    let handle = client.handle()?;
    let index = handle.link("eth0").await?.index;
    let route = xebec_netlink::Route::default4().via(SERVER.into()).dev(index);
    Ok(handle.route_add(&route).await?)
}

/// The datapath of a client's namespace, for processes in a cgroup of its own.
pub struct Ebpf {
    // Dropped in this order: pins last as long as their filesystem.
    pub datapath: std::sync::Arc<Datapath>,
    netns: Netns,
    _bpffs: Directory,
    pub cgroup: Cgroup,
}

impl Ebpf {
    /// # Errors
    /// When the datapath cannot be loaded.
    pub fn open(client: &Scratch) -> Result<Self> {
        let (bpffs, cgroup) = (Directory::bpffs()?, Cgroup::new()?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let uplink = runtime.block_on(async { anyhow::Ok(client.handle()?.link("eth0").await?.index) })?;
        let config = Config {
            node_name: "bench".to_owned(),
            bpffs: bpffs.path().to_path_buf(),
            cgroup_pods: cgroup.path().to_path_buf(),
            cgroup_node: cgroup.path().to_path_buf(),
            ipv4: Some(Network {
                node_ip: CLIENT,
                pod_cidr: "10.244.0.0/24".parse()?,
                cluster_cidr: "10.244.0.0/16".parse()?,
                service_cidr: "10.96.0.0/12".parse()?,
                gateway: Ipv4Addr::new(10, 244, 0, 1),
            }),
            ipv6: None,
            routing: Routing::Native,
            pod_mtu: 1_500,
            uplinks: vec![uplink],
            netns_cookie: 0,
            snat_ports: Config::SNAT_PORTS,
            load_balancer: LoadBalancer::default(),
            capacity: Capacity::default(),
            map_layout: MapLayout::default(),
        };
        let datapath = client.netns.run(|| Datapath::open(config))??;
        Ok(Self { datapath: datapath.into(), netns: client.netns.clone(), _bpffs: bpffs, cgroup })
    }

    /// Programs services as an agent does: the maps grow.
    ///
    /// # Errors
    /// When the datapath refuses.
    pub fn put(&self, services: &[Service]) -> Result<()> {
        self.netns.run(|| self.datapath.put_services_growing(services))??;
        Ok(())
    }
}

/// Service `n` as the datapath takes it, with these backends.
pub fn service(n: u32, backends: &[(Ipv4Addr, u16)]) -> Service {
    let backend = |(addr, port): &(Ipv4Addr, u16)| Backend {
        addr: (*addr).into(),
        port: *port,
        local: false,
        terminating: false,
        weight: 0,
    };
    Service {
        frontends: vec![Frontend { key: FrontendKey::cluster_ip(address(n).into(), SERVICE_PORT, TCP), flags: 0 }],
        backends: backends.iter().map(backend).collect(),
        ..Service::default()
    }
}
