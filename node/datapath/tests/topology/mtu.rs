//! Packets that are longer than what their way takes: whoever sends them learns what fits, on every way that goes past the
//! host's stack.
#![allow(unsafe_code)] // setsockopt(2) and getsockopt(2) for path MTU discovery.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    process::Command,
    thread,
    time::Duration,
};

use xebec_abi::{Counter, DropReason, lb::scope};
use xebec_datapath::{Backend, Frontend, FrontendKey, Service};
use xebec_netlink::{Handle, LinkSpec, Netns, Peer};

use crate::{
    machine::{Machine, Node, Pod, Space},
    tool::{addr, serve, udp},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const NODE_PORT: u16 = 30_080;
/// Of the pods where there is an overlay; and of the nodes' links.
const OVERLAY_MTU: u32 = 1_450;
const LINK_MTU: u32 = 1_500;

/// What becomes of datagrams that nobody may cut.
#[derive(PartialEq, Eq, Debug)]
pub enum Fate {
    Answered,
    /// The sender's kernel knows that only so much fits.
    Learnt(u32),
    Lost,
}

/// Sends datagrams of so many bytes, from the IP header on, until something becomes of one.
pub fn send(netns: &Netns, to: SocketAddr, bytes: usize) -> Fate {
    netns.run(|| sends(to, bytes)).unwrap()
}

fn sends(to: SocketAddr, bytes: usize) -> Fate {
    let (any, headers) = if to.is_ipv4() { ("0.0.0.0:0", 28) } else { ("[::]:0", 48) };
    let socket = UdpSocket::bind(any).unwrap();
    discover(&socket, to.is_ipv6());
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    for _ in 0..5 {
        let exchanged = socket.send(&vec![b'?'; bytes - headers]).and_then(|_| socket.recv(&mut [0; 2_000]));
        match exchanged {
            Ok(_) => return Fate::Answered,
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                return Fate::Learnt(mtu(&socket, to.is_ipv6()));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }
    Fate::Lost
}

/// Has no datagram cut, by whomever.
fn discover(socket: &UdpSocket, ipv6: bool) {
    let (level, name, value) = match ipv6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
        false => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
    };
    let size = size_of_val(&value) as u32;
    // SAFETY: the value has the size that is passed, and outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// What fits the way to the other end, as the kernel knows.
fn mtu(socket: &UdpSocket, ipv6: bool) -> u32 {
    let (level, name) = if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_MTU) } else { (libc::IPPROTO_IP, libc::IP_MTU) };
    let (mut value, mut size) = (0_u32, size_of::<u32>() as u32);
    // SAFETY: as above.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut size) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    value
}

