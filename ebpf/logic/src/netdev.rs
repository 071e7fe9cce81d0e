//! Uplinks: the devices that lead to other nodes and outside.

use xebec_abi::{BackendId, Direction, DropReason, FlowKey, ServiceId, Tuple};

use crate::{
    Family, FlowMap, Packet, Room, Tables, Verdict,
    conntrack::{Touch, begin, set_answer_key},
    deliver, dsr,
    external::{self, Way},
    header::{self, Frame},
    reject,
    snat::{self, Claim},
    transient::{enlist, follow_request},
};

/// What arrives at an uplink.
#[inline(always)]
pub fn from_netdev<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    tables.with_room(|room| {
        let Ok(Frame::Ip) = header::frame(packet, &mut room.ip) else { return Ok(Verdict::PASS) };
        if !tables.in_cluster(room.ip.dst) {
            return to_node(packet, tables, room);
        }
        let Some(pod) = tables.pod(&room.ip.dst) else { return Ok(Verdict::PASS) };
        header::transport(packet, tables, &room.ip, &mut room.transport)?;
        room.node = A::UNSPECIFIED;
        track_inbound(packet, tables, room)?;
        deliver::reverse(packet, tables, room)?;
        deliver::to_pod(packet, tables, &mut room.ip, &pod)
    })
}

/// What arrives for the node, or for an address that the node may speak for.
#[inline(always)]
fn to_node<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<Verdict, DropReason> {
    // Not ours to judge what the node itself receives.
    if header::transport(packet, tables, &room.ip, &mut room.transport).is_err() {
        return Ok(Verdict::PASS);
    }
    let way = match snat::unmasquerade(packet, tables, room)? {
        Way::None => match external::forward(packet, tables, room) {
            // The stack would send it back to where it came from.
            Ok(Way::None) if external::is_announced(tables, room.ip.dst) => return Err(DropReason::NoService),
            Ok(Way::None) => return Ok(Verdict::PASS),
            Ok(way) => way,
            Err(reason) => return reject::reply(packet, tables, room, reason),
        },
        Way::Translated => {
            // A pod may have dialled a service whose backend is outside.
            if tables.in_cluster(room.ip.dst) {
                deliver::reverse(packet, tables, room)?;
            }
            Way::Translated
        }
        Way::On => Way::On,
    };
    if way == Way::On {
        return dsr::onward(packet, tables, room);
    }
    external::onward(packet, tables, room)
}

/// What arrives for the node through the overlay: answers, or the node's own.
#[inline(always)]
pub fn answer_in<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<Verdict, DropReason> {
    if header::transport(packet, tables, &room.ip, &mut room.transport).is_err() {
        return Ok(Verdict::PASS);
    }
    if snat::unmasquerade(packet, tables, room)? == Way::Translated {
        return external::onward(packet, tables, room);
    }
    Ok(Verdict::PASS)
}

/// Remembers a flow that somebody outside the cluster opened to a pod: its answers keep the pod's
/// address, and go back to the room's node if it came from one.
#[inline(always)]
pub fn track_inbound<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<(), DropReason> {
    let Room { ip, transport, touch, key, claim, node, .. } = room;
    if tables.in_cluster(ip.src) || !transport.kind.has_flow() {
        return Ok(());
    }
    *touch = Touch::new(packet, ip, transport);
    set_answer_key(key, ip, transport.ports, Direction::INBOUND);
    if follow_request(packet, tables, FlowMap::Conntrack, key, (touch, ip.l4), &mut claim.to).is_some() {
        return Ok(());
    }
    claim.to.src = *node;
    remember_inbound(tables, key, touch, claim)
}

/// `claim.to.src` is the node that it came through, if any. Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn remember_inbound<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    touch: &Touch,
    Claim { to, flow, .. }: &mut Claim<A>,
) -> Result<(), DropReason> {
    begin(tables, flow, &Tuple::default(), ServiceId(0), BackendId(0), touch);
    flow.to.src = to.src;
    if tables.put_flow(FlowMap::Conntrack, key, flow)? {
        enlist(tables, FlowMap::Conntrack, key);
    }
    Ok(())
}

/// What leaves through an uplink.
#[inline(always)]
pub fn to_netdev<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    tables.with_room(|room| {
        let Ok(Frame::Ip) = header::frame(packet, &mut room.ip) else { return Ok(Verdict::PASS) };
        leave(packet, tables, room)?;
        Ok(Verdict::PASS)
    })
}

#[inline(always)]
fn leave<A: Family, P: Packet, T: Tables<A>>(packet: &mut P, tables: &T, room: &mut Room<A>) -> Result<(), DropReason> {
    if tables.in_services(room.ip.dst) {
        // Service addresses exist inside nodes only; this one has no frontend, or its client is
        // one that no hook sees.
        return Err(DropReason::NoService);
    }
    // It has no answers to translate.
    if room.ip.dst.is_multicast() {
        return Ok(());
    }
    if !tables.in_cluster(room.ip.src) {
        let is_own = room.ip.src == tables.node_ip();
        return if is_own { external::answer(packet, tables, room) } else { Ok(()) };
    }
    if tables.in_cluster(room.ip.dst) {
        // Between pods; with an overlay, no node is known to have the destination.
        return if tables.overlay() { Err(DropReason::NoRemote) } else { Ok(()) };
    }
    header::transport(packet, tables, &room.ip, &mut room.transport)?;
    snat::masquerade(packet, tables, room)
}

#[cfg(test)]
mod tests;
