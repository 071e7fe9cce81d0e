//! Pods with a bandwidth. What passes is held against what the rate allows in the time that went by: a machine that is
//! slow lets less pass, never more.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use nix::sys::socket::{setsockopt, sockopt};
use xebec_abi::{DropReason, PodRate, names};
use xebec_datapath::DriftKind;
use xebec_netlink::Netns;

use crate::{
    drift::{check, links},
    machine::{Machine, Node, Pod},
    tool::addr,
};

const PORT: u16 = 7_000;
/// Bytes a second: two Mbit/s.
const RATE: u64 = 250_000;
/// The least that a bucket holds.
const BURST: u64 = 128 << 10;
/// What a datagram carries, and with its headers of IPv4 and of Ethernet.
const PAYLOAD: usize = 1_200;
const FRAME: u64 = PAYLOAD as u64 + 8 + 20 + 14;
/// How long a sender goes on: about four buckets.
const PERIOD: Duration = Duration::from_millis(1_500);
/// The datapath's clock goes by jiffies, of which the longest are ten milliseconds.
const TICK: Duration = Duration::from_millis(10);

fn tokens(elapsed: Duration) -> u64 {
    BURST + (RATE as f64 * elapsed.as_secs_f64()) as u64
}

/// Holds everything that a test sends, so that nobody has to read in time.
fn sink(netns: &Netns, ip: IpAddr) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind((ip, PORT)).unwrap()).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &(256 << 20)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn source(netns: &Netns, to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = netns.run(|| UdpSocket::bind(any).unwrap()).unwrap();
    socket.connect(to).unwrap();
    socket
}

/// The datagrams that wait.
fn waiting(sink: &UdpSocket) -> u64 {
    sink.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2 * PAYLOAD];
    (0..).take_while(|_| sink.recv(&mut buffer).is_ok()).count() as u64
}

fn dropped(node: &Node) -> u64 {
    let drops = node.datapath().drops().unwrap();
    drops.iter().find(|(known, _)| *known == DropReason::PodBandwidth).map_or(0, |(_, traffic)| traffic.packets)
}

/// Sends far more than passes: as much arrives as the pod's rate allows.
#[track_caller]
fn check_ingress(from: &Netns, node: &Node, pod: &Pod, ip: IpAddr) {
    let (sink, source) = (sink(&pod.space.netns, ip), source(from, addr(ip, PORT)));
    // One bucket for both families, which the one before has emptied.
    node.datapath().limit_pod(pod.ip.into(), None).unwrap();
    assert!(node.datapath().limit_pod(pod.ip.into(), Some(RATE)).unwrap());
    let before = dropped(node);
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < PERIOD {
        // A queue on the way may be full.
        sent += u64::from(source.send(&[b'x'; PAYLOAD]).is_ok());
    }
    let elapsed = start.elapsed() + TICK;
    let arrived = waiting(&sink);
    let what = format!("{ip}: {arrived} of {sent} in {elapsed:?} {}", node.report());
    assert!(arrived * FRAME <= tokens(elapsed) + FRAME, "{what}");
    // Each that did not arrive was counted, but for those that the machine itself lost.
    assert!(dropped(node) - before <= sent - arrived, "{what}");
    assert!(arrived * FRAME * 2 >= tokens(Duration::ZERO).min(sent * FRAME), "{what}");
    assert!(dropped(node) > before, "{what}");
    assert!(node.datapath().limit_pod(pod.ip.into(), None).unwrap());
    let before = dropped(node);
    (0..1_000).for_each(|_| drop(source.send(&[b'x'; PAYLOAD])));
    assert_eq!(dropped(node), before, "{ip}: without a limit {}", node.report());
}

#[tokio::test]
async fn a_pod_gets_no_more_than_its_ingress_bandwidth() {
    let machine = Machine::dual(2, true).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    let (pod, near, far) = (node.pod("pod").await, node.pod("near").await, other.pod("far").await);
    for ip in [IpAddr::from(pod.ip), pod.ip6().into()] {
        // Past the host's stack, through the overlay, and from the stack itself.
        check_ingress(&near.space.netns, node, &pod, ip);
        check_ingress(&far.space.netns, node, &pod, ip);
        check_ingress(&node.space.netns, node, &pod, ip);
    }
}

/// Sends so much that most of it waits: all of it arrives, and no sooner than the pod's rate allows.
fn send_all(from: &Netns, to: SocketAddr, count: u64, sink: &UdpSocket) -> Duration {
    let source = source(from, to);
    let start = Instant::now();
    for _ in 0..count {
        source.send(&[b'x'; PAYLOAD]).unwrap();
    }
    let mut buffer = [0; 2 * PAYLOAD];
    for number in 0..count {
        sink.recv(&mut buffer).unwrap_or_else(|error| panic!("datagram {number} of {count}: {error}"));
    }
    start.elapsed()
}

