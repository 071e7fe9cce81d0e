//! Packets that are longer than what their next hop takes. What a pod sends is then left to the host's stack, which cuts
//! it or answers as a router does. What was translated for a client outside is none of the stack's: it is answered here.

use xebec_abi::{Counter, DropReason, proto};

use crate::{
    Family, Host, Packet, Room, Verdict,
    header::{ETHERNET_BYTES, IP, Ip, Transport},
    nat, reject,
};

/// Segments with lengths of their own (`GSO_BY_FRAGS`, include/linux/skbuff.h), as SCTP makes them.
const OWN_LENGTHS: u32 = 0xffff;
const UDP_BYTES: u32 = 8;

/// Bytes from the IP header on; those of each segment, if the packet is yet to be cut. Of a tunnel's segments, and of
/// those with lengths of their own, it is less than that: they are not judged.
#[inline(always)]
pub fn bytes<A: Family, P: Packet>(packet: &P, ip: &Ip<A>) -> u32 {
    match packet.segment_bytes() {
        0 => whole(packet),
        OWN_LENGTHS => 0,
        payload => {
            let transport = match ip.proto {
                proto::TCP => packet.load::<1>(ip.l4 + 12).map_or(0, |[offset]| u32::from(offset >> 4) * 4),
                proto::UDP => UDP_BYTES,
                _ => 0,
            };
            (ip.l4 as u32).wrapping_sub(IP as u32).wrapping_add(transport).wrapping_add(payload)
        }
    }
}

#[inline(always)]
fn whole<P: Packet>(packet: &P) -> u32 {
    (packet.bytes() as u32).wrapping_sub(ETHERNET_BYTES as u32)
}

/// Does the packet fit, or each segment that it is yet to be cut into?
#[inline(always)]
pub fn fits<A: Family, P: Packet>(packet: &P, ip: &Ip<A>, mtu: u32) -> bool {
    whole(packet) <= mtu || bytes(packet, ip) <= mtu
}

/// Is this a packet that nobody cuts on its way through a tunnel, and whose sender is to be told? A tunnel over IPv4 cuts what
/// it carries, one over IPv6 nothing (`ip6_fragment`, net/ipv6/ip6_output.c).
#[inline(always)]
pub fn is_uncut<A: Family, P: Packet, T: Host>(packet: &P, tables: &T, ip: &Ip<A>, transport: &Transport) -> bool {
    tables.tunnels_ipv6() || (transport.kind.has_flow() && reject::is_plain(ip) && !A::may_fragment(packet))
}

/// What becomes of a packet in `room` that was translated, and for which `room.mtu` is too little: it is turned into an
/// answer that quotes it as it came, if it may have one.
#[inline(always)]
pub fn refuse<A: Family, P: Packet, T: Host>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<Verdict, DropReason> {
    answer(packet, room)?;
    tables.count(Counter::TooBigAnswered, room.touch.bytes);
    tables.count_drop(DropReason::TooBig, room.touch.bytes);
    Ok(Verdict::ANSWER)
}

#[inline(always)]
fn answer<A: Family, P: Packet>(packet: &mut P, room: &mut Room<A>) -> Result<(), DropReason> {
    let Room { ip, transport, key, mtu, .. } = room;
    // No error is about an error (RFC 1122 section 3.2.2), or about what is no flow.
    if !transport.kind.has_flow() {
        return Err(DropReason::TooBig);
    }
    nat::translate(packet, ip, transport, &key.tuple)?;
    reject::too_big(packet, ip, *mtu).ok_or(DropReason::TooBig)
}

/// What to say that fits where the FIB says only that a packet of `bytes` does not (before 5.12): the pods' MTU, and if
/// that does not, what every host takes.
#[inline(always)]
pub fn guess<A: Family, T: Host>(tables: &T, bytes: u32) -> u32 {
    if bytes > tables.pod_mtu() { tables.pod_mtu() } else { A::MTU_MIN }
}

#[cfg(test)]
mod tests;
