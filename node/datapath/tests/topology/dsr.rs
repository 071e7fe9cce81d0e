//! Direct server return: a client outside dials one node, and the backend on another answers it.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use xebec_abi::{
    Counter, DropReason,
    config::dsr_vni,
    lb::{frontend_flag, scope},
};
use xebec_datapath::{Backend, Frontend, FrontendKey, Service};
use xebec_netlink::Netns;

use crate::{
    machine::{Machine, Node, OUTSIDE, OUTSIDE6, Pod, VNI},
    mtu::{Fate, send},
    tool::{addr, serve, tcp, udp, udp_connected},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const NODE_PORT: u16 = 30_080;
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    V4,
    V6,
}

use Family::{V4, V6};

impl Family {
    fn ingress(self) -> IpAddr {
        match self {
            V4 => Ipv4Addr::new(203, 0, 113, 10).into(),
            V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 10).into(),
        }
    }

    fn client(self) -> IpAddr {
        if self == V4 { OUTSIDE.into() } else { OUTSIDE6.into() }
    }

    fn any(self) -> IpAddr {
        if self == V4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
    }

    fn of_node(self, node: &Node) -> IpAddr {
        if self == V4 { node.ip().into() } else { node.ip6().into() }
    }

    fn of_pod(self, pod: &Pod) -> IpAddr {
        if self == V4 { pod.ip.into() } else { pod.ip6().into() }
    }

    fn has(self, node: &Node, addr: IpAddr) -> bool {
        let is_pod = match addr {
            IpAddr::V4(ip) => node.network().pod_cidr.contains(&ip),
            IpAddr::V6(ip) => node.network6().pod_cidr.contains(&ip),
        };
        is_pod || addr == self.of_node(node)
    }
}

/// A NodePort and a load balancer's address on a node, for clients outside.
pub fn put(family: Family, node: &Node, backends: &[(IpAddr, u16)]) {
    let backend = |&(addr, port): &(IpAddr, u16)| {
        let local = family.has(node, addr);
        Backend { addr, port, local, terminating: false, weight: 0 }
    };
    for proto in [TCP, UDP] {
        let at = |addr, port, kind| Frontend {
            key: FrontendKey { addr, port, proto, scope: scope::EXTERNAL },
            flags: kind | frontend_flag::DSR,
        };
        let frontends = vec![
            at(family.any(), NODE_PORT, frontend_flag::NODE_PORT),
            at(family.of_node(node), NODE_PORT, frontend_flag::NODE_PORT),
            at(family.ingress(), 80, frontend_flag::LOAD_BALANCER),
        ];
        let backends = backends.iter().map(backend).collect();
        node.datapath().put_service(&Service { frontends, backends, ..Service::default() }).unwrap();
    }
}

/// Outside, the load balancer's address is behind a node.
fn announce(family: Family, machine: &Machine, node: &Node) {
    let (via, to) = (family.of_node(node).to_string(), family.ingress().to_string());
    let route = || Command::new("ip").args(["route", "replace", &to, "via", &via]).status().unwrap();
    assert!(machine.outside.netns.run(route).unwrap().success());
}

fn counted(node: &Node, counter: Counter) -> u64 {
    let counters = node.datapath().counters().unwrap();
    counters.iter().find(|(c, _)| *c == counter).map_or(0, |(_, traffic)| traffic.packets)
}

fn dropped(node: &Node, reason: DropReason) -> u64 {
    let drops = node.datapath().drops().unwrap();
    drops.iter().find(|(known, _)| *known == reason).map_or(0, |(_, traffic)| traffic.packets)
}

/// Both addresses of the service, by every protocol and size.
#[track_caller]
fn check(family: Family, machine: &Machine, expected: &str) {
    let [front, back] = [&machine.nodes[0], &machine.nodes[1]];
    let report = || format!("{} {}", front.report(), back.report());
    let outside = &machine.outside.netns;
    for to in [addr(family.of_node(front), NODE_PORT), addr(family.ingress(), 80)] {
        for round in 0..3 {
            let said = outside.run(|| tcp(to)).unwrap();
            assert_eq!(said, format!("{expected} peer {to}"), "round {round} {}", report());
            let said = outside.run(|| udp(to, 1)).unwrap();
            assert_eq!(said, format!("{expected} from {to}"), "round {round} {}", report());
        }
        let said = outside.run(|| udp(to, 4_000)).unwrap();
        assert_eq!(said, format!("{expected} from {to}"), "fragments {}", report());
    }
}

