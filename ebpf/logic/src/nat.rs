//! Writes a new tuple into a packet, and forwards it.

use xebec_abi::{DropReason, Tuple4};

use crate::{
    Csum, Packet,
    csum::{self, diff},
    header::{IP_CSUM, IP_SRC, IP_TTL, Ipv4, Kind, Transport},
    lb::word,
};

/// Offsets of checksums in transport headers.
const TCP_CSUM: usize = 16;
const UDP_CSUM: usize = 6;
const ICMP_CSUM: usize = 2;
const ICMP_ID: usize = 4;

/// Rewrites the packet's tuple to `to`. `ip` and `transport` are brought up to date. Not
/// inlined, for the sake of the caller's stack.
#[inline(never)]
pub fn translate<P: Packet>(
    packet: &mut P,
    ip: &mut Ipv4,
    transport: &mut Transport,
    to: &Tuple4,
) -> Result<(), DropReason> {
    rewrite(packet, ip, transport, to).ok_or(DropReason::PacketWrite)?;
    transport.ports = to.ports;
    Ok(())
}

#[inline(always)]
fn rewrite<P: Packet>(packet: &mut P, ip: &mut Ipv4, transport: &Transport, to: &Tuple4) -> Option<()> {
    let addresses = address_diff(ip, to);
    if transport.present {
        match transport.kind {
            Kind::Tcp => ports(packet, ip.l4, transport, to, addresses, TCP_CSUM, false)?,
            Kind::Udp => ports(packet, ip.l4, transport, to, addresses, UDP_CSUM, true)?,
            Kind::Echo => identifier(packet, ip.l4, transport, to)?,
            _ => {}
        }
    }
    store_addresses(packet, ip, to, addresses)
}

/// Writes addresses and the header checksum; the transport is left alone.
#[inline(always)]
pub fn store_addresses<P: Packet>(packet: &mut P, ip: &mut Ipv4, to: &Tuple4, addresses: u32) -> Option<()> {
    ip.csum = csum::update(ip.csum, addresses);
    ip.src = to.src;
    ip.dst = to.dst;
    let ([a, b, c, d], [e, f, g, h]) = (to.src, to.dst);
    packet.store(IP_CSUM, ip.csum)?;
    packet.store(IP_SRC, [a, b, c, d, e, f, g, h])
}

#[inline(always)]
pub fn address_diff(ip: &Ipv4, to: &Tuple4) -> u32 {
    csum::add(
        diff(u32::from_ne_bytes(ip.src), u32::from_ne_bytes(to.src)),
        diff(u32::from_ne_bytes(ip.dst), u32::from_ne_bytes(to.dst)),
    )
}

#[inline(always)]
fn ports<P: Packet>(
    packet: &mut P,
    l4: usize,
    transport: &Transport,
    to: &Tuple4,
    addresses: u32,
    csum: usize,
    optional: bool,
) -> Option<()> {
    packet.add_csum(l4 + csum, addresses, Csum::Pseudo, optional)?;
    let (old, new) = (word(transport.ports.src, transport.ports.dst), word(to.ports.src, to.ports.dst));
    if old != new {
        packet.add_csum(l4 + csum, diff(old, new), Csum::Data, optional)?;
        packet.store(l4, new.to_ne_bytes())?;
    }
    Some(())
}

#[inline(always)]
fn identifier<P: Packet>(packet: &mut P, l4: usize, transport: &Transport, to: &Tuple4) -> Option<()> {
    let (old, new) = (transport.ports.src.bytes(), to.ports.src.bytes());
    if old != new {
        let diff = diff(u32::from(u16::from_ne_bytes(old)), u32::from(u16::from_ne_bytes(new)));
        packet.add_csum(l4 + ICMP_CSUM, diff, Csum::Data, false)?;
        packet.store(l4 + ICMP_ID, new)?;
    }
    Some(())
}

/// Takes one from the time to live, as a router does. The caller has seen that it is above one.
#[inline(always)]
pub fn decrement_ttl<P: Packet>(packet: &mut P, ip: &mut Ipv4) -> Result<(), DropReason> {
    let new = ip.ttl.wrapping_sub(1);
    let words = [[ip.ttl, ip.proto], [new, ip.proto]].map(|w| u32::from(u16::from_ne_bytes(w)));
    ip.csum = csum::update(ip.csum, diff(words[0], words[1]));
    ip.ttl = new;
    packet.store(IP_TTL, [new, ip.proto, ip.csum[0], ip.csum[1]]).ok_or(DropReason::PacketWrite)
}

#[cfg(test)]
mod tests;