fn ip(netns: &Netns, arguments: &str) {
    let status = netns.run(|| Command::new("ip").args(arguments.split(' ')).status().unwrap()).unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn counted(node: &Node, counter: Counter) -> u64 {
    let counters = node.datapath().counters().unwrap();
    counters.iter().find(|(known, _)| *known == counter).map_or(0, |(_, traffic)| traffic.packets)
}

fn dropped(node: &Node, reason: DropReason) -> u64 {
    let drops = node.datapath().drops().unwrap();
    drops.iter().find(|(known, _)| *known == reason).map_or(0, |(_, traffic)| traffic.packets)
}

/// Does the kernel's FIB say what fits?
fn has_fib_mtu(node: &Node) -> bool {
    node.datapath().features().iter().any(|feature| feature.name == "fib_mtu" && feature.present)
}

/// Of both families.
fn ips(pod: &Pod) -> [IpAddr; 2] {
    [pod.ip.into(), pod.ip6().into()]
}

fn node_ips(node: &Node) -> [IpAddr; 2] {
    [node.ip().into(), node.ip6().into()]
}

/// Changes what a pod's link takes.
pub fn set_mtu(node: &Node, pod: &Pod, mtu: u32) {
    let endpoints = node.datapath().pods();
    let ifindex = endpoints.iter().find(|endpoint| ips(pod).contains(&endpoint.ip)).unwrap().host_ifindex;
    let name = node.space.netns.run(|| nix::net::if_::if_indextoname(ifindex).unwrap()).unwrap();
    ip(&node.space.netns, &format!("link set {} mtu {mtu}", name.to_str().unwrap()));
    ip(&pod.space.netns, &format!("link set eth0 mtu {mtu}"));
}

async fn pods_of_two_nodes(overlay: bool, fits: u32) {
    let machine = Machine::dual(2, overlay).await;
    let node = &machine.nodes[0];
    let (client, server) = (node.pod("client").await, machine.nodes[1].pod("server").await);
    set_mtu(node, &client, 1_600);
    if !overlay {
        ip(&node.space.netns, &format!("link set eth0 mtu {fits}"));
    }
    for to in ips(&server) {
        serve(&server.space.netns, to, 80, "server");
        let to = addr(to, 80);
        // So much that every kernel sees it: see `a_packet_that_is_hardly_too_long`.
        assert_eq!(send(&client.space.netns, to, 1_490), Fate::Learnt(fits), "{to} {}", node.report());
        assert_eq!(send(&client.space.netns, to, fits as usize), Fate::Answered, "{to} {}", node.report());
    }
    // What its sender lets others cut arrives, and its sender learns nothing.
    ip(&client.space.netns, "route flush cache");
    let said = client.space.netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let (value, size) = (libc::IP_PMTUDISC_DONT, size_of::<libc::c_int>() as u32);
        // SAFETY: as in `discover`.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                (&raw const value).cast(),
                size,
            )
        };
        assert_eq!(result, 0);
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.send_to(&[b'?'; 1_460], (server.ip, 80)).unwrap();
        socket.recv(&mut [0; 2_000]).map_err(|error| error.kind())
    });
    assert!(said.unwrap().is_ok(), "{}", node.report());
    assert_eq!(dropped(node, DropReason::TooBig), 0, "the stack answers pods: {}", node.report());
}

#[tokio::test]
async fn a_pod_learns_what_fits_the_overlay() {
    pods_of_two_nodes(true, OVERLAY_MTU).await;
}

#[tokio::test]
async fn a_pod_learns_what_fits_its_nodes_link() {
    pods_of_two_nodes(false, 1_400).await;
}

/// The FIB compares what it is told, and not with some room for a VLAN's tag.
#[tokio::test]
async fn a_packet_that_is_hardly_too_long() {
    let machine = Machine::dual(2, false).await;
    let node = &machine.nodes[0];
    if !has_fib_mtu(node) {
        return;
    }
    let (client, server) = (node.pod("client").await, machine.nodes[1].pod("server").await);
    ip(&node.space.netns, "link set eth0 mtu 1400");
    for to in ips(&server) {
        serve(&server.space.netns, to, 80, "server");
        assert_eq!(send(&client.space.netns, addr(to, 80), 1_402), Fate::Learnt(1_400), "{to} {}", node.report());
    }
}

#[tokio::test]
async fn a_pod_of_the_same_node_takes_whatever_its_link_takes() {
    let machine = Machine::dual(1, true).await;
    let node = &machine.nodes[0];
    let (client, server) = (node.pod("client").await, node.pod("server").await);
    set_mtu(node, &server, 1_300);
    for to in ips(&server) {
        serve(&server.space.netns, to, 80, "server");
        let fate = send(&client.space.netns, addr(to, 80), OVERLAY_MTU as usize);
        assert_eq!(fate, Fate::Answered, "{to} {}", node.report());
    }
}

/// A client outside, with a link of its own to the first node, which is one of the node's uplinks.
pub async fn client(machine: &mut Machine, mtu: u32) -> Space {
    let space = Space::new("client");
    let node = &mut machine.nodes[0];
    let inside = Handle::in_netns(&space.netns).unwrap();
    inside.link_add(&LinkSpec::veth("eth0", Peer::new("wide").netns(&node.space.netns)).up()).await.unwrap();
    for (netns, device, last) in [(&node.space.netns, "wide", 1), (&space.netns, "eth0", 2)] {
        ip(netns, &format!("link set {device} mtu {mtu} up"));
        ip(netns, &format!("address add 172.31.0.{last}/24 dev {device}"));
        ip(netns, &format!("address add 2001:db8:31::{last}/64 dev {device} nodad"));
    }
    ip(&space.netns, "route add default via 172.31.0.1");
    ip(&space.netns, "-6 route add default via 2001:db8:31::1");
    let uplink = Handle::in_netns(&node.space.netns).unwrap().link("wide").await.unwrap().index;
    node.stop_agent();
    node.config.uplinks.push(uplink);
    node.start_agent();
    space
}

