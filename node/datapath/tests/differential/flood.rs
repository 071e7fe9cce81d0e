//! More first packets than transient flows have places: both worlds forget the same flows, and no established one.

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use rand::{SeedableRng, rngs::StdRng};
use xebec_abi::{
    Addr4, Addr6, Be16, Counter, Direction, FlowState, Ports, Tuple,
    limits::{TRANSIENT_FLOWS_MAX, TRANSIENT_NAT_MAX},
    proto,
};
use xebec_datapath::{Config, testing};
use xebec_logic::{conntrack::key, model::Node};

use crate::{
    OVERLAY,
    family::{Subnet, Tested},
    worlds::Worlds,
};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Of a service with backends here and elsewhere.
const NODE_PORT: u16 = 8_083;

#[test]
fn kernel_and_model_forget_half_open_flows_alike() {
    flood::<Addr4>(["from_netdev", "to_netdev", "from_overlay"]);
}

#[test]
fn kernel_and_model_forget_half_open_flows_of_ipv6_alike() {
    flood::<Addr6>(["from_netdev6", "to_netdev6", "from_overlay6"]);
}

fn flood<A: Tested>([from_netdev, to_netdev, from_overlay]: [&'static str; 3])
where
    Node<A>: Default,
{
    // Each CPU begins somewhere else.
    let mut cpu = CpuSet::new();
    cpu.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
    let mut worlds = Worlds::<A>::new(&Config { routing: OVERLAY, ..testing::config() }, &mut StdRng::seed_from_u64(3));
    let (node, pod) = (A::at(Subnet::Nodes, 11), A::at(Subnet::Pods(1), 7));
    let dialled = |number: u16, dst, port| Tuple {
        src: A::stranger(number),
        dst,
        ports: Ports { src: Be16::new(1_024 + number), dst: Be16::new(port) },
    };
    let mut established = Vec::new();
    for number in 0..2 * TRANSIENT_NAT_MAX as u16 {
        let tuple = dialled(number, node, NODE_PORT);
        let context = format!("flow {number}");
        worlds.step(from_netdev, &A::segment(&tuple, SYN), &context);
        if number % 50 == 0 {
            let request = key(tuple, proto::TCP, Direction::OUT);
            let answer = worlds.model.nat.borrow()[&request].to.reversed();
            let program = if answer.dst == node { from_overlay } else { to_netdev };
            worlds.step(program, &A::segment(&answer, SYN | ACK), &context);
            worlds.step(from_netdev, &A::segment(&tuple, ACK), &context);
            established.push(request);
        }
        if u32::from(number) < 2 * TRANSIENT_FLOWS_MAX {
            worlds.step(from_netdev, &A::segment(&dialled(number, pod, 80), SYN), &context);
        }
    }
    worlds.compare("after the flood");
    let nat = worlds.model.nat.borrow();
    let lost = established.iter().filter(|key| nat.get(*key).is_none_or(|flow| flow.state != FlowState::OPEN)).count();
    assert_eq!(lost, 0, "of {}", established.len());
    let expected = u64::from(TRANSIENT_NAT_MAX + TRANSIENT_FLOWS_MAX) - established.len() as u64 / 2;
    let evicted = worlds.model.counted(Counter::HalfOpenEvicted);
    assert!(evicted.abs_diff(expected) < 10, "{evicted} of about {expected}");
    assert_ne!(worlds.model.counted(Counter::ExternalRemote), 0);
    assert_ne!(worlds.model.counted(Counter::ExternalLocal), 0);
}
