//! Services dialled from outside the cluster: NodePorts, and the addresses of load balancers and `externalIPs`.
//!
//! A backend on this node sees its client's address. For one elsewhere the client's address becomes the node's, so
//! that answers come back here. Both keep a pair of entries in `NAT4`: one lookup per packet of a known flow.

use xebec_abi::{
    Be16, Counter, Direction, DropReason, FrontendKey, Ports, Tuple,
    config::OVERLAY_PORT,
    lb::{frontend_flag, scope},
    proto,
};

use crate::{
    Family, FlowMap, Packet, Room, Tables, Verdict,
    conntrack::{Touch, begin, is_known, set_key},
    deliver, dsr,
    header::{self, Kind, Transport},
    lb::{Choice, Client, Selection, select},
    maglev, mtu, nat,
    snat::{self, Claim},
    transient::{enlist, follow_answer, follow_request},
};

/// What becomes of a packet that may be for a service, or about one of its packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// It is nobody's.
    None,
    /// It is translated: its header says where it goes.
    Translated,
    /// It goes on as it is, to the node in `claim.to` ([`dsr`]).
    On,
}

/// Sends a packet from outside to a backend, if it is for a service.
#[inline(always)]
pub fn forward<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<Way, DropReason> {
    let Room { ip, transport, touch, key, claim, .. } = room;
    if !transport.kind.has_ports() || is_overlay(ip.proto, transport.ports.dst) {
        return Ok(Way::None);
    }
    *touch = Touch::new(packet, ip, transport);
    set_key(key, ip, transport.ports, Direction::OUT);
    // A new connection may use the ports of one that is over: its backend may be gone.
    let known = match touch.opens() {
        true => None,
        false => follow_request(packet, tables, FlowMap::Nat, key, (touch, ip.l4), &mut claim.to),
    };
    match known {
        Some(packets) if !dsr::goes_on(tables, &key.tuple, &claim.to) => {
            snat::repair_sometimes(tables, &key.tuple, &claim.to, packets, touch);
        }
        Some(packets) if tables.dsr_vni() != 0 => {
            dsr::follow(tables, room, packets);
            return Ok(Way::On);
        }
        _ => {
            if !choose(tables, &key.tuple, touch, claim)? {
                return Ok(Way::None);
            }
            if open(tables, &key.tuple, claim, touch, true)? == Way::On {
                return Ok(Way::On);
            }
        }
    }
    nat::translate(packet, ip, transport, &claim.to)?;
    Ok(Way::Translated)
}

/// False: the address is not a service's. Not inlined, for the sake of the caller's stack.
#[inline(never)]
pub fn choose<A: Family, T: Tables<A>>(
    tables: &T,
    tuple: &Tuple<A>,
    touch: &Touch,
    chosen: &mut Claim<A>,
) -> Result<bool, DropReason> {
    let frontend = FrontendKey { addr: tuple.dst, port: tuple.ports.dst, proto: touch.proto, scope: scope::EXTERNAL };
    // A hash, so that retransmissions choose the same backend.
    let pick = maglev::flow_hash(tuple, touch.proto);
    select_for(tables, &frontend, Client::Addr(tuple.src), tuple, pick, chosen)
}

/// Chooses a backend of the frontend for a client outside.
#[inline(always)]
pub fn select_for<A: Family, T: Tables<A>>(
    tables: &T,
    frontend: &FrontendKey<A>,
    client: Client<A>,
    tuple: &Tuple<A>,
    pick: u32,
    chosen: &mut Claim<A>,
) -> Result<bool, DropReason> {
    match select(tables, frontend, client, pick, &mut chosen.choice) {
        Selection::NotAService => Ok(false),
        Selection::NoBackend => Err(DropReason::NoBackend),
        Selection::NoLocalBackend => Err(DropReason::NoLocalBackend),
        Selection::Backend => {
            let Choice { frontend, backend, .. } = &chosen.choice;
            let limited = frontend.flags & frontend_flag::SOURCE_RANGES != 0;
            if limited && !tables.in_source_ranges(frontend.service, tuple.src) {
                return Err(DropReason::SourceRange);
            }
            chosen.to.set(&tuple.src, &backend.addr, Ports { dst: backend.port, ..tuple.ports });
            (chosen.service, chosen.backend) = (frontend.service, backend.id);
            Ok(true)
        }
    }
}

