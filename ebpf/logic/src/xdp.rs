//! Services dialled from outside, as early as a device's driver has the packet: what goes on to a backend on another
//! node, and what comes back from one by the host's routes. Everything else is left alone, and [`crate::netdev`] decides
//! the same a little later: both share their entries in `NAT4` and `NAT6`.

use xebec_abi::{Addr4, Addr6, Counter, Direction, DropReason, Flow, Tuple, config::OVERLAY_PORT, proto};

use crate::{
    Family, FlowMap, Host, Packet, Room, Tables,
    conntrack::{Touch, set_key},
    csum::{add, fold},
    dsr,
    external::{self, Way, is_here, is_overlay},
    header::{self, ETHERNET_BYTES, Fragment, Frame, IP, Kind},
    lb::hash,
    nat,
    snat::{self, in_range},
    transient::{answered, requested},
};

const IPV4_HEADER: usize = Addr4::HEADER_BYTES;
const IPV6_HEADER: usize = Addr6::HEADER_BYTES;
/// Ethernet, IPv4, UDP and VXLAN (RFC 7348) around an Ethernet frame.
pub const OVERLAY_BYTES: usize = ETHERNET_BYTES + IPV4_HEADER + 8 + 8;
/// The same with IPv6.
pub const OVERLAY6_BYTES: usize = ETHERNET_BYTES + IPV6_HEADER + 8 + 8;
const TTL: u8 = 64;

/// Of packets that go through a tunnel, what comes around them.
#[inline(always)]
pub fn overlay_bytes<T: Host>(tables: &T) -> u32 {
    let bytes = if tables.tunnels_ipv6() { OVERLAY6_BYTES } else { OVERLAY_BYTES };
    bytes as u32
}

/// A packet that can become longer at its front.
pub trait Grow: Packet {
    /// Makes room before the packet, of no meaning.
    #[must_use]
    fn grow(&mut self, bytes: usize) -> Option<()>;
}

/// Both addresses of an Ethernet header, the destination's first.
pub type Macs = [u8; 12];

/// Where a packet goes that a backend elsewhere, or its client, is to get.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Hop<A: Family> {
    /// The node that the overlay takes it to; unspecified: it goes by its own destination.
    pub node: A,
    /// Source and destination of the packet on the wire, for the host's FIB. Where the overlay
    /// runs over IPv4 they are its addresses, in IPv6 mapped ones.
    pub src: A,
    pub dst: A,
    pub proto: u8,
    /// Bytes on the wire after the Ethernet header.
    pub bytes: u16,
}

impl<A: Family> Hop<A> {
    #[inline(always)]
    pub fn is_overlay(&self) -> bool {
        self.node != A::UNSPECIFIED
    }
}

/// What becomes of a packet: `claim.to` and `hop` of the room say. `None`: it is left alone.
#[inline(always)]
pub fn decide<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T, room: &mut Room<A>) -> Option<()> {
    parse(packet, tables, room)?;
    let Room { ip, transport, touch, key, claim, .. } = room;
    *touch = Touch::new(packet, ip, transport);
    let to = &mut claim.to;
    if ip.dst == tables.node_ip() && in_range(tables, transport.ports.dst) {
        set_key(key, ip, transport.ports, Direction::IN);
        // An answer to a pod, or to the node itself, is delivered by the slower path.
        let is_outside = |to: &Tuple<A>| !tables.in_cluster(to.dst) && to.dst != tables.node_ip();
        let look = |flow: &Flow<A>| {
            *to = flow.to;
            flow.state
        };
        let state = tables.touch_if(FlowMap::Nat, key, touch, is_outside, look).ok()??;
        answered(packet, tables, FlowMap::Nat, key, touch, ip.l4, state);
    } else {
        set_key(key, ip, transport.ports, Direction::OUT);
        // A flow that keeps its client's address has its backend here, or goes on as it is.
        let is_elsewhere = |to: &Tuple<A>| to.src == tables.node_ip();
        let look = |flow: &Flow<A>| {
            *to = flow.to;
            (flow.packets as u32, flow.state)
        };
        let known = match touch.opens() {
            true => None,
            false => tables.touch_if(FlowMap::Nat, key, touch, is_elsewhere, look).ok()?,
        };
        match known {
            Some((packets, state)) => {
                requested(packet, tables, FlowMap::Nat, key, touch, ip.l4, state);
                snat::repair_sometimes(tables, &key.tuple, &claim.to, packets, touch);
            }
            None => open(tables, room)?,
        }
    }
    hop(packet, tables, room)
}

/// A packet that may be for a service, or an answer of one.
#[inline(always)]
fn parse<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T, room: &mut Room<A>) -> Option<()> {
    let ip = &mut room.ip;
    let Ok(Frame::Ip) = header::frame(packet, ip) else { return None };
    // A fragment's ports, and what quotes a packet, are the slower path's.
    if ip.fragment != Fragment::Whole || !matches!(ip.proto, proto::TCP | proto::UDP) {
        return None;
    }
    if ip.ttl <= 1 || tables.in_cluster(ip.dst) {
        return None;
    }
    header::transport(packet, tables, ip, &mut room.transport).ok()?;
    let Room { ip, transport, .. } = room;
    let balanced = matches!(transport.kind, Kind::Tcp | Kind::Udp) && !is_overlay(ip.proto, transport.ports.dst);
    balanced.then_some(())
}

