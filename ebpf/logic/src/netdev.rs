//! Uplinks: the devices that lead to other nodes and outside.

use xebec_abi::{Addr4, BackendId, Direction, DropReason, FlowKey, ServiceId, Tuple};

use crate::{
    Family, FlowMap, Packet, Tables, Verdict,
    conntrack::{Touch, first, key},
    deliver, external,
    header::{self, Frame, Ip, Transport},
    reject, snat,
};

/// What arrives at an uplink.
#[inline(always)]
pub fn from_netdev<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    let Ok(Frame::Ip(mut ip)) = header::frame(packet) else { return Ok(Verdict::PASS) };
    if !tables.in_cluster(ip.dst) {
        return to_node(packet, tables, &mut ip);
    }
    let Some(pod) = tables.pod(ip.dst) else { return Ok(Verdict::PASS) };
    let mut transport = header::transport(packet, tables, &ip)?;
    track_inbound(packet, tables, &ip, &transport, [0; 4])?;
    deliver::reverse(packet, tables, &mut ip, &mut transport)?;
    deliver::to_pod(packet, tables, &mut ip, &pod)
}

/// What arrives for the node, or for an address that the node may speak for.
#[inline(always)]
fn to_node<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ip<A>,
) -> Result<Verdict, DropReason> {
    // Not ours to judge what the node itself receives.
    let Ok(mut transport) = header::transport(packet, tables, ip) else { return Ok(Verdict::PASS) };
    if snat::unmasquerade(packet, tables, ip, &mut transport)? {
        // The client may have dialled a service whose backend is outside.
        deliver::reverse(packet, tables, ip, &mut transport)?;
    } else {
        match external::forward(packet, tables, ip, &mut transport) {
            Ok(true) => {}
            // The stack would send it back to where it came from.
            Ok(false) if external::is_announced(tables, ip.dst) => return Err(DropReason::NoService),
            Ok(false) => return Ok(Verdict::PASS),
            Err(reason) => return reject::reply(packet, tables, ip, &transport, reason),
        }
    }
    external::onward(packet, tables, ip)
}

/// What arrives for the node through the overlay: answers, or the node's own.
#[inline(always)]
pub fn answer_in<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ip<A>,
) -> Result<Verdict, DropReason> {
    let Ok(mut transport) = header::transport(packet, tables, ip) else { return Ok(Verdict::PASS) };
    if snat::unmasquerade(packet, tables, ip, &mut transport)? {
        return external::onward(packet, tables, ip);
    }
    Ok(Verdict::PASS)
}

/// Remembers a flow that somebody outside the cluster opened to a pod: its answers keep the pod's
/// address, and go back through `tunnel` if it came from one.
#[inline(always)]
pub fn track_inbound<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    ip: &Ip<A>,
    transport: &Transport,
    tunnel: Addr4,
) -> Result<(), DropReason> {
    if tables.in_cluster(ip.src) || !transport.kind.has_flow() {
        return Ok(());
    }
    let touch = Touch::new(packet, tables, ip, transport);
    let key = key(ip.tuple(transport.ports).reversed(), ip.proto, Direction::INBOUND);
    if tables.touch(FlowMap::Conntrack, &key, &touch).is_some() {
        return Ok(());
    }
    remember_inbound(tables, &key, &touch, u32::from_ne_bytes(tunnel))
}

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn remember_inbound<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    touch: &Touch,
    tunnel: u32,
) -> Result<(), DropReason> {
    let to = Tuple { src: A::of_node(tunnel.to_ne_bytes()), ..Tuple::default() };
    tables.put_flow(FlowMap::Conntrack, key, &first(to, ServiceId(0), BackendId(0), touch))
}

/// What leaves through an uplink.
#[inline(always)]
pub fn to_netdev<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    let Ok(Frame::Ip(mut ip)) = header::frame(packet) else { return Ok(Verdict::PASS) };
    if tables.in_services(ip.dst) {
        // Service addresses exist inside nodes only; this one has no frontend, or its client is
        // one that no hook sees.
        return Err(DropReason::NoService);
    }
    // It has no answers to translate.
    if ip.dst.is_multicast() {
        return Ok(Verdict::PASS);
    }
    if !tables.in_cluster(ip.src) {
        if ip.src == tables.node_ip() {
            external::answer(packet, tables, &mut ip)?;
        }
        return Ok(Verdict::PASS);
    }
    if tables.in_cluster(ip.dst) {
        if tables.overlay() {
            // Between pods, but no node is known to have the destination.
            return Err(DropReason::NoRemote);
        }
        return Ok(Verdict::PASS);
    }
    let mut transport = header::transport(packet, tables, &ip)?;
    snat::masquerade(packet, tables, &mut ip, &mut transport)?;
    Ok(Verdict::PASS)
}

#[cfg(test)]
mod tests;