async fn served(overlay: bool) -> (Machine, Pod) {
    let machine = Machine::dual_with_tunnel(2, overlay).await;
    let pod = machine.nodes[1].pod("pod").await;
    for family in [V4, V6] {
        serve(&pod.space.netns, family.of_pod(&pod), 8080, "pod");
        for node in &machine.nodes {
            put(family, node, &[(family.of_pod(&pod), 8080)]);
        }
        announce(family, &machine, &machine.nodes[0]);
    }
    (machine, pod)
}

async fn elsewhere(overlay: bool) {
    let (machine, pod) = served(overlay).await;
    let [front, back] = [&machine.nodes[0], &machine.nodes[1]];
    for family in [V4, V6] {
        check(family, &machine, &format!("pod sees {}", family.client()));
        long(family, &machine, &pod);
    }
    assert!(counted(front, Counter::ExternalDsr) >= 28, "{}", front.report());
    assert!(counted(back, Counter::ExternalLocal) >= 28, "{}", back.report());
    // No answer passed through the node that was dialled, and nothing was masqueraded.
    for counter in [Counter::ExternalRemote, Counter::ToOutside, Counter::FlowMiss] {
        assert_eq!((counted(front, counter), counted(back, counter)), (0, 0), "{counter:?}");
    }
    // The client learns what fits the tunnel from the first segment that does not.
    let other = |node: &Node| {
        node.datapath().drops().unwrap().into_iter().filter(|(why, _)| *why != DropReason::TooBig).count()
    };
    assert_eq!((other(front), other(back)), (0, 0), "{} {}", front.report(), back.report());
}

async fn lengths(overlay: bool) {
    let (machine, _pod) = served(overlay).await;
    let (front, outside) = (&machine.nodes[0], &machine.outside.netns);
    for (family, before) in [(V4, 0), (V6, 1)] {
        let to = addr(family.of_node(front), NODE_PORT);
        assert_eq!(send(outside, to, 1_500), Fate::Learnt(1_450), "{to} {}", front.report());
        assert_eq!(dropped(front, DropReason::TooBig), before + 1, "{to} {}", front.report());
        assert_eq!(send(outside, to, 1_450), Fate::Answered, "{to} {}", front.report());
    }
}

#[tokio::test]
async fn a_client_learns_what_fits_the_tunnel() {
    lengths(true).await;
}

#[tokio::test]
async fn a_client_learns_what_fits_the_tunnel_beside_native_routes() {
    lengths(false).await;
}

/// Megabytes in both directions on one connection, which opens with an idle moment.
#[track_caller]
pub fn long(family: Family, machine: &Machine, pod: &Pod) {
    const BYTES: usize = 8 << 20;
    let backend = family.of_pod(pod);
    let listener = pod.space.netns.run(|| TcpListener::bind((backend, 8081)).unwrap()).unwrap();
    for node in &machine.nodes {
        put(family, node, &[(backend, 8081)]);
    }
    let server = thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
        (from.ip(), all.len())
    });
    let mut stream = machine.outside.netns.run(|| TcpStream::connect((family.ingress(), 80)).unwrap()).unwrap();
    let report = || format!("{} {}", machine.nodes[0].report(), machine.nodes[1].report());
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let sent: Vec<u8> = (0..BYTES).map(|at| (at / 251) as u8).collect();
    stream.write_all(&sent).unwrap_or_else(|error| panic!("{error} {}", report()));
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap_or_else(|error| panic!("{error} {}", report()));
    assert!(received == sent, "{} of {BYTES} bytes came back", received.len());
    assert_eq!(server.join().unwrap(), (family.client(), BYTES));
}

#[tokio::test]
async fn a_backend_elsewhere_sees_its_client_through_the_overlay() {
    elsewhere(true).await;
}

#[tokio::test]
async fn a_backend_elsewhere_sees_its_client_beside_native_routes() {
    elsewhere(false).await;
}

#[tokio::test]
async fn a_process_of_another_node_sees_its_client() {
    let machine = Machine::dual_with_tunnel(2, true).await;
    for family in [V4, V6] {
        let backend = family.of_node(&machine.nodes[1]);
        serve(&machine.nodes[1].space.netns, backend, 9_090, "process");
        for node in &machine.nodes {
            put(family, node, &[(backend, 9_090)]);
        }
        announce(family, &machine, &machine.nodes[0]);
        check(family, &machine, &format!("process sees {}", family.client()));
    }
}

