//! As root, in namespaces of their own.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;

static COUNTER: AtomicU32 = AtomicU32::new(0);

struct TestNetns {
    name: String,
    netns: Netns,
}

impl TestNetns {
    fn new() -> Self {
        let name = format!("xbtest-nl-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let netns = Netns::create(&name).expect("a network namespace (these tests need root)");
        Self { name, netns }
    }

    fn handle(&self) -> Handle {
        Handle::in_netns(&self.netns).unwrap()
    }
}

impl Drop for TestNetns {
    fn drop(&mut self) {
        Netns::delete(&self.name).unwrap();
    }
}

fn net(s: &str) -> ipnet::IpNet {
    s.parse().unwrap()
}

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

#[tokio::test]
async fn a_namespace_is_new_pinned_and_deleted_twice() {
    let test = TestNetns::new();
    assert_ne!(test.netns.inode().unwrap(), Netns::current().unwrap().inode().unwrap());
    assert_ne!(test.netns.cookie().unwrap(), Netns::current().unwrap().cookie().unwrap());
    assert_eq!(test.netns.inode().unwrap(), Netns::named(&test.name).unwrap().inode().unwrap());
    assert_eq!(test.netns.inode().unwrap(), Netns::ensure(&test.name).unwrap().inode().unwrap());
    let links = test.handle().links().await.unwrap();
    assert!(links.iter().any(|link| link.name == "lo" && !link.up), "{links:?}");
    Netns::delete(&test.name).unwrap();
    Netns::delete(&test.name).unwrap();
    let error = Netns::named(&test.name).unwrap_err();
    assert_eq!(error.to_string(), format!("open network namespace /run/netns/{}", test.name));
}

#[tokio::test]
async fn a_leftover_file_without_a_namespace_is_replaced() {
    let test = TestNetns::new();
    Netns::delete(&test.name).unwrap();
    std::fs::write(test.netns.path(), b"").unwrap();
    assert!(Netns::named(&test.name).is_err());
    assert!(Netns::create(&test.name).unwrap_err().is_exists());
    Netns::ensure(&test.name).unwrap();
}

#[test]
fn names_can_be_removed_after_iproute2_made_one() {
    // In a mount namespace whose /run/netns is a plain folder.
    let alone = || -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        Netns::create("ours")?;
        let status = std::process::Command::new("ip").args(["netns", "add", "theirs"]).status()?;
        assert!(status.success(), "ip netns add: {status}");
        Netns::delete("ours")?;
        Netns::delete("theirs")?;
        assert_eq!(std::fs::read_dir(NETNS_DIR)?.count(), 0);
        Ok(())
    };
    std::thread::spawn(alone).join().unwrap().unwrap();
}

#[tokio::test]
async fn one_request_makes_both_ends_of_a_veth() {
    let (a, b) = (TestNetns::new(), TestNetns::new());
    let (mac_a, mac_b) = (MacAddr::local(b"a"), MacAddr::local(b"b"));
    let peer = Peer::new("eth0").netns(&b.netns).mac(mac_b).mtu(1400);
    a.handle().link_add(&LinkSpec::veth("port1", peer).mac(mac_a).mtu(1400).up()).await.unwrap();
    let near = a.handle().link("port1").await.unwrap();
    let far = b.handle().link("eth0").await.unwrap();
    assert_eq!((near.mac, near.mtu, near.up, near.kind.as_str()), (Some(mac_a), 1400, true, "veth"));
    assert_eq!((far.mac, far.mtu, far.up), (Some(mac_b), 1400, false));
    assert_eq!(near.link, Some(far.index));
    a.handle().link_del("port1").await.unwrap();
    a.handle().link_del("port1").await.unwrap();
    assert_eq!(b.handle().link_by_name("eth0").await.unwrap(), None);
}

