//! Maps of flows change their layout while traffic goes on, and every state on the way forwards everything.

mod death;

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::{
    socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt},
    time::{TimeVal, TimeValLike},
};
use xebec_abi::{
    lb::scope,
    proto::{TCP, UDP},
};
use xebec_datapath::{
    Config, Datapath, Frontend, FrontendKey, MapLayout, Migrated, Service, XdpMode,
    testing::{self, Done, Observer},
};
use xebec_netlink::Netns;

use crate::{
    drift::links,
    external::{NODE_PORT, put_with},
    growth::ask,
    machine::{Machine, Node, OUTSIDE, OUTSIDE6, service},
    restart::Stream,
    tool::{addr, serve, spawn},
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 90);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd96, 0xdb8, 0, 0, 0, 0, 0, 0x90);
const FLOW_MAPS: [&str; 4] = ["xb_ct4", "xb_nat4", "xb_ct6", "xb_nat6"];
const TIMEOUT: Duration = Duration::from_secs(3);

/// A connection and a datagram socket to one address.
struct Flow {
    to: SocketAddr,
    tcp: TcpStream,
    udp: UdpSocket,
}

impl Flow {
    fn new(netns: &Netns, to: SocketAddr) -> Self {
        netns
            .run(|| {
                let tcp = TcpStream::connect_timeout(&to, TIMEOUT).unwrap_or_else(|error| panic!("{to}: {error}"));
                tcp.set_nodelay(true).unwrap();
                tcp.set_read_timeout(Some(TIMEOUT)).unwrap();
                let udp = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
                udp.set_read_timeout(Some(TIMEOUT)).unwrap();
                Self { to, tcp, udp }
            })
            .unwrap()
    }

    /// One question by each, of which a lost packet is not sent again within the time.
    fn ask(&mut self, when: &str) {
        let (to, mut buffer) = (self.to, [0; 2_000]);
        self.udp.send_to(b"?", to).unwrap();
        let answer = self.udp.recv_from(&mut buffer);
        assert!(matches!(answer, Ok((8.., from)) if from == to), "udp to {to} {when}: {answer:?}");
        self.tcp.write_all(b"?").unwrap();
        let answer = self.tcp.read(&mut buffer);
        assert!(matches!(answer, Ok(8..)), "tcp to {to} {when}: {answer:?}");
    }
}

/// Flows that are asked in every state, of which each makes some more.
struct Flows {
    /// Who dials what.
    routes: Vec<(Netns, SocketAddr)>,
    open: Mutex<Vec<Flow>>,
}

impl Flows {
    fn ask_all(&self, when: &str) {
        let mut open = self.open.lock().unwrap();
        open.iter_mut().for_each(|flow| flow.ask(when));
        for (netns, to) in &self.routes {
            let mut flow = Flow::new(netns, *to);
            flow.ask(when);
            open.push(flow);
        }
    }
}

/// What both protocols have at a frontend of each kind.
fn put(node: &Node, vip: IpAddr, at: IpAddr, backends: [IpAddr; 2]) {
    for proto in [TCP, UDP] {
        let mut service = service(vip, 80, proto, &backends.map(|ip| (ip, 80)));
        service.backends[0].local = true;
        let key = FrontendKey { addr: at, port: NODE_PORT, proto, scope: scope::EXTERNAL };
        let outside = Service { frontends: vec![Frontend { key, flags: 0 }], ..service.clone() };
        node.datapath().put_service(&service).unwrap();
        node.datapath().put_service(&outside).unwrap();
    }
}

/// Does a link forward by another program now? Those on sockets know nothing of flows.
fn changes_flows(done: Done) -> bool {
    matches!(done, Done::Linked(program) if !program.starts_with("sock"))
}

