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

use xebec_abi::{lb::frontend_flag, proto::TCP, proto::UDP};
use xebec_datapath::{Algorithm, Capacity, Error, TableSize};
use xebec_netlink::Netns;

use crate::{
    drift::links,
    external::{NODE_PORT, put_with},
    machine::{Machine, Node, OUTSIDE, service},
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

fn restart(node: &mut Node, capacity: Capacity) {
    node.stop_agent();
    node.config.capacity = capacity;
    node.start_agent();
    assert_eq!(limit(node, "xb_lb4_fe"), u64::from(capacity.frontends));
    assert_eq!(limit(node, "xb_lb6_be"), u64::from(capacity.backends));
    let pins = fs::read_dir(links(node).parent().unwrap()).unwrap().flatten();
    let staged: Vec<_> = pins.filter(|pin| pin.file_name().to_string_lossy().ends_with("_new")).collect();
    assert!(staged.is_empty(), "{staged:?}");
}

#[tokio::test]
async fn maps_grow_under_load_without_loss() {
    let mut machine = Machine::new(2, true).await;
    let (client, here) = (machine.nodes[0].pod("client").await, machine.nodes[0].pod("here").await);
    // Their sockets are in no cgroup of pods. In one namespace with those that are, a port could be of two connections with
    // a backend: one that dialled it, and one of the service's that is translated to it later. So it could if one pod dialled
    // the backends by two addresses at once: of several thousand connections some have the same port.
    let (asker, other_asker) = (machine.nodes[0].pod("asker").await, machine.nodes[0].pod("other").await);
    let there = machine.nodes[1].pod("there").await;
    serve(&here.space.netns, here.ip, 80, "here");
    serve(&there.space.netns, there.ip, 80, "there");
    serve(&machine.outside.netns, OUTSIDE, 80, "outside");
    let backends = [(here.ip, 80), (there.ip, 80)];
    let small = Capacity { frontends: 64, backends: 128, members: 16, source_ranges: 16, maglev_blocks: 200 };
    restart(&mut machine.nodes[0], small);
    let node = &machine.nodes[0];
    for proto in [TCP, UDP] {
        node.put(VIP, 80, proto, &backends);
    }
    // Source ranges, affinity and a Maglev table have maps of their own.
    put_with(node, &backends, frontend_flag::SOURCE_RANGES, |service| {
        service.source_ranges = vec!["172.30.0.0/16".parse().unwrap()];
        service.affinity = Some(Duration::from_secs(3_600));
        service.algorithm = Algorithm::Maglev("251".parse::<TableSize>().unwrap());
    });
    let (start, inside) = (|to| spawn(&client.space.netns, &node.mounts.cgroup, "stream", to), &asker.space.netns);
    let streams: Vec<_> = [addr(VIP, 80), addr(OUTSIDE, 80), addr(there.ip, 80), addr(node.ip(), NODE_PORT)]
        .map(|to| Stream::start(start(to)))
        .into();
    let stop = Arc::default();
    let outside = addr(node.ip(), NODE_PORT);
    let askers = [
        ask(inside, addr(VIP, 80), &stop),
        ask(inside, addr(OUTSIDE, 80), &stop),
        ask(&other_asker.space.netns, outside, &stop),
        ask(&machine.outside.netns, outside, &stop),
    ];
    let before = node.datapath().frontends().unwrap();
    assert!(before.len() > 10);

    let node = &mut machine.nodes[0];
    let mut capacity = small;
    for _ in 0..5 {
        // One more than fits: it is refused by name, and what was there stays.
        let full = (0..).find_map(|number: u32| {
            let vip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 97, 0, 0)) + number);
            node.datapath().put_service(&service(vip, 80, TCP, &[])).err()
        });
        let limit = capacity.frontends;
        assert!(matches!(full, Some(Error::Full { map: "xb_lb4_fe", limit: at }) if at == limit), "{full:?}");
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
    assert_eq!(limit(node, "xb_lb4_fe"), u64::from(capacity.frontends));
    assert_eq!(limit(node, "xb_lb6_fe"), 8);

    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        let (asked, wrong) = asker.join().unwrap();
        assert!(asked > 10, "{asked}");
        assert!(wrong.is_empty(), "of {asked}: {wrong:?}");
    }
    for stream in streams {
        assert!(stream.finish() > 10);
    }
}