/// A port of the node, at its addresses of both families, whose backend is this pod.
fn expose(node: &Node, pod: &Pod) {
    for (node_ip, pod_ip) in node_ips(node).into_iter().zip(ips(pod)) {
        for proto in [TCP, UDP] {
            let key = FrontendKey { addr: node_ip, port: NODE_PORT, proto, scope: scope::EXTERNAL };
            let backend = Backend { addr: pod_ip, port: 8080, local: false, terminating: false, weight: 0 };
            let frontends = vec![Frontend { key, flags: 0 }];
            let service = Service { frontends, backends: vec![backend], ..Service::default() };
            node.datapath().put_service(&service).unwrap();
        }
    }
}

fn answer(netns: &Netns, ip: IpAddr) {
    serve(netns, ip, 8080, "pod");
}

/// A client behind a link of `mtu`, and a pod of another node, with this server at each of its addresses, behind a port of the
/// client's.
async fn served(overlay: bool, mtu: u32, server: fn(&Netns, IpAddr)) -> (Machine, Space, Pod) {
    let mut machine = Machine::dual(2, overlay).await;
    let client = client(&mut machine, mtu).await;
    let pod = machine.nodes[1].pod("pod").await;
    for ip in ips(&pod) {
        server(&pod.space.netns, ip);
    }
    expose(&machine.nodes[0], &pod);
    (machine, client, pod)
}

async fn clients_outside(overlay: bool, fits: u32) {
    let (machine, client, _pod) = served(overlay, 9_000, answer).await;
    let node = &machine.nodes[0];
    for to in node_ips(node) {
        let to = addr(to, NODE_PORT);
        let before = counted(node, Counter::TooBigAnswered);
        assert_eq!(send(&client.netns, to, fits as usize + 50), Fate::Learnt(fits), "{to} {}", node.report());
        assert_eq!(counted(node, Counter::TooBigAnswered), before + 1, "{to} {}", node.report());
        assert_eq!(dropped(node, DropReason::TooBig), before + 1, "{to} {}", node.report());
        assert_eq!(send(&client.netns, to, fits as usize), Fate::Answered, "{to} {}", node.report());
        // In pieces.
        let said = client.netns.run(|| udp(to, 4_000)).unwrap();
        assert!(said.starts_with("pod sees "), "{said} {}", node.report());
    }
    let metrics = node.datapath().metrics();
    assert!(metrics.contains("xebec_datapath_drops_total{reason=\"too_big\"} 2\n"), "{metrics}");
    assert!(metrics.contains("xebec_datapath_events_total{event=\"too_big_answered\"} 2\n"), "{metrics}");
}

#[tokio::test]
async fn a_client_outside_learns_what_fits_the_overlay() {
    clients_outside(true, OVERLAY_MTU).await;
}

#[tokio::test]
async fn a_client_outside_learns_what_fits_the_way_to_a_backend() {
    clients_outside(false, LINK_MTU).await;
}

/// Its datagrams come in pieces that are too long for the client's link until it knows.
async fn backends(overlay: bool) {
    let (machine, client, _pod) = served(overlay, 1_300, answer).await;
    let node = &machine.nodes[0];
    for source in node_ips(node) {
        let to = addr(source, NODE_PORT);
        let said: Vec<_> = (0..3).map(|_| client.netns.run(|| udp(to, 1_600)).unwrap()).collect();
        let expected = format!("pod sees {source} from {to}");
        assert_eq!(said.last(), Some(&expected), "{said:?} {}", node.report());
    }
    assert_ne!(counted(node, Counter::TooBigAnswered), 0, "{}", node.report());
}

