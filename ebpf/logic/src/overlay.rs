//! The overlay device.

use xebec_abi::DropReason;

use crate::{
    Family, Packet, Room, Tables, Verdict, deliver, dsr,
    header::{self, Frame},
    netdev::{self, track_inbound},
};

/// Where an encapsulated packet came from.
#[cfg(any(test, feature = "model"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunnel<A> {
    pub vni: u32,
    /// In IPv6 an IPv4 address is mapped.
    pub node: A,
}

/// What other nodes sent, decapsulated. `enter` says by which network identifier the packet came, if by any, and puts the node
/// that sent it into the room.
#[inline(always)]
pub fn from_overlay<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    enter: impl FnOnce(&mut Room<A>) -> Option<u32>,
) -> Result<Verdict, DropReason> {
    tables.with_room(|room| {
        room.node = A::UNSPECIFIED;
        match enter(room) {
            Some(vni) if dsr::is_for(tables, vni) => {
                // Nothing else is passed on.
                let Frame::Ip = header::frame(packet, &mut room.ip)? else { return Ok(Verdict::PASS) };
                return dsr::receive(packet, tables, room, vni);
            }
            // The device is for what is passed on alone.
            Some(_) if !tables.overlay() => return Err(DropReason::TunnelId),
            Some(vni) if vni != tables.overlay_vni() => return Err(DropReason::TunnelId),
            _ => {}
        }
        let Frame::Ip = header::frame(packet, &mut room.ip)? else { return Ok(Verdict::PASS) };
        if room.ip.dst == tables.node_ip() {
            // A pod's answer to a client that this node speaks for.
            return netdev::answer_in(packet, tables, room);
        }
        let Some(pod) = tables.pod(&room.ip.dst) else { return Ok(Verdict::PASS) };
        header::transport(packet, tables, &room.ip, &mut room.transport)?;
        track_inbound(packet, tables, room)?;
        deliver::reverse(packet, tables, room)?;
        deliver::to_pod(packet, tables, &mut room.ip, &pod)
    })
}

/// For tests: the packet came through `tunnel`.
#[cfg(any(test, feature = "model"))]
pub fn behind<A: Family>(tunnel: Option<Tunnel<A>>) -> impl FnOnce(&mut Room<A>) -> Option<u32> {
    move |room| {
        let Tunnel { vni, node } = tunnel?;
        room.node = node;
        Some(vni)
    }
}

/// What the host's stack sends to pods of other nodes.
#[inline(always)]
pub fn to_overlay<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    tables.with_room(|room| {
        let Frame::Ip = header::frame(packet, &mut room.ip)? else { return Ok(Verdict::PASS) };
        match tables.remote(&room.ip.dst) {
            Some(remote) => {
                room.node = remote.node;
                Ok(Verdict::encapsulate(remote.node.to_node()))
            }
            // Membership reports are for nobody here: the device drops what has no tunnel.
            None if room.ip.dst.is_multicast() => Ok(Verdict::PASS),
            None => Err(DropReason::NoRemote),
        }
    })
}
