use xebec_abi::{
    Address, BackendId, Be16, Direction, FlowState, Ports, ServiceId, Tuple,
    layout::{plain, structure},
};

use super::*;

fn flow<A: Address>(src: A, dst: A) -> Flow1<A> {
    Flow1 {
        to: Tuple { src, dst, ports: Ports { src: Be16::new(1), dst: Be16::new(2) } },
        state: FlowState::CLOSING,
        service: ServiceId(3),
        backend: BackendId(4),
        seen_ns: 5,
        packets: 6,
        bytes: 7,
    }
}

fn there_and_back<A: Family>(flow: Flow1<A>) {
    let key = FlowKey { tuple: flow.to, proto: 6, direction: Direction::OUT, pad: [0; 2] };
    let steps = all();
    let (one, other) =
        (super::super::flows::<A>(crate::MapLayout::Current), super::super::flows::<A>(crate::MapLayout::Rehearsal));
    assert_ne!(one, other);
    for map in [A::CONNTRACK, A::NAT] {
        let there = path(&steps, map, one, other).expect("works");
        let (key_bytes, value) = convert(&there, sys::bytes(&[key]), sys::bytes(&[flow]));
        assert_eq!(value.len(), size_of::<RehearsalFlow<A>>());
        let there: RehearsalFlow<A> = read(&value);
        assert_eq!(
            (there.to, there.state, there.service, there.backend),
            (flow.to, flow.state, flow.service, flow.backend)
        );
        assert_eq!((there.seen_ns, there.packets, there.bytes, there.spare), (5, 6, 7, 0));
        let back = path(&steps, map, other, one).expect("works");
        let (key_bytes, value) = convert(&back, &key_bytes, &value);
        assert_eq!((read::<FlowKey<A>>(&key_bytes), read::<Flow1<A>>(&value)), (key, flow));
    }
}

#[test]
fn a_flow_goes_there_and_back_as_it_was() {
    there_and_back(flow([10, 0, 0, 1], [10, 0, 0, 2]));
    there_and_back(flow(Addr6::new([1; 16]), Addr6::new([2; 16])));
}

/// Three layouts of one map, as versions would bring them.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C)]
struct One(u32);
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C)]
struct Two(u64);
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C)]
struct Three([u16; 8]);

#[allow(unsafe_code)]
mod pods {
    // SAFETY: numbers alone.
    unsafe impl aya::Pod for super::One {}
    // SAFETY: numbers alone.
    unsafe impl aya::Pod for super::Two {}
    // SAFETY: numbers alone.
    unsafe impl aya::Pod for super::Three {}
}

impl Layout for One {
    const FINGERPRINT: u64 = plain("one", 4);
}
impl Layout for Two {
    const FINGERPRINT: u64 = plain("two", 8);
}
impl Layout for Three {
    const FINGERPRINT: u64 = structure(16);
}

impl From<One> for Two {
    fn from(One(number): One) -> Self {
        Self(u64::from(number) * 2)
    }
}

impl From<Two> for Three {
    fn from(Two(number): Two) -> Self {
        Self([number as u16 + 1; 8])
    }
}

#[test]
fn an_agent_that_missed_a_version_takes_both_steps() {
    let steps = [Step::new::<u32, Two, u32, Three>("map"), Step::new::<u32, One, u32, Two>("map")];
    let (one, two, three) =
        (super::super::of::<u32, One>(), super::super::of::<u32, Two>(), super::super::of::<u32, Three>());
    let lengths = |from, to| path(&steps, "map", from, to).map(|path| path.len());
    assert_eq!((lengths(one, three), lengths(two, three), lengths(three, three)), (Some(2), Some(1), Some(0)));
    // Nobody knows the way back, a layout of a later version, or another map's.
    assert_eq!((lengths(three, one), lengths(7, three)), (None, None));
    assert!(path(&steps, "other", one, three).is_none());
    let whole = path(&steps, "map", one, three).expect("works");
    let (key, value) = convert(&whole, sys::bytes(&[9u32]), sys::bytes(&[One(20)]));
    assert_eq!((read::<u32>(&key), read::<Three>(&value)), (9, Three([41; 8])));
}