#[tokio::test]
async fn ensure_link_repairs_what_differs_and_refuses_another_kind() {
    let test = TestNetns::new();
    let handle = test.handle();
    let bridge = handle.ensure_link(&LinkSpec::bridge("br0").up()).await.unwrap();
    let spec = LinkSpec::veth("d0", Peer::new("p0")).mtu(1300).master(bridge.index).up();
    let first = handle.ensure_link(&spec).await.unwrap();
    assert_eq!((first.mtu, first.up, first.master), (1300, true, Some(bridge.index)));
    handle.link_set_mtu("d0", 1200).await.unwrap();
    handle.link_set_down("d0").await.unwrap();
    handle.link_set_master("d0", None).await.unwrap();
    assert_eq!(handle.ensure_link(&spec).await.unwrap(), first);
    let error = handle.ensure_link(&LinkSpec::bridge("d0")).await.unwrap_err();
    assert_eq!(error.to_string(), "link d0 exists as veth, not as bridge: delete it or choose another name");
}

#[tokio::test]
async fn a_vxlan_device_with_other_parameters_is_replaced() {
    let test = TestNetns::new();
    let handle = test.handle();
    let vni = LinkSpec::vxlan("vx0", Vxlan::Vni { vni: 7, port: 8472 });
    let first = handle.ensure_link(&vni).await.unwrap();
    assert_eq!(handle.ensure_link(&vni).await.unwrap().index, first.index);
    let collect = LinkSpec::vxlan("vx0", Vxlan::CollectMetadata { port: 8472, zero_csum6: false }).mtu(1450).up();
    let second = handle.ensure_link(&collect).await.unwrap();
    assert_ne!(second.index, first.index);
    assert_eq!((second.mtu, second.up), (1450, true));
    assert_eq!(handle.ensure_link(&collect).await.unwrap().index, second.index);
    let over_ipv6 = LinkSpec::vxlan("vx0", Vxlan::CollectMetadata { port: 8472, zero_csum6: true }).mtu(1430).up();
    let third = handle.ensure_link(&over_ipv6).await.unwrap();
    assert_ne!(third.index, second.index);
    assert_eq!(handle.ensure_link(&over_ipv6).await.unwrap().index, third.index);
}

#[tokio::test]
async fn links_move_and_are_renamed() {
    let (a, b) = (TestNetns::new(), TestNetns::new());
    a.handle().link_add_veth("d0", Peer::new("p0")).await.unwrap();
    a.handle().link_set_name("d0", "d1").await.unwrap();
    a.handle().link_set_mac("d1", MacAddr::local(b"x")).await.unwrap();
    a.handle().link_set_netns("d1", &b.netns).await.unwrap();
    assert_eq!(a.handle().link_by_name("d1").await.unwrap(), None);
    assert_eq!(b.handle().link("d1").await.unwrap().mac, Some(MacAddr::local(b"x")));
}

#[tokio::test]
async fn addresses_routes_and_neighbours_read_back_as_written() {
    let test = TestNetns::new();
    let handle = test.handle();
    let dev = handle.ensure_link(&LinkSpec::bridge("d0").up()).await.unwrap().index;
    handle.ensure_addr(dev, net("10.9.0.1/32")).await.unwrap();
    handle.ensure_addr(dev, net("10.9.0.1/32")).await.unwrap();
    handle.addr_add(dev, net("10.9.1.1/24")).await.unwrap();
    handle.ensure_addrs(dev, &[net("10.9.0.1/32"), net("10.9.2.1/24")]).await.unwrap();
    let mut addresses: Vec<_> =
        handle.addr_list(dev).await.unwrap().into_iter().filter(|a| matches!(a, ipnet::IpNet::V4(_))).collect();
    addresses.sort();
    assert_eq!(addresses, [net("10.9.0.1/32"), net("10.9.2.1/24")]);

    handle.addr_add(dev, net("fd00:9::1/128")).await.unwrap();
    let routes = [
        Route::new(net("10.244.1.0/24")).dev(dev).link_scope().src(ip("10.9.0.1")).protocol(120),
        Route::new(net("10.244.2.0/24")).via(ip("10.9.2.7")).dev(dev).mtu(1300),
        Route::default4().via(ip("10.250.0.1")).dev(dev).onlink(),
        // The source is known from the moment on at which its address is added.
        Route::new(net("fd00:244:2::/64")).via(ip("fd00:9::7")).dev(dev).src(ip("fd00:9::1")).onlink().protocol(120),
        Route::new(net("fd00:244:1::5/128")).dev(dev).protocol(120),
    ];
    for route in &routes {
        handle.ensure_route(route).await.unwrap();
        handle.ensure_route(route).await.unwrap();
    }
    let actual = handle.route_list().await.unwrap();
    for route in &routes {
        assert!(actual.contains(route), "{route:?} in {actual:?}");
    }
    handle.route_del(&routes[1]).await.unwrap();
    handle.route_del(&routes[1]).await.unwrap();
    assert!(!handle.route_list().await.unwrap().contains(&routes[1]));

    let neighbour = Neighbour { dev, ip: ip("10.9.2.9"), mac: MacAddr([2, 0, 0, 0, 0, 9]) };
    handle.neigh_add(neighbour).await.unwrap();
    handle.neigh_add(neighbour).await.unwrap();
    assert!(handle.neigh_list().await.unwrap().contains(&neighbour));
    handle.neigh_del(dev, neighbour.ip).await.unwrap();
    handle.neigh_del(dev, neighbour.ip).await.unwrap();
    assert!(!handle.neigh_list().await.unwrap().contains(&neighbour));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_read_lists_through_one_handle() {
    let test = TestNetns::new();
    let handle = test.handle();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let handle = handle.clone();
        readers.spawn(async move {
            handle.route_list().await?;
            handle.neigh_list().await?;
            handle.links().await?;
            handle.addr_list(1).await
        });
    }
    for read in readers.join_all().await {
        read.expect("a list is read");
    }
}

