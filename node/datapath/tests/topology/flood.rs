//! First packets with forged sources, several times as many as the maps hold: what is established goes on, and honest
//! clients still get through.

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
};
use std::os::fd::AsRawFd;
use xebec_abi::{lb::scope, limits::NAT_MAX};
use xebec_datapath::{Backend, Counter, DropReason, Frontend, FrontendKey, HalfOpen, Service};

use crate::{
    machine::{Machine, Node, OUTSIDE, OUTSIDE6, Space},
    tool::{addr, serve, udp},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Of a service with its backend on this node, and of one elsewhere.
const PORTS: [u16; 2] = [30_081, 30_082];
const ESTABLISHED: usize = 100;
/// By each protocol to each backend: four times as many flows as the map holds.
const FORGED: u32 = NAT_MAX / 2;
const PATIENCE: Duration = Duration::from_secs(5);

fn put(node: &Node, port: u16, backend: IpAddr, local: bool) {
    let addr = if backend.is_ipv4() { node.ip().into() } else { node.ip6().into() };
    for proto in [TCP, UDP] {
        let service = Service {
            frontends: vec![Frontend { key: FrontendKey { addr, port, proto, scope: scope::EXTERNAL }, flags: 0 }],
            backends: vec![Backend { addr: backend, port: 8080, local, terminating: false, weight: 0 }],
            ..Service::default()
        };
        node.datapath().put_service(&service).unwrap();
    }
}

/// Where answers to the forged sources go, which nobody has.
fn route(space: &Space, to: &str, via: impl Into<IpAddr>) {
    let via = via.into().to_string();
    let run = || Command::new("ip").args(["route", "add", to, "via", &via]).status().unwrap();
    assert!(space.netns.run(run).unwrap().success());
}

/// A SYN, or a datagram without payload, from the forged source with this number.
fn forged(number: u32, to: SocketAddr, proto: u8) -> Vec<u8> {
    let port = (1_024 + number % 60_000) as u16;
    let mut segment = [port.to_be_bytes(), to.port().to_be_bytes()].concat();
    match proto {
        TCP => segment.extend([&number.to_be_bytes()[..], &[0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]].concat()),
        _ => segment.extend([0, 8, 0, 0]),
    }
    let [a, b] = [(number >> 8) as u8, number as u8];
    let (src, dst, mut packet) = match to.ip() {
        IpAddr::V4(ip) => {
            let src = [198, 18, a, b];
            let length = (20 + segment.len()) as u8;
            let header = [&[0x45, 0, 0, length, 0, 0, 0, 0, 64, proto, 0, 0], &src[..], &ip.octets()].concat();
            (src.to_vec(), ip.octets().to_vec(), header)
        }
        IpAddr::V6(ip) => {
            let src = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from_be_bytes([a, b])).octets();
            let header = [&[0x60, 0, 0, 0, 0, segment.len() as u8, proto, 64], &src[..], &ip.octets()].concat();
            (src.to_vec(), ip.octets().to_vec(), header)
        }
    };
    let pseudo = [src, dst, vec![0, proto, 0, segment.len() as u8]].concat();
    let sum = xebec_logic::model::checksum(&[pseudo, segment.clone()].concat(), 0).to_be_bytes();
    let at = if proto == TCP { 16 } else { 6 };
    segment[at..at + 2].copy_from_slice(&sum);
    packet.extend(segment);
    packet
}

fn flood(machine: &Machine, to: SocketAddr, proto: u8) {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let send = || {
        // Takes packets with their headers.
        let raw = socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
        for number in 0..FORGED {
            let packet = forged(number, to, proto);
            let sent = match to.ip() {
                IpAddr::V4(ip) => {
                    sendto(raw.as_raw_fd(), &packet, &SockaddrIn::from(SocketAddrV4::new(ip, 0)), MsgFlags::empty())
                }
                IpAddr::V6(ip) => {
                    let to = SockaddrIn6::from(SocketAddrV6::new(ip, 0, 0, 0));
                    sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty())
                }
            };
            // A full queue loses a packet of the flood, no more.
            assert!(sent.is_ok() || sent == Err(nix::errno::Errno::ENOBUFS), "{sent:?}");
        }
    };
    machine.outside.netns.run(send).unwrap();
}

/// One more question on a connection.
fn ask(stream: &mut BufReader<TcpStream>) -> bool {
    let mut line = String::new();
    stream.get_mut().write_all(b"who").is_ok() && stream.read_line(&mut line).is_ok_and(|read| read > 0)
}

fn asks(socket: &UdpSocket) -> bool {
    socket.send(b"?").is_ok() && socket.recv(&mut [0; 100]).is_ok()
}

struct Clients {
    connections: Vec<BufReader<TcpStream>>,
    sockets: Vec<UdpSocket>,
}

