//! Uplinks: the devices that lead to other nodes and outside.

use xebec_abi::{Addr4, BackendId, Direction, DropReason, ServiceId, Tuple4};

use crate::{
    FlowMap, Packet, Tables, Verdict,
    conntrack::{Touch, first, key},
    deliver,
    header::{self, Frame, Ipv4, Transport},
    snat,
};

/// What arrives at an uplink.
#[inline(always)]
pub fn from_netdev<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    let Ok(Frame::Ipv4(mut ip)) = header::frame(packet) else { return Ok(Verdict::PASS) };
    if ip.dst == tables.node_ip() {
        // Not ours to judge what the node itself receives.
        let Ok(mut transport) = header::transport(packet, tables, &ip) else {
            return Ok(Verdict::PASS);
        };
        if !snat::unmasquerade(packet, tables, &mut ip, &mut transport)? {
            return Ok(Verdict::PASS);
        }
        let Some(pod) = tables.pod(ip.dst) else { return Ok(Verdict::PASS) };
        // The client may have dialled a service whose backend is outside.
        deliver::reverse(packet, tables, &mut ip, &mut transport)?;
        return deliver::to_pod(packet, tables, &mut ip, &pod);
    }
    if !tables.in_cluster(ip.dst) {
        return Ok(Verdict::PASS);
    }
    let Some(pod) = tables.pod(ip.dst) else { return Ok(Verdict::PASS) };
    let mut transport = header::transport(packet, tables, &ip)?;
    track_inbound(packet, tables, &ip, &transport, [0; 4])?;
    deliver::reverse(packet, tables, &mut ip, &mut transport)?;
    deliver::to_pod(packet, tables, &mut ip, &pod)
}

/// Remembers a flow that somebody outside the cluster opened to a pod: its answers keep the pod's
/// address, and go back through `tunnel` if it came from one.
#[inline(always)]
pub fn track_inbound<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    ip: &Ipv4,
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
    let to = Tuple4 { src: tunnel, ..Tuple4::default() };
    let flow = first(to, ServiceId(0), BackendId(0), &touch);
    tables.put_flow(FlowMap::Conntrack, &key, &flow)
}

/// What leaves through an uplink.
#[inline(always)]
pub fn to_netdev<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    let Ok(Frame::Ipv4(mut ip)) = header::frame(packet) else { return Ok(Verdict::PASS) };
    if tables.in_services(ip.dst) {
        // Service addresses exist inside nodes only; this one has no frontend, or its client is
        // one that no hook sees.
        return Err(DropReason::NoService);
    }
    if !tables.in_cluster(ip.src) || is_local_multicast(ip.dst) {
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

/// 224.0.0.0/4 and the limited broadcast have no answers to translate.
#[inline(always)]
fn is_local_multicast(addr: Addr4) -> bool {
    addr[0] >= 224
}

#[cfg(test)]
mod tests;
