//! Agents that die on the way from one layout to another, and the ones after them that finish it or go back.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::*;

/// How an agent dies. It undoes nothing: what falls with it are descriptors, as by `kill -9`.
struct Death;

/// An agent that wants another layout and dies after `last` things that outlive it; false if it does not do so many.
fn die(node: &mut Node, layout: MapLayout, last: usize) -> bool {
    node.stop_agent();
    node.config.map_layout = layout;
    let count = AtomicUsize::new(0);
    let observer = Observer::new(move |_| {
        if count.fetch_add(1, Ordering::Relaxed) == last {
            resume_unwind(Box::new(Death));
        }
    });
    let start = || node.start_agent_with(|config| Datapath::open_observed(config, observer));
    match catch_unwind(AssertUnwindSafe(start)) {
        Ok(()) => false,
        Err(death) if death.is::<Death>() => true,
        Err(failure) => resume_unwind(failure),
    }
}

/// What an agent does in turn that outlives it, towards another layout.
fn way(node: &mut Node, layout: MapLayout) -> Vec<Done> {
    node.stop_agent();
    node.config.map_layout = layout;
    let done = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&done);
    let observer = Observer::new(move |done| noted.lock().unwrap().push(done));
    node.start_agent_with(|config| Datapath::open_observed(config, observer));
    std::mem::take(&mut *done.lock().unwrap())
}

/// After which of these an agent is to die: of links in a row the first and the last, and of maps one, or those of services
/// and of what leaves the node where they may have their pin and not decide.
fn deaths(way: &[Done]) -> impl Iterator<Item = usize> {
    let is_link = |at: usize| way.get(at).is_some_and(|done| changes_flows(*done));
    (0..way.len()).filter(move |at| match way[*at] {
        Done::Linked(_) => is_link(*at) && !(is_link(at.wrapping_sub(1)) && is_link(at + 1)),
        Done::Renamed(map) => ["xb_ct4", "xb_nat4"].contains(&map),
        Done::Staged(map) | Done::Copied(map) | Done::Decided(map) => map == "xb_nat4",
        Done::Loaded | Done::Ended => true,
    })
}

/// What comes after a death.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// An agent of the same version.
    Finishes,
    /// One of the version before.
    GoesBack,
    /// One of the version before that dies at the same point, and then one of the new version.
    Dies,
}

/// Between a pin and the decision everything that may come after; at other points one after the other.
fn nexts(done: Done, number: usize) -> Vec<Next> {
    let all = [Next::Finishes, Next::GoesBack, Next::Dies];
    if matches!(done, Done::Renamed(_)) { all.into() } else { vec![all[number % all.len()]] }
}

/// What is asked in every state.
struct Asked {
    flows: Flows,
    /// Services with one backend, dialled from one port in turn, as in the test of ports that are used again.
    twins: (Netns, [(Ipv4Addr, u16); 2]),
}

impl Asked {
    fn ask(&self, when: &str) {
        let (netns, vips) = &self.twins;
        for vip in vips {
            ask_from(netns, 40_001, *vip).unwrap_or_else(|error| panic!("{when}: {error}"));
        }
        self.flows.ask_all(when);
    }
}

/// Wherever an agent dies, every flow of before goes on and new ones begin: while none runs, after each link that the next
/// one gives a program, and after it.
#[tokio::test]
async fn an_agent_that_dies_anywhere_on_the_way_takes_no_flow_with_it() {
    let mut machine = Machine::new(2, true).await;
    let (asker, here) = (machine.nodes[0].pod("asker").await, machine.nodes[0].pod("here").await);
    let there = machine.nodes[1].pod("there").await;
    serve(&here.space.netns, here.ip, 80, "here");
    serve(&there.space.netns, there.ip, 80, "there");
    serve(&machine.outside.netns, OUTSIDE, 80, "outside");
    let node = &machine.nodes[0];
    put(node, VIP.into(), node.ip().into(), [here.ip.into(), there.ip.into()]);
    let twins = [0, 1].map(|last| (Ipv4Addr::new(10, 96, 1, last), 80));
    twins.iter().for_each(|(vip, port)| node.put(*vip, *port, TCP, &[(here.ip, 80)]));
    let inside = [addr(VIP, 80), addr(OUTSIDE, 80)].map(|to| (asker.space.netns.clone(), to));
    let outside = (machine.outside.netns.clone(), addr(node.ip(), NODE_PORT));
    let routes: Vec<_> = inside.into_iter().chain([outside]).collect();
    let first = routes.len();
    let flows = Flows { routes, open: Mutex::default() };
    let asked = Arc::new(Asked { flows, twins: (asker.space.netns.clone(), twins) });
    asked.ask("before");

    let node = &mut machine.nodes[0];
    let way = way(node, MapLayout::Rehearsal);
    for map in FLOW_MAPS {
        let of_map = [Done::Staged(map), Done::Copied(map), Done::Renamed(map), Done::Decided(map)];
        assert!(of_map.iter().all(|done| way.contains(done)), "{map}: {way:?}");
    }
    for (number, last) in deaths(&way).enumerate() {
        for next in nexts(way[last], number) {
            let before = node.config.map_layout;
            let wanted = match before {
                MapLayout::Current => MapLayout::Rehearsal,
                MapLayout::Rehearsal => MapLayout::Current,
            };
            // Those of all cases together would take too long to ask.
            asked.flows.open.lock().unwrap().truncate(first);
            let case = format!("{:?}, number {last}, towards {wanted:?}, then the next {next:?}", way[last]);
            assert!(die(node, wanted, last), "{case}");
            asked.ask(&format!("after a death ({case})"));
            let then = match next {
                Next::Finishes => wanted,
                Next::GoesBack => before,
                Next::Dies => {
                    // It may have less to do, and not get so far.
                    die(node, before, last);
                    asked.ask(&format!("after another death ({case})"));
                    wanted
                }
            };
            let (asked_then, case_then) = (Arc::clone(&asked), case.clone());
            restart(node, then, move |when| asked_then.ask(&format!("{when}, after a death ({case_then})")));
            asked.ask(&format!("in the end ({case})"));
        }
    }
    assert_eq!(node.datapath().drops().unwrap(), [], "{}", node.report());
}
