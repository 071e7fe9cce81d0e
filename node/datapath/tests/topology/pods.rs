//! Pods reach pods, on one node and across nodes, and nothing goes through the host's stack that need not.

use xebec_datapath::Counter;

use crate::{
    machine::{Machine, Node},
    tool::{addr, serve, tcp, udp},
};

fn counted(node: &Node, counter: Counter) -> u64 {
    let counters = node.datapath().counters().unwrap();
    counters.iter().find(|(c, _)| *c == counter).unwrap().1.packets
}

#[tokio::test]
async fn pods_of_a_node_reach_each_other_past_the_host_stack() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let (a, b) = (node.pod("a").await, node.pod("b").await);
    serve(&b.space.netns, b.ip, 80, "b");
    let to = addr(b.ip, 80);
    let said = a.space.netns.run(|| tcp(to)).unwrap();
    assert_eq!(said, format!("b sees {} peer {to}", a.ip), "{}", node.report());
    let said = a.space.netns.run(|| udp(to, 1)).unwrap();
    assert_eq!(said, format!("b sees {} from {to}", a.ip));
    assert!(counted(node, Counter::ToPod) >= 8, "{}", node.report());
    assert_eq!(counted(node, Counter::ToStack), 0, "{}", node.report());
    // A datagram in fragments.
    let said = a.space.netns.run(|| udp(to, 4_000)).unwrap();
    assert_eq!(said, format!("b sees {} from {to}", a.ip), "{}", node.report());
}

#[tokio::test]
async fn the_node_and_its_pods_reach_each_other() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let a = node.pod("a").await;
    serve(&a.space.netns, a.ip, 80, "a");
    serve(&node.space.netns, node.network().gateway, 53, "gateway");
    serve(&node.space.netns, node.ip(), 10_250, "node");
    let said = node.space.netns.run(|| tcp(addr(a.ip, 80))).unwrap();
    assert!(said.starts_with("a sees "), "{said} {}", node.report());
    for (ip, port, name) in [(node.network().gateway, 53, "gateway"), (node.ip(), 10_250, "node")] {
        let to = addr(ip, port);
        let said = a.space.netns.run(|| tcp(to)).unwrap();
        assert_eq!(said, format!("{name} sees {} peer {to}", a.ip), "{}", node.report());
        let said = a.space.netns.run(|| udp(to, 1)).unwrap();
        assert_eq!(said, format!("{name} sees {} from {to}", a.ip));
    }
}

async fn pods_of_two_nodes(overlay: bool) {
    let machine = Machine::new(2, overlay).await;
    let (one, two) = (&machine.nodes[0], &machine.nodes[1]);
    let (a, b) = (one.pod("a").await, two.pod("b").await);
    serve(&a.space.netns, a.ip, 80, "a");
    serve(&b.space.netns, b.ip, 80, "b");
    for (client, server, name) in [(&a, &b, "b"), (&b, &a, "a")] {
        let to = addr(server.ip, 80);
        let said = client.space.netns.run(|| tcp(to)).unwrap();
        let reports = || format!("{}\n{}", one.report(), two.report());
        assert_eq!(said, format!("{name} sees {} peer {to}", client.ip), "{}", reports());
        let said = client.space.netns.run(|| udp(to, 4_000)).unwrap();
        assert_eq!(said, format!("{name} sees {} from {to}", client.ip), "{}", reports());
        // From the other node itself, with whatever address it chooses.
        let node = if server.ip == b.ip { one } else { two };
        let said = node.space.netns.run(|| tcp(to)).unwrap();
        assert!(said.starts_with(&format!("{name} sees ")), "{said} {}", reports());
    }
    let way = if overlay { Counter::ToOverlay } else { Counter::ToNode };
    assert!(counted(one, way) >= 8, "{}", one.report());
    assert_eq!(one.datapath().drops().unwrap(), []);
}

#[tokio::test]
async fn pods_of_two_nodes_reach_each_other_through_the_overlay() {
    pods_of_two_nodes(true).await;
}

#[tokio::test]
async fn pods_of_two_nodes_reach_each_other_by_native_routes() {
    pods_of_two_nodes(false).await;
}

/// A node's process that binds to the node's address, which is not a pod's: the answer must find its way back.
#[tokio::test]
async fn a_node_reaches_pods_of_another_from_its_own_address() {
    for overlay in [true, false] {
        let machine = Machine::new(2, overlay).await;
        let (one, two) = (&machine.nodes[0], &machine.nodes[1]);
        let b = two.pod("b").await;
        serve(&b.space.netns, b.ip, 80, "b");
        let from = one.ip();
        let said = one
            .space
            .netns
            .run(|| {
                let socket = std::net::UdpSocket::bind((from, 0)).unwrap();
                socket.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
                socket.send_to(b"?", (b.ip, 80)).unwrap();
                let mut buffer = [0; 100];
                let received = socket.recv_from(&mut buffer);
                received.map(|(len, _)| String::from_utf8_lossy(&buffer[..len]).trim().to_owned())
            })
            .unwrap();
        let said = said.unwrap_or_else(|error| format!("{error} {}", two.report()));
        assert_eq!(said, format!("b sees {from}"), "overlay {overlay}");
    }
}
