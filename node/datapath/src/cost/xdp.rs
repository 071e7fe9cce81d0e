//! `xdp_netdev` behind a device whose FIB knows the next hop, as it is on a node.

use std::{io, net::Ipv4Addr, net::Ipv6Addr, ops::RangeInclusive, time::Duration};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
    programs::{ProgramError, TestRun, TestRunOptions, XdpMode as Attach},
};
use xebec_abi::{
    Addr4, Addr6, Backend, Be16, Direction, Flow, FlowKey, FlowState, FrontendEntry, FrontendKey, FrontendValue, Ports,
    ServiceId, Tuple,
    lb::{frontend_flag, scope},
    limits::FIRST_BACKENDS,
    proto,
};

use super::{Cost, REPEAT, put};
use crate::{
    Config, Routing, XdpMode,
    error::{Error, Result},
    family::Family,
    testing, xdp,
};

const PROGRAM: &str = "xdp_netdev";
const SERVICE_PORT: u16 = 8_080;
/// Flows that one run opens: so few of [`NEW_PORTS`] that a run hardly ever comes back to a flow of its own.
const NEW_REPEAT: u32 = 50;
const NEW_PORTS: RangeInclusive<u16> = 1_024..=65_535;

/// What is measured of a family.
trait Measured: Family {
    const ESTABLISHED: &'static str;
    const NEW_FLOW: &'static str;
    /// What is measured leads back to itself, so what goes out, from the node's address, is also what comes in.
    const CLIENT: Self;
    const INGRESS: Self;
    /// Where a known flow leads, and back from.
    const FAR: Self;
    /// A service that is its own backend, elsewhere and outside the cluster.
    const SERVICE: Self;

    /// Clients with new flows, in the range for benchmarks.
    fn stranger(number: u32) -> Self;
    fn udp(src: Self, dst: Self, sport: u16, dport: u16) -> Vec<u8>;
}

impl Measured for Addr4 {
    const ESTABLISHED: &'static str = "xdp_established";
    const NEW_FLOW: &'static str = "xdp_new_flow";
    const CLIENT: Self = testing::NODE_IP.octets();
    const INGRESS: Self = [203, 0, 113, 10];
    const FAR: Self = [198, 51, 100, 9];
    const SERVICE: Self = [198, 51, 100, 10];

    /// RFC 2544.
    fn stranger(number: u32) -> Self {
        Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + number).octets()
    }

    fn udp(src: Self, dst: Self, sport: u16, dport: u16) -> Vec<u8> {
        super::udp(src, dst, sport, dport)
    }
}

impl Measured for Addr6 {
    const ESTABLISHED: &'static str = "xdp6_established";
    const NEW_FLOW: &'static str = "xdp6_new_flow";
    const CLIENT: Self = Self::new(testing::NODE_IP6.octets());
    const INGRESS: Self = Self::new(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 10).octets());
    const FAR: Self = Self::new(Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 9).octets());
    const SERVICE: Self = Self::new(Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 10).octets());

    /// RFC 5180.
    fn stranger(number: u32) -> Self {
        Ipv6Addr::from_bits(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0).to_bits() + u128::from(number)).into()
    }

    /// A datagram of 84 bytes with its Ethernet header, and with a checksum, which IPv6 asks for: it is brought up to date,
    /// right or wrong.
    fn udp(src: Self, dst: Self, sport: u16, dport: u16) -> Vec<u8> {
        const UDP: usize = 14 + 40;
        let mut packet = vec![0; UDP + 8 + 22];
        packet[12..14].copy_from_slice(&[0x86, 0xdd]);
        packet[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 30, proto::UDP, 255]);
        packet[22..38].copy_from_slice(&src.octets());
        packet[38..UDP].copy_from_slice(&dst.octets());
        packet[UDP..UDP + 2].copy_from_slice(&sport.to_be_bytes());
        packet[UDP + 2..UDP + 4].copy_from_slice(&dport.to_be_bytes());
        packet[UDP + 4..UDP + 8].copy_from_slice(&[0, 30, 0x12, 0x34]);
        packet
    }
}

/// A known flow and a new one of each family, `runs` times. Call it in the network namespace of the device, which has to
/// have routes to everywhere with permanent neighbours, and forwarding.
///
/// A run leaves the packet as it has made it to the next one, so what is measured leads back to itself: the flow has an
/// entry for what its packet becomes, and the service is its own backend, so that each packet opens another flow to it.
/// Routes are native: an encapsulated packet would be nobody's.
pub fn early(ifindex: u32, runs: u32) -> Result<Vec<Cost>> {
    let mut ebpf =
        testing::load_with_xdp(&Config { routing: Routing::Native, snat_ports: NEW_PORTS, ..testing::config() })?;
    attach(&mut ebpf, ifindex)?;
    let ipv4 = measure::<Addr4>(&mut ebpf, ifindex, runs)?;
    Ok([ipv4, measure::<Addr6>(&mut ebpf, ifindex, runs)?].concat())
}

