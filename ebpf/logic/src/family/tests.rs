//! The decisions of IPv6, which share their source with IPv4's, on packets whose every checksum is computed anew.

use std::{array, collections::BTreeSet};

use xebec_abi::{
    Addr6, Backend6, BackendId, BackendKey, Be16, Counter, DropReason, Endpoint6, FrontendKey6, FrontendValue, L2Key6,
    L2Mac, LocalPod, MaglevBlock, MaglevKey, Ports, PrefixKey6, ServiceId, Tuple6,
    lb::{frontend_flag, scope},
    maglev, proto,
};

use crate::{
    Family, Verdict, l2,
    model::{Bytes, Model, checksum},
    netdev, overlay, pod,
    xdp::tests::{inside, run},
};

const IFINDEX: u32 = 5;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

fn at(text: &str) -> Addr6 {
    text.parse::<std::net::Ipv6Addr>().expect("an address").into()
}

fn address(octets: &[u8]) -> Addr6 {
    Addr6::new(octets.try_into().expect("an address"))
}

fn here() -> Addr6 {
    at("fd10:db8:0:1::2")
}

fn other() -> Addr6 {
    at("fd10:db8:0:1::3")
}

fn remote() -> Addr6 {
    at("fd10:db8:0:2::5")
}

fn outside() -> Addr6 {
    at("2001:db8:ffff::7")
}

fn vip() -> Addr6 {
    at("fd96:db8::50")
}

const NODE: [u8; 4] = [172, 30, 0, 11];
const REMOTE_NODE: [u8; 4] = [172, 30, 0, 12];

fn node() -> Model<Addr6> {
    let mut model = Model::<Addr6>::default();
    for (addr, ifindex) in [(here(), IFINDEX), (other(), IFINDEX + 1)] {
        let pod = LocalPod {
            ifindex,
            pod_mac: [2, 0, 0, 0, 0, addr.octets()[15]],
            host_mac: [2, 0, 0, 0, 1, addr.octets()[15]],
            netns_cookie: u64::from(addr.octets()[15]),
            ..LocalPod::default()
        };
        model.pods.insert(addr, pod);
    }
    let key = PrefixKey6 { addr: at("fd10:db8:0:2::"), prefix_len: 64, pad: [0; 3] };
    model.remotes.insert(key, Endpoint6 { node: Addr6::of_node(REMOTE_NODE), identity: 0 });
    model
}

/// The service and, on the node's address, a NodePort.
fn serve(model: &mut Model<Addr6>, backends: &[Addr6], flags: u16) {
    let node_ip = model.node.node_ip;
    for (id, proto) in [(1, proto::TCP), (2, proto::UDP)] {
        let (service, count) = (ServiceId(id), backends.len() as u16);
        let local = backends.iter().filter(|addr| model.pods.contains_key(*addr)).count() as u16;
        for (addr, port, scope) in [(vip(), 80, scope::INTERNAL), (node_ip, 30_080, scope::EXTERNAL)] {
            let key = FrontendKey6 { addr, port: Be16::new(port), proto, scope };
            let value = FrontendValue { service, generation: 3, backends: count, local, flags, affinity_s: 0 };
            model.frontends.insert(key, value);
        }
        for (slot, addr) in (0..).zip(backends) {
            let backend = Backend6 { addr: *addr, port: Be16::new(8080), id: BackendId(9), ..Backend6::default() };
            model.backends.insert(BackendKey { service, generation: 3, slot }, backend);
        }
    }
}

fn tuple(src: Addr6, sport: u16, dst: Addr6, dport: u16) -> Tuple6 {
    Tuple6 { src, dst, ports: Ports { src: Be16::new(sport), dst: Be16::new(dport) } }
}

fn packet(tuple: &Tuple6, proto: u8, payload: &[u8], csum: usize) -> Bytes {
    let mut payload = payload.to_vec();
    let sum = checksum(&payload, pseudo(tuple.src, tuple.dst, proto, payload.len())).to_be_bytes();
    payload[csum..csum + 2].copy_from_slice(&sum);
    headers(tuple, proto, &payload)
}

fn headers(tuple: &Tuple6, next: u8, payload: &[u8]) -> Bytes {
    let length = (payload.len() as u16).to_be_bytes();
    let ethernet = [2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 8, 8, 0x86, 0xdd];
    let header = [0x60, 0, 0, 0, length[0], length[1], next, 64];
    Bytes([&ethernet[..], &header, &tuple.src.octets(), &tuple.dst.octets(), payload].concat())
}

