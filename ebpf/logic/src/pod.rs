//! The host side of a pod's veth pair.

use xebec_abi::{Counter, Direction, DropReason};

use crate::{
    Family, FlowMap, Packet, Tables, Verdict,
    conntrack::{Touch, key},
    deliver, external,
    header::{self, Frame, Ip, Transport},
    nat, reject, service,
};

/// What a pod sends. `ifindex` is the device it came from.
#[inline(always)]
pub fn from_pod<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ifindex: u32,
) -> Result<Verdict, DropReason> {
    let mut ip = match header::frame(packet)? {
        Frame::Ip(ip) => ip,
        Frame::Arp => return Ok(Verdict::PASS),
        Frame::Other => {
            if A::COUNTS_OTHERS {
                tables.count(Counter::NotIpv4, packet.bytes());
            }
            return Ok(Verdict::PASS);
        }
    };
    if let Some(decision) = A::on_link(packet, tables, &ip) {
        return decision;
    }
    let netns = match tables.pod(ip.src) {
        Some(pod) if pod.ifindex == ifindex => pod.netns_cookie,
        _ => return Err(DropReason::InvalidSource),
    };
    let mut transport = header::transport(packet, tables, &ip)?;
    if (tables.in_services(ip.dst) || is_external_service(tables, &ip, &transport))
        && let Err(reason) = service::forward(packet, tables, &mut ip, &mut transport, netns)
    {
        return reject::reply(packet, tables, &ip, &transport, reason);
    }
    route(packet, tables, &mut ip, &mut transport)
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
    ip: &mut Ip<A>,
    transport: &mut Transport,
) -> Result<Verdict, DropReason> {
    let hairpin = ip.dst == tables.hairpin_ip();
    if !tables.in_cluster(ip.dst) && !hairpin {
        return leave(packet, tables, ip, transport);
    }
    // A pod that answers the hairpin address answers itself.
    let dst = if hairpin { ip.src } else { ip.dst };
    if let Some(pod) = tables.pod(dst) {
        deliver::reverse(packet, tables, ip, transport)?;
        return deliver::to_pod(packet, tables, ip, &pod);
    }
    if ip.ttl <= 1 || ip.dst == tables.gateway_ip() {
        tables.count(Counter::ToStack, packet.bytes());
        return Ok(Verdict::PASS);
    }
    let Some(remote) = tables.remote(ip.dst) else {
        // The stack answers "no route to host".
        tables.count(Counter::ToStack, packet.bytes());
        return Ok(Verdict::PASS);
    };
    if !tables.overlay() {
        return Ok(Verdict::ROUTE);
    }
    nat::decrement_ttl(packet, ip)?;
    tables.count(Counter::ToOverlay, packet.bytes());
    Ok(Verdict::overlay(remote.node.to_node()))
}

/// To a node or outside: the host's stack routes. An answer to a node that came through the overlay
/// goes back through it.
#[inline(always)]
fn leave<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ip<A>,
    transport: &Transport,
) -> Result<Verdict, DropReason> {
    if tables.overlay() && transport.kind.has_flow() && ip.dst != tables.node_ip() && ip.ttl > 1 {
        let touch = Touch::new(packet, tables, ip, transport);
        let inbound = key(ip.tuple(transport.ports), ip.proto, Direction::INBOUND);
        if let Some(flow) = tables.touch(FlowMap::Conntrack, &inbound, &touch)
            && flow.to.src != A::UNSPECIFIED
        {
            nat::decrement_ttl(packet, ip)?;
            tables.count(Counter::ToOverlay, packet.bytes());
            return Ok(Verdict::overlay(flow.to.src.to_node()));
        }
    }
    tables.count(Counter::ToStack, packet.bytes());
    Ok(Verdict::PASS)
}

/// What the host's stack sends to a pod.
#[inline(always)]
pub fn to_pod<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    let Frame::Ip(mut ip) = header::frame(packet)? else { return Ok(Verdict::PASS) };
    let mut transport = header::transport(packet, tables, &ip)?;
    deliver::reverse(packet, tables, &mut ip, &mut transport)?;
    Ok(Verdict::PASS)
}

#[cfg(test)]
mod tests;
