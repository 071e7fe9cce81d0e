//! The last step to a pod of this node: what was translated for it is translated back.

use xebec_abi::{Counter, Direction, DropReason, LocalPod};

use crate::{
    Family, FlowMap, Packet, Room, Tables, Verdict,
    conntrack::{Touch, follow, set_answer_key, set_key},
    header::{Ip, Kind},
    icmp, limit, nat,
    transient::follow_answer,
};

/// Hands a packet to a pod, past the host's stack. A packet that must not be forwarded again goes
/// to the stack, which answers as a router does.
#[inline(always)]
pub fn to_pod<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ip<A>,
    pod: &LocalPod,
) -> Result<Verdict, DropReason> {
    if ip.ttl <= 1 {
        return Ok(Verdict::PASS);
    }
    limit::admit(packet, tables, pod)?;
    nat::decrement_ttl(packet, ip)?;
    let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (pod.pod_mac, pod.host_mac);
    packet.store(0, [a, b, c, d, e, f, g, h, i, j, k, l]).ok_or(DropReason::PacketWrite)?;
    tables.count(Counter::ToPod, packet.bytes());
    Ok(Verdict::pod(pod.ifindex))
}

/// Answers from a backend appear to come from the service that its client dialled.
#[inline(always)]
pub fn reverse<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<(), DropReason> {
    if room.transport.kind.has_flow() {
        let Room { ip, transport, touch, key, claim, .. } = room;
        *touch = Touch::new(packet, ip, transport);
        set_key(key, ip, transport.ports, Direction::REPLY);
        if follow_answer(packet, tables, FlowMap::Conntrack, key, (touch, ip.l4), &mut claim.to).is_some() {
            nat::translate(packet, ip, transport, &claim.to)?;
        }
        Ok(())
    } else if room.transport.kind == Kind::IcmpError {
        reverse_error(packet, tables, room)
    } else {
        Ok(())
    }
}

/// An error about a packet to a backend is about a packet to the service. Not inlined, for the sake
/// of the caller's stack.
#[inline(never)]
fn reverse_error<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<(), DropReason> {
    let Room { ip, touch, key, claim, quoted, .. } = room;
    let Some(()) = icmp::quoted(packet, ip, quoted) else { return Ok(()) };
    *touch = Touch::error(packet, &quoted.ip);
    set_answer_key(key, &quoted.ip, quoted.ports, Direction::REPLY);
    if follow(tables, FlowMap::Conntrack, key, touch, &mut claim.to).is_none() {
        return Ok(());
    }
    let is_from_backend = ip.src == quoted.ip.dst;
    tables.count(Counter::IcmpError, packet.bytes());
    icmp::translate(packet, room, is_from_backend)
}