fn pseudo(src: Addr6, dst: Addr6, proto: u8, len: usize) -> u32 {
    let words = [src.octets(), dst.octets()].concat();
    let sum: u32 = words.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    sum + u32::from(proto) + len as u32
}

fn ports(tuple: &Tuple6) -> [u8; 4] {
    let ([a, b], [c, d]) = (tuple.ports.src.bytes(), tuple.ports.dst.bytes());
    [a, b, c, d]
}

fn tcp(tuple: Tuple6, flags: u8) -> Bytes {
    let payload = [&ports(&tuple)[..], &[0, 0, 3, 232, 0, 0, 0, 77, 0x50, flags, 0, 0, 0, 0, 0, 0]].concat();
    packet(&tuple, proto::TCP, &payload, 16)
}

fn udp(tuple: Tuple6) -> Bytes {
    packet(&tuple, proto::UDP, &[&ports(&tuple)[..], &[0, 12, 0, 0], b"data"].concat(), 6)
}

fn icmp(src: Addr6, dst: Addr6, message: &[u8]) -> Bytes {
    packet(&tuple(src, 0, dst, 0), proto::ICMPV6, message, 2)
}

fn echo(kind: u8, src: Addr6, dst: Addr6, id: u16) -> Bytes {
    let [a, b] = id.to_be_bytes();
    icmp(src, dst, &[kind, 0, 0, 0, a, b, 0, 1])
}

/// "Packet too big" from `src` about `about`.
fn too_big(src: Addr6, about: &Bytes) -> Bytes {
    let dst = address(&about.0[22..38]);
    icmp(src, dst, &[&[2, 0, 0, 0, 0, 0, 5, 0][..], &about.0[14..]].concat())
}

/// The packet's tuple, after its checksum has been computed anew and compared.
#[track_caller]
fn verified(packet: &Bytes) -> Tuple6 {
    let (src, dst) = (address(&packet.0[22..38]), address(&packet.0[38..54]));
    let (next, payload) = (packet.0[20], &packet.0[54..]);
    assert_eq!(u16::from_be_bytes([packet.0[18], packet.0[19]]) as usize, payload.len(), "payload length");
    assert_eq!(checksum(payload, pseudo(src, dst, next, payload.len())), 0, "checksum of {packet:02x?}");
    let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    if next == proto::ICMPV6 { tuple(src, port(4), dst, port(4)) } else { tuple(src, port(0), dst, port(2)) }
}

/// The tuple of the packet that an ICMPv6 error quotes.
fn quoted(packet: &Bytes) -> Tuple6 {
    let inner = &packet.0[62..];
    let port = |at: usize| u16::from_be_bytes([inner[at], inner[at + 1]]);
    tuple(address(&inner[8..24]), port(40), address(&inner[24..40]), port(42))
}

#[track_caller]
fn sends(model: &Model<Addr6>, packet: &Bytes, expected: Result<Verdict, DropReason>) -> Bytes {
    let mut packet = packet.clone();
    assert_eq!(pod::from_pod(&mut packet, model, IFINDEX), expected, "{packet:02x?}");
    packet
}

#[track_caller]
fn leaves(model: &Model<Addr6>, packet: &Bytes, expected: Result<Verdict, DropReason>) -> Bytes {
    let mut packet = packet.clone();
    assert_eq!(netdev::to_netdev(&mut packet, model), expected, "{packet:02x?}");
    packet
}

#[track_caller]
fn arrives(model: &Model<Addr6>, packet: &Bytes, expected: Result<Verdict, DropReason>) -> Bytes {
    let mut packet = packet.clone();
    assert_eq!(netdev::from_netdev(&mut packet, model), expected, "{packet:02x?}");
    packet
}

#[test]
fn a_pods_packets_go_where_their_destination_is() {
    let model = node();
    let packet = sends(&model, &tcp(tuple(here(), 4000, other(), 80), SYN), Ok(Verdict::pod(IFINDEX + 1)));
    assert_eq!(packet.0[..12], [2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 1, 3]);
    assert_eq!(packet.0[21], 63);
    sends(&model, &tcp(tuple(here(), 4000, remote(), 80), SYN), Ok(Verdict::overlay(REMOTE_NODE)));
    for stack in [model.node.node_ip, outside(), model.node.gateway_ip, at("fd10:db8:0:9::9")] {
        sends(&model, &tcp(tuple(here(), 4000, stack, 80), SYN), Ok(Verdict::PASS));
    }
    for forged in [other(), remote(), outside(), model.node.hairpin_ip] {
        sends(&model, &tcp(tuple(forged, 4000, other(), 80), SYN), Err(DropReason::InvalidSource));
    }
}

