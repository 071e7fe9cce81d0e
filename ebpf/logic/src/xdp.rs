//! Services dialled from outside, as early as a device's driver has the packet: what goes on to a backend on another
//! node, and what comes back from one by the host's routes. Everything else is left alone, and [`crate::netdev`] decides
//! the same a little later: both share their entries in `NAT4`.
//!
//! IPv4 alone: packets of IPv6 are left to [`crate::netdev`].

use xebec_abi::{Addr4, Counter, Direction, DropReason, Flow, Tuple4, config::OVERLAY_PORT, proto};

use crate::{
    Family, FlowMap, Host, Packet, Room, Tables,
    conntrack::{Touch, key},
    csum::{add, fold},
    dsr,
    external::{self, Way, is_here, is_overlay},
    header::{self, ETHERNET_BYTES, Fragment, Frame, IP, Ip, Kind, Transport},
    lb::hash,
    nat,
    snat::{self, in_range},
    transient::{answered, requested},
};

const IPV4_HEADER: usize = Addr4::HEADER_BYTES;
/// Ethernet, IPv4, UDP and VXLAN (RFC 7348) around an Ethernet frame.
pub const OVERLAY_BYTES: usize = ETHERNET_BYTES + IPV4_HEADER + 8 + 8;
const TTL: u8 = 64;

/// A packet that can become longer at its front.
pub trait Grow: Packet {
    /// Makes room before the packet, of no meaning.
    #[must_use]
    fn grow(&mut self, bytes: usize) -> Option<()>;
}

/// Both addresses of an Ethernet header, the destination's first.
pub type Macs = [u8; 12];

/// Where a packet goes that a backend elsewhere, or its client, is to get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// What its tuple becomes.
    pub to: Tuple4,
    /// The node that the overlay takes it to; 0.0.0.0: it goes by its own destination.
    pub node: Addr4,
    /// Source and destination of the packet on the wire, for the host's FIB.
    pub src: Addr4,
    pub dst: Addr4,
    pub proto: u8,
    /// Bytes on the wire after the Ethernet header.
    pub bytes: u16,
}

/// A packet that may be for a service, or an answer of one.
#[inline(always)]
pub fn parse<P: Packet, T: Tables<Addr4>>(packet: &mut P, tables: &T) -> Option<(Ip<Addr4>, Transport)> {
    let mut ip = Ip::default();
    let Ok(Frame::Ip) = header::frame(packet, &mut ip) else { return None };
    // A fragment's ports, and what quotes a packet, are the slower path's.
    if ip.fragment != Fragment::Whole || !matches!(ip.proto, proto::TCP | proto::UDP) {
        return None;
    }
    if ip.ttl <= 1 || tables.in_cluster(ip.dst) {
        return None;
    }
    let transport = header::transport(packet, tables, &ip).ok()?;
    let balanced = matches!(transport.kind, Kind::Tcp | Kind::Udp) && !is_overlay(ip.proto, transport.ports.dst);
    balanced.then_some((ip, transport))
}

/// `None`: the packet is left alone.
#[inline(always)]
pub fn decide<P: Packet, T: Tables<Addr4>>(
    packet: &P,
    tables: &T,
    ip: &Ip<Addr4>,
    transport: &Transport,
) -> Option<Hop> {
    let tuple = ip.tuple(transport.ports);
    let touch = Touch::new(packet, tables, ip, transport);
    let to = if ip.dst == tables.node_ip() && in_range(tables, transport.ports.dst) {
        let key = key(tuple, ip.proto, Direction::IN);
        // An answer to a pod, or to the node itself, is delivered by the slower path.
        let is_outside = |to: &Tuple4| !tables.in_cluster(to.dst) && to.dst != tables.node_ip();
        let (to, state) =
            tables.touch_if(FlowMap::Nat, &key, &touch, is_outside, |flow| (flow.to, flow.state)).ok()??;
        answered(packet, tables, FlowMap::Nat, &key, &touch, ip.l4, state);
        to
    } else if touch.opens() {
        open(tables, &tuple, &touch)?
    } else {
        let key = key(tuple, ip.proto, Direction::OUT);
        // A flow that keeps its client's address has its backend here, or goes on as it is.
        let is_elsewhere = |to: &Tuple4| to.src == tables.node_ip();
        let look = |flow: &Flow<Addr4>| (flow.to, flow.packets as u32, flow.state);
        match tables.touch_if(FlowMap::Nat, &key, &touch, is_elsewhere, look).ok()? {
            Some((to, packets, state)) => {
                requested(packet, tables, FlowMap::Nat, &key, &touch, ip.l4, state);
                snat::repair_sometimes(tables, &tuple, &to, packets, &touch);
                to
            }
            None => open(tables, &tuple, &touch)?,
        }
    };
    hop(packet, tables, ip, &to)
}

