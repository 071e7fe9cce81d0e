//! Writes a new tuple into a packet, and forwards it.

use xebec_abi::{DropReason, Tuple};

use crate::{
    Csum, Family, Packet,
    csum::diff,
    family::address_diff,
    header::{Fragment, IP, Ip, Kind, Transport},
    lb::word,
    sctp,
};

/// Offsets of checksums in transport headers.
pub const TCP_CSUM: usize = 16;
pub const UDP_CSUM: usize = 6;
const ICMP_CSUM: usize = 2;
const ICMP_ID: usize = 4;

/// Rewrites the packet's tuple to `to`. `ip` and `transport` are brought up to date. Not
/// inlined, for the sake of the caller's stack.
#[inline(never)]
pub fn translate<A: Family, P: Packet>(
    packet: &mut P,
    ip: &mut Ip<A>,
    transport: &mut Transport,
    to: &Tuple<A>,
) -> Result<(), DropReason> {
    if transport.kind == Kind::Sctp && ip.fragment == Fragment::First && transport.ports != to.ports {
        return Err(DropReason::SctpFragment);
    }
    rewrite(packet, ip, transport, to).ok_or(DropReason::PacketWrite)?;
    transport.ports = to.ports;
    Ok(())
}

#[inline(always)]
fn rewrite<A: Family, P: Packet>(packet: &mut P, ip: &mut Ip<A>, transport: &Transport, to: &Tuple<A>) -> Option<()> {
    let addresses = address_diff(ip, to);
    if transport.present {
        match transport.kind {
            Kind::Tcp => ports(packet, ip.l4, transport, to, addresses, TCP_CSUM, false)?,
            Kind::Udp => ports(packet, ip.l4, transport, to, addresses, UDP_CSUM, true)?,
            Kind::Sctp => {
                let words = [transport.ports, to.ports].map(|ports| word(ports.src, ports.dst));
                sctp::translate(packet, ip, words, addresses)?;
            }
            Kind::Echo => identifier(packet, ip.l4, transport, to, addresses)?,
            _ => {}
        }
    }
    A::store_addresses(packet, ip, IP, to, addresses)
}

#[inline(always)]
fn ports<A: Family, P: Packet>(
    packet: &mut P,
    l4: usize,
    transport: &Transport,
    to: &Tuple<A>,
    addresses: u32,
    csum: usize,
    optional: bool,
) -> Option<()> {
    packet.add_csum(l4 + csum, addresses, A::PSEUDO, optional)?;
    let (old, new) = (word(transport.ports.src, transport.ports.dst), word(to.ports.src, to.ports.dst));
    if old != new {
        packet.add_csum(l4 + csum, diff(old, new), Csum::Data, optional)?;
        packet.store(l4, new.to_ne_bytes())?;
    }
    Some(())
}

#[inline(always)]
fn identifier<A: Family, P: Packet>(
    packet: &mut P,
    l4: usize,
    transport: &Transport,
    to: &Tuple<A>,
    addresses: u32,
) -> Option<()> {
    if A::ICMP_COVERS_ADDRESSES {
        packet.add_csum(l4 + ICMP_CSUM, addresses, A::PSEUDO, false)?;
    }
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
pub fn decrement_ttl<A: Family, P: Packet>(packet: &mut P, ip: &mut Ip<A>) -> Result<(), DropReason> {
    A::decrement_ttl(packet, ip).ok_or(DropReason::PacketWrite)
}

#[cfg(test)]
mod tests;
