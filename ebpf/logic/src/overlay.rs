//! The overlay device.

use xebec_abi::{Addr4, DropReason};

use crate::{
    Family, Packet, Tables, Verdict, deliver, dsr,
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
        Some(tunnel) if dsr::is_for(tables, tunnel.vni) => {
            return tables.with_room(|room| {
                // Nothing else is passed on.
                let Frame::Ip = header::frame(packet, &mut room.ip)? else { return Ok(Verdict::PASS) };
                dsr::receive(packet, tables, room, tunnel)
            });
        }
        // The device is for what is passed on alone.
        Some(_) if !tables.overlay() => return Err(DropReason::TunnelId),
        Some(tunnel) if tunnel.vni != tables.overlay_vni() => return Err(DropReason::TunnelId),
        Some(tunnel) => tunnel.node,
        None => [0; 4],
    };
    tables.with_room(|room| {
        let Frame::Ip = header::frame(packet, &mut room.ip)? else { return Ok(Verdict::PASS) };
        if room.ip.dst == tables.node_ip() {
            // A pod's answer to a client that this node speaks for.
            return netdev::answer_in(packet, tables, room);
        }
        let Some(pod) = tables.pod(&room.ip.dst) else { return Ok(Verdict::PASS) };
        room.transport = header::transport(packet, tables, &room.ip)?;
        track_inbound(packet, tables, room, node)?;
        deliver::reverse(packet, tables, room)?;
        deliver::to_pod(packet, tables, &mut room.ip, &pod)
    })
}

/// What the host's stack sends to pods of other nodes.
#[inline(always)]
pub fn to_overlay<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    tables.with_room(|room| {
        let Frame::Ip = header::frame(packet, &mut room.ip)? else { return Ok(Verdict::PASS) };
        match tables.remote(&room.ip.dst) {
            Some(remote) => Ok(Verdict::encapsulate(remote.node.to_node())),
            // Membership reports are for nobody here: the device drops what has no tunnel.
            None if room.ip.dst.is_multicast() => Ok(Verdict::PASS),
            None => Err(DropReason::NoRemote),
        }
    })
}
