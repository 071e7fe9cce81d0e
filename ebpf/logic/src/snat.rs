//! Masquerade: what a pod sends outside the cluster leaves from the node's address.

use xebec_abi::{BackendId, Be16, Counter, Direction, DropReason, Ports, ServiceId, Tuple4, limits::SNAT_TRIES_MAX};

use crate::{
    FlowMap, Packet, Tables,
    conntrack::{Touch, first, key},
    header::{Ipv4, Kind, Transport},
    icmp,
    lb::{hash, scale},
    nat,
};

/// A lost entry for answers is written again at least this often.
const REPAIR_PACKETS: u32 = 64;

/// Translates a packet that leaves the cluster, unless it answers a flow from outside.
#[inline(always)]
pub fn masquerade<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ipv4,
    transport: &mut Transport,
) -> Result<(), DropReason> {
    match transport.kind {
        Kind::Tcp | Kind::Udp | Kind::Echo => {}
        Kind::IcmpError => return error_out(packet, tables, ip),
        Kind::UnknownFragment => return Err(DropReason::UnknownFragment),
        Kind::Other => return Err(DropReason::UnknownProtocol),
    }
    let tuple = ip.tuple(transport.ports);
    let touch = Touch::new(packet, tables, ip, transport);
    let out = key(tuple, ip.proto, Direction::OUT);
    let to = match tables.touch(FlowMap::Nat, &out, &touch) {
        Some(flow) => {
            if flow.packets & (REPAIR_PACKETS - 1) == 0 {
                repair(tables, &tuple, &flow.to, &touch);
            }
            flow.to
        }
        None => {
            let inbound = key(tuple, ip.proto, Direction::INBOUND);
            if tables.touch(FlowMap::Conntrack, &inbound, &touch).is_some() {
                return Ok(());
            }
            open(tables, &tuple, transport.kind, &touch)?
        }
    };
    nat::translate(packet, ip, transport, &to)
}

/// Finds a free port. The entry for answers is the claim: it is added only if it is not there. Not
/// inlined, for the sake of the caller's stack.
#[inline(never)]
fn open<T: Tables>(tables: &T, tuple: &Tuple4, kind: Kind, touch: &Touch) -> Result<Tuple4, DropReason> {
    let (tuple, proto) = (*tuple, touch.proto);
    let min = tables.snat_port_min();
    let span = u32::from(tables.snat_port_max().wrapping_sub(min)) + 1;
    let mut uniform = hash(&tuple, proto, tables.hash_seed());
    // One key and one flow after the other in the same place on the stack.
    let mut flow = first(tuple.reversed(), ServiceId(0), BackendId(0), touch);
    for _ in 0..SNAT_TRIES_MAX {
        let port = Be16::new(min.wrapping_add(scale(uniform, span) as u16));
        let dst = if kind == Kind::Echo { port } else { tuple.ports.dst };
        let to = Tuple4 { src: tables.node_ip(), dst: tuple.dst, ports: Ports { src: port, dst } };
        let mut key = key(to.reversed(), proto, Direction::IN);
        match tables.add_flow(FlowMap::Nat, &key, &flow) {
            Ok(true) => {
                key.tuple = tuple;
                key.direction = Direction::OUT;
                flow.to = to;
                tables.put_flow(FlowMap::Nat, &key, &flow)?;
                tables.count(Counter::Masquerade, touch.bytes);
                return Ok(to);
            }
            Ok(false) => tables.count(Counter::SnatRetry, 0),
            Err(reason) => return Err(reason),
        }
        uniform = uniform.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
    }
    Err(DropReason::NoSnatPort)
}

/// An LRU map may have evicted the entry for answers alone.
#[inline(never)]
fn repair<T: Tables>(tables: &T, tuple: &Tuple4, to: &Tuple4, touch: &Touch) {
    let answer = key(to.reversed(), touch.proto, Direction::IN);
    let back = first(tuple.reversed(), ServiceId(0), BackendId(0), touch);
    if tables.add_flow(FlowMap::Nat, &answer, &back) == Ok(true) {
        tables.count(Counter::HalfFlow, 0);
    }
}

/// A pod's error about an answer to a masqueraded flow: the outside knows the node's port.
#[inline(never)]
fn error_out<P: Packet, T: Tables>(packet: &mut P, tables: &T, ip: &mut Ipv4) -> Result<(), DropReason> {
    let Some(quoted) = icmp::quoted(packet, ip) else { return Err(DropReason::UnknownProtocol) };
    let touch = Touch::error(packet, tables, &quoted.ip);
    let request = quoted.tuple().reversed();
    let out = key(request, quoted.ip.proto, Direction::OUT);
    let Some(flow) = tables.touch(FlowMap::Nat, &out, &touch) else {
        let inbound = key(request, quoted.ip.proto, Direction::INBOUND);
        return match tables.touch(FlowMap::Conntrack, &inbound, &touch) {
            Some(_) => Ok(()),
            None => Err(DropReason::UnknownProtocol),
        };
    };
    tables.count(Counter::IcmpError, packet.bytes());
    let dst = ip.dst;
    icmp::translate(packet, ip, &quoted, flow.to.src, dst, &flow.to.reversed())
}

/// What an answer from outside to the node's address is for.
#[inline(always)]
pub fn unmasquerade<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ipv4,
    transport: &mut Transport,
) -> Result<bool, DropReason> {
    if transport.kind == Kind::IcmpError {
        return error_in(packet, tables, ip);
    }
    // An echo request to the node is for the node.
    let answer = transport.kind.has_flow() && !(transport.kind == Kind::Echo && transport.flags == 8);
    if !answer || !in_range(tables, transport.ports.dst) {
        return Ok(false);
    }
    let touch = Touch::new(packet, tables, ip, transport);
    let key = key(ip.tuple(transport.ports), ip.proto, Direction::IN);
    let Some(flow) = tables.touch(FlowMap::Nat, &key, &touch) else {
        tables.count(Counter::SnatMiss, touch.bytes);
        return Ok(false);
    };
    nat::translate(packet, ip, transport, &flow.to)?;
    Ok(true)
}

/// An error from outside about a masqueraded packet.
#[inline(never)]
fn error_in<P: Packet, T: Tables>(packet: &mut P, tables: &T, ip: &mut Ipv4) -> Result<bool, DropReason> {
    let Some(quoted) = icmp::quoted(packet, ip) else { return Ok(false) };
    if quoted.ip.src != tables.node_ip() || !in_range(tables, quoted.ports.src) {
        return Ok(false);
    }
    let touch = Touch::error(packet, tables, &quoted.ip);
    let key = key(quoted.tuple().reversed(), quoted.ip.proto, Direction::IN);
    let Some(flow) = tables.touch(FlowMap::Nat, &key, &touch) else { return Ok(false) };
    tables.count(Counter::IcmpError, packet.bytes());
    let (src, inner) = (ip.src, flow.to.reversed());
    icmp::translate(packet, ip, &quoted, src, flow.to.dst, &inner)?;
    Ok(true)
}

#[inline(always)]
fn in_range<T: Tables>(tables: &T, port: Be16) -> bool {
    let port = port.get();
    port >= tables.snat_port_min() && port <= tables.snat_port_max()
}
