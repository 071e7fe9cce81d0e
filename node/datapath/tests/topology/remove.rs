//! A node that leaves its cluster: what it made is gone, what others made is there.

use std::{fs, process::Command, time::Duration};

use aya::programs::{SchedClassifier, tc::TcAttachType};
use xebec_datapath::{Config, Datapath, Removed, nodes};
use xebec_netlink::Handle;

use crate::machine::{Machine, Node};

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// What a command says in the node's namespace.
fn says(node: &Node, command: &str) -> String {
    let (program, args) = command.split_once(' ').unwrap();
    let output = node.space.netns.run(|| Command::new(program).args(args.split(' ')).output().unwrap()).unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn reserved(node: &Node) -> String {
    // `fs::read_to_string` would see the first 32 bytes.
    says(node, &format!("cat {RESERVED}")).trim().to_owned()
}

fn reserve(node: &Node, ports: &str) {
    node.space.netns.run(|| fs::write(RESERVED, format!("{ports}\n")).unwrap()).unwrap();
}

fn remove(node: &Node) -> Removed {
    node.space.netns.run(|| Datapath::remove(&node.config.bpffs, &node.config.node_name)).unwrap().unwrap()
}

/// How many programs the uplink runs by TCX; a kernel without it runs none.
fn tcx(node: &Node) -> usize {
    let count = |kind| SchedClassifier::query_tcx("eth0", kind).map_or(0, |(_, programs)| programs.len());
    node.space.netns.run(|| count(TcAttachType::Ingress) + count(TcAttachType::Egress)).unwrap()
}

#[tokio::test]
async fn removal_leaves_nothing() {
    let machine = Machine::dual(2, true).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    let handle = Handle::in_netns(&node.space.netns).unwrap();
    let has_tcx = tcx(node) > 0;
    node.stop_agent();
    assert_eq!(nodes(&node.config.bpffs).unwrap(), ["node1"]);

    let removed = remove(node);
    let has = |what: &str| removed.links.iter().any(|link| link == what);
    assert!(has("cgroup-sock4_connect") && (has("eth0-from_netdev") || !has_tcx), "{removed:?}");
    assert!(removed.maps > 20 && removed.filters.is_empty() == has_tcx, "{removed:?}");
    assert_eq!(removed.ports, "30000-32767,61000-65535");
    assert_eq!(reserved(node), "");
    assert!(!node.config.bpffs.join("xebec").exists());
    assert!(nodes(&node.config.bpffs).unwrap().is_empty());

    let removed = xebec_podnet::Node::remove(&node.space.netns).await.unwrap();
    let own = format!("route {}/32", pod.ip);
    for what in ["device xb_host", "device xb_vxlan", "route 10.244.2.0/24", "route fd10:db8:0:2::/64", &own] {
        assert!(removed.iter().any(|line| line == what), "{what}: {removed:?}");
    }
    let mut links: Vec<String> = handle.links().await.unwrap().into_iter().map(|link| link.name).collect();
    links.sort();
    assert_eq!(links, ["eth0", "lo"]);
    for list in ["ip -4 route show table all", "ip -6 route show table all"] {
        let routes = says(node, list);
        assert!(routes.lines().all(|route| route.contains(" dev eth0 ") || route.contains(" dev lo ")), "{routes}");
    }
    assert_eq!(says(node, "tc qdisc show dev eth0").matches("clsact").count(), usize::from(!has_tcx));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    // A link detaches a moment after its pin is gone.
    while tcx(node) > 0 {
        assert!(tokio::time::Instant::now() < deadline, "{} programs at the uplink", tcx(node));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    // Twice is once.
    assert_eq!(remove(node), Removed::default());
    assert_eq!(xebec_podnet::Node::remove(&node.space.netns).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn the_qdisc_of_filters_goes_with_the_last_filter() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let handle = Handle::in_netns(&node.space.netns).unwrap();
    let uplink = node.config.uplinks[0];
    let qdiscs = || says(node, "tc qdisc show dev eth0").matches("clsact").count();
    let theirs =
        |what: &str| says(node, &format!("tc filter {what} dev eth0 egress protocol all prio 7 u32 match u32 0 0"));
    node.stop_agent();
    remove(node);

    for others in [true, false] {
        node.start_agent_with(Datapath::open_with_clsact);
        assert_eq!(qdiscs(), 1);
        if others {
            theirs("add");
        }
        node.stop_agent();
        let removed = remove(node);
        assert_eq!(
            (removed.clsact.as_slice(), removed.filters.contains(&"eth0 ingress".to_owned())),
            (&[uplink][..], true)
        );
        assert_eq!(handle.remove_unused_clsact(uplink).await.unwrap(), !others);
        assert_eq!(qdiscs(), usize::from(others));
        if others {
            says(node, "tc qdisc del dev eth0 clsact");
        }
    }
    // One that was there before is not the node's.
    says(node, "tc qdisc add dev eth0 clsact");
    node.start_agent_with(Datapath::open_with_clsact);
    node.stop_agent();
    assert_eq!(remove(node).clsact, [0; 0]);
}

#[tokio::test]
async fn ports_that_others_reserved_stay_reserved() {
    let mut machine = Machine::new(1, true).await;
    let node = &mut machine.nodes[0];
    node.stop_agent();
    remove(node);
    reserve(node, "8080,62000-62009");
    node.start_agent();
    assert_eq!(reserved(node), "8080,30000-32767,61000-65535");
    // Another range: that of the earlier agent is free again, but for what others have of it.
    node.stop_agent();
    node.config.snat_ports = 50_000..=50_999;
    node.start_agent();
    assert_eq!(reserved(node), "8080,30000-32767,50000-50999,62000-62009");
    // An administrator takes a part and adds a port.
    reserve(node, "8080,9090,30000-32767,50000-50499,62000-62009");
    node.stop_agent();
    assert_eq!(remove(node).ports, "30000-32767,50000-50499");
    assert_eq!(reserved(node), "8080,9090,62000-62009");
    node.config.snat_ports = Config::SNAT_PORTS;
    node.start_agent();
    assert_eq!(reserved(node), "8080,9090,30000-32767,61000-65535");
}
