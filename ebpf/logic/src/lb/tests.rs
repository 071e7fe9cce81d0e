use xebec_abi::{lb::frontend_flag, proto};

use super::*;
use crate::{fixture::*, model::Model};
use xebec_abi::{Addr4, FrontendKey4, MemberKey4};

fn key() -> FrontendKey4 {
    FrontendKey4 { addr: VIP, port: Be16::new(80), proto: proto::TCP, scope: 0 }
}

fn chosen(model: &Model, client: Client<Addr4>, pick: u32) -> Option<[u8; 4]> {
    let mut choice = Choice::default();
    let selection = select(model, &key(), client, pick, &mut choice);
    (selection == Selection::Backend).then_some(choice.backend.addr)
}

#[track_caller]
fn check(backends: &[[u8; 4]], local: u16, flags: u16, pick: u32, expected: Option<[u8; 4]>) {
    let mut model = node();
    serve(&mut model, backends, local, flags, 0);
    assert_eq!(chosen(&model, Client::Netns(1), pick), expected, "{local} of {backends:?} with {pick:#x}");
}

#[test]
fn the_pick_chooses_among_all_or_local_backends() {
    let all = [POD, OTHER, REMOTE];
    check(&all, 2, 0, 0, Some(POD));
    check(&all, 2, 0, u32::MAX / 2, Some(OTHER));
    check(&all, 2, 0, u32::MAX, Some(REMOTE));
    check(&all, 2, frontend_flag::LOCAL_ONLY, u32::MAX, Some(OTHER));
    check(&all, 0, frontend_flag::LOCAL_ONLY, 0, None);
    check(&[], 0, 0, 0, None);
}

#[test]
fn an_address_nobody_serves_is_not_a_service() {
    let selection = select(&node(), &key(), Client::Netns(1), 0, &mut Choice::default());
    assert_eq!(selection, Selection::NotAService);
}

#[test]
fn a_client_keeps_its_backend_until_it_goes_or_time_is_over() {
    let mut model = node();
    serve(&mut model, &[POD, OTHER], 2, 0, 10);
    let member = |addr| MemberKey4 { service: xebec_abi::ServiceId(1), addr, port: Be16::new(8080), pad: [0; 2] };
    model.members.extend([(member(POD), 0), (member(OTHER), 0)]);
    let (one, two) = (Client::Netns(1), Client::Addr([1, 0, 0, 0]));
    assert_eq!(chosen(&model, one, 0), Some(POD));
    assert_eq!(chosen(&model, one, u32::MAX), Some(POD), "bound");
    assert_eq!(chosen(&model, two, u32::MAX), Some(OTHER), "another client, of another kind");
    model.now_ns.set(10_000_000_000);
    assert_eq!(chosen(&model, one, u32::MAX), Some(POD), "each use prolongs it");
    model.now_ns.set(20_000_000_001);
    assert_eq!(chosen(&model, one, u32::MAX), Some(OTHER), "over");
    model.members.remove(&member(OTHER));
    assert_eq!(chosen(&model, one, 0), Some(POD), "gone");
}

#[test]
fn a_backend_that_went_with_its_generation_is_looked_up_again() {
    let mut model = node();
    serve(&mut model, &[POD], 1, 0, 0);
    model.backends.clear();
    let selection = select(&model, &key(), Client::Netns(1), 0, &mut Choice::default());
    assert_eq!(selection, Selection::NoBackend);
    assert_eq!(model.counted(Counter::FrontendRetry), 1);
}

#[test]
fn hashes_spread_evenly() {
    let mut slots = [0u32; 8];
    for port in 1_024..33_024 {
        let hash = hash(&tuple(POD, port, VIP, 80), proto::TCP, 1);
        slots[scale(hash, 8) as usize] += 1;
    }
    assert!(slots.iter().all(|count| (3_600..4_400).contains(count)), "{slots:?}");
}