#[test]
fn neighbour_discovery_is_between_a_pod_and_its_node() {
    let model = node();
    let link_local = at("fe80::2");
    let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &model.node.gateway_ip.octets()].concat();
    for (src, dst) in [("fe80::2", "ff02::1:ff00:1"), ("::", "ff02::1:ff00:2"), ("fe80::2", "fe80::1")] {
        sends(&model, &icmp(at(src), at(dst), &solicitation), Ok(Verdict::PASS));
    }
    sends(&model, &icmp(here(), model.node.gateway_ip, &solicitation), Ok(Verdict::PASS));
    for router in [134, 137] {
        let message = [router, 0, 0, 0, 0, 0, 0, 0];
        sends(&model, &icmp(link_local, at("ff02::1"), &message), Err(DropReason::InvalidSource));
    }
    sends(&model, &udp(tuple(link_local, 4000, other(), 80)), Err(DropReason::InvalidSource));
    sends(&model, &udp(tuple(at("::"), 4000, other(), 80)), Err(DropReason::InvalidSource));
}

#[test]
fn services_are_balanced_and_answers_come_from_the_service() {
    let mut model = node();
    serve(&mut model, &[other()], 0);
    let dialled = tuple(here(), 4000, vip(), 80);
    for (packet, answer) in [
        (tcp(dialled, SYN), tcp(tuple(other(), 8080, here(), 4000), SYN | ACK)),
        (udp(dialled), udp(tuple(other(), 8080, here(), 4000))),
    ] {
        let there = sends(&model, &packet, Ok(Verdict::pod(IFINDEX + 1)));
        assert_eq!(verified(&there), tuple(here(), 4000, other(), 8080));
        let mut back = answer;
        assert_eq!(pod::from_pod(&mut back, &model, IFINDEX + 1), Ok(Verdict::pod(IFINDEX)));
        assert_eq!(verified(&back), dialled.reversed());
    }
    sends(&model, &tcp(tuple(here(), 4000, vip(), 81), SYN), Err(DropReason::NoService));
    serve(&mut model, &[here()], 0);
    let hairpin = sends(&model, &tcp(tuple(here(), 4001, vip(), 80), SYN), Ok(Verdict::pod(IFINDEX)));
    assert_eq!(verified(&hairpin), tuple(model.node.hairpin_ip, 4001, here(), 8080));
    let answer = tcp(verified(&hairpin).reversed(), SYN | ACK);
    let back = sends(&model, &answer, Ok(Verdict::pod(IFINDEX)));
    assert_eq!(verified(&back), tuple(vip(), 80, here(), 4001));
}

