use xebec_abi::Addr4;

use super::*;
use crate::model::{Bytes, Model};

const IFINDEX: u32 = 42;
const MS: u64 = 1_000_000;

fn pod(flags: u32) -> LocalPod {
    LocalPod { ifindex: IFINDEX, flags, ..LocalPod::default() }
}

/// An Ethernet frame of so many bytes, without a header of IP.
fn frame(bytes: usize) -> Bytes {
    Bytes(vec![0; bytes])
}

/// A megabyte a second, and a hundred thousandth part of an hour's worth of it: 36 ms.
fn model() -> Model<Addr4> {
    let model = Model::<Addr4>::default();
    model.now_ns.set(1_000 * MS);
    model.rates.borrow_mut().insert(IFINDEX, PodRate { bytes_per_s: 1_000_000, burst_ns: 36 * MS, full_ns: 0 });
    model
}

/// Packets of a thousand bytes take a millisecond each: this many pass now.
fn pass(model: &Model<Addr4>) -> u64 {
    let mut passed = 0;
    while admit(&mut frame(1_000), model, &pod(pod_flag::LIMITED)).is_ok() {
        passed += 1;
    }
    passed
}

#[test]
fn over_time_exactly_the_rate_passes() {
    let model = model();
    let mut passed = pass(&model);
    assert_eq!(passed, 36, "the bucket");
    for _ in 0..1_000 {
        model.now_ns.set(model.now_ns.get() + 7 * MS + MS / 2);
        passed += pass(&model);
    }
    assert_eq!(passed, 36 + 7_500);
    // What is not used does not pile up.
    model.now_ns.set(model.now_ns.get() + 1_000 * MS);
    assert_eq!(pass(&model), 36);
}

#[test]
fn a_packet_larger_than_what_is_left_takes_it_in_advance() {
    let model = model();
    let send = |bytes| admit(&mut frame(bytes), &model, &pod(pod_flag::LIMITED));
    assert_eq!(send(64_000), Ok(()));
    assert_eq!(send(60), Err(DropReason::PodBandwidth));
    // 64 ms are missing, of which 36 may.
    model.now_ns.set(model.now_ns.get() + 28 * MS);
    assert_eq!(send(60), Err(DropReason::PodBandwidth));
    model.now_ns.set(model.now_ns.get() + 1);
    assert_eq!(send(60), Ok(()));
}

#[test]
fn pods_without_a_limit_have_none() {
    let model = model();
    for _ in 0..1_000 {
        assert_eq!(admit(&mut frame(60_000), &model, &pod(0)), Ok(()));
    }
    model.rates.borrow_mut().insert(IFINDEX, PodRate::default());
    let other = LocalPod { ifindex: IFINDEX + 1, ..pod(pod_flag::LIMITED) };
    for pod in [pod(pod_flag::LIMITED), other] {
        assert!((0..1_000).all(|_| admit(&mut frame(60_000), &model, &pod).is_ok()));
    }
}

#[test]
fn senders_that_can_be_told_are_told_before_packets_are_lost() {
    let model = model();
    let ipv4 = |ecn: u8| {
        let mut packet = vec![0; 1_000];
        packet[12..16].copy_from_slice(&[8, 0, 0x45, ecn]);
        Bytes(packet)
    };
    let sent = |ecn| {
        let mut packet = ipv4(ecn);
        admit(&mut packet, &model, &pod(pod_flag::LIMITED)).map(|()| packet.0[15] & 3)
    };
    assert!((0..19).all(|_| sent(2) == Ok(2)), "more than half of the bucket is there");
    assert_eq!([sent(2), sent(1), sent(3), sent(0)], [Ok(3), Ok(3), Ok(3), Ok(0)]);
    assert_eq!(model.counted(Counter::CongestionMarked), 3);
}