/// A process of the backend's node gets its answer nevertheless: from the node that it dialled.
#[tokio::test]
async fn a_process_of_the_backends_node_is_served() {
    let (machine, _pod) = served(true).await;
    let [front, back] = [&machine.nodes[0], &machine.nodes[1]];
    for family in [V4, V6] {
        let to = addr(family.of_node(front), NODE_PORT);
        let said = back.space.netns.run(|| tcp(to)).unwrap();
        assert_eq!(said, format!("pod sees {} peer {to}", family.of_node(front)), "{}", front.report());
    }
}

/// Asks again and again from one socket.
fn asker(netns: &Netns, to: IpAddr) -> impl Fn() -> String {
    let any: IpAddr = if to.is_ipv4() { V4.any() } else { V6.any() };
    let socket = netns.run(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    move || {
        socket.send_to(b"?", (to, NODE_PORT)).unwrap();
        let mut buffer = [0; 100];
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) if from == addr(to, NODE_PORT) => String::from_utf8_lossy(&buffer[..len]).trim().to_owned(),
            other => format!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_flow_whose_backend_goes_finds_another() {
    let (machine, pod) = served(true).await;
    let [front, back] = [&machine.nodes[0], &machine.nodes[1]];
    let here = front.pod("here").await;
    for family in [V4, V6] {
        serve(&here.space.netns, family.of_pod(&here), 8080, "here");
        let (there, here) = ((family.of_pod(&pod), 8080), (family.of_pod(&here), 8080));
        let ask = asker(&machine.outside.netns, family.of_node(front));
        let client = family.client();
        assert_eq!(ask(), format!("pod sees {client}"));
        assert_eq!(ask(), format!("pod sees {client}"));
        // The node that is dialled learns first.
        put(family, front, &[here]);
        front.datapath().collect_stale().unwrap();
        assert_eq!(ask(), format!("here sees {client}"), "{}", front.report());
        put(family, front, &[there]);
        front.datapath().collect_stale().unwrap();
        assert_eq!(ask(), format!("pod sees {client}"), "{}", front.report());
        // The backend's node does: what is passed on to it goes on to the other backend, which sees that node.
        put(family, back, &[here]);
        back.datapath().collect_stale().unwrap();
        assert_eq!(ask(), format!("here sees {}", family.of_node(back)), "{} {}", front.report(), back.report());
        let to = addr(family.of_node(front), NODE_PORT);
        let said = machine.outside.netns.run(|| tcp(to)).unwrap();
        assert_eq!(said, format!("here sees {} peer {to}", family.of_node(back)), "{}", back.report());
        // No backend at all is a refusal.
        put(family, back, &[]);
        assert_eq!(machine.outside.netns.run(|| tcp(to)).unwrap(), "error ConnectionRefused", "{}", back.report());
        assert_eq!(machine.outside.netns.run(|| udp_connected(to)).unwrap(), "error ConnectionRefused");
    }
}

/// What was passed on to a node without a backend, and is too long for the way to another one: its client learns it from
/// that node, past the one that passed it on.
#[tokio::test]
async fn a_client_learns_what_fits_the_way_past_a_node_whose_backend_went() {
    const FITS: u32 = 1_300;
    let (machine, _pod) = served(false).await;
    let [front, back] = [&machine.nodes[0], &machine.nodes[1]];
    let here = front.pod("here").await;
    for family in [V4, V6] {
        let backend = family.of_pod(&here);
        serve(&here.space.netns, backend, 8080, "here");
        put(family, back, &[(backend, 8080)]);
        let (backend, via, fits) = (backend.to_string(), family.of_node(front).to_string(), FITS.to_string());
        let narrow = ["route", "add", &backend, "via", &via, "mtu", "lock", &fits];
        let status = back.space.netns.run(|| Command::new("ip").args(narrow).status().unwrap()).unwrap();
        assert!(status.success(), "{narrow:?}");
        let to = addr(family.of_node(front), NODE_PORT);
        let report = || format!("{} {}", front.report(), back.report());
        let fate = send(&machine.outside.netns, to, 1_400);
        // A kernel whose FIB does not say what fits is asked once more.
        assert!(matches!(fate, Fate::Learnt(mtu) if mtu < 1_400), "{to} {fate:?} {}", report());
        assert_eq!(send(&machine.outside.netns, to, FITS as usize), Fate::Answered, "{to} {}", report());
    }
    assert!(dropped(back, DropReason::TooBig) >= 2, "{}", back.report());
}

#[tokio::test]
async fn an_error_about_a_request_reaches_its_client() {
    let (machine, pod) = served(true).await;
    for family in [V4, V6] {
        // Nobody listens.
        for node in &machine.nodes {
            put(family, node, &[(family.of_pod(&pod), 9)]);
        }
        for to in [addr(family.of_node(&machine.nodes[0]), NODE_PORT), addr(family.ingress(), 80)] {
            let said = machine.outside.netns.run(|| udp_connected(to)).unwrap();
            assert_eq!(said, "error ConnectionRefused", "{to} {}", machine.nodes[1].report());
        }
    }
}

/// A router between the backend and its client says how large packets may be: to the address that they came from.
#[tokio::test]
async fn an_error_about_an_answer_reaches_the_backend() {
    let (machine, pod) = served(true).await;
    let front = &machine.nodes[0];
    let (to, quoted) = ((front.ip(), NODE_PORT), [front.ip().octets(), OUTSIDE.octets()]);
    let listener = pod.space.netns.run(|| TcpListener::bind((pod.ip, 8082)).unwrap()).unwrap();
    for node in &machine.nodes {
        put(V4, node, &[(pod.ip.into(), 8082)]);
    }
    let client = machine.outside.netns.run(|| TcpStream::connect(to).unwrap()).unwrap();
    let (_server, _) = listener.accept().unwrap();
    // All of it but the sequence number, which nobody here knows.
    let sport = client.local_addr().unwrap().port();
    let mut error = vec![3, 4, 0, 0, 0, 0, 1_000u16.to_be_bytes()[0], 1_000u16.to_be_bytes()[1]];
    error.extend([0x45, 0, 0, 40, 0, 1, 0, 0, 64, TCP, 0, 0]);
    error.extend(quoted.concat());
    error.extend([NODE_PORT.to_be_bytes(), sport.to_be_bytes()].concat());
    error.extend([0; 4]);
    let sum = error.chunks(2).fold(0u32, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    error[2..4].copy_from_slice(&sum.to_be_bytes());
    let seen = counted(&machine.nodes[1], Counter::IcmpError);
    machine.outside.netns.run(|| raw(&error, front.ip())).unwrap();
    let deadline = std::time::Instant::now() + TIMEOUT;
    while counted(&machine.nodes[1], Counter::IcmpError) == seen && std::time::Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(counted(&machine.nodes[1], Counter::IcmpError), seen + 1, "{}", machine.nodes[1].report());
    // In the pod, where the kernel looks for the connection that is meant: it is there.
    let snmp = pod.space.netns.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap()).unwrap();
    let icmp: Vec<&str> = snmp.lines().filter(|line| line.starts_with("Icmp:")).collect();
    let value = |name: &str| {
        let at = icmp[0].split(' ').position(|field| field == name).unwrap();
        icmp[1].split(' ').nth(at).unwrap().to_owned()
    };
    assert_eq!((value("InMsgs"), value("InErrors")), ("1".to_owned(), "0".to_owned()));
}

/// Sends an ICMP message.
fn raw(message: &[u8], to: Ipv4Addr) {
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp).unwrap();
    let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
    sendto(socket.as_raw_fd(), message, &to, MsgFlags::empty()).unwrap();
}

#[tokio::test]
async fn only_nodes_pass_packets_on() {
    let (machine, _pod) = served(true).await;
    let back = &machine.nodes[1];
    // A datagram for the load balancer's address, as a node would pass it on.
    let [vni @ .., _] = (dsr_vni(VNI).unwrap() << 8).to_be_bytes();
    let mut packet = [&[8, 0, 0, 0][..], &vni, &[0], &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]].concat();
    packet.extend([0x45, 0, 0, 29, 0, 0, 0, 0, 64, UDP, 0, 0]);
    packet.extend([[198, 51, 100, 9], [203, 0, 113, 10]].concat());
    packet.extend([0x10, 0, 0, 80, 0, 9, 0, 0, b'?']);
    let send = |from: &Netns| {
        let socket = from.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        socket.send_to(&packet, (back.ip(), 8_472)).unwrap();
        thread::sleep(Duration::from_millis(200));
    };
    send(&machine.outside.netns);
    assert_eq!(dropped(back, DropReason::UnknownNode), 1, "{}", back.report());
    assert_eq!(counted(back, Counter::ExternalLocal), 0);
    send(&machine.nodes[0].space.netns);
    assert_eq!((dropped(back, DropReason::UnknownNode), counted(back, Counter::ExternalLocal)), (1, 1));
}
