//! What connections to services take.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use aya::maps::{HashMap, Map, MapData};
use xebec_abi::{
    Addr4, Addr6, Address,
    latency::{Latency, LatencyKey},
    names,
    proto::TCP,
};
use xebec_datapath::{FrontendKey, latency};

use crate::{
    drift::links,
    machine::{Machine, Node, Pod, service},
    restart::Stream,
    tool::{addr, in_cgroup, mapped, serve, spawn},
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 70);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd96, 0xdb8, 0, 0, 0, 0, 0, 0x70);

#[tokio::test]
async fn connections_to_services_are_measured_until_the_service_goes() {
    let machine = Machine::dual(1, true).await;
    let node = &machine.nodes[0];
    let (client, server) = (node.pod("client").await, node.pod("server").await);
    check(node, &client, &server, (VIP.into(), server.ip.into()), addr(VIP, 80)).await;
    check(node, &client, &server, (VIP6.into(), server.ip6().into()), addr(VIP6, 80)).await;
    // What a dual-stack socket dials with an IPv4-mapped address.
    serve(&server.space.netns, server.ip, 81, "server");
    node.put(VIP, 80, TCP, &[(server.ip, 81)]);
    let said = in_cgroup(&client.space.netns, &node.mounts.cgroup, "tcp", mapped(VIP, 80));
    assert!(said.contains(" sees "), "{said}");
    let services = node.datapath().latencies().unwrap();
    let frontends: Vec<_> = services.iter().map(|service| service.frontend).collect();
    assert_eq!(frontends, [addr(VIP, 80)]);
}

/// The service at `vip`, which is dialled by the address `to`, has one backend.
async fn check(node: &Node, client: &Pod, server: &Pod, (vip, backend): (IpAddr, IpAddr), to: SocketAddr) {
    serve(&server.space.netns, backend, 80, "server");
    let datapath = node.datapath();
    datapath.put_service(&service(vip, 80, TCP, &[(backend, 80)])).unwrap();
    let open = Stream::start(spawn(&client.space.netns, &node.mounts.cgroup, "stream", to));
    let total = datapath.latencies().unwrap().pop().expect("a service with an open connection").total();
    assert_eq!((total.connect.count(), total.rtt.count()), (1, 0));
    open.finish();
    // The last one is not to a service.
    for to in [to, to, to, addr(backend, 80)] {
        let said = in_cgroup(&client.space.netns, &node.mounts.cgroup, "tcp", to);
        assert!(said.contains(" sees "), "{said}");
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let service = loop {
        let mut services = datapath.latencies().unwrap();
        let service = services.pop().expect("a service that was connected to");
        assert!(services.is_empty(), "{services:?}");
        // Round-trip times are read when a connection has closed at both ends.
        if service.total().rtt.count() == 4 {
            break service;
        }
        assert!(tokio::time::Instant::now() < deadline, "{service:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(service.frontend, addr(vip, 80));
    assert_eq!(service.backends.keys().copied().collect::<Vec<_>>(), [addr(backend, 80)]);
    let total = service.total();
    assert_eq!(total.connect.count(), 4);
    assert!(total.connect.sum > Duration::ZERO && total.connect.sum < Duration::from_secs(3), "{total:?}");
    assert_eq!(total.retransmits, 0);
    let pinned = latency::latencies(&node.config.bpffs, &node.config.node_name).unwrap();
    assert_eq!(pinned, [service]);
    let metrics = datapath.metrics();
    let count = format!("xebec_service_connect_seconds_count{{cluster_ip=\"{vip}\",port=\"80\"}} 4");
    assert!(metrics.contains(&count), "{metrics}");

    assert!(datapath.remove_frontend(&FrontendKey::cluster_ip(vip, 80, TCP)).unwrap());
    datapath.collect_stale().unwrap();
    assert_eq!(datapath.latencies().unwrap(), []);
    assert_eq!(latency::latencies(&node.config.bpffs, "another").unwrap(), []);
}

#[tokio::test]
async fn a_connection_that_outlives_its_service_leaves_nothing_behind() {
    let machine = Machine::dual(1, true).await;
    let node = &machine.nodes[0];
    let (client, server) = (node.pod("client").await, node.pod("server").await);
    outlive::<Addr4>(node, &client, &server, names::LATENCY4, (VIP.into(), server.ip.into())).await;
    outlive::<Addr6>(node, &client, &server, names::LATENCY6, (VIP6.into(), server.ip6().into())).await;
}

async fn outlive<A: Address + aya::Pod>(
    node: &Node,
    client: &Pod,
    server: &Pod,
    map: &str,
    (vip, backend): (IpAddr, IpAddr),
) {
    serve(&server.space.netns, backend, 80, "server");
    let datapath = node.datapath();
    let put = || datapath.put_service(&service(vip, 80, TCP, &[(backend, 80)])).unwrap();
    put();
    let open = Stream::start(spawn(&client.space.netns, &node.mounts.cgroup, "stream", addr(vip, 80)));
    assert_eq!(measured::<A>(node, map).len(), 1);
    assert!(datapath.remove_frontend(&FrontendKey::cluster_ip(vip, 80, TCP)).unwrap());
    datapath.collect_stale().unwrap();
    assert_eq!(measured::<A>(node, map), []);
    open.finish();
    // One that opens and closes later, so that what there is to say of the first has been said.
    put();
    let said = in_cgroup(&client.space.netns, &node.mounts.cgroup, "tcp", addr(vip, 80));
    assert!(said.contains(" sees "), "{said}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let seen = || datapath.latencies().unwrap().into_iter().find(|service| service.frontend.ip() == vip);
    while seen().is_none_or(|later| later.total().rtt.count() == 0) {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", datapath.latencies());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let measured = measured::<A>(node, map);
    assert_eq!(measured.len(), 1, "{measured:?}");
}

/// What the kernel keeps of connections, whether the service is known or not.
fn measured<A: Address + aya::Pod>(node: &Node, map: &str) -> Vec<LatencyKey<A>> {
    let map = Map::LruHashMap(MapData::from_pin(links(node).with_file_name(map)).unwrap());
    let map: HashMap<_, LatencyKey<A>, Latency> = map.try_into().unwrap();
    map.keys().collect::<Result<_, _>>().unwrap()
}
