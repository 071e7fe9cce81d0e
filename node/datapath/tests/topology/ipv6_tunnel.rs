//! Nodes without IPv4: the overlay, and the tunnel of direct server return, run over IPv6.

use std::net::{IpAddr, Ipv6Addr};

use xebec_abi::DropReason;
use xebec_datapath::{Counter, XdpMode};
use xebec_netlink::compute_checksums;

use crate::{
    dsr,
    ipv6::{INGRESS, NODE_PORT, announce, check, counted, dropped, put},
    machine::{Machine, Node, OUTSIDE6, Pod, service},
    mtu::{Fate, client, send, set_mtu},
    tool::{addr, serve, tcp, udp, udp_connected},
    xdp::{has_xdp, receive_what_xdp_sends},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// 1500 less the headers around: Ethernet, IPv6, UDP and VXLAN.
const FITS: u32 = 1_430;
const VIP: Ipv6Addr = Ipv6Addr::new(0xfd96, 0xdb8, 0, 0, 0, 0, 0, 0x50);

fn nothing_was_dropped(machine: &Machine) {
    for node in &machine.nodes {
        assert_eq!(node.datapath().drops().unwrap(), [], "{}", node.report());
    }
}

#[tokio::test]
async fn pods_of_two_nodes_reach_each_other_and_services() {
    let machine = Machine::ipv6(2, true).await;
    let (one, two) = (&machine.nodes[0], &machine.nodes[1]);
    let (a, b) = (one.pod("a").await, two.pod("b").await);
    assert_eq!(one.config.pod_mtu, FITS);
    serve(&b.space.netns, b.ip6(), 80, "b");
    check(&a.space.netns, one, (b.ip6(), 80), &format!("b sees {}", a.ip6()));
    assert!(counted(one, Counter::ToOverlay) >= 10, "{}", one.report());
    let services = [TCP, UDP].map(|proto| service(VIP, 80, proto, &[(b.ip6(), 80)]));
    one.datapath().put_services(&services).unwrap();
    check(&a.space.netns, one, (VIP, 80), &format!("b sees {}", a.ip6()));
    // And nodes reach pods, whose answers go back the same way.
    check(&one.space.netns, one, (b.ip6(), 80), &format!("b sees {}", one.network6().gateway));
    nothing_was_dropped(&machine);
}

#[tokio::test]
async fn a_pod_learns_what_fits() {
    let machine = Machine::ipv6(2, true).await;
    let node = &machine.nodes[0];
    let (client, server) = (node.pod("client").await, machine.nodes[1].pod("server").await);
    set_mtu(node, &client, 1_600);
    serve(&server.space.netns, server.ip6(), 80, "server");
    node.datapath().put_service(&service(VIP, 80, UDP, &[(server.ip6(), 80)])).unwrap();
    for to in [server.ip6(), VIP] {
        let to = addr(to, 80);
        assert_eq!(send(&client.space.netns, to, 1_490), Fate::Learnt(FITS), "{to} {}", node.report());
        assert_eq!(send(&client.space.netns, to, FITS as usize), Fate::Answered, "{to} {}", node.report());
    }
    nothing_was_dropped(&machine);
}

/// What is outside dials the service at `to`. The tunnel cuts nothing: fragments that do not fit are lost until their sender
/// has learnt what does.
#[track_caller]
fn check_outside(machine: &Machine, node: &Node, to: (Ipv6Addr, u16), expected: &str) {
    let (outside, to) = (&machine.outside.netns, addr(to.0, to.1));
    for _ in 0..3 {
        let said = outside.run(|| tcp(to)).unwrap();
        assert_eq!(said, format!("{expected} peer {to}"), "{}", node.report());
        let said = outside.run(|| udp(to, 1)).unwrap();
        assert_eq!(said, format!("{expected} from {to}"), "{}", node.report());
    }
    assert_eq!(send(outside, to, 1_500), Fate::Learnt(FITS), "{to} {}", node.report());
    assert_eq!(send(outside, to, FITS as usize), Fate::Answered, "{to} {}", node.report());
    let said = outside.run(|| udp(to, 4_000)).unwrap();
    assert_eq!(said, format!("{expected} from {to}"), "fragments {}", node.report());
}

/// A pod of the second node, for clients outside of the first.
async fn served(machine: &Machine) -> Pod {
    let pod = machine.nodes[1].pod("pod").await;
    serve(&pod.space.netns, pod.ip6(), 8080, "pod");
    put(&machine.nodes[0], &[(pod.ip6(), 8080)], 0, |_| ());
    announce(machine, &machine.nodes[0]);
    pod
}

#[tokio::test]
async fn clients_outside_reach_a_backend_of_another_node() {
    let machine = Machine::ipv6(2, true).await;
    let node = &machine.nodes[0];
    let pod = served(&machine).await;
    for to in [(node.ip6(), NODE_PORT), (INGRESS, 80)] {
        check_outside(&machine, node, to, &format!("pod sees {}", node.ip6()));
    }
    assert_eq!(counted(node, Counter::TooBigAnswered), 2, "{}", node.report());
    assert!(counted(node, Counter::ToOverlay) >= 10, "{}", node.report());
    // Where nobody listens, the pod's error comes back through the tunnel, and to the client.
    put(node, &[(pod.ip6(), 9)], 0, |_| ());
    for to in [addr(node.ip6(), NODE_PORT), addr(INGRESS, 80)] {
        let said = machine.outside.netns.run(|| udp_connected(to)).unwrap();
        assert_eq!(said, "error ConnectionRefused", "{to} {}", node.report());
    }
}

/// Fragments that fit neither the tunnel nor their sender's knowledge are answered too, not left to a tunnel that cuts nothing.
#[tokio::test]
async fn a_client_whose_fragments_do_not_fit_learns_it() {
    let machine = Machine::ipv6(2, true).await;
    let node = &machine.nodes[0];
    let _pod = served(&machine).await;
    let to = addr(node.ip6(), NODE_PORT);
    let said: Vec<_> = (0..3).map(|_| machine.outside.netns.run(|| udp(to, 4_000)).unwrap()).collect();
    assert_eq!(said[2], format!("pod sees {} from {to}", node.ip6()), "{said:?} {}", node.report());
    assert_ne!(counted(node, Counter::TooBigAnswered), 0, "{}", node.report());
}

/// The answer to the backend's long packets goes to it through the tunnel.
#[tokio::test]
async fn a_backend_learns_what_fits_its_client() {
    let mut machine = Machine::ipv6(2, true).await;
    let client = client(&mut machine, 1_300).await;
    let node = &machine.nodes[0];
    let _pod = served(&machine).await;
    let to = addr(node.ip6(), NODE_PORT);
    let said: Vec<_> = (0..3).map(|_| client.netns.run(|| udp(to, 1_600)).unwrap()).collect();
    assert_eq!(said[2], format!("pod sees {} from {to}", node.ip6()), "{said:?} {}", node.report());
    assert_ne!(counted(node, Counter::TooBigAnswered), 0, "{}", node.report());
}

/// Over the overlay and beside native routes: the backend sees its client and answers it itself.
async fn direct_server_return(overlay: bool) {
    let machine = Machine::ipv6(2, overlay).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    let pod = other.pod("pod").await;
    let backend = IpAddr::from(pod.ip6());
    serve(&pod.space.netns, pod.ip6(), 8080, "pod");
    let put = |port| machine.nodes.iter().for_each(|node| dsr::put(dsr::Family::V6, node, &[(backend, port)]));
    put(8080);
    announce(&machine, node);
    let dialled = [(node.ip6(), NODE_PORT), (INGRESS, 80)];
    for to in dialled {
        check_outside(&machine, node, to, &format!("pod sees {OUTSIDE6}"));
    }
    dsr::long(dsr::Family::V6, &machine, &pod);
    put(8080);
    assert!(counted(node, Counter::ToDsr) >= 20, "{}", node.report());
    assert!(counted(other, Counter::ExternalLocal) >= 14, "{}", other.report());
    assert_eq!((counted(node, Counter::ExternalRemote), counted(other, Counter::ExternalRemote)), (0, 0));
    // Nobody listens: the pod's error goes to the client from there.
    put(9);
    for (ip, port) in dialled {
        let said = machine.outside.netns.run(|| udp_connected(addr(ip, port))).unwrap();
        assert_eq!(said, "error ConnectionRefused", "{ip} {}", other.report());
    }
    assert_eq!(dropped(other, DropReason::UnknownNode), 0);
    // Only nodes may.
    put(8080);
    assert!(other.datapath().remove_remote(IpAddr::from(node.ip6()).into()).unwrap());
    let said = machine.outside.netns.run(|| tcp(addr(INGRESS, 80))).unwrap();
    assert_eq!(said, "error TimedOut");
    assert_ne!(dropped(other, DropReason::UnknownNode), 0, "{}", other.report());
}

#[tokio::test]
async fn what_is_passed_on_through_the_overlay_is_answered_by_the_backends_node() {
    direct_server_return(true).await;
}

#[tokio::test]
async fn what_is_passed_on_beside_native_routes_is_answered_by_the_backends_node() {
    direct_server_return(false).await;
}

#[tokio::test]
async fn a_driver_sends_on_through_it() {
    let mut machine = Machine::ipv6(2, true).await;
    machine.outside.netns.run(|| compute_checksums("eth0")).unwrap().unwrap();
    receive_what_xdp_sends(&machine.switch).await;
    let node = &mut machine.nodes[0];
    node.stop_agent();
    node.config.load_balancer.xdp = [(node.config.uplinks[0], XdpMode::Native)].into();
    node.start_agent();
    let node = &machine.nodes[0];
    let pod = served(&machine).await;
    pod.space.netns.run(|| compute_checksums("eth0")).unwrap().unwrap();
    check_outside(&machine, node, (node.ip6(), NODE_PORT), &format!("pod sees {}", node.ip6()));
    assert_eq!(counted(node, Counter::XdpOverlay) >= 12, has_xdp(), "{}", node.report());
}
