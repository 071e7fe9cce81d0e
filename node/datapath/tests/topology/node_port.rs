//! NodePorts on every address of a node: second ones of a device, and those of another uplink, which come and go.

use std::net::IpAddr;

use ipnet::IpNet;
use xebec_abi::lb::{frontend_flag, scope};
use xebec_datapath::{Backend, Frontend, FrontendKey, Service};
use xebec_netlink::{Handle, LinkSpec, Peer};

use crate::{
    machine::{Machine, Node, OUTSIDE, OUTSIDE6, Space},
    tool::{addr, in_cgroup, serve, tcp, udp},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const NODE_PORT: u16 = 30_080;

/// On the device with the node's own address, behind which is [`OUTSIDE`].
const SECOND: [&str; 2] = ["192.0.2.7", "2001:db8:7::7"];
/// On the other uplink, and who is behind it.
const OTHER: [&str; 2] = ["198.51.100.7", "2001:db8:8::7"];
const BEHIND: [&str; 2] = ["198.51.100.200", "2001:db8:8::200"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(addr: IpAddr) -> IpNet {
    IpNet::new(addr, if addr.is_ipv4() { 24 } else { 64 }).unwrap()
}

/// As a Service of type NodePort is to a node with these addresses.
fn services(addresses: &[IpAddr], backend: Backend) -> Vec<Service> {
    let of_family = addresses.iter().filter(|addr| addr.is_ipv4() == backend.addr.is_ipv4());
    let frontend = |proto, scope| {
        let key = move |addr: &IpAddr| FrontendKey { addr: *addr, port: NODE_PORT, proto, scope };
        move |addr: &IpAddr| Frontend { key: key(addr), flags: frontend_flag::NODE_PORT }
    };
    let mut services = Vec::new();
    for proto in [TCP, UDP] {
        for scope in [scope::INTERNAL, scope::EXTERNAL] {
            let frontends = of_family.clone().map(frontend(proto, scope)).collect();
            services.push(Service { frontends, backends: vec![backend], ..Service::default() });
        }
    }
    services
}

/// The second address, and the uplink with the other one.
async fn renumber(machine: &mut Machine) -> Space {
    let node = &mut machine.nodes[0];
    let (inside, behind) = (Handle::in_netns(&node.space.netns).unwrap(), Space::new("behind"));
    let peer = Peer::new("eth0").netns(&behind.netns);
    inside.link_add(&LinkSpec::veth("eth1", peer).up()).await.unwrap();
    let (eth0, eth1) = (inside.link("eth0").await.unwrap().index, inside.link("eth1").await.unwrap().index);
    let outside = Handle::in_netns(&machine.outside.netns).unwrap();
    let (near, far) = (outside.link("eth0").await.unwrap().index, Handle::in_netns(&behind.netns).unwrap());
    far.link_set_up("eth0").await.unwrap();
    let end = far.link("eth0").await.unwrap().index;
    for family in 0..2 {
        inside.addr_add(eth0, net(ip(SECOND[family]))).await.unwrap();
        inside.addr_add(eth1, net(ip(OTHER[family]))).await.unwrap();
        far.addr_add(end, net(ip(BEHIND[family]))).await.unwrap();
        // Another address of its own in the network of the second one.
        outside.addr_add(near, net(ip(["192.0.2.200", "2001:db8:7::200"][family]))).await.unwrap();
    }
    // As an agent that is told of another uplink.
    node.stop_agent();
    node.config.uplinks.push(eth1);
    node.start_agent();
    behind
}

/// The client is `from`, which the backend sees unless it is `hidden` behind the node's address.
#[track_caller]
fn check(node: &Node, client: &Space, to: IpAddr, expected: &str) {
    let to = addr(to, NODE_PORT);
    let check = |said: String, kind: &str| {
        assert!(said.starts_with(&format!("{expected} ")), "{to} {kind}: {said} {}", node.report());
        assert!(said.ends_with(&to.to_string()), "{to} {kind}: {said} {}", node.report());
    };
    check(client.netns.run(|| tcp(to)).unwrap(), "tcp");
    check(client.netns.run(|| udp(to, 1)).unwrap(), "udp");
    check(client.netns.run(|| udp(to, 4_000)).unwrap(), "fragments");
}

async fn everywhere(overlay: bool) {
    let mut machine = Machine::dual(2, overlay).await;
    let behind = renumber(&mut machine).await;
    let node = &machine.nodes[0];
    let (here, there) = (node.pod("here").await, machine.nodes[1].pod("there").await);
    let client = node.pod("client").await;
    let own = [IpAddr::from(node.ip()), node.ip6().into()];
    let from = [[OUTSIDE.into(), OUTSIDE6.into()], ["192.0.2.200", "2001:db8:7::200"].map(ip), BEHIND.map(ip)];
    for family in 0..2 {
        let places = [
            ("here", &here.space, [here.ip.into(), here.ip6().into()][family], true),
            ("there", &there.space, [there.ip.into(), there.ip6().into()][family], false),
            ("node", &node.space, own[family], true),
        ];
        for (name, space, ip, local) in places {
            serve(&space.netns, ip, 8080, name);
            let backend = Backend { addr: ip, port: 8080, local, terminating: false, weight: 0 };
            let addresses = [own[family], self::ip(SECOND[family]), self::ip(OTHER[family])];
            node.datapath().put_services(&services(&addresses, backend)).unwrap();
            for (number, to) in addresses.into_iter().enumerate() {
                let outside = if number == 2 { &behind } else { &machine.outside };
                let seen = if local { from[number][family] } else { own[family] };
                check(node, outside, to, &format!("{name} sees {seen}"));
                // Clients inside: by sockets, and packet by packet.
                let to = addr(to, NODE_PORT);
                for client in [&client.space, &node.space] {
                    let said = in_cgroup(&client.netns, &node.mounts.cgroup, "tcp", to);
                    assert!(said.starts_with(&format!("{name} sees ")), "{to}: {said} {}", node.report());
                }
                let said = client.space.netns.run(|| tcp(to)).unwrap();
                assert!(said.starts_with(&format!("{name} sees ")), "{to}: {said} {}", node.report());
                let bound = in_cgroup(&node.space.netns, &node.mounts.cgroup, "bind", to);
                assert_eq!(bound, "error AddrInUse", "{to}");
            }
        }
    }
}

#[tokio::test]
async fn every_address_of_a_node_answers_through_the_overlay() {
    everywhere(true).await;
}

#[tokio::test]
async fn every_address_of_a_node_answers_by_routes() {
    everywhere(false).await;
}

/// What follows a change of the node's addresses: ports go with an address, and those of the others stay.
#[tokio::test]
async fn an_address_that_goes_takes_its_ports_with_it() {
    let mut machine = Machine::dual(1, true).await;
    renumber(&mut machine).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    serve(&pod.space.netns, pod.ip, 8080, "pod");
    let backend = Backend { addr: pod.ip.into(), port: 8080, local: true, terminating: false, weight: 0 };
    let (own, second) = (IpAddr::from(node.ip()), ip(SECOND[0]));
    let outside = &machine.outside.netns;
    let handle = Handle::in_netns(&node.space.netns).unwrap();
    let eth0 = handle.link("eth0").await.unwrap().index;
    for _ in 0..2 {
        node.datapath().put_services(&services(&[own, second], backend)).unwrap();
        assert!(outside.run(|| tcp(addr(second, NODE_PORT))).unwrap().starts_with("pod sees "), "{}", node.report());
        handle.addr_del(eth0, net(second)).await.unwrap();
        for key in node.datapath().frontends().unwrap().iter().map(|programmed| programmed.frontend.key) {
            if key.addr == second {
                assert!(node.datapath().remove_frontend(&key).unwrap());
            }
        }
        let said = outside.run(|| tcp(addr(second, NODE_PORT))).unwrap();
        assert!(said.starts_with("error "), "{said} {}", node.report());
        assert!(outside.run(|| tcp(addr(own, NODE_PORT))).unwrap().starts_with("pod sees "), "{}", node.report());
        handle.addr_add(eth0, net(second)).await.unwrap();
    }
}
