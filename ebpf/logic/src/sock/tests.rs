use super::*;
use crate::fixture::*;

fn at(addr: Addr4, port: u16) -> Address {
    Address { addr, port: Be16::new(port) }
}

#[track_caller]
fn check(backends: &[Addr4], to: Address, proto: u8, expected: Option<Option<Addr4>>) {
    let mut model = node();
    serve(&mut model, backends, 0, 0, 0);
    let translated = match translate(&model, to, proto, 1) {
        Translation::Unchanged => None,
        Translation::Refused => Some(None),
        Translation::Backend(origin) => {
            assert_eq!((origin.addr, origin.port), (to.addr, to.port));
            Some(Some(origin.backend_addr))
        }
    };
    assert_eq!(translated, expected, "{to:?} {proto}");
}

#[test]
fn services_are_translated_and_refused() {
    check(&[OTHER], at(VIP, 80), proto::TCP, Some(Some(OTHER)));
    check(&[OTHER], at(VIP, 80), proto::UDP, Some(Some(OTHER)));
    check(&[], at(VIP, 80), proto::TCP, Some(None));
    check(&[OTHER], at(VIP, 81), proto::TCP, None);
    check(&[OTHER], at(OUTSIDE, 80), proto::TCP, None);
    check(&[OTHER], at(VIP, 80), proto::ICMP, None);
}

fn sent(last: u8) -> Origin4 {
    let service = xebec_abi::ServiceId(1);
    let (port, backend_port) = (Be16::new(80), Be16::new(8080));
    Origin4 { addr: [10, 96, 0, last], port, backend_port, backend_addr: [10, 244, 1, last], service }
}

#[test]
fn a_socket_recognises_every_service_it_talks_to() {
    let mut origins = Origins4::default();
    for last in 1..=SOCKET_ORIGINS_MAX as u8 {
        remember(&mut origins, sent(last));
        remember(&mut origins, sent(last));
    }
    for last in 1..=SOCKET_ORIGINS_MAX as u8 {
        assert_eq!(sender(&origins, at([10, 244, 1, last], 8080)), Some(at([10, 96, 0, last], 80)));
    }
    remember(&mut origins, sent(99));
    assert_eq!(sender(&origins, at([10, 244, 1, 1], 8080)), None, "the oldest made room");
    assert_eq!(sender(&origins, at([10, 244, 1, 99], 8080)), Some(at([10, 96, 0, 99], 80)));
    assert_eq!(sender(&origins, at([10, 244, 1, 99], 1)), None);
}

#[test]
fn only_a_connected_socket_has_a_peer() {
    let mut origins = Origins4::default();
    remember(&mut origins, sent(1));
    assert_eq!(peer(&origins, at([10, 244, 1, 1], 8080)), None);
    origins.peer = sent(2);
    assert_eq!(peer(&origins, at([10, 244, 1, 2], 8080)), Some(at([10, 96, 0, 2], 80)));
    assert_eq!(sender(&origins, at([10, 244, 1, 2], 8080)), Some(at([10, 96, 0, 2], 80)));
    // What no storage was written for is zeroes, and matches nobody.
    assert_eq!(peer(&Origins4::default(), at([0; 4], 0)), None);
}