#[tokio::test]
async fn errors_name_the_operation_and_the_object() {
    let test = TestNetns::new();
    let handle = test.handle();
    let error = handle.link_set_up("nope").await.unwrap_err();
    assert_eq!(error.to_string(), "set up link nope");
    assert!(error.is_absent());
    handle.link_add_bridge("d0").await.unwrap();
    let error = handle.link_add_bridge("d0").await.unwrap_err();
    assert_eq!(error.to_string(), "add link d0 (bridge)");
    assert!(error.is_exists());
    let error = handle.route_add(&Route::new(net("10.1.0.0/16")).via(ip("10.0.0.1"))).await.unwrap_err();
    assert_eq!(error.to_string(), "add route 10.1.0.0/16 via 10.0.0.1");
    assert_eq!(handle.link("nope").await.unwrap_err().to_string(), "no link named nope");
}

#[tokio::test]
async fn sysctls_are_per_namespace() {
    let (a, b) = (TestNetns::new(), TestNetns::new());
    a.netns.sysctl("ipv4/ip_forward", "1").unwrap();
    b.netns.sysctl("ipv4/ip_forward", "0").unwrap();
    assert_eq!(a.netns.sysctl_get("ipv4/ip_forward").unwrap(), "1");
    assert_eq!(b.netns.sysctl_get("ipv4/ip_forward").unwrap(), "0");
    let error = a.netns.sysctl("ipv4/no_such", "1").unwrap_err();
    assert_eq!(error.to_string(), "write sysctl ipv4/no_such");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_and_runtimes_run_inside() {
    let test = TestNetns::new();
    test.handle().link_set_up("lo").await.unwrap();
    let inside = test.netns.inode().unwrap();
    let here = || Netns::current().unwrap().inode().unwrap();
    assert_eq!(test.netns.run(here).unwrap(), inside);
    assert_ne!(here(), inside);
    let address = test
        .netns
        .run_async(|| async {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let _client = tokio::net::TcpStream::connect(address).await.unwrap();
            address
        })
        .await
        .unwrap();
    // The port was free again and only ever open inside.
    assert!(TcpStream::connect(address).is_err());
    let listener = test.netns.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    assert!(TcpStream::connect(address).is_err(), "a socket stays in the namespace where it was made");
    test.netns.run(|| TcpStream::connect(address)).unwrap().unwrap();
    let thread = test.netns.spawn("inside", here).unwrap();
    assert_eq!(thread.join().unwrap(), inside);
}

#[test]
fn loopback_comes_up_without_a_runtime() {
    let test = TestNetns::new();
    let dial = || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, 9)).is_ok()
    };
    assert!(!test.netns.run(dial).unwrap());
    test.netns.loopback_up().unwrap();
    test.netns.loopback_up().unwrap();
    assert!(test.netns.run(dial).unwrap());
}