impl Clients {
    fn new(machine: &Machine, to: SocketAddr) -> Self {
        let connect = |_| {
            let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut stream = BufReader::new(stream);
            assert!(ask(&mut stream));
            stream
        };
        let bind = |_| {
            let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            assert!(asks(&socket) && asks(&socket));
            socket
        };
        let all = || Self {
            connections: (0..ESTABLISHED).map(connect).collect(),
            sockets: (0..ESTABLISHED).map(bind).collect(),
        };
        machine.outside.netns.run(all).unwrap()
    }

    /// How many connections and how many flows of datagrams do not go on.
    fn lost(&mut self) -> [usize; 2] {
        let streams = self.connections.iter_mut().map(ask).filter(|goes_on| !goes_on).count();
        [streams, self.sockets.iter().filter(|socket| !asks(socket)).count()]
    }
}

fn counted(node: &Node, counter: Counter) -> u64 {
    let counters = node.datapath().counters().unwrap();
    counters.iter().find(|(known, _)| *known == counter).map_or(0, |(_, traffic)| traffic.packets)
}

/// How many new connections and flows of datagrams fail. A backend that still waits for the forged client that had a
/// port before makes the new one try again after a second.
fn fails(machine: &Machine, to: SocketAddr, slow: &mut usize) -> [usize; 2] {
    let outside = &machine.outside.netns;
    let mut connect = || {
        let start = Instant::now();
        let Ok(stream) = TcpStream::connect_timeout(&to, PATIENCE) else { return false };
        *slow += usize::from(start.elapsed() > Duration::from_millis(900));
        stream.set_read_timeout(Some(PATIENCE)).is_ok() && ask(&mut BufReader::new(stream))
    };
    let failed = outside.run(|| (0..ESTABLISHED).filter(|_| !connect()).count()).unwrap();
    let answered = |_: &usize| outside.run(|| udp(to, 1)).unwrap().contains(" sees ");
    [failed, ESTABLISHED - (0..ESTABLISHED).filter(answered).count()]
}

/// By flows to a backend on this node: those to others may have to give their ports before their places.
#[track_caller]
fn all_places_are_taken(node: &Node, map: &str) {
    let usage = node.datapath().usage().unwrap();
    let HalfOpen { flows, places } = usage.iter().find(|usage| usage.map == map).unwrap().half_open.unwrap();
    assert!(flows > places / 10 * 9 && flows < places / 10 * 11, "{usage:?}");
    assert!(
        node.datapath().metrics().contains(&format!("xebec_datapath_half_open_places{{map=\"{map}\"}} {places}\n"))
    );
}

async fn withstands(machine: &Machine, ipv6: bool) {
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    let (here, there) = (node.pod("here").await, other.pod("there").await);
    let ip = |pod: &crate::machine::Pod| -> IpAddr { if ipv6 { pod.ip6().into() } else { pod.ip.into() } };
    let node_ip: IpAddr = if ipv6 { node.ip6().into() } else { node.ip().into() };
    if ipv6 {
        route(&node.space, "2001:db8:2::/64", OUTSIDE6);
    } else {
        route(&node.space, "198.18.0.0/15", OUTSIDE);
    }
    serve(&here.space.netns, ip(&here), 8080, "here");
    serve(&there.space.netns, ip(&there), 8080, "there");
    put(node, PORTS[0], ip(&here), true);
    put(node, PORTS[1], ip(&there), false);
    let mut clients = PORTS.map(|port| Clients::new(machine, addr(node_ip, port)));
    for (to, proto) in PORTS.into_iter().flat_map(|port| [(port, TCP), (port, UDP)]) {
        flood(machine, addr(node_ip, to), proto);
        if to == PORTS[0] {
            all_places_are_taken(node, if ipv6 { "xb_nat6" } else { "xb_nat4" });
        }
    }
    let lost = clients.each_mut().map(Clients::lost);
    let mut slow = 0;
    let failed = PORTS.map(|port| fails(machine, addr(node_ip, port), &mut slow));
    println!("of {ESTABLISHED} [TCP, UDP] to a backend [here, elsewhere]: lost {lost:?}, new ones failed {failed:?}");
    println!("{slow} new connections took a second SYN or more");
    assert_eq!((lost, failed), ([[0; 2]; 2], [[0; 2]; 2]), "{}", node.report());
    let drops = node.datapath().drops().unwrap();
    let refused = drops.iter().find(|(reason, _)| *reason == DropReason::NoSnatPort);
    assert_eq!(refused.map_or(0, |(_, traffic)| traffic.packets), 0);
    assert!(counted(node, Counter::HalfOpenEvicted) > u64::from(FORGED), "{}", node.report());
    assert_ne!(counted(node, Counter::SnatTakeover), 0, "{}", node.report());
}

#[tokio::test]
async fn established_flows_outlast_a_flood() {
    withstands(&Machine::new(2, true).await, false).await;
}

#[tokio::test]
async fn established_flows_of_ipv6_outlast_a_flood() {
    withstands(&Machine::dual(2, false).await, true).await;
}
