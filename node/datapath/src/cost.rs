//! What the programs cost per packet (`BPF_PROG_TEST_RUN`, without device and stack), for benchmarks.

mod xdp;

use std::{io, time::Duration};

use aya::{
    Ebpf, Pod,
    maps::{HashMap, MapData},
    programs::{TestRun, TestRunOptions},
};
use xebec_abi::{
    Backend4, BackendId, Be16, Endpoint4, FrontendEntry, FrontendKey4, FrontendValue, LocalPod, PrefixKey4, ServiceId,
    lb::frontend_flag, limits::FIRST_BACKENDS, names, proto,
};

use crate::{
    error::{Error, Result},
    object, testing,
};

pub use xdp::early;

/// The loopback device, which test runs come from.
const IFINDEX: u32 = 1;
/// A run changes the packet in place and hands it on to the next, so a time to live of 255 lasts for 250 of them.
const REPEAT: u32 = 250;

/// One program on one kind of packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    pub name: &'static str,
    /// The median of many short runs.
    pub time: Duration,
}

/// Loads the programs with maps of their own, and runs each on its packets, `runs` times.
pub fn per_packet(runs: u32) -> Result<Vec<Cost>> {
    let mut ebpf = testing::load(&testing::config())?;
    populate(&mut ebpf)?;
    let measure =
        |(name, program, packet): (_, _, Vec<u8>)| Ok(Cost { name, time: time(&ebpf, program, &packet, runs)? });
    packets().into_iter().map(measure).collect()
}

fn time(ebpf: &Ebpf, program: &'static str, packet: &[u8], runs: u32) -> Result<Duration> {
    let classifier = object::classifier(ebpf, program)?;
    let mut times = Vec::new();
    for _ in 0..runs.max(1) {
        let options = TestRunOptions { data_in: Some(packet), repeat: REPEAT, ..Default::default() };
        let result = classifier.test_run(options);
        times.push(result.map_err(|error| Error::SelfTest { program, reason: error.to_string() })?.duration);
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn packets() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let pod = [10, 244, 1, 2];
    vec![
        ("from_pod_to_node", "from_pod", udp(pod, [172, 30, 0, 11], 4_000, 53)),
        ("from_pod_to_pod_here", "from_pod", udp(pod, [10, 244, 1, 3], 4_000, 80)),
        ("from_pod_to_pod_elsewhere", "from_pod", udp(pod, [10, 244, 2, 3], 4_000, 80)),
        ("from_pod_to_service", "from_pod", udp(pod, [10, 96, 0, 1], 4_000, 80)),
        ("from_pod_to_unknown_service", "from_pod", udp(pod, [10, 96, 0, 99], 4_000, 80)),
        ("from_pod_forged", "from_pod", udp([10, 244, 1, 9], [10, 244, 1, 3], 4_000, 80)),
        ("to_pod_from_host", "to_pod", udp([10, 244, 1, 1], pod, 53, 4_000)),
        ("from_overlay_to_pod", "from_overlay", udp([10, 244, 2, 3], pod, 80, 4_000)),
        ("from_netdev_to_node", "from_netdev", udp([172, 30, 0, 12], [172, 30, 0, 11], 4_000, 8_472)),
        ("to_netdev_from_node", "to_netdev", udp([172, 30, 0, 11], [172, 30, 0, 12], 4_000, 8_472)),
        ("to_overlay_from_host", "to_overlay", udp([10, 244, 1, 1], [10, 244, 2, 3], 4_000, 80)),
    ]
}

/// Two pods here, a node with pods elsewhere, and a service.
fn populate(ebpf: &mut Ebpf) -> Result<()> {
    for last in 2..4_u8 {
        put(ebpf, names::PODS4, [10, 244, 1, last], LocalPod { ifindex: IFINDEX, ..LocalPod::default() })?;
    }
    let remote = PrefixKey4 { addr: [10, 244, 2, 0], prefix_len: 24, pad: [0; 3] };
    put(ebpf, names::IPCACHE4, remote, Endpoint4 { node: [172, 30, 0, 12], identity: 0 })?;
    let service = ServiceId(1);
    let frontend = FrontendKey4 { addr: [10, 96, 0, 1], port: Be16::new(80), proto: proto::UDP, scope: 0 };
    let value = FrontendValue { service, backends: 1, flags: frontend_flag::FIRST, ..FrontendValue::default() };
    let backend = Backend4 { addr: [10, 244, 1, 3], port: Be16::new(80), id: BackendId(1), ..Backend4::default() };
    let first = [backend; FIRST_BACKENDS];
    put(ebpf, names::LB4_FRONTENDS, frontend, FrontendEntry { value, first })
}

fn put<K: Pod, V: Pod>(ebpf: &mut Ebpf, map: &'static str, key: K, value: V) -> Result<()> {
    let failed = |source| Error::Map { operation: "write", map, source: io::Error::other(source) };
    let missing = || Error::Map { operation: "find", map, source: io::ErrorKind::NotFound.into() };
    let found = ebpf.map_mut(map).ok_or_else(missing)?;
    HashMap::<&mut MapData, K, V>::try_from(found).and_then(|mut map| map.insert(key, value, 0)).map_err(failed)
}

/// A datagram of 64 bytes with its Ethernet header.
fn udp(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) -> Vec<u8> {
    let mut packet = vec![0; 14 + 20 + 8 + 22];
    packet[12..14].copy_from_slice(&[8, 0]);
    packet[14..18].copy_from_slice(&[0x45, 0, 0, 50]);
    packet[22] = 255;
    packet[23] = proto::UDP;
    packet[26..30].copy_from_slice(&src);
    packet[30..34].copy_from_slice(&dst);
    packet[34..36].copy_from_slice(&sport.to_be_bytes());
    packet[36..38].copy_from_slice(&dport.to_be_bytes());
    packet
}
