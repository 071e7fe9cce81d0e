//! The overlay device.

use xebec_abi::{Addr4, DropReason};

use crate::{
    Family, Packet, Tables, Verdict, deliver,
    header::{self, Frame},
    netdev::{self, track_inbound},
};

/// Where an encapsulated packet came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunnel {
    pub vni: u32,
    pub node: Addr4,
}

/// What other nodes sent, decapsulated.
#[inline(always)]
pub fn from_overlay<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    tunnel: Option<Tunnel>,
) -> Result<Verdict, DropReason> {
    let node = match tunnel {
        Some(tunnel) if tunnel.vni != tables.overlay_vni() => return Err(DropReason::TunnelId),
        Some(tunnel) => tunnel.node,
        None => [0; 4],
    };
    let Frame::Ip(mut ip) = header::frame(packet)? else { return Ok(Verdict::PASS) };
    if ip.dst == tables.node_ip() {
        // A pod's answer to a client that this node speaks for.
        return netdev::answer_in(packet, tables, &mut ip);
    }
    let Some(pod) = tables.pod(ip.dst) else { return Ok(Verdict::PASS) };
    let mut transport = header::transport(packet, tables, &ip)?;
    track_inbound(packet, tables, &ip, &transport, node)?;
    deliver::reverse(packet, tables, &mut ip, &mut transport)?;
    deliver::to_pod(packet, tables, &mut ip, &pod)
}

/// What the host's stack sends to pods of other nodes.
#[inline(always)]
pub fn to_overlay<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    let Frame::Ip(ip) = header::frame(packet)? else { return Ok(Verdict::PASS) };
    match tables.remote(ip.dst) {
        Some(remote) => Ok(Verdict::encapsulate(remote.node.to_node())),
        None => Err(DropReason::NoRemote),
    }
}
