use std::net::IpAddr;

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
    let (a, b) = (Space::new("a"), Space::new("b"));
    let (ours, theirs) = (Ipv4Addr::new(172, 30, 9, 1), Ipv4Addr::new(172, 30, 9, 2));
    let handles = [&a, &b].map(|space| Handle::in_netns(&space.1).expect("a socket"));
    handles[0].link_add(&LinkSpec::veth("eth0", Peer::new("eth0").netns(&b.1)).up()).await.expect("a cable");
    handles[1].link_set_up("eth0").await.expect("up");
    for (handle, ip) in handles.iter().zip([ours, theirs]) {
        let index = handle.link("eth0").await.expect("eth0").index;
        handle.addr_add(index, IpNet::new(IpAddr::V4(ip), 24).expect("a net")).await.expect("an address");
    }
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