/// An agent that wants another layout; `see` is called after each link that gets a program, with what is happening.
fn restart(node: &mut Node, layout: MapLayout, see: impl Fn(&str) + Send + Sync + 'static) -> Vec<Migrated> {
    node.stop_agent();
    node.config.map_layout = layout;
    let count = Mutex::new(0);
    let observer = Observer::new(move |done| {
        if changes_flows(done) {
            let mut count = count.lock().unwrap();
            *count += 1;
            see(&format!("after {done:?}, number {count}, towards {layout:?}"));
        }
    });
    node.start_agent_with(|config| Datapath::open_observed(config, observer));
    let (bpffs, name) = (&node.config.bpffs, &node.config.node_name);
    assert_eq!(Datapath::map_layout(bpffs, name).unwrap(), Some(layout));
    let pins = fs::read_dir(links(node).parent().unwrap()).unwrap().flatten();
    let staged: Vec<_> = pins.filter(|pin| pin.file_name().to_string_lossy().ends_with("_new")).collect();
    assert!(staged.is_empty(), "{staged:?}");
    assert!(!links(node).with_file_name("xb_carried").exists());
    node.datapath().migrated().to_vec()
}

fn entries(node: &Node, map: &str) -> u64 {
    node.datapath().usage().unwrap().iter().find(|usage| usage.map == map).unwrap().entries
}

/// Between any two links that get another program, both directions of each flow find what the other direction's programs,
/// old or new, know of it: those of flows that began before, and in every state before.
#[tokio::test]
async fn every_state_between_two_layouts_forwards_every_flow() {
    let mut machine = Machine::dual(2, true).await;
    // Its sockets are in no cgroup of pods: packets are translated, not sockets.
    let (asker, here) = (machine.nodes[0].pod("asker").await, machine.nodes[0].pod("here").await);
    let there = machine.nodes[1].pod("there").await;
    for (pod, name) in [(&here, "here"), (&there, "there")] {
        serve(&pod.space.netns, pod.ip, 80, name);
        serve(&pod.space.netns, pod.ip6(), 80, name);
    }
    serve(&machine.outside.netns, OUTSIDE, 80, "outside");
    serve(&machine.outside.netns, OUTSIDE6, 80, "outside");
    let node = &machine.nodes[0];
    let (ip, ip6) = (node.ip(), node.ip6());
    put(node, VIP.into(), ip.into(), [here.ip.into(), there.ip.into()]);
    put(node, VIP6.into(), ip6.into(), [here.ip6().into(), there.ip6().into()]);
    let inside = [addr(VIP, 80), addr(OUTSIDE, 80), addr(VIP6, 80), addr(OUTSIDE6, 80)];
    let outside = [addr(ip, NODE_PORT), addr(ip6, NODE_PORT)];
    let routes = inside.map(|to| (asker.space.netns.clone(), to)).into_iter();
    let routes = routes.chain(outside.map(|to| (machine.outside.netns.clone(), to))).collect();
    let flows = Arc::new(Flows { routes, open: Mutex::default() });
    flows.ask_all("before");

    let node = &mut machine.nodes[0];
    for layout in [MapLayout::Rehearsal, MapLayout::Current] {
        let before: u64 = FLOW_MAPS.iter().map(|map| entries(node, map)).sum();
        let asked = Arc::clone(&flows);
        let migrated = restart(node, layout, move |when| asked.ask_all(when));
        let maps: Vec<_> = migrated.iter().map(|migrated| migrated.map).collect();
        assert_eq!(maps, FLOW_MAPS);
        let copied: usize = migrated.iter().filter_map(|migrated| migrated.entries).sum();
        assert!(copied as u64 >= before && before > 12, "{copied} of {before}");
        flows.ask_all("after migration");
        // Programs that are swapped in one layout find it as it is.
        node.stop_agent();
        node.start_agent();
        assert_eq!(node.datapath().migrated(), []);
        flows.ask_all("after another agent");
    }
    assert_eq!(node.datapath().drops().unwrap(), [], "{}", node.report());
}

/// A question over a connection from a port that was used a moment ago; it ends in a reset, so that the port is free again.
fn ask_from(netns: &Netns, port: u16, to: (Ipv4Addr, u16)) -> Result<(), String> {
    let ask = || -> std::io::Result<usize> {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        setsockopt(&socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(TIMEOUT.as_secs().cast_signed()))?;
        bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port))?;
        let [a, b, c, d] = to.0.octets();
        connect(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, to.1))?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(b"?")?;
        stream.read(&mut [0; 2_000])
    };
    match netns.run(ask).unwrap() {
        Ok(8..) => Ok(()),
        other => Err(format!("{to:?} from port {port}: {other:?}")),
    }
}

