use ipnet::IpNet;
use tokio::time::{Instant, timeout};
use xebec_netlink::{Handle, LinkSpec, Netns, Peer};

use super::*;

/// `answers` of rounds (`.` none, `!` one), and after how many of them the node's state changed.
#[track_caller]
fn check(answers: &str, changes: &[usize]) {
    let mut health = Health::default();
    let rounds = answers.chars().enumerate();
    let changed: Vec<usize> = rounds.filter(|(_, answer)| health.note(*answer == '!')).map(|(n, _)| n + 1).collect();
    assert_eq!(changed, changes, "{answers}");
}

#[test]
fn a_node_is_silent_after_four_rounds_and_speaks_after_six() {
    check("!!!....", &[7]);
    check("!...!...!", &[]);
    check("!....!!!!!!", &[5, 11]);
    check("!....!!!!!.!!!!!.", &[5]);
    check("..........", &[]);
}

struct Space(String, Netns);

impl Space {
    fn new(role: &str) -> Self {
        let name = format!("xbtest-peers-{}-{role}", std::process::id());
        let netns = Netns::create(&name).expect("a network namespace (this test needs root)");
        Self(name, netns)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        Netns::delete(&self.0).expect("the namespace is there");
    }
}

#[tokio::test]
async fn a_node_whose_line_is_cut_is_silent_within_three_seconds() {
    cut("4", ["172.30.9.1/24", "172.30.9.2/24"]).await;
}

#[tokio::test]
async fn a_node_that_has_ipv6_alone_is_asked_too() {
    cut("6", ["fd30:9::1/64", "fd30:9::2/64"]).await;
}

/// Follows a node whose line is cut and mended. `role` names the namespaces.
async fn cut(role: &str, addresses: [&str; 2]) {
    let (a, b) = (Space::new(&format!("{role}a")), Space::new(&format!("{role}b")));
    let nets = addresses.map(|address| address.parse::<IpNet>().expect("an address"));
    let theirs = nets[1].addr();
    let handles = [&a, &b].map(|space| Handle::in_netns(&space.1).expect("a socket"));
    handles[0].link_add(&LinkSpec::veth("eth0", Peer::new("eth0").netns(&b.1)).up()).await.expect("a cable");
    handles[1].link_set_up("eth0").await.expect("up");
    for (handle, net) in handles.iter().zip(nets) {
        let index = handle.link("eth0").await.expect("eth0").index;
        handle.addr_add(index, net).await.expect("an address");
    }
    // Else an IPv6 address goes with the line.
    let keep = || std::fs::write("/proc/sys/net/ipv6/conf/eth0/keep_addr_on_down", "1").expect("IPv6");
    b.1.run(keep).expect("a thread");
    let (_wanted, asked) = watch::channel(BTreeSet::from([theirs]));
    let (silent, mut seen) = watch::channel(BTreeSet::new());
    let watching = a.1.run_async(move || follow(asked, silent));
    let body = async {
        tokio::time::sleep(PERIOD * 3).await;
        assert!(seen.borrow().is_empty(), "it answers");
        handles[1].link_set_down("eth0").await.expect("cut");
        let cut = Instant::now();
        let limit = Duration::from_secs(3);
        timeout(limit, seen.wait_for(|silent| silent.contains(&theirs))).await.expect("in time").expect("watched");
        assert!(cut.elapsed() > PERIOD * 2, "not at the first lost packet: {:?}", cut.elapsed());
        handles[1].link_set_up("eth0").await.expect("whole again");
        let whole = Instant::now();
        timeout(limit * 3, seen.wait_for(BTreeSet::is_empty)).await.expect("in time").expect("watched");
        assert!(whole.elapsed() > PERIOD * (SPEAKS_AFTER - 1), "not at the first answer: {:?}", whole.elapsed());
    };
    tokio::select! {
        () = body => {}
        ended = watching => panic!("{ended:?}"),
    }
}