#[tokio::test]
async fn a_backend_behind_the_overlay_learns_what_fits_its_client() {
    backends(true).await;
}

#[tokio::test]
async fn a_backend_behind_a_route_learns_what_fits_its_client() {
    backends(false).await;
}

/// Takes all that one connection sends, and answers how much that was.
fn take(netns: &Netns, ip: IpAddr) {
    let listener = netns.run(|| TcpListener::bind((ip, 8080)).unwrap()).unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut taken = Vec::new();
            let _ = stream.read_to_end(&mut taken);
            let _ = stream.write_all(taken.len().to_string().as_bytes());
        }
    });
}

const UPLOAD: usize = 1_000_000;

/// How much of an upload arrives.
fn upload(netns: &Netns, to: SocketAddr) -> String {
    let upload = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&vec![7; UPLOAD])?;
        stream.shutdown(Shutdown::Write)?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    netns.run(upload).unwrap().unwrap_or_else(|error| format!("error {:?}", error.kind()))
}

/// Has the pod tell its peers that it takes segments of so many bytes.
fn advertise(pod: &Pod, mss: u32) {
    for family in ["-4", "-6"] {
        let show = || Command::new("ip").args([family, "route", "show", "default"]).output().unwrap();
        let route = pod.space.netns.run(show).unwrap().stdout;
        let route = String::from_utf8(route).unwrap();
        let gateway = route.split(' ').nth(2).unwrap();
        ip(&pod.space.netns, &format!("{family} route replace default via {gateway} dev eth0 onlink advmss {mss}"));
    }
}

async fn streams(overlay: bool) {
    let (machine, client, pod) = served(overlay, 9_000, take).await;
    let node = &machine.nodes[0];
    // Buffers of many segments pass, if the segments do.
    for to in node_ips(node) {
        let said = upload(&client.netns, addr(to, NODE_PORT));
        assert_eq!(said, UPLOAD.to_string(), "{to} {}", node.report());
    }
    assert_eq!(counted(node, Counter::TooBigAnswered), 0, "{}", node.report());
    // A sender that takes its peer at its word learns better.
    advertise(&pod, 8_000);
    for to in node_ips(node) {
        let before = counted(node, Counter::TooBigAnswered);
        let said = upload(&client.netns, addr(to, NODE_PORT));
        assert_eq!(said, UPLOAD.to_string(), "{to} {}", node.report());
        // Before 5.12 the FIB takes a buffer of segments for one that fits.
        let judged = overlay || has_fib_mtu(node);
        assert!(counted(node, Counter::TooBigAnswered) > before || !judged, "{to} {}", node.report());
    }
}

#[tokio::test]
async fn a_stream_goes_on_with_segments_that_fit_the_overlay() {
    streams(true).await;
}

#[tokio::test]
async fn a_stream_goes_on_with_segments_that_fit_the_way() {
    streams(false).await;
}

/// Of the service, not of the backend that its packets go to.
#[tokio::test]
async fn a_pod_that_dials_a_service_learns_what_fits() {
    let machine = Machine::dual(2, true).await;
    let node = &machine.nodes[0];
    let (client, server) = (node.pod("client").await, machine.nodes[1].pod("server").await);
    set_mtu(node, &client, 1_600);
    let vips: [IpAddr; 2] =
        [Ipv4Addr::new(10, 96, 0, 80).into(), Ipv6Addr::new(0xfd96, 0xdb8, 0, 0, 0, 0, 0, 0x80).into()];
    for (vip, backend) in vips.into_iter().zip(ips(&server)) {
        serve(&server.space.netns, backend, 8080, "server");
        node.datapath().put_service(&crate::machine::service(vip, 80, UDP, &[(backend, 8080)])).unwrap();
        let to = addr(vip, 80);
        assert_eq!(send(&client.space.netns, to, 1_490), Fate::Learnt(OVERLAY_MTU), "{to} {}", node.report());
        assert_eq!(send(&client.space.netns, to, OVERLAY_MTU as usize), Fate::Answered, "{to} {}", node.report());
    }
}
