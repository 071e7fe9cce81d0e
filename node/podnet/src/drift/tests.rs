#![allow(clippy::unwrap_used)]

use xebec_netlink::{Changes, Handle};

use super::*;
use crate::tests::{TestNetns, TestNode, request};
use crate::{ROUTE_PROTOCOL, Remote, VXLAN_PORT};

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
    let [node, _other] = TestNode::pair(Routing::Vxlan { port: VXLAN_PORT }).await;
    let network = node.open().await;
    let pod = TestNetns::new("a");
    let endpoint = network.add(&request("a", &pod)).await.unwrap().endpoint;
    let remotes =
        [Remote { pod_cidr: "10.244.2.0/24".parse().unwrap(), node_ip: std::net::Ipv4Addr::new(172, 30, 0, 12) }];
    network.node().ensure_remotes(&remotes).await.unwrap();
    let vxlan = network.node().vxlan.clone().unwrap().index;
    let device = endpoint.host_device.as_str();

    check(&network, &remotes, &[Sysctl], async |handle| handle.sysctl("ipv4/ip_forward", "0").unwrap()).await;
    check(&network, &remotes, &[R], async |handle| {
        let routes = handle.route_list().await.unwrap();
        let to_other = routes.iter().find(|route| route.dst.to_string() == "10.244.2.0/24").unwrap();
        handle.route_del(to_other).await.unwrap();
    })
    .await;
    check(&network, &remotes, &[Neigh], async |handle| {
        handle.neigh_del(vxlan, "10.244.2.1".parse().unwrap()).await.unwrap();
    })
    .await;
    check(&network, &remotes, &[Device, Address, R], async |handle| handle.link_del(HOST_DEVICE).await.unwrap()).await;
    check(&network, &remotes, &[Device, Neigh, R], async |handle| handle.link_del(VXLAN_DEVICE).await.unwrap()).await;
    assert_eq!(network.node().handle.link(VXLAN_DEVICE).await.unwrap().index, vxlan, "the datapath knows it by this");
    check(&network, &remotes, &[Neigh], async |handle| {
        handle.neigh_del(endpoint.host_ifindex, endpoint.ip.into()).await.unwrap();
    })
    .await;
    check(&network, &remotes, &[Device], async |handle| handle.link_set_down(device).await.unwrap()).await;
    check(&network, &remotes, &[Device], async |handle| handle.link_del(device).await.unwrap()).await;
    network.check("a", "eth0").await.unwrap();
    assert_eq!(network.records().iter().map(|record| record.ip).collect::<Vec<_>>(), [endpoint.ip]);

    // A pod whose namespace is gone is the collector's.
    drop(pod);
    network.node().handle.link_del(device).await.unwrap();
    assert_eq!(network.repair().await.unwrap(), []);
}
