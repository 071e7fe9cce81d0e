//! What others take away from the datapath comes back, and connections go on.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use aya::maps::{HashMap, Map, MapData};
use xebec_abi::{Be16, FrontendEntry, FrontendKey4, LocalPod, lb::scope, names, proto::TCP};
use xebec_datapath::DriftKind;

use crate::{
    machine::{Machine, Node},
    restart::Stream,
    tool::{addr, in_cgroup, serve, spawn},
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 70);

/// What `repair` finds, by kind; a second look finds nothing.
#[track_caller]
pub fn check(node: &Node, expected: &[(DriftKind, &str)]) {
    let repair = || node.space.netns.run(|| node.datapath().repair()).unwrap().unwrap();
    let found = repair();
    let short: Vec<_> = found.iter().map(|drift| (drift.kind, drift.object.split(' ').next().unwrap())).collect();
    assert_eq!(short, expected, "{found:?}");
    assert_eq!(repair(), [], "after {expected:?}");
}

pub fn links(node: &Node) -> std::path::PathBuf {
    let directory = node.config.bpffs.join("xebec").join(&node.config.node_name);
    directory.join("v1/links")
}

/// Removes the pins of a program's links: nobody else holds them, so they detach.
pub fn detach(links: &Path, program: &str) {
    for entry in fs::read_dir(links).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(&format!("-{program}")) {
            fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test]
async fn programs_pins_and_entries_come_back() {
    use DriftKind::{MapEntry, Pin, Program};
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let (client, server) = (node.pod("client").await, node.pod("server").await);
    serve(&server.space.netns, server.ip, 80, "server");
    node.put(VIP, 80, TCP, &[(server.ip, 80)]);
    let stream = Stream::start(spawn(&client.space.netns, &node.mounts.cgroup, "stream", addr(VIP, 80)));
    let links = links(node);
    check(node, &[]);

    detach(&links, "sock4_connect");
    check(node, &[(Program, "sock4_connect")]);
    detach(&links, "from_netdev");
    check(node, &[(Program, "from_netdev")]);
    detach(&links, "from_overlay");
    check(node, &[(Program, "from_overlay")]);
    detach(&links, "to_pod");
    check(node, &[(Program, "to_pod"), (Program, "to_pod")]);
    fs::remove_file(links.with_file_name(names::LB4_FRONTENDS)).unwrap();
    check(node, &[(Pin, names::LB4_FRONTENDS)]);
    let said = in_cgroup(&client.space.netns, &node.mounts.cgroup, "tcp", addr(VIP, 80));
    assert!(said.starts_with("server sees"), "{said}");

    let pods = Map::HashMap(MapData::from_pin(links.with_file_name(names::PODS4)).unwrap());
    let mut pods: HashMap<_, [u8; 4], LocalPod> = pods.try_into().unwrap();
    pods.remove(&server.ip.octets()).unwrap();
    check(node, &[(MapEntry, names::PODS4)]);
    let mut other = pods.get(&client.ip.octets(), 0).unwrap();
    other.ifindex += 1;
    pods.insert(client.ip.octets(), other, 0).unwrap();
    pods.insert([10, 244, 9, 9], other, 0).unwrap();
    check(node, &[(MapEntry, names::PODS4), (MapEntry, names::PODS4)]);
    // A frontend's own entry says otherwise than the backends' map: that is none of its backends, and is written again.
    let backends = || {
        let programmed = node.datapath().frontends().unwrap();
        programmed.iter().find(|programmed| programmed.frontend.key.addr == VIP).unwrap().backends.len()
    };
    let before = backends();
    let frontends = Map::HashMap(MapData::from_pin(links.with_file_name(names::LB4_FRONTENDS)).unwrap());
    let mut frontends: HashMap<_, FrontendKey4, FrontendEntry<[u8; 4]>> = frontends.try_into().unwrap();
    let key = FrontendKey4 { addr: VIP.octets(), port: Be16::new(80), proto: TCP, scope: scope::INTERNAL };
    let mut entry = frontends.get(&key, 0).unwrap();
    entry.first[0].addr = client.ip.octets();
    frontends.insert(key, entry, 0).unwrap();
    assert_eq!(backends(), before - 1);
    node.put(VIP, 80, TCP, &[(server.ip, 80)]);
    assert_eq!(backends(), before);

    let pods6 = Map::HashMap(MapData::from_pin(links.with_file_name(names::PODS6)).unwrap());
    let mut pods6: HashMap<_, [u8; 16], LocalPod> = pods6.try_into().unwrap();
    pods6.insert(Ipv6Addr::LOCALHOST.octets(), other, 0).unwrap();
    check(node, &[(MapEntry, names::PODS6)]);
    assert!(stream.finish() > 10, "a connection through the service goes on");
}