/// What a new flow to a backend on another node becomes. Refusals are the slower path's, which finds the same again.
#[inline(always)]
fn open<T: Tables<Addr4>>(tables: &T, tuple: &Tuple4, touch: &Touch) -> Option<Tuple4> {
    let opened = tables.with_room(|Room { claim, .. }| {
        if !external::choose(tables, tuple, touch, claim)? || is_here(tables, &claim.to.dst) {
            return Ok(None);
        }
        // The slower path sends on, and counts the flow's packets.
        if dsr::leads(tables, tuple, claim) {
            return Ok(None);
        }
        let way = external::open(tables, tuple, claim, touch, true)?;
        Ok((way == Way::Translated).then_some(claim.to))
    });
    opened.ok().flatten()
}

#[inline(always)]
fn hop<P: Packet, T: Tables<Addr4>>(packet: &P, tables: &T, ip: &Ip<Addr4>, to: &Tuple4) -> Option<Hop> {
    let bytes = u16::from_be_bytes(packet.load::<2>(IP + 2)?);
    if !tables.overlay() || !tables.in_cluster(to.dst) {
        return Some(Hop { to: *to, node: [0; 4], src: to.src, dst: to.dst, proto: ip.proto, bytes });
    }
    let node = tables.remote(&to.dst)?.node;
    let bytes = bytes.checked_add(OVERLAY_BYTES as u16)?;
    Some(Hop { to: *to, node, src: tables.node_ip(), dst: node, proto: proto::UDP, bytes })
}

/// Makes the packet what goes to the next hop.
#[inline(always)]
pub fn rewrite<P: Grow, T: Tables<Addr4>>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ip<Addr4>,
    transport: &mut Transport,
    hop: &Hop,
    macs: Macs,
) -> Result<(), DropReason> {
    let bytes = packet.bytes();
    nat::translate(packet, ip, transport, &hop.to)?;
    nat::decrement_ttl(packet, ip)?;
    let counter = if hop.node == [0; 4] {
        Counter::XdpForward
    } else {
        encapsulate(packet, tables, ip, hop).ok_or(DropReason::PacketWrite)?;
        Counter::XdpOverlay
    };
    packet.store(0, macs).ok_or(DropReason::PacketWrite)?;
    tables.count(counter, bytes);
    Ok(())
}

/// As the overlay device does. Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn encapsulate<P: Grow, T: Host>(packet: &mut P, tables: &T, ip: &Ip<Addr4>, hop: &Hop) -> Option<()> {
    let inner = hop.bytes.checked_sub((IPV4_HEADER + 16) as u16)?;
    let [length_high, length_low] = hop.bytes.to_be_bytes();
    // What is numbered alike inside is not more alike outside.
    let [id_high, id_low] = ip.header.id.bytes();
    let words =
        [[0x45, 0, length_high, length_low], [id_high, id_low, 0, 0], [TTL, proto::UDP, 0, 0], hop.src, hop.dst];
    let mut sum = 0;
    for word in words {
        sum = add(sum, u32::from_ne_bytes(word));
    }
    let [csum_high, csum_low] = (!fold(sum)).to_ne_bytes();
    // Different flows take different ways (RFC 7348 section 5): one of the dynamic ports.
    let [port_high, port_low] = (hash(&hop.to, ip.proto, 0) as u16 | 0xc000).to_be_bytes();
    let [overlay_high, overlay_low] = OVERLAY_PORT.to_be_bytes();
    let [udp_high, udp_low] = (inner + 16).to_be_bytes();
    let [_, vni_high, vni_middle, vni_low] = tables.overlay_vni().to_be_bytes();
    let ([a, b, c, d], [e, f, g, h]) = (hop.src, hop.dst);
    packet.grow(OVERLAY_BYTES)?;
    packet.store(12, [8, 0])?;
    packet.store(IP, [0x45, 0, length_high, length_low, id_high, id_low, 0, 0])?;
    packet.store(IP + 8, [TTL, proto::UDP, csum_high, csum_low, a, b, c, d, e, f, g, h])?;
    // No checksum, which IPv4 allows and the overlay device does too.
    packet.store(IP + 20, [port_high, port_low, overlay_high, overlay_low, udp_high, udp_low, 0, 0])?;
    packet.store(IP + 28, [0x08, 0, 0, 0, vni_high, vni_middle, vni_low, 0])
}

#[cfg(test)]
mod tests;
