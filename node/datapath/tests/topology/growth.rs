//! Maps get another size while traffic goes on: nothing that is programmed and no packet is lost.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use aya::maps::MapData;
use xebec_abi::{lb::frontend_flag, names, proto::TCP, proto::UDP};
use xebec_datapath::{Algorithm, Capacity, Error, FrontendKey, Service, TableSize};
use xebec_netlink::Netns;

use crate::{
    drift::links,
    external::{NODE_PORT, put_with},
    machine::{Machine, Node, OUTSIDE, Pod, service},
    restart::Stream,
    tool::{addr, serve, spawn, tcp, udp},
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 80);

fn limit(node: &Node, map: &str) -> u64 {
    let usage = node.datapath().usage().unwrap();
    usage.iter().find(|usage| usage.map == map).unwrap().limit
}

/// Questions with numbers over one UDP flow, and new flows of both protocols, until it is told to stop: what went wrong.
pub fn ask(netns: &Netns, to: SocketAddr, stop: &Arc<AtomicBool>) -> JoinHandle<(u64, Vec<String>)> {
    let (netns, stop) = (netns.clone(), Arc::clone(stop));
    let socket = netns.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    thread::spawn(move || {
        let (mut asked, mut wrong) = (0, Vec::new());
        let mut buffer = [0; 4_000];
        while !stop.load(Ordering::Relaxed) {
            // Paced: masquerade has 4,536 ports for flows to one address and port.
            thread::sleep(Duration::from_millis(5));
            asked += 1;
            // The server answers a long question with as much: each number has a length of its own.
            let length = 1_600 + asked as usize % 1_000;
            socket.send_to(&vec![b'?'; length], to).unwrap();
            match socket.recv_from(&mut buffer) {
                Ok((bytes, from)) if from == to && bytes > length - 100 && bytes < length => {}
                other => wrong.push(format!("question {asked} of {length}: {other:?}")),
            }
            for (kind, said) in [("tcp", netns.run(|| tcp(to)).unwrap()), ("udp", netns.run(|| udp(to, 1)).unwrap())] {
                if !said.contains(" sees ") {
                    wrong.push(format!("{kind} {asked} to {to}: {said}"));
                }
            }
        }
        (asked, wrong)
    })
}

/// Two nodes' pods. The askers' sockets are in no cgroup of pods. In one namespace with those that are, a port could be of two
/// connections with a backend: one that dialled it, and one of the service's that is translated to it later. So it could if
/// one pod dialled the backends by two addresses at once: of several thousand connections some have the same port.
struct Pods {
    client: Pod,
    here: Pod,
    asker: Pod,
    other_asker: Pod,
    there: Pod,
}

impl Pods {
    async fn new(machine: &Machine) -> Self {
        let [near, far] = [&machine.nodes[0], &machine.nodes[1]];
        let (client, here) = (near.pod("client").await, near.pod("here").await);
        let (asker, other_asker) = (near.pod("asker").await, near.pod("other").await);
        let there = far.pod("there").await;
        serve(&here.space.netns, here.ip, 80, "here");
        serve(&there.space.netns, there.ip, 80, "there");
        serve(&machine.outside.netns, OUTSIDE, 80, "outside");
        Self { client, here, asker, other_asker, there }
    }

    fn backends(&self) -> [(Ipv4Addr, u16); 2] {
        [(self.here.ip, 80), (self.there.ip, 80)]
    }

    /// Services for the traffic.
    fn program(&self, node: &Node) {
        for proto in [TCP, UDP] {
            node.put(VIP, 80, proto, &self.backends());
        }
        // Source ranges, affinity and a Maglev table have maps of their own.
        put_with(node, &self.backends(), frontend_flag::SOURCE_RANGES, |service| {
            service.source_ranges = vec!["172.30.0.0/16".parse().unwrap()];
            service.affinity = Some(Duration::from_secs(3_600));
            service.algorithm = Algorithm::Maglev("251".parse::<TableSize>().unwrap());
        });
    }
}

/// Long connections and new flows of every kind, of which each answer counts.
struct Traffic {
    streams: Vec<Stream>,
    askers: [JoinHandle<(u64, Vec<String>)>; 4],
    stop: Arc<AtomicBool>,
}

impl Traffic {
    fn start(machine: &Machine, pods: &Pods) -> Self {
        let node = &machine.nodes[0];
        let start = |to| Stream::start(spawn(&pods.client.space.netns, &node.mounts.cgroup, "stream", to));
        let outside = addr(node.ip(), NODE_PORT);
        let streams = [addr(VIP, 80), addr(OUTSIDE, 80), addr(pods.there.ip, 80), outside].map(start).into();
        let (stop, inside) = (Arc::default(), &pods.asker.space.netns);
        let askers = [
            ask(inside, addr(VIP, 80), &stop),
            ask(inside, addr(OUTSIDE, 80), &stop),
            ask(&pods.other_asker.space.netns, outside, &stop),
            ask(&machine.outside.netns, outside, &stop),
        ];
        Self { streams, askers, stop }
    }

    /// Nothing was lost.
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for asker in self.askers {
            let (asked, wrong) = asker.join().unwrap();
            assert!(asked > 10, "{asked}");
            assert!(wrong.is_empty(), "of {asked}: {wrong:?}");
        }
        for stream in self.streams {
            assert!(stream.finish() > 10);
        }
    }
}

