//! What connections to services take.

use std::{net::Ipv4Addr, time::Duration};

use aya::maps::{HashMap, Map, MapData};
use xebec_abi::{
    latency::{Latency, LatencyKey4},
    names,
    proto::TCP,
};
use xebec_datapath::{FrontendKey, latency};

use crate::{
    drift::links,
    machine::{Machine, Node},
    restart::Stream,
    tool::{addr, in_cgroup, serve, spawn},
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 70);

#[tokio::test]
async fn connections_to_services_are_measured_until_the_service_goes() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let (client, server) = (node.pod("client").await, node.pod("server").await);
    serve(&server.space.netns, server.ip, 80, "server");
    node.put(VIP, 80, TCP, &[(server.ip, 80)]);
    let datapath = node.datapath();
    let open = Stream::start(spawn(&client.space.netns, &node.mounts.cgroup, "stream", addr(VIP, 80)));
    let total = datapath.latencies().unwrap().pop().expect("a service with an open connection").total();
    assert_eq!((total.connect.count(), total.rtt.count()), (1, 0));
    open.finish();
    // The last one is not to a service.
    for to in [VIP, VIP, VIP, server.ip] {
        let said = in_cgroup(&client.space.netns, &node.mounts.cgroup, "tcp", addr(to, 80));
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
    assert_eq!(std::net::SocketAddr::V4(service.frontend), addr(VIP, 80));
    let backends: Vec<_> = service.backends.keys().map(|backend| std::net::SocketAddr::V4(*backend)).collect();
    assert_eq!(backends, [addr(server.ip, 80)]);
    let total = service.total();
    assert_eq!(total.connect.count(), 4);
    assert!(total.connect.sum > Duration::ZERO && total.connect.sum < Duration::from_secs(3), "{total:?}");
    assert_eq!(total.retransmits, 0);
    let pinned = latency::latencies(&node.config.bpffs, &node.config.node_name).unwrap();
    assert_eq!(pinned, [service]);
    let metrics = datapath.metrics();
    let count = format!("xebec_service_connect_seconds_count{{cluster_ip=\"{VIP}\",port=\"80\"}} 4");
    assert!(metrics.contains(&count), "{metrics}");

    assert!(datapath.remove_frontend(&FrontendKey::cluster_ip(VIP.into(), 80, TCP)).unwrap());
    datapath.collect_stale().unwrap();
    assert_eq!(datapath.latencies().unwrap(), []);
    assert_eq!(latency::latencies(&node.config.bpffs, "another").unwrap(), []);
}

#[tokio::test]
async fn a_connection_that_outlives_its_service_leaves_nothing_behind() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let (client, server) = (node.pod("client").await, node.pod("server").await);
    serve(&server.space.netns, server.ip, 80, "server");
    node.put(VIP, 80, TCP, &[(server.ip, 80)]);
    let datapath = node.datapath();
    let open = Stream::start(spawn(&client.space.netns, &node.mounts.cgroup, "stream", addr(VIP, 80)));
    assert_eq!(measured(node).len(), 1);
    assert!(datapath.remove_frontend(&FrontendKey::cluster_ip(VIP.into(), 80, TCP)).unwrap());
    datapath.collect_stale().unwrap();
    assert_eq!(measured(node), []);
    open.finish();
    // One that opens and closes later, so that what there is to say of the first has been said.
    node.put(VIP, 80, TCP, &[(server.ip, 80)]);
    let said = in_cgroup(&client.space.netns, &node.mounts.cgroup, "tcp", addr(VIP, 80));
    assert!(said.contains(" sees "), "{said}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while datapath.latencies().unwrap().pop().is_none_or(|later| later.total().rtt.count() == 0) {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", datapath.latencies());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let measured = measured(node);
    assert_eq!(measured.len(), 1, "{measured:?}");
}

/// What the kernel keeps of connections, whether the service is known or not.
fn measured(node: &Node) -> Vec<LatencyKey4> {
    let map = Map::LruHashMap(MapData::from_pin(links(node).with_file_name(names::LATENCY4)).unwrap());
    let map: HashMap<_, LatencyKey4, Latency> = map.try_into().unwrap();
    map.keys().collect::<Result<_, _>>().unwrap()
}