#[test]
fn what_leaves_the_cluster_leaves_from_the_nodes_address() {
    let model = node();
    let requests = [tcp(tuple(here(), 4000, outside(), 80), SYN), udp(tuple(here(), 4000, outside(), 53))];
    for request in requests.iter().chain([&echo(128, here(), outside(), 9)]) {
        let there = verified(&leaves(&model, request, Ok(Verdict::PASS)));
        assert_eq!((there.src, there.dst), (model.node.node_ip, outside()));
        let answer = match request.0[20] {
            proto::TCP => tcp(there.reversed(), SYN | ACK),
            proto::UDP => udp(there.reversed()),
            _ => echo(129, outside(), model.node.node_ip, there.ports.src.get()),
        };
        let back = arrives(&model, &answer, Ok(Verdict::pod(IFINDEX)));
        assert_eq!(verified(&back), verified(request).reversed());
    }
    let there = leaves(&model, &requests[1], Ok(Verdict::PASS));
    let error = arrives(&model, &too_big(at("2001:db8::1"), &there), Ok(Verdict::pod(IFINDEX)));
    assert_eq!((verified(&error).src, verified(&error).dst), (at("2001:db8::1"), here()));
    assert_eq!(quoted(&error), verified(&requests[1]));
    assert_eq!(error.0[58..62], [0, 0, 5, 0], "the MTU");
    let from_node = icmp(at("fe80::11"), at("ff02::1"), &[136, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(leaves(&model, &from_node, Ok(Verdict::PASS)), from_node);
}

#[test]
fn a_client_outside_reaches_backends_here_and_elsewhere() {
    let mut model = node();
    let dialled = tuple(outside(), 4000, model.node.node_ip, 30_080);
    serve(&mut model, &[here()], 0);
    for (request, answer) in [
        (tcp(dialled, SYN), tcp(tuple(here(), 8080, outside(), 4000), SYN | ACK)),
        (udp(dialled), udp(tuple(here(), 8080, outside(), 4000))),
    ] {
        let there = arrives(&model, &request, Ok(Verdict::pod(IFINDEX)));
        assert_eq!(verified(&there), tuple(outside(), 4000, here(), 8080));
        assert_eq!(verified(&leaves(&model, &answer, Ok(Verdict::PASS))), dialled.reversed());
    }
    serve(&mut model, &[remote()], 0);
    let dialled = tuple(outside(), 4001, model.node.node_ip, 30_080);
    let there = verified(&arrives(&model, &tcp(dialled, SYN), Ok(Verdict::overlay(REMOTE_NODE))));
    assert_eq!((there.src, there.dst, there.ports.dst.get()), (model.node.node_ip, remote(), 8080));
    let mut answer = tcp(there.reversed(), SYN | ACK);
    assert_eq!(overlay::from_overlay(&mut answer, &model, overlay::behind(None)), Ok(Verdict::FORWARD));
    assert_eq!(verified(&answer), dialled.reversed());
    serve(&mut model, &[remote()], frontend_flag::LOCAL_ONLY);
    arrives(&model, &tcp(tuple(outside(), 4002, dialled.dst, 30_080), SYN), Err(DropReason::NoLocalBackend));
}

#[test]
fn a_client_outside_is_told_what_fits_the_overlay() {
    let mut model = node();
    serve(&mut model, &[remote()], 0);
    let dialled = tuple(outside(), 4000, model.node.node_ip, 30_080);
    let datagram = |payload: usize| {
        let length = (8 + payload as u16).to_be_bytes();
        packet(&dialled, proto::UDP, &[&ports(&dialled)[..], &length, &[0, 0], &vec![7; payload]].concat(), 6)
    };
    let fits = 1_450 - 40 - 8;
    arrives(&model, &datagram(fits), Ok(Verdict::overlay(REMOTE_NODE)));
    let long = datagram(fits + 1);
    let error = arrives(&model, &long, Ok(Verdict::ANSWER));
    assert_eq!((verified(&error).src, verified(&error).dst), (model.node.node_ip, outside()));
    assert_eq!(error.0[54..56], [2, 0]);
    assert_eq!(error.0[58..62], 1_450_u32.to_be_bytes(), "the MTU");
    assert_eq!(error.0[62..110], long.0[14..62], "as it was sent");
    assert_eq!(error.0.len(), 110);
    // What its sender has cut already, the overlay cuts once more.
    let parts = [&[proto::UDP, 0, 0, 1, 9, 9, 9, 9][..], &long.0[54..]].concat();
    arrives(&model, &headers(&dialled, 44, &parts), Ok(Verdict::overlay(REMOTE_NODE)));
    // The stack answers a pod.
    let mut long = long;
    long.0[22..38].copy_from_slice(&here().octets());
    long.0[38..54].copy_from_slice(&remote().octets());
    sends(&model, &long, Ok(Verdict::PASS));
}

#[test]
fn what_the_host_sends_to_other_nodes_pods_goes_to_their_nodes() {
    #[track_caller]
    fn check(to: Addr6, expected: Result<Verdict, DropReason>) {
        let packet = icmp(at("fd10:db8:0:1::1"), to, &[143, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(overlay::to_overlay(&mut packet.clone(), &node()), expected);
    }
    check(remote(), Ok(Verdict::encapsulate(REMOTE_NODE)));
    check(at("fd10:db8:0:9::9"), Err(DropReason::NoRemote));
    // A report of what groups the host listens to (RFC 9777) is for nobody.
    check(at("ff02::16"), Ok(Verdict::PASS));
}

#[test]
fn a_maglev_table_leads_to_the_same_backend_at_every_node() {
    let served = |node_ip: Addr6, slots: [u16; maglev::BLOCK_ENTRIES]| {
        let mut model = node();
        (model.node.node_ip, model.node.hash_seed) = (node_ip, u32::from(node_ip.octets()[15]));
        serve(&mut model, &[here(), other()], maglev::flags(maglev::SIZES[0]).expect("a size"));
        model.maglev.insert(MaglevKey { service: ServiceId(1), generation: 3, block: 0 }, MaglevBlock { slots });
        let backend = |port| {
            let mut packet = tcp(tuple(outside(), port, node_ip, 30_080), SYN);
            netdev::from_netdev(&mut packet, &model).expect("a backend");
            verified(&packet).dst
        };
        (4_000..4_100).map(backend).collect::<Vec<_>>()
    };
    let slots = array::from_fn(|index| index as u16 & 1);
    let chosen = served(at("2001:db8::11"), slots);
    assert_eq!(chosen, served(at("2001:db8::99"), slots));
    assert_eq!(BTreeSet::from_iter(chosen), BTreeSet::from([here(), other()]));
    let second = [1; maglev::BLOCK_ENTRIES];
    assert_eq!(BTreeSet::from_iter(served(at("2001:db8::11"), second)), BTreeSet::from([other()]));
}

#[test]
fn a_service_without_backends_refuses() {
    let mut model = node();
    serve(&mut model, &[], 0);
    let dialled = tuple(here(), 4000, vip(), 80);
    let reset = sends(&model, &tcp(dialled, SYN), Ok(Verdict::ANSWER));
    assert_eq!((verified(&reset), reset.0[67]), (dialled.reversed(), RST | ACK));
    assert_eq!(reset.0[62..66], 1_001_u32.to_be_bytes(), "what it acknowledges");
    let error = sends(&model, &udp(dialled), Ok(Verdict::ANSWER));
    assert_eq!((verified(&error).src, &error.0[54..56]), (vip(), &[1, 4][..]));
    assert_eq!(quoted(&error), dialled);
    sends(&model, &tcp(dialled, RST), Err(DropReason::NoBackend));
}

#[test]
fn extension_headers_are_walked_and_fragments_follow_the_first() {
    let mut model = node();
    serve(&mut model, &[other()], 0);
    let dialled = tuple(here(), 4000, vip(), 80);
    let datagram = udp(dialled).0[54..].to_vec();
    // Destination options, then a fragment header with an offset of 0 and more to come, then with an offset.
    let options = [44, 0, 1, 4, 0, 0, 0, 0];
    let first = [&options[..], &[proto::UDP, 0, 0, 1, 9, 9, 9, 9], &datagram].concat();
    let later = [&[proto::UDP, 0, 0, 16, 9, 9, 9, 9][..], &[0xaa; 16]].concat();
    let unknown = [&[proto::UDP, 0, 0, 16, 8, 8, 8, 8][..], &[0xaa; 16]].concat();
    let there = sends(&model, &headers(&dialled, 60, &first), Ok(Verdict::pod(IFINDEX + 1)));
    assert_eq!((&there.0[38..54], &there.0[72..74]), (&other().octets()[..], &8080_u16.to_be_bytes()[..]));
    let there = sends(&model, &headers(&dialled, 44, &later), Ok(Verdict::pod(IFINDEX + 1)));
    assert_eq!((&there.0[38..54], &there.0[62..66]), (&other().octets()[..], &[0xaa; 4][..]));
    sends(&model, &headers(&dialled, 44, &unknown), Err(DropReason::UnknownFragment));
    // A chain that is cut short or does not end.
    sends(&model, &headers(&dialled, 60, &options[..7]), Err(DropReason::InvalidPacket));
    sends(&model, &headers(&dialled, 60, &[60, 255, 0, 0, 0, 0, 0, 0]), Err(DropReason::InvalidPacket));
    let chain = [60, 0, 1, 4, 0, 0, 0, 0].repeat(6);
    sends(&model, &headers(&dialled, 60, &chain), Err(DropReason::NoService));
}

#[test]
fn packets_cut_anywhere_are_dropped_or_left_alone() {
    let mut model = node();
    serve(&mut model, &[other()], 0);
    for whole in [tcp(tuple(here(), 4000, vip(), 80), SYN), echo(128, here(), outside(), 9)] {
        for len in 14..whole.0.len() {
            let cut = Bytes(whole.0[..len].to_vec());
            if len < 54 {
                sends(&model, &cut, Err(DropReason::InvalidPacket));
            }
            let _ = pod::from_pod(&mut cut.clone(), &model, IFINDEX);
            let _ = netdev::from_netdev(&mut cut.clone(), &model);
            let _ = netdev::to_netdev(&mut cut.clone(), &model);
            let _ = overlay::from_overlay(&mut cut.clone(), &model, overlay::behind(None));
        }
    }
}

#[test]
fn solicitations_for_announced_addresses_are_answered() {
    let mut model = node();
    let (ingress, asker, mac) = (at("2001:db8::240"), at("2001:db8::99"), [2, 0, 0, 0, 0, 0xaa]);
    model.announced.insert(L2Key6 { addr: ingress, ifindex: 3 }, L2Mac { mac, pad: [0; 2] });
    let solicitation = |src, target: Addr6| {
        let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1, 2, 0, 0, 0, 8, 8]].concat();
        let mut packet = icmp(src, at("ff02::1:ff00:240"), &message);
        packet.0[21] = 255;
        packet
    };
    let mut packet = solicitation(asker, ingress);
    assert_eq!(l2::neighbour(&mut packet, &model, 3), Some(Verdict::ANSWER));
    let to = verified(&packet);
    assert_eq!((to.src, to.dst, packet.0[21]), (ingress, asker, 255));
    assert_eq!(packet.0[..12], [2, 0, 0, 0, 8, 8, 2, 0, 0, 0, 0, 0xaa]);
    assert_eq!(packet.0[58..], [&[0x60, 0, 0, 0][..], &ingress.octets(), &[2, 1], &mac].concat());
    assert_eq!(model.counted(Counter::ArpReply), 1);
    let mut routed = solicitation(asker, ingress);
    routed.0[21] = 254;
    for (before, ifindex) in [
        (solicitation(asker, ingress), 4),
        (solicitation(asker, at("2001:db8::241")), 3),
        (solicitation(at("::"), ingress), 3),
        (routed, 3),
        (echo(128, asker, ingress, 1), 3),
    ] {
        let mut same = before.clone();
        assert_eq!(l2::neighbour(&mut same, &model, ifindex), None);
        assert_eq!(same, before);
    }
}

#[test]
fn a_driver_sends_on_through_the_overlay_what_the_slower_path_makes_of_it() {
    let mut model = node();
    serve(&mut model, &[remote()], 0);
    let dialled = tuple(outside(), 5000, model.node.node_ip, 30_080);
    for first in [tcp(dialled, SYN), udp(dialled)] {
        let mut early = first.clone();
        let hop = run(&mut early, &model).expect("a hop");
        assert_eq!((hop.node, hop.src, hop.dst), (node_of(REMOTE_NODE), node_of(NODE), node_of(REMOTE_NODE)));
        let late = arrives(&model, &first, Ok(Verdict::overlay(REMOTE_NODE)));
        let inner = inside(&early, REMOTE_NODE);
        assert_eq!(inner, late, "both paths make the same of it");
        let to = verified(&inner);
        assert_eq!((to.src, to.dst, inner.0[21]), (model.node.node_ip, remote(), 63));
        let id = if first.0[20] == proto::TCP { 54 + 16 } else { 54 + 6 };
        assert_eq!(early.0[18..20], inner.0[id..id + 2], "numbered by the checksum");
    }
    assert_eq!((model.nat.borrow().len(), model.counted(Counter::XdpOverlay)), (4, 2));
}

#[test]
fn a_driver_sends_on_by_routes_there_and_back() {
    let mut model = node();
    model.node.overlay = false;
    serve(&mut model, &[remote()], 0);
    let dialled = tuple(outside(), 5000, model.node.node_ip, 30_080);
    let mut there = tcp(dialled, SYN);
    let hop = run(&mut there, &model).expect("a hop");
    assert_eq!((hop.is_overlay(), hop.src, hop.dst, hop.bytes), (false, model.node.node_ip, remote(), 60));
    let mut back = tcp(verified(&there).reversed(), SYN | ACK);
    let hop = run(&mut back, &model).expect("a hop");
    assert_eq!((hop.src, hop.dst), (model.node.node_ip, outside()));
    assert_eq!(verified(&back), dialled.reversed());
    assert_eq!(model.counted(Counter::XdpForward), 2);
}

#[test]
fn a_driver_leaves_to_the_slower_path_what_that_does() {
    let mut model = node();
    serve(&mut model, &[remote()], 0);
    let dialled = tuple(outside(), 5000, model.node.node_ip, 30_080);
    let mut old = tcp(dialled, SYN);
    old.0[21] = 1;
    let first = headers(&dialled, 44, &[&[proto::UDP, 0, 0, 1, 0, 0, 0, 9][..], &ports(&dialled), &[0; 12]].concat());
    let mut packets = vec![old, first, echo(128, outside(), model.node.node_ip, 7), Bytes(vec![0; 13])];
    packets.push(tcp(tuple(outside(), 5000, here(), 30_080), SYN));
    packets.push(tcp(tuple(outside(), 5000, model.node.node_ip, 22), SYN));
    for packet in packets {
        let mut same = packet.clone();
        assert_eq!((run(&mut same, &model), same), (None, packet));
    }
    serve(&mut model, &[here()], 0);
    assert_eq!(run(&mut tcp(dialled, SYN), &model), None);
    assert_eq!(model.nat.borrow().len(), 0, "no entry is made for a packet that is left alone");
}

/// A node without IPv4, whose tunnels run over IPv6, and the end of another one's.
fn without_ipv4() -> (Model<Addr6>, Addr6) {
    let (mut model, end) = (node(), at("2001:db8::12"));
    model.node.tunnel_ip = [0; 4];
    for remote in model.remotes.values_mut() {
        remote.node = end;
    }
    (model, end)
}

#[test]
fn tunnels_over_ipv6_lead_to_ipv6_addresses() {
    let (mut model, end) = without_ipv4();
    // Its address is in the room.
    sends(&model, &tcp(tuple(here(), 4000, remote(), 80), SYN), Ok(Verdict::overlay([0; 4])));
    serve(&mut model, &[remote()], 0);
    let dialled = tuple(outside(), 5000, model.node.node_ip, 30_080);
    let first = tcp(dialled, SYN);
    let mut early = first.clone();
    let hop = run(&mut early, &model).expect("a hop");
    assert_eq!((hop.node, hop.src, hop.dst, hop.bytes), (end, model.node.node_ip, end, 60 + 70));
    let (outer, inner) = early.0.split_at(70);
    let late = arrives(&model, &first, Ok(Verdict::overlay([0; 4])));
    assert_eq!(inner, late.0, "both paths make the same of it");
    assert_eq!(outer[12..22], [0x86, 0xdd, 0x60, 0, 0, 0, 0, 60 + 30, proto::UDP, 64]);
    assert_eq!((address(&outer[22..38]), address(&outer[38..54])), (model.node.node_ip, end));
    assert_eq!(outer[56..62], [0x21, 0x18, 0, 60 + 30, 0, 0], "port 8472, length, no checksum");
    assert_eq!(outer[62..], [8, 0, 0, 0, 0, 0, 7, 0]);
    // Nobody cuts what it carries.
    let payload = [&[proto::UDP, 0, 0, 1, 0, 0, 0, 9][..], &ports(&dialled), &[0; 1_400]].concat();
    let fragment = headers(&dialled, 44, &payload);
    arrives(&model, &fragment, Ok(Verdict::ANSWER));
    model.node.tunnel_ip = NODE;
    model.remotes.values_mut().for_each(|remote| remote.node = node_of(REMOTE_NODE));
    arrives(&model, &fragment, Ok(Verdict::overlay(REMOTE_NODE)));
}

#[test]
fn what_is_passed_on_over_ipv6_comes_from_nodes_alone() {
    let (mut model, end) = without_ipv4();
    serve(&mut model, &[here()], frontend_flag::NODE_PORT);
    let key = PrefixKey6 { addr: end, prefix_len: 128, pad: [0; 3] };
    model.remotes.insert(key, Endpoint6 { node: end, identity: 0 });
    let dialled = tuple(outside(), 5000, model.node.node_ip, 30_080);
    let receive = |node| {
        let tunnel = overlay::Tunnel { vni: crate::model::DSR_VNI, node };
        overlay::from_overlay(&mut tcp(dialled, SYN), &model, overlay::behind(Some(tunnel)))
    };
    assert_eq!(receive(end), Ok(Verdict::pod(IFINDEX)));
    for stranger in [at("2001:db8::13"), node_of(REMOTE_NODE), at("::")] {
        assert_eq!(receive(stranger), Err(DropReason::UnknownNode));
    }
}

fn node_of(addr: [u8; 4]) -> Addr6 {
    Addr6::of_node(addr)
}