#[test]
fn mac_addresses_parse_and_print() {
    let mac: MacAddr = "02:00:5e:10:00:ff".parse().unwrap();
    assert_eq!(mac, MacAddr([2, 0, 0x5e, 0x10, 0, 0xff]));
    assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
    for wrong in ["", "02:00:5e:10:00", "02:00:5e:10:00:ff:00", "2:0:5e:10:0:ff", "02:00:5e:10:00:+f"] {
        assert!(wrong.parse::<MacAddr>().is_err(), "{wrong}");
    }
    let local = MacAddr::local(b"pod");
    assert_eq!(local.0[0] & 0x03, 0x02, "{local} is local and unicast");
}

#[tokio::test]
async fn udp_sockets_that_are_connected_to_a_peer_are_closed_and_no_others() {
    use std::net::{SocketAddr, UdpSocket};
    let test = TestNetns::new();
    test.netns.loopback_up().unwrap();
    let dead: SocketAddr = "127.0.0.9:53".parse().unwrap();
    let open = |bind: &str, peer: Option<&str>| {
        let (bind, peer) = (bind.to_owned(), peer.map(str::to_owned));
        test.netns.run(move || {
            let socket = UdpSocket::bind(bind).unwrap();
            socket.set_nonblocking(true).unwrap();
            peer.into_iter().for_each(|peer| socket.connect(peer).unwrap());
            socket
        })
    };
    let stuck = open("127.0.0.1:0", Some("127.0.0.9:53")).unwrap();
    let mapped = open("[::]:0", Some("[::ffff:127.0.0.9]:53")).unwrap();
    let other_port = open("127.0.0.1:0", Some("127.0.0.9:54")).unwrap();
    let other_host = open("127.0.0.1:0", Some("127.0.0.8:53")).unwrap();
    let unconnected = open("127.0.0.1:0", None).unwrap();
    assert_eq!(test.netns.destroy_udp(&[dead].into()).unwrap(), 2);
    let fate = |socket: &UdpSocket| socket.recv(&mut [0]).unwrap_err().kind();
    for socket in [&stuck, &mapped] {
        assert_eq!(fate(socket), std::io::ErrorKind::ConnectionAborted);
    }
    for socket in [&other_port, &other_host, &unconnected] {
        assert_eq!(fate(socket), std::io::ErrorKind::WouldBlock);
    }
    assert_eq!(test.netns.destroy_udp(&[dead].into()).unwrap(), 0, "twice is once");
}

#[tokio::test]
async fn a_device_sends_no_faster_than_it_is_shaped() {
    let test = TestNetns::new();
    let handle = test.handle();
    handle.link_add_veth("a", Peer::new("b")).await.unwrap();
    let index = handle.link("a").await.unwrap().index;
    let shape = |bytes_per_s| Shape { bytes_per_s, burst_bytes: 1 << 17, limit_bytes: 1 << 17 };
    assert_eq!(handle.shaped(index).await.unwrap(), None);
    assert!(!handle.unshape(index).await.unwrap());
    // From upstream's least to its largest, of which one word does not hold the number.
    for bytes_per_s in [125, 1_250_000, 125_000_000_000_000, 4_294_967_296] {
        assert!(handle.shape(index, &shape(bytes_per_s)).await.unwrap());
        assert_eq!(handle.shaped(index).await.unwrap(), Some(bytes_per_s));
        assert!(!handle.shape(index, &shape(bytes_per_s)).await.unwrap(), "twice is once");
        assert_eq!(handle.shaped(handle.link("b").await.unwrap().index).await.unwrap(), None);
    }
    assert!(handle.unshape(index).await.unwrap());
    assert_eq!(handle.shaped(index).await.unwrap(), None);
    let error = handle.shape(4_000, &shape(125)).await.unwrap_err();
    assert!(error.is_absent(), "{error:?}");
}
