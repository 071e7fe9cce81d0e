//! SCTP through services: by the kernel's own sockets where it has them (`cargo xtask vm`), and else by packets that raw
//! sockets send and whose checksums both ends compare.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, listen, setsockopt,
    socket, sockopt::ReuseAddr,
};
use xebec_abi::{
    DropReason,
    lb::{frontend_flag, scope},
};
use xebec_datapath::{Backend, Frontend, FrontendKey, Service};
use xebec_netlink::Netns;

use crate::{
    machine::{Machine, Node, OUTSIDE, OUTSIDE6, Pod, service},
    tool::addr,
};

const SCTP: u8 = 132;
const NODE_PORT: u16 = 30_080;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Of a packet that was not answered (`RTO.Initial` of RFC 9260, section 16, is one second).
const RETRANSMIT: Duration = Duration::from_secs(1);
/// Types of chunks.
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;

fn open(family: IpAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let family = if family.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp)
}

/// A socket of the kernel's own SCTP, which has the interface of one of TCP; `None`: it has no SCTP. It is bound to one
/// address, so that its association has no others.
fn own(local: SocketAddr) -> io::Result<Option<OwnedFd>> {
    let socket = match open(local.ip(), SockType::Stream) {
        Err(nix::Error::EPROTONOSUPPORT) => return Ok(None),
        socket => socket?,
    };
    setsockopt(&socket, ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(local))?;
    Ok(Some(socket))
}

/// A raw socket, which has the interface of one for datagrams.
fn raw(family: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::from(open(family, SockType::Raw)?);
    socket.set_read_timeout(Some(RETRANSMIT))?;
    Ok(socket)
}

fn packet(ports: [u16; 2], chunk: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
    packet.extend([0, 0, 0, 1, 0, 0, 0, 0, chunk, 3]);
    packet.extend((4 + data.len() as u16).to_be_bytes());
    packet.extend(data);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    packet
}

/// RFC 9260 appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

struct Received {
    from: IpAddr,
    ports: [u16; 2],
    chunk: u8,
    data: String,
}