/// Two services with one backend, dialled from one port in turn: the second connection's answers have the key of the first
/// one's, and become something else. Programs that know only one of two maps see one connection begin, and others the other's
/// answers.
#[tokio::test]
async fn ports_that_are_used_again_meet_no_flow_of_before() {
    const PORT: u16 = 40_000;
    let mut machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let (a, b) = (node.pod("a").await, node.pod("b").await);
    let vips = |number| [0, 1].map(|last| (Ipv4Addr::new(10, 96, number, last), 80));
    let mut dialled = Vec::new();
    for (number, client, server) in [(1, &a, &b), (2, &b, &a)] {
        serve(&server.space.netns, server.ip, 80, "server");
        for (vip, port) in vips(number) {
            node.put(vip, port, TCP, &[(server.ip, 80)]);
        }
        dialled.push((client.space.netns.clone(), vips(number)));
    }
    let wrong = Arc::new(Mutex::new(Vec::new()));
    let node = &mut machine.nodes[0];
    for layout in [MapLayout::Rehearsal, MapLayout::Current] {
        let (dialled, wrong) = (dialled.clone(), Arc::clone(&wrong));
        restart(node, layout, move |when| {
            for (netns, vips) in &dialled {
                let failed = vips.iter().filter_map(|vip| ask_from(netns, PORT, *vip).err());
                wrong.lock().unwrap().extend(failed.map(|failed| format!("{when}: {failed}")));
            }
        });
    }
    let wrong = wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?} {}", node.report());
}

#[tokio::test]
async fn migrations_under_load_lose_nothing() {
    let mut machine = Machine::new(2, true).await;
    let (client, here) = (machine.nodes[0].pod("client").await, machine.nodes[0].pod("here").await);
    // As in the test of growth: its own, for packets that are translated.
    let asker = machine.nodes[0].pod("asker").await;
    let there = machine.nodes[1].pod("there").await;
    serve(&here.space.netns, here.ip, 80, "here");
    serve(&there.space.netns, there.ip, 80, "there");
    serve(&machine.outside.netns, OUTSIDE, 80, "outside");
    let node = &machine.nodes[0];
    let backends = [(here.ip, 80), (there.ip, 80)];
    for proto in [TCP, UDP] {
        node.put(VIP, 80, proto, &backends);
    }
    put_with(node, &backends, 0, |service| service.affinity = Some(Duration::from_secs(3_600)));
    let outside = addr(node.ip(), NODE_PORT);
    let start = |to| Stream::start(spawn(&client.space.netns, &node.mounts.cgroup, "stream", to));
    let streams = [addr(VIP, 80), addr(OUTSIDE, 80), addr(there.ip, 80), outside].map(start);
    let stop = Arc::default();
    let askers = [
        ask(&asker.space.netns, addr(VIP, 80), &stop),
        ask(&asker.space.netns, addr(OUTSIDE, 80), &stop),
        ask(&machine.outside.netns, outside, &stop),
    ];
    let node = &mut machine.nodes[0];
    for layout in [MapLayout::Rehearsal, MapLayout::Current].repeat(2) {
        assert_eq!(restart(node, layout, |_| ()).len(), FLOW_MAPS.len());
        thread::sleep(Duration::from_millis(100));
    }
    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        let (asked, wrong) = asker.join().unwrap();
        assert!(asked > 10, "{asked}");
        assert!(wrong.is_empty(), "of {asked}: {wrong:?} {}", node.report());
    }
    for stream in streams {
        assert!(stream.finish() > 10);
    }
    assert_eq!(node.datapath().drops().unwrap(), [], "{}", node.report());
}

