//! What leaves the cluster leaves from the node's address.

use std::{
    io::Read,
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use xebec_abi::DropReason;

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

/// More connections to one address and port than the node has ports, far faster than their entries expire.
#[tokio::test]
async fn closed_connections_give_their_ports() {
    const CONNECTIONS: u32 = 7_000;
    const A_SECOND: u32 = 2_000;
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    let listener = machine.outside.netns.run(|| TcpListener::bind((OUTSIDE, 81)).unwrap()).unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    let (to, start) = (addr(OUTSIDE, 81), Instant::now());
    let connect = |number: u32| {
        thread::sleep((Duration::from_secs(1) * number / A_SECOND).saturating_sub(start.elapsed()));
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
        stream.read(&mut [0]).map(drop)
    };
    let mut slow = 0;
    let mut fails = |number: u32| {
        let before = Instant::now();
        let failed = connect(number).is_err();
        slow += u32::from(before.elapsed() > Duration::from_millis(900));
        failed
    };
    let failed = pod.space.netns.run(|| (0..CONNECTIONS).filter(|number| fails(*number)).count()).unwrap();
    let drops = node.datapath().drops().unwrap();
    let refused: u64 =
        drops.iter().filter(|(reason, _)| *reason == DropReason::NoSnatPort).map(|(_, traffic)| traffic.packets).sum();
    println!("{failed} of {CONNECTIONS} failed, {slow} slow, {refused} without a port, in {:?}", start.elapsed());
    assert_eq!((failed, refused), (0, 0), "{}", node.report());
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
