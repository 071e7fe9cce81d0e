//! The last step to a pod of this node: what was translated for it is translated back.

use xebec_abi::{Counter, Direction, DropReason, LocalPod, Tuple};

use crate::{
    Family, FlowMap, Packet, Tables, Verdict,
    conntrack::{Touch, key},
    header::{Ip, Kind, Transport},
    icmp, nat,
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
    ip: &mut Ip<A>,
    transport: &mut Transport,
) -> Result<(), DropReason> {
    if transport.kind.has_flow() {
        let tuple = ip.tuple(transport.ports);
        let touch = Touch::new(packet, tables, ip, transport);
        if let Some(to) = answer(tables, tuple, ip.proto, &touch) {
            nat::translate(packet, ip, transport, &to)?;
        }
        Ok(())
    } else if transport.kind == Kind::IcmpError {
        reverse_error(packet, tables, ip)
    } else {
        Ok(())
    }
}

/// What an answer to a client of a service becomes.
#[inline(always)]
pub fn answer<A: Family, T: Tables<A>>(tables: &T, tuple: Tuple<A>, proto: u8, touch: &Touch) -> Option<Tuple<A>> {
    let key = key(tuple, proto, Direction::REPLY);
    tables.touch(FlowMap::Conntrack, &key, touch).map(|flow| flow.to)
}

/// An error about a packet to a backend is about a packet to the service. Not inlined, for the sake
/// of the caller's stack.
#[inline(never)]
fn reverse_error<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ip<A>,
) -> Result<(), DropReason> {
    let Some(mut quoted) = icmp::quoted(packet, ip) else { return Ok(()) };
    let touch = Touch::error(packet, tables, &quoted.ip);
    let Some(answer) = answer(tables, quoted.tuple().reversed(), quoted.ip.proto, &touch) else {
        return Ok(());
    };
    let inner = answer.reversed();
    // From the backend itself, or from a router on the way.
    let src = if ip.src == quoted.ip.dst { inner.dst } else { ip.src };
    tables.count(Counter::IcmpError, packet.bytes());
    icmp::translate(packet, ip, &mut quoted, src, inner.src, &inner)
}