fn restart(node: &mut Node, capacity: Capacity) {
    node.stop_agent();
    node.config.capacity = capacity;
    node.start_agent();
    assert_eq!(limit(node, names::LB4_FRONTENDS), u64::from(capacity.frontends));
    assert_eq!(limit(node, names::LB6_BACKENDS), u64::from(capacity.backends));
    assert_nothing_staged(node);
}

fn assert_nothing_staged(node: &Node) {
    let pins = fs::read_dir(links(node).parent().unwrap()).unwrap().flatten();
    let staged: Vec<_> = pins.filter(|pin| pin.file_name().to_string_lossy().ends_with("_new")).collect();
    assert!(staged.is_empty(), "{staged:?}");
}

#[tokio::test]
async fn capacity_changes_under_load_without_loss() {
    let mut machine = Machine::new(2, true).await;
    let pods = Pods::new(&machine).await;
    let small = Capacity { frontends: 64, backends: 128, members: 16, source_ranges: 16, maglev_blocks: 200 };
    restart(&mut machine.nodes[0], small);
    pods.program(&machine.nodes[0]);
    let traffic = Traffic::start(&machine, &pods);
    let node = &mut machine.nodes[0];
    let before = node.datapath().frontends().unwrap();
    assert!(before.len() > 10);
    let mut capacity = small;
    for _ in 0..5 {
        // One more than fits: it is refused by name, and what was there stays.
        let vip = |number: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 97, 0, 0)) + number);
        let one = |number| service(vip(number), 80, TCP, &[]);
        let full = (0..).find_map(|number| Some((number, node.datapath().put_service(&one(number)).err()?)));
        let (number, error) = full.unwrap();
        let limit = capacity.frontends;
        assert!(matches!(error, Error::Full { map: names::LB4_FRONTENDS, limit: at } if at == limit), "{error:?}");
        assert!(matches!(put_growing(node, &[one(number)]), Err(Error::Full { .. })));
        capacity = Capacity { frontends: limit + 32, backends: capacity.backends * 2, ..capacity };
        restart(node, capacity);
        let after = node.datapath().frontends().unwrap();
        assert_eq!(after.len() as u32, limit, "all that fitted");
        assert!(before.iter().all(|frontend| after.contains(frontend)));
        thread::sleep(Duration::from_millis(100));
    }
    // A map that holds more than is asked for keeps its size.
    node.stop_agent();
    node.config.capacity.frontends = 8;
    node.start_agent();
    assert_eq!(limit(node, names::LB4_FRONTENDS), u64::from(capacity.frontends));
    assert_eq!(limit(node, names::LB6_FRONTENDS), 8);
    traffic.finish();
}

fn put_growing(node: &Node, services: &[Service]) -> xebec_datapath::Result<()> {
    node.space.netns.run(|| node.datapath().put_services_growing(services)).unwrap().map(drop)
}

#[tokio::test]
async fn maps_grow_with_what_is_in_them_without_loss() {
    const FEW: u32 = 16_384;
    let machine = Machine::new(2, true).await;
    let pods = Pods::new(&machine).await;
    let node = &machine.nodes[0];
    pods.program(node);
    let traffic = Traffic::start(&machine, &pods);
    let check = |sizes: [u32; 4]| {
        for (map, size) in
            [names::LB4_FRONTENDS, names::LB4_BACKENDS, names::LB4_MEMBERS, names::LB6_FRONTENDS].into_iter().zip(sizes)
        {
            let pinned = MapData::from_pin(links(node).with_file_name(map)).unwrap();
            assert_eq!(pinned.info().unwrap().max_entries(), size, "{map}");
        }
        assert_eq!(limit(node, names::LB4_FRONTENDS), u64::from(Capacity::default().frontends));
        assert_nothing_staged(node);
    };
    check([FEW; 4]);
    let datapath = node.datapath();
    let vip = |number: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 100, 0, 0)) + number);
    let all: Vec<_> = (0..20_000).map(|number| service(vip(number), 80, TCP, &[(pods.here.ip, 80)])).collect();
    let (fitting, more) = all.split_at(16_000);
    datapath.put_services(fitting).unwrap();
    assert!(matches!(datapath.put_services(more), Err(Error::Full { limit: FEW, .. })));
    put_growing(node, more).unwrap();
    check([2 * FEW, 2 * FEW, FEW, FEW]);
    let ask = |number| pods.asker.space.netns.run(|| tcp(addr(vip(number), 80))).unwrap();
    for number in [0, 15_999, 19_999] {
        assert!(ask(number).starts_with("here sees "), "{number} {}", node.report());
    }
    // What is taken away was written where programs look.
    for number in 1_000..20_000 {
        assert!(datapath.remove_frontend(&FrontendKey::cluster_ip(vip(number).into(), 80, TCP)).unwrap());
    }
    assert!(ask(19_999).starts_with("error "), "{}", node.report());
    // Their backends are deleted when nobody can have read of them: with the next write.
    thread::sleep(Duration::from_secs(1));
    datapath.put_services(&all[..1]).unwrap();
    drop(datapath);
    node.stop_agent();
    node.start_agent();
    check([FEW; 4]);
    assert!(ask(999).starts_with("here sees "), "{}", node.report());
    traffic.finish();
}
