#![allow(clippy::unwrap_used)]

use ipnet::IpNet;
use xebec_netlink::{Changes, Handle};

use super::*;
use crate::ipam::gateway;
use crate::tests::{NATIVE, TestNetns, TestNode, request};
use crate::{ROUTE_PROTOCOL, Remote, Routing, VXLAN_PORT};

/// What `break_it` takes away is noticed once, as `expected`, and put back.
async fn check(network: &PodNetwork, remotes: &[Remote], expected: &[DriftKind], break_it: impl AsyncFnOnce(&Handle)) {
    let handle = &network.node().handle;
    // A pod's device that is made again has another index.
    let routes = async || {
        let routes = handle.route_list().await.unwrap().into_iter();
        routes
            .filter(|route| route.protocol == ROUTE_PROTOCOL)
            .map(|route| (route.dst, route.via))
            .collect::<HashSet<_>>()
    };
    let before = routes().await;
    let mut changes = Changes::follow(handle.netns()).unwrap();
    break_it(handle).await;
    if !expected.contains(&DriftKind::Sysctl) {
        assert!(changes.next().await, "the kernel told nothing about {expected:?}");
    }
    let repair = async || {
        let mut found = network.node().repair().await.unwrap();
        found.extend(network.node().ensure_remotes(remotes).await.unwrap());
        found.extend(network.repair().await.unwrap());
        found.into_iter().map(|drift| drift.kind).collect::<Vec<_>>()
    };
    assert_eq!(repair().await, expected);
    assert_eq!(repair().await, [], "after {expected:?}");
    assert_eq!(routes().await, before);
}

#[tokio::test]
async fn what_is_taken_away_comes_back() {
    use DriftKind::{Address, Device, Neighbour as Neigh, Route as R, Sysctl};
    let [node, other] = TestNode::pair(Routing::Vxlan { port: VXLAN_PORT }).await;
    let network = node.open().await;
    let pod = TestNetns::new("a");
    let endpoint = network.add(&request("a", &pod)).await.unwrap().endpoint;
    let remotes = other.remotes();
    network.node().ensure_remotes(&remotes).await.unwrap();
    let vxlan = network.node().vxlan.clone().unwrap().index;
    let device = endpoint.host_device.as_str();

    for sysctl in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        check(&network, &remotes, &[Sysctl], async |handle| handle.netns().sysctl(sysctl, "0").unwrap()).await;
    }
    for remote in &remotes {
        check(&network, &remotes, &[R], async |handle| del_route(handle, remote.pod_cidr).await).await;
        check(&network, &remotes, &[Neigh], async |handle| {
            handle.neigh_del(vxlan, gateway(remote.pod_cidr)).await.unwrap();
        })
        .await;
    }
    // The routes to other nodes have the gateways as their sources, and are spoilt with them; an IPv6 route is not when
    // its gateway goes with the whole device (`ipv6_del_addr` clears sources, `addrconf_ifdown` does not).
    check(&network, &remotes, &[Device, Address, Address, R], async |handle| {
        handle.link_del(HOST_DEVICE).await.unwrap();
    })
    .await;
    for own in network.node().gateways() {
        check(&network, &remotes, &[Address, R], async |handle| {
            handle.addr_del(handle.link(HOST_DEVICE).await.unwrap().index, own).await.unwrap();
        })
        .await;
    }
    check(&network, &remotes, &[Sysctl, Address], async |handle| {
        handle.netns().sysctl(&format!("ipv6/conf/{HOST_DEVICE}/disable_ipv6"), "1").unwrap();
    })
    .await;
    check(&network, &remotes, &[Device, Neigh, Neigh, R, R], async |handle| {
        handle.link_del(VXLAN_DEVICE).await.unwrap();
    })
    .await;
    assert_eq!(network.node().handle.link(VXLAN_DEVICE).await.unwrap().index, vxlan, "the datapath knows it by this");
    for ip in &endpoint.ips {
        check(&network, &remotes, &[Neigh], async |handle| {
            handle.neigh_del(endpoint.host_ifindex, *ip).await.unwrap();
        })
        .await;
        check(&network, &remotes, &[R], async |handle| del_route(handle, (*ip).into()).await).await;
    }
    check(&network, &remotes, &[Device], async |handle| handle.link_set_down(device).await.unwrap()).await;
    check(&network, &remotes, &[Device], async |handle| handle.link_del(device).await.unwrap()).await;
    network.check("a", "eth0").await.unwrap();
    assert_eq!(network.records().iter().flat_map(Record::ips).collect::<Vec<_>>(), endpoint.ips);

    // A pod whose namespace is gone is the collector's.
    drop(pod);
    network.node().handle.link_del(device).await.unwrap();
    assert_eq!(network.repair().await.unwrap(), []);
}

/// Without an overlay, the routes lead over the uplink.
#[tokio::test]
async fn native_routes_of_both_families_come_back() {
    let [node, other] = TestNode::pair(NATIVE).await;
    let network = node.open().await;
    let remotes = other.remotes();
    network.node().ensure_remotes(&remotes).await.unwrap();
    for remote in &remotes {
        check(&network, &remotes, &[DriftKind::Route], async |handle| del_route(handle, remote.pod_cidr).await).await;
    }
}

#[tokio::test]
async fn a_repair_names_the_address_that_was_cut_off() {
    let [node, _other] = TestNode::pair(NATIVE).await;
    let network = node.open().await;
    let pod = TestNetns::new("a");
    for ip in network.add(&request("a", &pod)).await.unwrap().endpoint.ips {
        del_route(&network.node().handle, ip.into()).await;
        assert_eq!(
            network.repair().await.unwrap(),
            [Drift::new(DriftKind::Route, format_args!("{ip} of pod default/a"))]
        );
    }
}

async fn del_route(handle: &Handle, dst: IpNet) {
    let routes = handle.route_list().await.unwrap();
    handle.route_del(routes.iter().find(|route| route.dst == dst).unwrap()).await.unwrap();
}
