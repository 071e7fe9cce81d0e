//! The host side of a pod's veth pair.

use xebec_abi::{Counter, Direction, DropReason};

use crate::{
    Family, FlowMap, Packet, Room, Tables, Verdict,
    conntrack::{Touch, set_key},
    deliver, external,
    header::{self, Frame, Ip, Transport},
    limit, mtu, nat, reject, service,
    transient::follow_answer,
};

/// What a pod sends. `ifindex` is the device it came from.
#[inline(always)]
pub fn from_pod<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ifindex: u32,
) -> Result<Verdict, DropReason> {
    tables.with_room(|room| forward(packet, tables, ifindex, room))
}

#[inline(always)]
fn forward<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ifindex: u32,
    room: &mut Room<A>,
) -> Result<Verdict, DropReason> {
    match header::frame(packet, &mut room.ip)? {
        Frame::Ip => {}
        Frame::Arp => return Ok(Verdict::PASS),
        Frame::Other => {
            if A::COUNTS_OTHERS {
                tables.count(Counter::NotIpv4, packet.bytes());
            }
            return Ok(Verdict::PASS);
        }
    }
    if let Some(decision) = A::on_link(packet, tables, &room.ip) {
        return decision;
    }
    let netns = match tables.pod(&room.ip.src) {
        Some(pod) if pod.ifindex == ifindex => pod.netns_cookie,
        _ => return Err(DropReason::InvalidSource),
    };
    header::transport(packet, tables, &room.ip, &mut room.transport)?;
    if (tables.in_services(room.ip.dst) || is_external_service(tables, &room.ip, &room.transport))
        && let Err(reason) = service::forward(packet, tables, room, netns)
    {
        return reject::reply(packet, tables, room, reason);
    }
    route(packet, tables, room)
}

/// An address of the node, of a load balancer or of `externalIPs`, dialled from inside.
#[inline(always)]
fn is_external_service<A: Family, T: Tables<A>>(tables: &T, ip: &Ip<A>, transport: &Transport) -> bool {
    !tables.in_cluster(ip.dst) && external::is_frontend(tables, ip.dst, transport, ip.proto)
}

#[inline(always)]
fn route<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<Verdict, DropReason> {
    let hairpin = room.ip.dst == tables.hairpin_ip();
    if !tables.in_cluster(room.ip.dst) && !hairpin {
        return leave(packet, tables, room);
    }
    // A pod that answers the hairpin address answers itself.
    let dst = if hairpin { &room.ip.src } else { &room.ip.dst };
    if let Some(pod) = tables.pod(dst) {
        deliver::reverse(packet, tables, room)?;
        return deliver::to_pod(packet, tables, &mut room.ip, &pod);
    }
    let ip = &mut room.ip;
    if ip.ttl <= 1 || ip.dst == tables.gateway_ip() {
        tables.count(Counter::ToStack, packet.bytes());
        return Ok(Verdict::PASS);
    }
    let Some(remote) = tables.remote(&ip.dst) else {
        // The stack answers "no route to host".
        tables.count(Counter::ToStack, packet.bytes());
        return Ok(Verdict::PASS);
    };
    if !tables.overlay() {
        return Ok(Verdict::ROUTE);
    }
    if !mtu::fits(packet, ip, tables.pod_mtu()) {
        // The stack cuts it, or answers.
        tables.count(Counter::ToStack, packet.bytes());
        return Ok(Verdict::PASS);
    }
    nat::decrement_ttl(packet, ip)?;
    tables.count(Counter::ToOverlay, packet.bytes());
    room.node = remote.node;
    Ok(Verdict::overlay(remote.node.to_node()))
}

/// To a node or outside: the host's stack routes. An answer to a node that came through the overlay
/// goes back through it.
#[inline(always)]
fn leave<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<Verdict, DropReason> {
    let Room { ip, transport, touch, key, claim, .. } = room;
    if tables.overlay() && transport.kind.has_flow() && ip.dst != tables.node_ip() && ip.ttl > 1 {
        *touch = Touch::new(packet, ip, transport);
        set_key(key, ip, transport.ports, Direction::INBOUND);
        let is_known = follow_answer(packet, tables, FlowMap::Conntrack, key, (touch, ip.l4), &mut claim.to).is_some();
        if is_known && claim.to.src != A::UNSPECIFIED {
            nat::decrement_ttl(packet, ip)?;
            tables.count(Counter::ToOverlay, packet.bytes());
            room.node = room.claim.to.src;
            return Ok(Verdict::overlay(room.node.to_node()));
        }
    }
    tables.count(Counter::ToStack, packet.bytes());
    Ok(Verdict::PASS)
}

/// What the host's stack sends to a pod.
#[inline(always)]
pub fn to_pod<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    tables.with_room(|room| {
        let Frame::Ip = header::frame(packet, &mut room.ip)? else { return Ok(Verdict::PASS) };
        header::transport(packet, tables, &room.ip, &mut room.transport)?;
        if let Some(pod) = tables.pod(&room.ip.dst) {
            limit::admit(packet, tables, &pod)?;
        }
        deliver::reverse(packet, tables, room)?;
        Ok(Verdict::PASS)
    })
}

#[cfg(test)]
mod tests;