#[tokio::test]
async fn a_pod_sends_no_more_than_its_egress_bandwidth_and_loses_nothing() {
    let machine = Machine::dual(2, false).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    let (pod, near, far) = (node.pod("pod").await, node.pod("near").await, other.pod("far").await);
    assert!(node.shape(&pod, Some(RATE)).await);
    assert!(!node.shape(&pod, Some(RATE)).await, "twice is once");
    let count = 400;
    for (near, far) in [(IpAddr::from(near.ip), IpAddr::from(far.ip)), (near.ip6().into(), far.ip6().into())]
        .map(|(near_ip, far_ip)| ((&near, near_ip), (&far, far_ip)))
    {
        for (peer, ip) in [near, far] {
            let sink = sink(&peer.space.netns, ip);
            let elapsed = send_all(&pod.space.netns, addr(ip, PORT), count, &sink);
            assert!(count * FRAME <= tokens(elapsed), "{ip}: {count} datagrams in {elapsed:?}");
        }
    }
    // A rate that changes, and goes.
    assert!(node.shape(&pod, Some(RATE * 1_000)).await);
    assert!(node.shape(&pod, None).await);
    assert!(!node.shape(&pod, None).await);
}

#[tokio::test]
async fn connections_go_on_at_the_bandwidth_of_their_ends() {
    let machine = Machine::dual(1, false).await;
    let node = &machine.nodes[0];
    let (pod, near) = (node.pod("pod").await, node.pod("near").await);
    node.datapath().limit_pod(pod.ip.into(), Some(RATE)).unwrap();
    node.shape(&pod, Some(RATE)).await;
    let bytes = 3 * BURST;
    let (pod, near) = ((&pod, [IpAddr::from(pod.ip), pod.ip6().into()]), (&near, [near.ip.into(), near.ip6().into()]));
    for ((from, _), (to, ips)) in [(pod, near), (near, pod)] {
        for ip in ips {
            let listener = to.space.netns.run(|| TcpListener::bind((ip, PORT)).unwrap()).unwrap();
            let start = Instant::now();
            let sender = from.space.netns.spawn_stream(addr(ip, PORT), bytes);
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap_or_else(|error| panic!("{ip}: {error} {}", node.report()));
            let elapsed = start.elapsed() + TICK;
            sender.join().unwrap();
            assert_eq!(all.len() as u64, bytes);
            // Two large packets may be taken in advance.
            assert!(bytes <= tokens(elapsed) + BURST, "{ip}: {bytes} in {elapsed:?}");
        }
    }
}

trait SpawnStream {
    fn spawn_stream(&self, to: SocketAddr, bytes: u64) -> thread::JoinHandle<()>;
}

impl SpawnStream for Netns {
    fn spawn_stream(&self, to: SocketAddr, bytes: u64) -> thread::JoinHandle<()> {
        let mut stream = self.run(|| TcpStream::connect(to).unwrap()).unwrap();
        thread::spawn(move || stream.write_all(&vec![b'x'; bytes as usize]).unwrap())
    }
}

fn rates(node: &Node) -> HashMap<MapData, u32, PodRate> {
    let map = MapData::from_pin(links(node).with_file_name(names::POD_RATES)).unwrap();
    Map::HashMap(map).try_into().unwrap()
}

#[tokio::test]
async fn a_bandwidth_outlives_the_agent_and_goes_with_its_pod() {
    let machine = Machine::dual(1, false).await;
    let node = &machine.nodes[0];
    let (pod, other) = (node.pod("pod").await, node.pod("other").await);
    for pod in [&pod, &other] {
        assert!(node.datapath().limit_pod(pod.ip.into(), Some(RATE)).unwrap());
        assert!(!node.datapath().limit_pod(pod.ip6().into(), Some(RATE)).unwrap(), "one for both addresses");
    }
    node.stop_agent();
    node.start_agent();
    assert!(!node.datapath().limit_pod(pod.ip.into(), Some(RATE)).unwrap(), "it is known");
    check(node, &[]);
    let (mut map, key) = (rates(node), *rates(node).keys().next().unwrap().as_ref().unwrap());
    map.remove(&key).unwrap();
    check(node, &[(DriftKind::MapEntry, names::POD_RATES)]);
    let mut rate = map.get(&key, 0).unwrap();
    rate.bytes_per_s += 1;
    map.insert(key, rate, 0).unwrap();
    map.insert(9_999, rate, 0).unwrap();
    check(node, &[(DriftKind::MapEntry, names::POD_RATES), (DriftKind::MapEntry, names::POD_RATES)]);
    let entries = |node: &Node, count| {
        let metrics = node.datapath().metrics();
        let line = format!("xebec_datapath_map_entries{{map=\"xb_pod_rate\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    };
    entries(node, 2);
    node.remove(pod).await;
    entries(node, 1);
    assert_eq!(map.keys().count(), 1);
    assert!(node.datapath().limit_pod(other.ip.into(), None).unwrap());
    entries(node, 0);
    check(node, &[]);
}