/// Where connections that are over have all ports of the node, a new one is given one of these between any two links.
#[tokio::test]
async fn ports_of_connections_that_are_over_are_given_away_on_the_way() {
    let mut machine = Machine::new(1, true).await;
    let pod = machine.nodes[0].pod("client").await;
    serve(&machine.outside.netns, OUTSIDE, 80, "outside");
    let node = &mut machine.nodes[0];
    node.stop_agent();
    node.config.snat_ports = 61_000..=61_063;
    node.start_agent();
    let ask = move |when: &str| {
        let answer = pod.space.netns.run(|| crate::tool::tcp(addr(OUTSIDE, 80))).unwrap();
        assert!(answer.starts_with("outside sees"), "{answer} {when}");
    };
    // A port is given away a second after its connection's end.
    let wait = || thread::sleep(Duration::from_millis(1_100));
    for _ in 0..3 {
        (0..50).for_each(|_| ask("before"));
        wait();
    }
    // Each flow has two: only a few ports are left, for fewer connections than there are links.
    assert!(entries(node, "xb_nat4") >= 2 * 56, "{}", entries(node, "xb_nat4"));
    let ask = Arc::new(ask);
    for layout in [MapLayout::Rehearsal, MapLayout::Current] {
        let ask = Arc::clone(&ask);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        restart(node, layout, move |when| {
            ask(when);
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert!(asked.load(Ordering::Relaxed) > 8);
        wait();
    }
    assert_eq!(node.datapath().drops().unwrap(), [], "{}", node.report());
}

/// Drivers may interrupt the line to attach a program; to replace one they do not.
#[tokio::test]
async fn a_driver_keeps_its_link() {
    if !testing::has_xdp().unwrap() {
        return;
    }
    let mut machine = Machine::dual(1, true).await;
    let node = &mut machine.nodes[0];
    node.stop_agent();
    node.config.load_balancer.xdp = [(node.config.uplinks[0], XdpMode::Generic)].into();
    node.start_agent();
    let pin = links(node).join("eth0-xdp_generic");
    let pinned = move || fs::metadata(&pin).map(|pin| pin.ino()).ok();
    let before = pinned();
    assert!(before.is_some());
    let seen = pinned.clone();
    restart(node, MapLayout::Rehearsal, move |when| assert_eq!(seen(), before, "{when}"));
    assert_eq!(pinned(), before);
    assert!(node.datapath().xdp().iter().all(|device| device.fault.is_none()));
}

/// As an agent that is older than what is pinned finds it.
#[tokio::test]
async fn a_layout_that_nobody_knows_begins_anew() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let (a, b) = (node.pod("a").await, node.pod("b").await);
    serve(&b.space.netns, b.ip, 80, "b");
    node.put(VIP, 80, TCP, &[(b.ip, 80)]);
    let ask = || a.space.netns.run(|| crate::tool::tcp(addr(VIP, 80))).unwrap();
    assert!(ask().starts_with("b sees"), "{}", ask());
    assert!(entries(node, "xb_ct4") > 0);
    node.stop_agent();
    let directory = links(node).parent().unwrap().to_owned();
    testing::forget_layout(&directory, "xb_ct4").unwrap();
    node.start_agent();
    assert_eq!(node.datapath().migrated(), [Migrated { map: "xb_ct4", entries: None }]);
    assert_eq!(entries(node, "xb_ct4"), 0);
    // What others hold is as it was.
    assert_eq!(node.datapath().frontends().unwrap().len(), 1);
    assert!(ask().starts_with("b sees"), "{}", ask());
    node.stop_agent();
    node.start_agent();
    assert!(node.datapath().migrated().is_empty());
}

/// The verifier has to follow two ways wherever a flow is looked up.
#[test]
fn programs_that_know_two_layouts_load() {
    for map_layout in [MapLayout::Current, MapLayout::Rehearsal] {
        let config = Config { map_layout, ..testing::config() };
        let ebpf = testing::load_migrating(&config).unwrap_or_else(|error| panic!("{map_layout:?}: {error:?}"));
        let mut programs = ebpf.programs();
        assert!(programs.any(|(name, _)| name == "from_netdev6"));
    }
}