/// Makes the entries of a new flow to the chosen backend. If that is elsewhere, the flow leaves from the node's address or,
/// if it may go on, as it is.
#[inline(always)]
pub fn open<A: Family, T: Tables<A>>(
    tables: &T,
    tuple: &Tuple<A>,
    chosen: &mut Claim<A>,
    touch: &Touch,
    may_go_on: bool,
) -> Result<Way, DropReason> {
    if touch.opens() {
        chosen.key.tuple = *tuple;
        chosen.key.set(touch.proto, Direction::OUT);
        if is_known(tables, FlowMap::Nat, &chosen.key, &mut chosen.to) {
            if !dsr::goes_on(tables, tuple, &chosen.to) {
                snat::repair_sometimes(tables, tuple, &chosen.to, 0, touch);
                return Ok(Way::Translated);
            }
            if may_go_on && tables.dsr_vni() != 0 {
                return Ok(Way::On);
            }
            // It cannot any more.
            (chosen.to.src, chosen.to.ports.src) = (tuple.src, tuple.ports.src);
        }
    } else if touch.is_of_connection() {
        tables.count(Counter::FlowMiss, touch.bytes);
    }
    if !is_here(tables, &chosen.to.dst) {
        if may_go_on && dsr::leads(tables, tuple, chosen) {
            tables.count(Counter::ExternalDsr, touch.bytes);
            return dsr::remember(tables, tuple, chosen, touch).map(|()| Way::On);
        }
        tables.count(Counter::ExternalRemote, touch.bytes);
        return snat::claim(tables, tuple, chosen, touch).map(|()| Way::Translated);
    }
    tables.count(Counter::ExternalLocal, touch.bytes);
    remember(tables, tuple, chosen, touch).map(|()| Way::Translated)
}

/// Is this a backend on this node, which sees its client?
#[inline(always)]
pub fn is_here<A: Family, T: Tables<A>>(tables: &T, addr: &A) -> bool {
    *addr == tables.node_ip() || tables.pod(addr).is_some()
}

/// Both entries of a flow that keeps its client's address, the answer's first.
#[inline(never)]
fn remember<A: Family, T: Tables<A>>(
    tables: &T,
    tuple: &Tuple<A>,
    chosen: &mut Claim<A>,
    touch: &Touch,
) -> Result<(), DropReason> {
    let Claim { to, service, backend, key, flow, .. } = chosen;
    key.tuple.set_reversed(to);
    key.set(touch.proto, Direction::IN);
    begin(tables, flow, tuple, *service, *backend, touch);
    tables.put_flow(FlowMap::Nat, key, flow)?;
    if chosen.put_request(tables, tuple)? {
        enlist(tables, FlowMap::Nat, &chosen.key);
    }
    Ok(())
}

/// The way of a packet that was translated: to a pod here, to the node itself, to another node, or outside. What is too
/// long for the overlay is refused, if it is not cut: the overlay cuts the rest, around it.
#[inline(always)]
pub fn onward<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<Verdict, DropReason> {
    let ip = &mut room.ip;
    if ip.dst == tables.node_ip() {
        return Ok(Verdict::PASS);
    }
    if let Some(pod) = tables.pod(&ip.dst) {
        return deliver::to_pod(packet, tables, ip, &pod);
    }
    if ip.ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    if !tables.overlay() || !tables.in_cluster(ip.dst) {
        return Ok(Verdict::FORWARD);
    }
    let Some(remote) = tables.remote(&ip.dst) else { return Err(DropReason::NoRemote) };
    if !mtu::fits(packet, ip, tables.pod_mtu()) && mtu::is_uncut(packet, tables, ip, &room.transport) {
        room.mtu = tables.pod_mtu();
        return mtu::refuse(packet, tables, room);
    }
    nat::decrement_ttl(packet, ip)?;
    tables.count(Counter::ToOverlay, packet.bytes());
    room.node = remote.node;
    Ok(Verdict::overlay(remote.node.to_node()))
}

/// What the node itself answers to a client of a service, if a backend is a process of the node.
#[inline(always)]
pub fn answer<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<(), DropReason> {
    if header::transport(packet, tables, &room.ip, &mut room.transport).is_err() {
        return Ok(());
    }
    if is_overlay(room.ip.proto, room.transport.ports.dst) {
        return Ok(());
    }
    if room.transport.kind == Kind::IcmpError {
        return snat::error_out(packet, tables, room).map(drop);
    }
    let Room { ip, transport, touch, key, claim, .. } = room;
    if !transport.kind.has_ports() {
        return Ok(());
    }
    *touch = Touch::new(packet, ip, transport);
    set_key(key, ip, transport.ports, Direction::IN);
    match follow_answer(packet, tables, FlowMap::Nat, key, (touch, ip.l4), &mut claim.to) {
        Some(_) => nat::translate(packet, ip, transport, &claim.to),
        None => Ok(()),
    }
}

/// Is this an address that only a service of the cluster could have answered for?
#[inline(always)]
pub fn is_frontend<A: Family, T: Tables<A>>(tables: &T, addr: A, transport: &Transport, proto: u8) -> bool {
    let key = FrontendKey { addr, port: transport.ports.dst, proto, scope: scope::INTERNAL };
    transport.kind.has_ports() && tables.frontend(&key).is_some()
}

/// Is this an address that only services have: a load balancer's, or one of `externalIPs`? Its entry is the one with
/// neither port nor protocol.
#[inline(always)]
pub fn is_announced<A: Family, T: Tables<A>>(tables: &T, addr: A) -> bool {
    let key = FrontendKey { addr, port: Be16::ZERO, proto: 0, scope: scope::EXTERNAL };
    addr != tables.node_ip() && tables.frontend(&key).is_some()
}

/// Is this a packet of the overlay itself?
#[inline(always)]
pub fn is_overlay(proto: u8, port: Be16) -> bool {
    proto == proto::UDP && port.get() == OVERLAY_PORT
}

#[cfg(test)]
mod tests;
