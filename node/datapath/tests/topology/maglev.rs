//! Services with a Maglev table.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};

use aya::maps::{HashMap, Map, MapData};
use xebec_abi::{MaglevBlock, MaglevKey, lb::scope, limits::MAGLEV_BLOCKS_MAX, names, proto::TCP};
use xebec_datapath::{Algorithm, Backend, Frontend, FrontendKey, Service, TableSize};

use crate::{
    drift::links,
    external::{NODE_PORT, put_with},
    machine::{Machine, Node},
    tool::serve,
};

fn maglev() -> Algorithm {
    Algorithm::Maglev(TableSize::new(251).unwrap())
}

fn put(node: &Node, backends: &[(Ipv4Addr, u16)], algorithm: Algorithm) {
    put_with(node, backends, 0, |service| service.algorithm = algorithm);
}

/// A service of IPv6, whose tables are in a map of their own.
fn put_ipv6(node: &Node, algorithm: Algorithm) {
    let [ingress, pod]: [IpAddr; 2] = ["2001:db8::240", "fd10::9"].map(|addr| addr.parse().unwrap());
    let key = FrontendKey { addr: ingress, port: 80, proto: TCP, scope: scope::EXTERNAL };
    let backend = Backend { addr: pod, port: 8080, local: true, terminating: false, weight: 0 };
    let (frontends, backends) = (vec![Frontend { key, flags: 0 }], vec![backend]);
    node.datapath().put_service(&Service { frontends, backends, algorithm, ..Service::default() }).unwrap();
}

/// The first letter of the backend that answers a client at this port.
fn ask(machine: &Machine, node: &Node, port: u16) -> char {
    let ask = || {
        let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.send_to(b"?", (node.ip(), NODE_PORT)).unwrap();
        let mut buffer = [0; 100];
        socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{error} {}", node.report()));
        char::from(buffer[0])
    };
    machine.outside.netns.run(ask).unwrap()
}

#[tokio::test]
async fn a_flow_has_the_same_backend_at_every_node() {
    let machine = Machine::new(2, true).await;
    let (one, two) = (&machine.nodes[0], &machine.nodes[1]);
    let pods = [one.pod("a").await, one.pod("b").await, two.pod("c").await];
    for (pod, name) in pods.iter().zip(["a", "b", "c"]) {
        serve(&pod.space.netns, pod.ip, 8080, name);
    }
    let mut backends: Vec<_> = pods.iter().map(|pod| (pod.ip, 8080)).collect();
    put(one, &backends, maglev());
    backends.reverse();
    put(two, &backends, maglev());
    let chosen: Vec<char> = (20_000..20_020).map(|port| ask(&machine, one, port)).collect();
    let other: Vec<char> = (20_000..20_020).map(|port| ask(&machine, two, port)).collect();
    assert_eq!(chosen, other);
    assert_eq!(chosen.into_iter().collect::<BTreeSet<_>>(), ['a', 'b', 'c'].into());
}

/// The blocks of tables that metrics show, IPv4's and IPv6's.
#[track_caller]
fn check_blocks(node: &Node, ipv4: u32, ipv6: u32) {
    let metrics = node.datapath().metrics();
    for (map, expected) in [("xb_lb4_maglev", ipv4), ("xb_lb6_maglev", ipv6)] {
        for line in [
            format!("xebec_datapath_map_entries{{map=\"{map}\"}} {expected}\n"),
            format!("xebec_datapath_map_max_entries{{map=\"{map}\"}} {MAGLEV_BLOCKS_MAX}\n"),
        ] {
            assert!(metrics.contains(&line), "{line} in {metrics}");
        }
    }
}

#[tokio::test]
async fn a_table_lives_as_long_as_its_service() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let backends = [(Ipv4Addr::new(10, 244, 1, 9), 8080)];
    let algorithms = || {
        let programmed = node.datapath().frontends().unwrap();
        assert!(programmed.iter().all(|programmed| programmed.frontend.flags == 0), "{programmed:?}");
        programmed.into_iter().map(|programmed| programmed.algorithm).collect::<Vec<_>>()
    };
    put(node, &backends, maglev());
    put_ipv6(node, maglev());
    // Two protocols, each with a service for clients inside and one for clients outside; one of IPv6.
    check_blocks(node, 4, 1);
    assert_eq!(algorithms(), [maglev(); 11]);
    put(node, &backends, maglev());
    put_ipv6(node, maglev());
    check_blocks(node, 8, 2);
    tokio::time::sleep(Duration::from_millis(600)).await;
    node.datapath().collect_stale().unwrap();
    check_blocks(node, 4, 1);
    // A new agent knows which are in use.
    node.stop_agent();
    node.start_agent();
    check_blocks(node, 4, 1);
    assert_eq!(algorithms(), [maglev(); 11]);
    put(node, &backends, Algorithm::Random);
    put_ipv6(node, Algorithm::Random);
    tokio::time::sleep(Duration::from_millis(600)).await;
    node.datapath().collect_stale().unwrap();
    check_blocks(node, 0, 0);
    assert_eq!(algorithms(), [Algorithm::Random; 11]);
}

/// What others do to a table's blocks shows as a service without one, which is written again by who compares.
#[tokio::test]
async fn a_table_that_others_changed_is_none() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let key = FrontendKey { addr: node.ip().into(), port: NODE_PORT, proto: TCP, scope: scope::EXTERNAL };
    let backend = |last, weight| Backend {
        addr: Ipv4Addr::new(10, 244, 1, last).into(),
        port: 8080,
        local: last == 2,
        terminating: false,
        weight,
    };
    let service = Service {
        frontends: vec![Frontend { key, flags: 0 }],
        backends: vec![backend(1, 0), backend(2, 3), backend(3, 1)],
        algorithm: maglev(),
        ..Service::default()
    };
    let algorithm = || node.datapath().frontends().unwrap().remove(0).algorithm;
    let blocks = || {
        let map = MapData::from_pin(links(node).with_file_name(names::LB4_MAGLEV)).unwrap();
        let map: HashMap<_, MaglevKey, MaglevBlock> = Map::HashMap(map).try_into().unwrap();
        map
    };
    node.datapath().put_service(&service).unwrap();
    assert_eq!(algorithm(), maglev());
    let (key, block) = blocks().iter().next().unwrap().unwrap();
    let mut other = block;
    other.slots[7] = (other.slots[7] + 1) % 3;
    blocks().insert(key, other, 0).unwrap();
    assert_eq!(algorithm(), Algorithm::Random);
    node.datapath().put_service(&service).unwrap();
    assert_eq!(algorithm(), maglev());
    for (key, _) in blocks().iter().map(Result::unwrap).collect::<Vec<_>>() {
        blocks().remove(&key).unwrap();
    }
    assert_eq!(algorithm(), Algorithm::Random);
    node.datapath().put_service(&service).unwrap();
    assert_eq!(algorithm(), maglev());
}