/// The next packet to this port. One with a wrong checksum is an error.
fn receive(socket: &UdpSocket, port: u16) -> io::Result<Received> {
    let (mut buffer, deadline) = ([0; 4_096], Instant::now() + TIMEOUT);
    while Instant::now() < deadline {
        let (length, from) = socket.recv_from(&mut buffer)?;
        // IPv4's sockets see the header too.
        let header = if from.is_ipv4() { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
        let packet = &buffer[header..length];
        let ports = [0, 2].map(|at| u16::from_be_bytes([packet[at], packet[at + 1]]));
        if ports[1] != port {
            continue;
        }
        let zeroed = [&packet[..8], &[0; 4], &packet[12..]].concat();
        if packet[8..12] != crc32c(&zeroed).to_le_bytes() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let length = usize::from(u16::from_be_bytes([packet[14], packet[15]]));
        let data = String::from_utf8_lossy(&packet[16..12 + length]).into_owned();
        return Ok(Received { from: from.ip(), ports, chunk: packet[12], data });
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Accepts every association and answers what is sent with its name and who sent it, until the test ends.
fn serve(netns: &Netns, ip: IpAddr, port: u16, name: &'static str) {
    if let Some(socket) = netns.run(|| own(addr(ip, port)).unwrap()).unwrap() {
        listen(&socket, Backlog::new(8).unwrap()).unwrap();
        let listener = TcpListener::from(socket);
        thread::spawn(move || {
            for mut association in listener.incoming().flatten() {
                let from = association.peer_addr().unwrap().ip();
                let _ = association.read(&mut [0; 64]);
                let _ = association.write_all(format!("{name} sees {from}").as_bytes());
            }
        });
        return;
    }
    let socket = netns.run(|| raw(ip).unwrap()).unwrap();
    thread::spawn(move || {
        loop {
            let Ok(received) = receive(&socket, port) else { continue };
            let ([there, here], from) = (received.ports, received.from);
            let answer = match received.chunk {
                INIT => packet([here, there], INIT_ACK, &[0; 16]),
                _ => packet([here, there], DATA, format!("{name} sees {from}").as_bytes()),
            };
            let _ = socket.send_to(&answer, (from, 0));
        }
    });
}

/// Sends a chunk, again and again as SCTP does, until it is answered by one of the expected type.
fn exchange(socket: &UdpSocket, port: u16, to: SocketAddr, chunk: u8, expected: u8) -> io::Result<Received> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        socket.send(&packet([port, to.port()], chunk, b"who?"))?;
        match receive(socket, port) {
            // An answer to what was sent twice comes twice.
            Ok(answer) if chunk == DATA && answer.chunk == INIT_ACK => {}
            Ok(answer) if (answer.ports[0], answer.chunk) == (to.port(), expected) => return Ok(answer),
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens an association from an address and asks once: the answer, and who it came from.
fn ask(to: SocketAddr, from: SocketAddr) -> String {
    let ask = || -> io::Result<String> {
        let port = from.port();
        if let Some(socket) = own(from)? {
            let mut association = TcpStream::from(socket);
            // Of connect(), too.
            association.set_write_timeout(Some(TIMEOUT))?;
            association.set_read_timeout(Some(TIMEOUT))?;
            connect(association.as_raw_fd(), &SockaddrStorage::from(to))?;
            association.write_all(b"who?")?;
            let mut answer = [0; 256];
            let length = association.read(&mut answer)?;
            return Ok(format!("{} from {}", String::from_utf8_lossy(&answer[..length]), association.peer_addr()?));
        }
        let socket = raw(to.ip())?;
        // Packets from elsewhere are not seen.
        socket.connect((to.ip(), 0))?;
        exchange(&socket, port, to, INIT, INIT_ACK)?;
        Ok(format!("{} from {to}", exchange(&socket, port, to, DATA, DATA)?.data))
    };
    ask().unwrap_or_else(|error| format!("error {:?}", error.kind()))
}

#[track_caller]
fn check(machine: &Machine, (client, from): (&Netns, IpAddr), to: SocketAddr, expected: &str) {
    for port in [36_412, 38_412, 36_412] {
        let said = client.run(|| ask(to, addr(from, port))).unwrap();
        let reports: Vec<_> = machine.nodes.iter().map(Node::report).collect();
        assert_eq!(said, format!("{expected} from {to}"), "from port {port} {reports:?}");
    }
}

/// As a NodePort is to a node, for clients outside.
fn node_port(node: &Node, addr: IpAddr, backends: &[(IpAddr, bool)], flags: u16) {
    let key = FrontendKey { addr, port: NODE_PORT, proto: SCTP, scope: scope::EXTERNAL };
    let mut frontends = vec![Frontend { key, flags }];
    if flags & frontend_flag::DSR != 0 {
        let any = if addr.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        frontends.push(Frontend { key: FrontendKey { addr: any, ..key }, flags });
    }
    let backend = |&(addr, local): &(IpAddr, bool)| Backend { addr, port: 8_080, local, terminating: false, weight: 0 };
    let backends = backends.iter().map(backend).collect();
    node.datapath().put_service(&Service { frontends, backends, ..Service::default() }).unwrap();
}

/// Of each family: the address of a pod, of the node, the client outside, and a service.
fn families(pod: &Pod, node: &Node) -> [[IpAddr; 4]; 2] {
    let (vip, vip6): (IpAddr, IpAddr) = ("10.96.0.50".parse().unwrap(), "fd96:db8::50".parse().unwrap());
    [
        [pod.ip.into(), node.ip().into(), OUTSIDE.into(), vip],
        [pod.ip6().into(), node.ip6().into(), OUTSIDE6.into(), vip6],
    ]
}

async fn reaches_every_kind_of_service(machine: Machine) {
    let [node, other] = [&machine.nodes[0], &machine.nodes[1]];
    let (here, there, client) = (node.pod("here").await, other.pod("there").await, node.pod("client").await);
    let both = families(&here, node).into_iter().zip(families(&there, node)).zip(families(&client, node));
    for (([near, host, outside, vip], [far, ..]), [dialling, ..]) in both {
        serve(&here.space.netns, near, 8_080, "here");
        serve(&there.space.netns, far, 8_080, "there");
        serve(&machine.outside.netns, outside, 8_080, "outside");
        let (pod, remote) = ((&client.space.netns, dialling), (&machine.outside.netns, outside));
        check(&machine, pod, addr(far, 8_080), &format!("there sees {dialling}"));
        check(&machine, pod, addr(outside, 8_080), &format!("outside sees {host}"));
        for (backend, name) in [(near, "here"), (far, "there")] {
            node.datapath().put_service(&service(vip, 80, SCTP, &[(backend, 8_080)])).unwrap();
            check(&machine, pod, addr(vip, 80), &format!("{name} sees {dialling}"));
        }
        let dialled = addr(host, NODE_PORT);
        node_port(node, host, &[(near, true)], frontend_flag::NODE_PORT);
        check(&machine, remote, dialled, &format!("here sees {outside}"));
        node_port(node, host, &[(far, false)], frontend_flag::NODE_PORT);
        check(&machine, remote, dialled, &format!("there sees {host}"));
    }
    let drops = node.datapath().drops().unwrap();
    let refused = [DropReason::UnknownProtocol, DropReason::SctpFragment, DropReason::NoSnatPort];
    assert!(drops.iter().all(|(reason, traffic)| !refused.contains(reason) || traffic.packets == 0), "{drops:?}");
}

#[tokio::test]
async fn sctp_reaches_every_kind_of_service_through_an_overlay() {
    reaches_every_kind_of_service(Machine::dual(2, true).await).await;
}

#[tokio::test]
async fn sctp_reaches_every_kind_of_service_by_native_routes() {
    reaches_every_kind_of_service(Machine::dual(2, false).await).await;
}

#[tokio::test]
async fn sctp_is_answered_by_the_backend_itself() {
    let machine = Machine::dual_with_tunnel(2, false).await;
    let pod = machine.nodes[1].pod("pod").await;
    let node = &machine.nodes[0];
    for [backend, host, outside, _] in families(&pod, node) {
        serve(&pod.space.netns, backend, 8_080, "pod");
        for (node, local) in [(node, false), (&machine.nodes[1], true)] {
            node_port(node, host, &[(backend, local)], frontend_flag::NODE_PORT | frontend_flag::DSR);
        }
        check(&machine, (&machine.outside.netns, outside), addr(host, NODE_PORT), &format!("pod sees {outside}"));
    }
}

#[tokio::test]
async fn associations_go_with_their_endpoint() {
    let machine = Machine::dual(1, false).await;
    let node = &machine.nodes[0];
    let (old, new) = (node.pod("old").await, node.pod("new").await);
    for ([backend, host, outside, _], [other, ..]) in families(&old, node).into_iter().zip(families(&new, node)) {
        serve(&old.space.netns, backend, 8_080, "old");
        node_port(node, host, &[(backend, true)], frontend_flag::NODE_PORT);
        let client = (&machine.outside.netns, outside);
        check(&machine, client, addr(host, NODE_PORT), &format!("old sees {outside}"));
        assert_eq!(node.datapath().collect_stale().unwrap().stale, 0);
        node_port(node, host, &[(other, true)], frontend_flag::NODE_PORT);
        // Of two ports.
        assert_eq!(node.datapath().collect_stale().unwrap().stale, 2);
    }
}
