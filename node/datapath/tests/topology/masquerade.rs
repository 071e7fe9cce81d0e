//! What leaves the cluster leaves from the node's address.

use std::{net::UdpSocket, process::Command, time::Duration};

use crate::{
    machine::{Machine, OUTSIDE},
    tool::{addr, serve, tcp, udp},
};

#[tokio::test]
async fn pods_reach_the_outside_from_the_nodes_address() {
    let machine = Machine::new(2, true).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    serve(&machine.outside.netns, OUTSIDE, 80, "outside");
    serve(&machine.nodes[1].space.netns, machine.nodes[1].ip(), 6443, "other");
    let sees = format!("outside sees {}", node.ip());
    let to = addr(OUTSIDE, 80);
    let netns = &pod.space.netns;
    for _ in 0..20 {
        assert_eq!(netns.run(|| tcp(to)).unwrap(), format!("{sees} peer {to}"), "{}", node.report());
        assert_eq!(netns.run(|| udp(to, 1)).unwrap(), format!("{sees} from {to}"));
    }
    assert_eq!(netns.run(|| udp(to, 4_000)).unwrap(), format!("{sees} from {to}"), "fragments");
    let to = addr(machine.nodes[1].ip(), 6443);
    let said = netns.run(|| tcp(to)).unwrap();
    assert_eq!(said, format!("other sees {} peer {to}", node.ip()));
}

#[tokio::test]
async fn echo_requests_reach_the_outside() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    let ping = || {
        let mut ping = Command::new("busybox");
        ping.args(["ping", "-c", "2", "-W", "1", &OUTSIDE.to_string()]).output().unwrap()
    };
    let output = pod.space.netns.run(ping).unwrap();
    assert!(output.status.success(), "{output:?} {}", node.report());
}

#[tokio::test]
async fn an_error_from_outside_reaches_the_socket() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    let error = pod
        .space
        .netns
        .run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.connect((OUTSIDE, 9)).unwrap();
            socket.send(b"?").unwrap();
            socket.recv(&mut [0; 10]).unwrap_err()
        })
        .unwrap();
    // ICMP "port unreachable", translated inside and outside.
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{}", node.report());
}

#[tokio::test]
async fn a_flow_from_outside_to_a_pod_keeps_the_pods_address() {
    let machine = Machine::new(1, false).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    serve(&pod.space.netns, pod.ip, 80, "pod");
    let outside = &machine.outside.netns;
    let via = format!("{}", node.ip());
    let route = || Command::new("ip").args(["route", "add", "10.244.1.0/24", "via", &via]).status().unwrap();
    assert!(outside.run(route).unwrap().success());
    let to = addr(pod.ip, 80);
    let said = outside.run(|| tcp(to)).unwrap();
    assert_eq!(said, format!("pod sees {OUTSIDE} peer {to}"), "{}", node.report());
}
