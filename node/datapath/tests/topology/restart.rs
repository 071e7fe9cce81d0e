//! An agent that dies or is replaced takes nothing with it.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::Ipv4Addr,
    process::Child,
    thread,
    time::Duration,
};

use xebec_abi::proto::TCP;
use xebec_datapath::{Datapath, Network, programs};

use crate::{
    machine::{Machine, Node, OUTSIDE},
    tool::{addr, in_cgroup, serve, spawn, tcp},
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 60);

/// A stream that has had its first answer.
pub struct Stream {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Stream {
    pub fn start(mut child: Child) -> Self {
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("tool-started") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the stream did not start");
            assert!(!line.contains("error"), "{line}");
        }
        Self { child, output }
    }

    /// How many questions were answered.
    pub fn finish(mut self) -> u64 {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap();
        let asked = rest.split("asked ").nth(1).unwrap_or_else(|| panic!("the stream broke: {rest}"));
        asked.split_whitespace().next().unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn streams_survive_restarts_of_the_agent() {
    let machine = Machine::new(2, true).await;
    let (one, two) = (&machine.nodes[0], &machine.nodes[1]);
    let (client, local, remote) = (one.pod("client").await, one.pod("local").await, two.pod("remote").await);
    serve(&local.space.netns, local.ip, 80, "local");
    serve(&remote.space.netns, remote.ip, 80, "remote");
    serve(&machine.outside.netns, OUTSIDE, 80, "outside");
    one.put(VIP, 80, TCP, &[(remote.ip, 80)]);
    let targets = [addr(local.ip, 80), addr(remote.ip, 80), addr(OUTSIDE, 80), addr(VIP, 80)];
    let start = |to| Stream::start(spawn(&client.space.netns, &one.mounts.cgroup, "stream", to));
    let streams: Vec<Stream> = targets.into_iter().map(start).collect();
    let before = one.datapath().frontends().unwrap();
    for _ in 0..3 {
        one.stop_agent();
        // Services forward and new flows open while no agent runs.
        for to in targets {
            let said = in_cgroup(&client.space.netns, &one.mounts.cgroup, "tcp", to);
            assert!(said.contains(" sees "), "{said}");
        }
        one.start_agent();
        thread::sleep(Duration::from_millis(50));
        let running = || programs(&one.config.bpffs, &one.config.node_name).unwrap();
        let before = running();
        one.space.netns.run(|| one.datapath().reload()).unwrap().unwrap();
        let after = running();
        assert_eq!(after.len(), before.len());
        assert!(after.iter().all(|(link, id)| before[link] != *id), "{before:?} {after:?}");
    }
    assert_eq!(one.datapath().frontends().unwrap(), before);
    assert_eq!(one.datapath().pods().len(), 2);
    for stream in streams {
        assert!(stream.finish() > 10);
    }
    // A new pod gets programs of the new agent.
    let late = one.pod("late").await;
    assert!(late.space.netns.run(|| tcp(addr(remote.ip, 80))).unwrap().contains(" sees "));
}

/// As before 6.6, where a filter that is not replaced but added would see every packet twice.
#[tokio::test]
async fn without_tcx_filters_do_the_same() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    node.stop_agent();
    let remove = || Datapath::remove(&node.config.bpffs, &node.config.node_name);
    node.space.netns.run(remove).unwrap().unwrap();
    node.start_agent_with(Datapath::open_with_clsact);
    let (a, b) = (node.pod("a").await, node.pod("b").await);
    serve(&b.space.netns, b.ip, 80, "b");
    serve(&machine.outside.netns, OUTSIDE, 80, "outside");
    node.put(VIP, 80, TCP, &[(b.ip, 80)]);
    for _ in 0..2 {
        let sees = |ip| format!("b sees {} peer {}", a.ip, addr(ip, 80));
        for ip in [b.ip, VIP] {
            assert_eq!(a.space.netns.run(|| tcp(addr(ip, 80))).unwrap(), sees(ip), "{}", node.report());
        }
        let said = a.space.netns.run(|| tcp(addr(OUTSIDE, 80))).unwrap();
        assert!(said.starts_with(&format!("outside sees {}", node.ip())), "{said}");
        node.stop_agent();
        node.start_agent_with(Datapath::open_with_clsact);
    }
    let filters = || {
        let uplink = ["filter", "show", "dev", "eth0", "ingress"];
        let output = std::process::Command::new("tc").args(uplink).output().unwrap();
        String::from_utf8_lossy(&output.stdout).matches("name from_netdev").count()
    };
    assert_eq!(node.space.netns.run(filters).unwrap(), 1, "replaced, not added");
    node.stop_agent();
    node.space.netns.run(remove).unwrap().unwrap();
    assert_eq!(node.space.netns.run(filters).unwrap(), 0);
}

#[tokio::test]
async fn a_swap_under_load_loses_no_connection() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let client = node.pod("client").await;
    let (a, b) = (node.pod("a").await, node.pod("b").await);
    serve(&a.space.netns, a.ip, 80, "a");
    serve(&b.space.netns, b.ip, 80, "b");
    node.put(VIP, 80, TCP, &[(a.ip, 80), (b.ip, 80)]);
    let datapath = node.datapath();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let swapper = thread::spawn(move || {
        let mut swaps = 0;
        while stopped.try_recv().is_err() {
            let only = if swaps % 2 == 0 { a.ip } else { b.ip };
            let service = crate::machine::service(VIP, 80, TCP, &[(only, 80)]);
            datapath.put_service(&service).unwrap();
            swaps += 1;
            thread::sleep(Duration::from_micros(200));
        }
        swaps
    });
    for _ in 0..300 {
        let said = client.space.netns.run(|| tcp(addr(VIP, 80))).unwrap();
        assert!(said.contains(" sees "), "{said} {}", node.report());
    }
    stop.send(()).unwrap();
    assert!(swapper.join().unwrap() > 100);
}