/// Makes `claim.to` what a new flow to a backend on another node becomes. Refusals are the slower path's, which finds the
/// same again.
#[inline(always)]
fn open<A: Family, T: Tables<A>>(tables: &T, room: &mut Room<A>) -> Option<()> {
    let Room { touch, key, claim, .. } = room;
    if !external::choose(tables, &key.tuple, touch, claim).ok()? || is_here(tables, &claim.to.dst) {
        return None;
    }
    // The slower path sends on, and counts the flow's packets.
    if dsr::leads(tables, &key.tuple, claim) {
        return None;
    }
    let way = external::open(tables, &key.tuple, claim, touch, true).ok()?;
    (way == Way::Translated).then_some(())
}

#[inline(always)]
fn hop<A: Family, P: Packet, T: Tables<A>>(packet: &P, tables: &T, room: &mut Room<A>) -> Option<()> {
    let Room { ip, claim, hop, .. } = room;
    let to = &claim.to;
    let bytes = A::payload_bytes(packet)?.wrapping_add(A::HEADER_BYTES as u32);
    if !tables.overlay() || !tables.in_cluster(to.dst) {
        (hop.node, hop.src, hop.dst) = (A::UNSPECIFIED, to.src, to.dst);
        (hop.proto, hop.bytes) = (ip.proto, u16::try_from(bytes).ok()?);
        return Some(());
    }
    let node = tables.remote(&to.dst)?.node;
    let src = if tables.tunnels_ipv6() { tables.node_ip() } else { A::of_node(tables.tunnel_ip()) };
    (hop.node, hop.src, hop.dst) = (node, src, node);
    (hop.proto, hop.bytes) = (proto::UDP, u16::try_from(bytes.wrapping_add(overlay_bytes(tables))).ok()?);
    Some(())
}

/// Makes the packet what goes to the next hop.
#[inline(always)]
pub fn rewrite<A: Family, P: Grow, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
    macs: Macs,
) -> Result<(), DropReason> {
    let Room { ip, transport, touch, claim, hop, .. } = room;
    let bytes = touch.bytes;
    nat::translate(packet, ip, transport, &claim.to)?;
    nat::decrement_ttl(packet, ip)?;
    let counter = if hop.is_overlay() {
        encapsulate(packet, tables, room).ok_or(DropReason::PacketWrite)?;
        Counter::XdpOverlay
    } else {
        Counter::XdpForward
    };
    packet.store(0, macs).ok_or(DropReason::PacketWrite)?;
    tables.count(counter, bytes);
    Ok(())
}

/// As the overlay device does. Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn encapsulate<A: Family, P: Grow, T: Host>(packet: &mut P, tables: &T, room: &Room<A>) -> Option<()> {
    let Room { ip, claim, hop, .. } = room;
    // Different flows take different ways (RFC 7348 section 5): one of the dynamic ports.
    let port = (hash(&claim.to, ip.proto, 0) as u16 | 0xc000).to_be_bytes();
    if tables.tunnels_ipv6() {
        let length = hop.bytes.checked_sub(IPV6_HEADER as u16)?.to_be_bytes();
        packet.grow(OVERLAY6_BYTES)?;
        packet.store(12, [0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], proto::UDP, TTL])?;
        hop.src.store(packet, IP + 8)?;
        hop.dst.store(packet, IP + 24)?;
        return vxlan(packet, tables, IP + IPV6_HEADER, port, length);
    }
    let (src, dst) = (hop.src.to_node(), hop.dst.to_node());
    let [length_high, length_low] = hop.bytes.to_be_bytes();
    // What is numbered alike inside is not more alike outside.
    let [id_high, id_low] = A::distinction(packet, ip)?;
    let words = [[0x45, 0, length_high, length_low], [id_high, id_low, 0, 0], [TTL, proto::UDP, 0, 0], src, dst];
    let mut sum = 0;
    for word in words {
        sum = add(sum, u32::from_ne_bytes(word));
    }
    let [csum_high, csum_low] = (!fold(sum)).to_ne_bytes();
    let ([a, b, c, d], [e, f, g, h]) = (src, dst);
    packet.grow(OVERLAY_BYTES)?;
    packet.store(12, [8, 0])?;
    packet.store(IP, [0x45, 0, length_high, length_low, id_high, id_low, 0, 0])?;
    packet.store(IP + 8, [TTL, proto::UDP, csum_high, csum_low, a, b, c, d, e, f, g, h])?;
    vxlan(packet, tables, IP + IPV4_HEADER, port, hop.bytes.checked_sub(IPV4_HEADER as u16)?.to_be_bytes())
}

/// UDP and VXLAN. No checksum, which IPv4 allows, IPv6 for tunnels (RFC 6935), and the overlay device does without too.
#[inline(always)]
fn vxlan<P: Packet, T: Host>(
    packet: &mut P,
    tables: &T,
    at: usize,
    [port_high, port_low]: [u8; 2],
    [length_high, length_low]: [u8; 2],
) -> Option<()> {
    let [overlay_high, overlay_low] = OVERLAY_PORT.to_be_bytes();
    let [_, vni_high, vni_middle, vni_low] = tables.overlay_vni().to_be_bytes();
    packet.store(at, [port_high, port_low, overlay_high, overlay_low, length_high, length_low, 0, 0])?;
    packet.store(at + 8, [0x08, 0, 0, 0, vni_high, vni_middle, vni_low, 0])
}

#[cfg(test)]
pub mod tests;
