//! Prints what the programs cost per packet (`BPF_PROG_TEST_RUN`, without device and stack) and what programming
//! services costs. Needs root and a bpf filesystem at `/sys/fs/bpf`, or one named by `XEBEC_BENCH_BPFFS`.

use std::{env, error::Error, fs, net::Ipv4Addr, path::PathBuf, time::Instant};

use aya::{
    Ebpf,
    maps::HashMap,
    programs::{TestRun, TestRunOptions},
};
use xebec_abi::{
    Backend4, BackendId, BackendKey, Be16, Endpoint4, Frontend4, FrontendKey4, Pod4, PrefixKey4, ServiceId, names,
    proto,
};
use xebec_datapath::{Backend, Config, Datapath, Frontend, FrontendKey, Routing, Service, testing};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const REPEAT: u32 = 250;
const RUNS: u32 = 4_000;
/// The loopback device, which test runs come from.
const IFINDEX: u32 = 1;

fn main() -> Result {
    let mut ebpf = testing::load(&testing::config())?;
    populate(&mut ebpf)?;
    println!("ns per packet, median of {RUNS} times {REPEAT} runs");
    for (name, program, packet) in packets() {
        println!("{name:44} {program:14} {:4}", nanoseconds(&ebpf, program, &packet)?);
    }
    programming()
}

/// The median of many short runs: a run changes the packet in place and hands it on to the next, so a time to live of
/// 255 lasts for 250 of them.
fn nanoseconds(ebpf: &Ebpf, program: &'static str, packet: &[u8]) -> Result<u128> {
    let classifier = testing::classifier(ebpf, program)?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let options = TestRunOptions { data_in: Some(packet), repeat: REPEAT, ..Default::default() };
        runs.push(classifier.test_run(options)?.duration.as_nanos());
    }
    runs.sort_unstable();
    Ok(runs[runs.len() / 2])
}

fn packets() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let pod = [10, 244, 1, 2];
    vec![
        ("pod to the node", "from_pod", udp(pod, [172, 30, 0, 11], 4_000, 53)),
        ("pod to a pod of this node", "from_pod", udp(pod, [10, 244, 1, 3], 4_000, 80)),
        ("pod to a pod of another node", "from_pod", udp(pod, [10, 244, 2, 3], 4_000, 80)),
        ("pod to an unknown service (drop)", "from_pod", udp(pod, [10, 96, 0, 99], 4_000, 80)),
        ("forged source (drop)", "from_pod", udp([10, 244, 1, 9], [10, 244, 1, 3], 4_000, 80)),
        ("host to a pod", "to_pod", udp([10, 244, 1, 1], pod, 53, 4_000)),
        ("another node's pod to a pod", "from_overlay", udp([10, 244, 2, 3], pod, 80, 4_000)),
        ("underlay to the node", "from_netdev", udp([172, 30, 0, 12], [172, 30, 0, 11], 4_000, 8_472)),
        ("node to the underlay", "to_netdev", udp([172, 30, 0, 11], [172, 30, 0, 12], 4_000, 8_472)),
        ("host to another node's pod", "to_overlay", udp([10, 244, 1, 1], [10, 244, 2, 3], 4_000, 80)),
    ]
}

fn populate(ebpf: &mut Ebpf) -> Result {
    let mut pods: HashMap<_, [u8; 4], Pod4> = ebpf.map_mut(names::PODS4).ok_or("no map")?.try_into()?;
    for last in 2..4 {
        pods.insert([10, 244, 1, last], Pod4 { ifindex: IFINDEX, ..Pod4::default() }, 0)?;
    }
    let mut remotes: HashMap<_, PrefixKey4, Endpoint4> = ebpf.map_mut(names::IPCACHE4).ok_or("no map")?.try_into()?;
    let key = PrefixKey4 { addr: [10, 244, 2, 0], prefix_len: 24, pad: [0; 3] };
    remotes.insert(key, Endpoint4 { node: [172, 30, 0, 12], identity: 0 }, 0)?;
    let mut frontends: HashMap<_, FrontendKey4, Frontend4> =
        ebpf.map_mut(names::LB4_FRONTENDS).ok_or("no map")?.try_into()?;
    let key = FrontendKey4 { addr: [10, 96, 0, 1], port: Be16::new(80), proto: proto::UDP, scope: 0 };
    frontends.insert(key, Frontend4 { service: ServiceId(1), backends: 1, ..Frontend4::default() }, 0)?;
    let mut backends: HashMap<_, BackendKey, Backend4> =
        ebpf.map_mut(names::LB4_BACKENDS).ok_or("no map")?.try_into()?;
    let backend = Backend4 { addr: [10, 244, 1, 3], port: Be16::new(80), id: BackendId(1), ..Backend4::default() };
    backends.insert(BackendKey { service: ServiceId(1), ..BackendKey::default() }, backend, 0)?;
    Ok(())
}

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

/// Cold programming, and one change among many.
fn programming() -> Result {
    let bpffs = env::var_os("XEBEC_BENCH_BPFFS").map_or_else(|| PathBuf::from("/sys/fs/bpf"), PathBuf::from);
    let node = format!("bench-{}", std::process::id());
    let config = Config {
        node_name: node.clone(),
        bpffs: bpffs.clone(),
        cgroup_node: PathBuf::from(env::var_os("XEBEC_BENCH_CGROUP").ok_or("XEBEC_BENCH_CGROUP names a cgroup")?),
        routing: Routing::Native,
        ..testing::config()
    };
    let config = Config { cgroup_pods: config.cgroup_node.clone(), ..config };
    let begun = Instant::now();
    let datapath = Datapath::open(config.clone())?;
    println!("open: {:?}", begun.elapsed());
    for count in [1_000, 10_000, 50_000] {
        let services: Vec<Service> = (0..count).map(|number| service(number, 2)).collect();
        let begun = Instant::now();
        datapath.put_services(&services)?;
        println!("cold programming of {count} services with 2 backends each: {:?}", begun.elapsed());
        for number in (0..count).step_by((count as usize / 200).max(1)) {
            datapath.put_service(&service(number, 2))?;
        }
        let mut changes = Vec::new();
        for number in (0..count).step_by((count as usize / 1_000).max(1)) {
            let begun = Instant::now();
            datapath.put_service(&service(number, 3))?;
            changes.push(begun.elapsed());
        }
        changes.sort();
        let (p50, p99) = (changes[changes.len() / 2], changes[changes.len() * 99 / 100]);
        println!("one change among {count}: p50 {p50:?} p99 {p99:?}");
    }
    let begun = Instant::now();
    println!("read back {} frontends: {:?}", datapath.frontends()?.len(), begun.elapsed());
    drop(datapath);
    let begun = Instant::now();
    let datapath = Datapath::open(config)?;
    println!("take over a running datapath with 50000 services: {:?}", begun.elapsed());
    drop(datapath);
    Datapath::remove(&bpffs, &node)?;
    let _ = fs::remove_dir(bpffs.join("xebec"));
    Ok(())
}

fn service(number: u32, backends: u8) -> Service {
    let addr = Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 0).to_bits() + number + 1);
    let backend = |last| Backend {
        addr: Ipv4Addr::from_bits(Ipv4Addr::new(10, 244, 0, 0).to_bits() + number % 60_000 + u32::from(last)),
        port: 8_080,
        local: false,
        terminating: false,
    };
    Service {
        frontends: vec![Frontend { key: FrontendKey::cluster_ip(addr, 80, proto::TCP), flags: 0 }],
        backends: (0..backends).map(backend).collect(),
        ..Service::default()
    }
}