/// Attached, as it is on a node, the program is in the kernel's dispatcher of XDP programs. Else each run would put it there
/// and remove it, and wait for RCU twice (`bpf_prog_test_run_xdp`): a processor that has been elsewhere for tens of
/// milliseconds takes as long to warm up as all packets of a run.
fn attach(ebpf: &mut Ebpf, ifindex: u32) -> Result<()> {
    let failed = |error: ProgramError| Error::SelfTest { program: PROGRAM, reason: error.to_string() };
    xdp::program(ebpf, XdpMode::Native)?.attach_to_if_index(ifindex, Attach::Driver).map_err(failed).map(drop)
}

fn measure<A: Measured>(ebpf: &mut Ebpf, ifindex: u32, runs: u32) -> Result<[Cost; 2]> {
    serve::<A>(ebpf)?;
    establish::<A>(ebpf)?;
    let known = A::udp(A::CLIENT, A::INGRESS, 5_000, 80);
    let (mut established, mut new_flow) = (Vec::new(), Vec::new());
    for _ in 0..runs.max(1) {
        established.push(time(ebpf, ifindex, REPEAT, &known)?);
    }
    for run in 0..runs.max(1) {
        forget::<A>(ebpf)?;
        let first = A::udp(A::stranger(run), A::SERVICE, 5_000, SERVICE_PORT);
        new_flow.push(time(ebpf, ifindex, NEW_REPEAT, &first)?);
    }
    let cost = |name, times: &mut Vec<Duration>| {
        times.sort_unstable();
        Cost { name, time: times[times.len() / 2] }
    };
    Ok([cost(A::ESTABLISHED, &mut established), cost(A::NEW_FLOW, &mut new_flow)])
}

fn time(ebpf: &mut Ebpf, ifindex: u32, repeat: u32, packet: &[u8]) -> Result<Duration> {
    /// `XDP_TX`
    const TX: u32 = 3;
    let failed = |reason: String| Error::SelfTest { program: PROGRAM, reason };
    // struct xdp_md: start, end, metadata, ingress device, its queue, egress device.
    let context: Vec<u8> = [0, packet.len() as u32, 0, ifindex, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let options = TestRunOptions { data_in: Some(packet), ctx_in: Some(&context), repeat, ..Default::default() };
    let result = xdp::program(ebpf, XdpMode::Native)?.test_run(options).map_err(|error| failed(error.to_string()))?;
    if result.return_value != TX {
        return Err(failed(format!("a packet to be sent got action {}", result.return_value)));
    }
    Ok(result.duration)
}

/// Removes every flow.
fn forget<A: Measured>(ebpf: &mut Ebpf) -> Result<()> {
    let map = A::NAT;
    let failed = |source| Error::Map { operation: "empty", map, source: io::Error::other(source) };
    let missing = || Error::Map { operation: "find", map, source: io::ErrorKind::NotFound.into() };
    let found = ebpf.map_mut(map).ok_or_else(missing)?;
    let mut flows = HashMap::<&mut MapData, FlowKey<A>, Flow<A>>::try_from(found).map_err(failed)?;
    let keys: Vec<FlowKey<A>> = flows.keys().collect::<std::result::Result<_, _>>().map_err(failed)?;
    keys.iter().try_for_each(|key| flows.remove(key)).map_err(failed)
}

fn tuple<A: Measured>(src: A, sport: u16, dst: A, dport: u16) -> Tuple<A> {
    Tuple { src, dst, ports: Ports { src: Be16::new(sport), dst: Be16::new(dport) } }
}

/// A flow that becomes another one, and back.
fn establish<A: Measured>(ebpf: &mut Ebpf) -> Result<()> {
    let there = tuple(A::CLIENT, 5_000, A::INGRESS, 80);
    let back = tuple(A::CLIENT, 40_000, A::FAR, 8_080);
    for (tuple, to) in [(there, back), (back, there)] {
        let key = FlowKey { tuple, proto: proto::UDP, direction: Direction::OUT, pad: [0; 2] };
        put(ebpf, A::NAT, key, Flow { to, state: FlowState::OPEN, ..Flow::default() })?;
    }
    Ok(())
}

fn serve<A: Measured>(ebpf: &mut Ebpf) -> Result<()> {
    let (addr, port, service) = (A::SERVICE, Be16::new(SERVICE_PORT), ServiceId(9));
    let key = FrontendKey { addr, port, proto: proto::UDP, scope: scope::EXTERNAL };
    let value = FrontendValue { service, backends: 1, flags: frontend_flag::FIRST, ..FrontendValue::default() };
    let first = [Backend { addr, port, ..Backend::default() }; FIRST_BACKENDS];
    put(ebpf, A::FRONTENDS, key, FrontendEntry { value, first })
}
