//! `xdp_netdev` behind a device whose FIB knows the next hop, as it is on a node.

use std::{io, net::Ipv4Addr, ops::RangeInclusive, time::Duration};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
    programs::{TestRun, TestRunOptions},
};
use xebec_abi::{
    Backend4, BackendKey, Be16, Direction, Flow4, FlowKey4, FlowState, FrontendKey4, FrontendValue, Ports, ServiceId,
    Tuple4, lb::scope, names, proto,
};

use super::{Cost, REPEAT, put, udp};
use crate::{
    Config, Routing, XdpMode,
    error::{Error, Result},
    testing, xdp,
};

const PROGRAM: &str = "xdp_netdev";
/// What is measured leads back to itself, so what goes out, from the node's address, is also what comes in.
const CLIENT: [u8; 4] = testing::NODE_IP.octets();
const INGRESS: [u8; 4] = [203, 0, 113, 10];
/// A service that is its own backend, elsewhere and outside the cluster.
const SERVICE: ([u8; 4], u16) = ([198, 51, 100, 10], 8_080);
/// Flows that one run opens: so few of [`NEW_PORTS`] that a run hardly ever comes back to a flow of its own.
const NEW_REPEAT: u32 = 50;
const NEW_PORTS: RangeInclusive<u16> = 1_024..=65_535;
/// Clients with new flows, in the range for benchmarks (RFC 2544).
const CLIENTS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// A known flow and a new one, `runs` times. Call it in the network namespace of the device, which has to have a route
/// to everywhere with a permanent neighbour, and forwarding.
///
/// A run leaves the packet as it has made it to the next one, so what is measured leads back to itself: the flow has an
/// entry for what its packet becomes, and the service is its own backend, so that each packet opens another flow to it.
/// Routes are native: an encapsulated packet would be nobody's.
pub fn early(ifindex: u32, runs: u32) -> Result<Vec<Cost>> {
    let mut ebpf =
        testing::load_with_xdp(&Config { routing: Routing::Native, snat_ports: NEW_PORTS, ..testing::config() })?;
    serve(&mut ebpf)?;
    establish(&mut ebpf)?;
    let known = udp(CLIENT, INGRESS, 5_000, 80);
    let (mut established, mut new_flow) = (Vec::new(), Vec::new());
    for _ in 0..runs.max(1) {
        established.push(time(&mut ebpf, ifindex, REPEAT, &known)?);
    }
    for run in 0..runs.max(1) {
        forget(&mut ebpf)?;
        let client = Ipv4Addr::from_bits(CLIENTS.to_bits() + run).octets();
        new_flow.push(time(&mut ebpf, ifindex, NEW_REPEAT, &udp(client, SERVICE.0, 5_000, SERVICE.1))?);
    }
    let cost = |name, times: &mut Vec<Duration>| {
        times.sort_unstable();
        Cost { name, time: times[times.len() / 2] }
    };
    Ok(vec![cost("xdp_established", &mut established), cost("xdp_new_flow", &mut new_flow)])
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
fn forget(ebpf: &mut Ebpf) -> Result<()> {
    let map = names::NAT4;
    let failed = |source| Error::Map { operation: "empty", map, source: io::Error::other(source) };
    let missing = || Error::Map { operation: "find", map, source: io::ErrorKind::NotFound.into() };
    let found = ebpf.map_mut(map).ok_or_else(missing)?;
    let mut flows = HashMap::<&mut MapData, FlowKey4, Flow4>::try_from(found).map_err(failed)?;
    let keys: Vec<FlowKey4> = flows.keys().collect::<std::result::Result<_, _>>().map_err(failed)?;
    keys.iter().try_for_each(|key| flows.remove(key)).map_err(failed)
}

fn tuple(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> Tuple4 {
    Tuple4 { src, dst, ports: Ports { src: Be16::new(sport), dst: Be16::new(dport) } }
}

/// A flow that becomes another one, and back.
fn establish(ebpf: &mut Ebpf) -> Result<()> {
    let there = tuple(CLIENT, 5_000, INGRESS, 80);
    let back = tuple(CLIENT, 40_000, [198, 51, 100, 9], 8_080);
    for (tuple, to) in [(there, back), (back, there)] {
        let key = FlowKey4 { tuple, proto: proto::UDP, direction: Direction::OUT, pad: [0; 2] };
        put(ebpf, names::NAT4, key, Flow4 { to, state: FlowState::OPEN, ..Flow4::default() })?;
    }
    Ok(())
}

fn serve(ebpf: &mut Ebpf) -> Result<()> {
    let ((addr, port), service) = (SERVICE, ServiceId(9));
    let port = Be16::new(port);
    let key = FrontendKey4 { addr, port, proto: proto::UDP, scope: scope::EXTERNAL };
    put(ebpf, names::LB4_FRONTENDS, key, FrontendValue { service, backends: 1, ..FrontendValue::default() })?;
    let backend = Backend4 { addr, port, ..Backend4::default() };
    put(ebpf, names::LB4_BACKENDS, BackendKey { service, ..BackendKey::default() }, backend)
}