#[tokio::test]
async fn a_pod_that_goes_while_no_agent_runs_is_forgotten() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let (stays, goes) = (node.pod("stays").await, node.pod("goes").await);
    let links = node.config.bpffs.join("xebec").join(&node.config.node_name).join("v1/links");
    let pins = || fs::read_dir(&links).unwrap().count();
    let before = pins();
    node.stop_agent();
    drop(goes);
    let handle = xebec_netlink::Handle::in_netns(&node.space.netns).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    // A pod's device goes with its namespace, some time after the last reference to it.
    while handle.links().await.unwrap().iter().filter(|link| link.kind == "veth").count() > 2 {
        assert!(tokio::time::Instant::now() < deadline, "the pod's device is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.start_agent();
    let pods: Vec<_> = node.datapath().pods().iter().map(|pod| pod.ip).collect();
    assert_eq!(pods, [stays.ip]);
    assert_eq!(pins(), before - 2);
}

/// The maps of a family that a node has are whole, those of one that it does not have take no memory, and what was
/// programmed for the other family stays.
#[tokio::test]
async fn a_node_gets_and_loses_a_family() {
    let mut machine = Machine::new(1, true).await;
    let node = &mut machine.nodes[0];
    node.put(VIP, 80, TCP, &[]);
    let network = Network {
        node_ip: "2001:db8::11".parse().unwrap(),
        pod_cidr: "fd10:0:0:1::/64".parse().unwrap(),
        cluster_cidr: "fd10::/48".parse().unwrap(),
        service_cidr: "fd96::/112".parse().unwrap(),
        gateway: "fd10:0:0:1::1".parse().unwrap(),
    };
    let limit = |node: &Node, map: &str| {
        let metrics = node.datapath().metrics();
        let name = format!("xebec_datapath_map_max_entries{{map=\"{map}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u32>().ok()).unwrap()
    };
    for (ipv6, small) in [(None, true), (Some(network), false), (None, true)] {
        node.stop_agent();
        node.config.ipv6 = ipv6;
        node.start_agent();
        for map in ["xb_ct6", "xb_nat6"] {
            assert_eq!(limit(node, map) == 1, small, "{map}");
        }
        assert!(limit(node, "xb_ct4") > 1 && limit(node, "xb_nat4") > 1);
        assert_eq!(node.datapath().frontends().unwrap().len(), 1);
    }
}
