use std::collections::BTreeSet;

use xebec_abi::{Addr4, Backend4, BackendKey, Be16, FrontendKey4, MaglevBlock, ServiceId, lb::scope, proto};

use super::*;
use crate::{
    Verdict,
    fixture::*,
    header::TCP_SYN,
    model::{Bytes, Model},
    netdev::from_netdev,
};

const SERVICE: ServiceId = ServiceId(1);
const NODE_PORT: u16 = 30_080;

/// A node at `addr` with a service whose table leads to each backend by the parity of its entries.
fn served(addr: Addr4) -> Model {
    let mut model = node();
    model.node.node_ip = addr;
    model.node.hash_seed = u32::from_ne_bytes(addr);
    let flags = maglev::flags(maglev::SIZES[1]).expect("a size");
    let key = FrontendKey4 { addr, port: Be16::new(NODE_PORT), proto: proto::TCP, scope: scope::EXTERNAL };
    let frontend = FrontendValue { service: SERVICE, generation: 7, backends: 2, flags, ..FrontendValue::default() };
    model.frontends.insert(key, frontend);
    for (slot, addr) in [(0, POD), (1, OTHER)] {
        let backend = Backend4 { addr, port: Be16::new(8080), ..Backend4::default() };
        model.backends.insert(BackendKey { service: SERVICE, generation: 7, slot }, backend);
    }
    for block in 0..2 {
        let slots = std::array::from_fn(|index| index as u16 & 1);
        model.maglev.insert(MaglevKey { service: SERVICE, generation: 7, block }, MaglevBlock { slots });
    }
    model
}

fn backend(model: &Model, sport: u16) -> Addr4 {
    let mut packet: Bytes = tcp(tuple(OUTSIDE, sport, model.node.node_ip, NODE_PORT), TCP_SYN);
    from_netdev(&mut packet, model).expect("a backend");
    verified(&packet).dst
}

#[test]
fn every_node_chooses_the_same_backend() {
    let (one, two) = (served(NODE), served([172, 30, 0, 99]));
    let chosen: Vec<_> = (5_000..5_100).map(|sport| backend(&one, sport)).collect();
    assert_eq!(chosen, (5_000..5_100).map(|sport| backend(&two, sport)).collect::<Vec<_>>());
    assert_eq!(BTreeSet::from_iter(chosen), BTreeSet::from([POD, OTHER]));
}

#[test]
fn the_table_decides_and_not_the_number_of_backends() {
    let mut model = served(NODE);
    for block in model.maglev.values_mut() {
        block.slots.fill(1);
    }
    assert!((5_000..5_100).all(|sport| backend(&model, sport) == OTHER));
}

#[test]
fn a_table_that_is_gone_is_looked_up_again() {
    let mut model = served(NODE);
    model.maglev.clear();
    let mut packet = tcp(tuple(OUTSIDE, 1, NODE, NODE_PORT), TCP_SYN);
    assert_eq!(from_netdev(&mut packet, &model), Ok(Verdict::ANSWER));
    assert_eq!(model.counted(xebec_abi::Counter::FrontendRetry), 1);
}

#[test]
fn entries_are_within_their_table() {
    for size in maglev::SIZES {
        let flags = maglev::flags(size).expect("a size");
        assert_eq!(maglev::size(flags | 0x3f), Some(size));
        assert_eq!(maglev::entry(flags, 0), Some(0));
        let last = maglev::entry(flags, u32::MAX).expect("an entry");
        assert_eq!(u32::from(last) + 1, size.next_power_of_two());
        assert_eq!(u16::from(last.to_be_bytes()[0]) + 1, maglev::blocks(size));
    }
    assert_eq!((maglev::flags(16_384), maglev::size(0x3f), maglev::entry(0x3f, 9)), (None, None, None));
}
