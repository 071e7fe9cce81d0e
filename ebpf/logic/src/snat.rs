//! Masquerade: what a pod sends outside the cluster leaves from the node's address, and so does what a client outside
//! sends to a backend on another node.

use xebec_abi::{
    BackendId, Be16, Counter, Direction, DropReason, Flow, FlowKey, Ports, ServiceId, Tuple,
    limits::{SNAT_TRIES_FREE, SNAT_TRIES_MAX},
};

use crate::{
    Family, FlowMap, Host, Packet, Tables,
    conntrack::{Half, Touch, Touched, first, is_over, key},
    header::{Ip, Kind, Transport},
    icmp,
    lb::{hash, scale},
    nat,
};

/// A lost entry for answers is written again at least this often.
const REPAIR_PACKETS: u32 = 64;

/// Translates a packet that leaves the cluster, unless it answers a flow from outside.
#[inline(always)]
pub fn masquerade<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ip<A>,
    transport: &mut Transport,
) -> Result<(), DropReason> {
    match transport.kind {
        Kind::Tcp | Kind::Udp | Kind::Echo => {}
        Kind::IcmpError => {
            return if error_out(packet, tables, ip)? { Ok(()) } else { Err(DropReason::UnknownProtocol) };
        }
        Kind::UnknownFragment => return Err(DropReason::UnknownFragment),
        Kind::Other => return Err(DropReason::UnknownProtocol),
    }
    let tuple = ip.tuple(transport.ports);
    let touch = Touch::new(packet, tables, ip, transport);
    let out = key(tuple, ip.proto, Direction::OUT);
    let to = match tables.touch(FlowMap::Nat, &out, &touch) {
        Some(flow) => {
            repair_sometimes(tables, &tuple, &flow, &touch);
            flow.to
        }
        None => {
            let inbound = key(tuple, ip.proto, Direction::INBOUND);
            if tables.touch(FlowMap::Conntrack, &inbound, &touch).is_some() {
                return Ok(());
            }
            // A backend's answer to a client outside.
            let answer = key(tuple, ip.proto, Direction::IN);
            match tables.touch(FlowMap::Nat, &answer, &touch) {
                Some(flow) => flow.to,
                None => {
                    let mut claim = Claim { to: tuple, ..Claim::default() };
                    self::claim(tables, &tuple, &mut claim, &touch)?;
                    tables.count(Counter::Masquerade, touch.bytes);
                    claim.to
                }
            }
        }
    };
    nat::translate(packet, ip, transport, &to)
}

/// What a new flow becomes.
#[derive(Clone, Copy, Default)]
pub struct Claim<A: Family> {
    pub to: Tuple<A>,
    pub service: ServiceId,
    pub backend: BackendId,
}

/// Finds a free port of the node, or one whose connection is over, and makes node and port the source of `claim.to`. The
/// entry for answers is the claim: it is added only if it is not there. Not inlined, for the sake of the caller's stack.
#[inline(never)]
pub fn claim<A: Family, T: Tables<A>>(
    tables: &T,
    tuple: &Tuple<A>,
    claim: &mut Claim<A>,
    touch: &Touch,
) -> Result<(), DropReason> {
    let proto = touch.proto;
    let min = tables.snat_port_min();
    let span = u32::from(tables.snat_port_max().wrapping_sub(min)) + 1;
    let mut uniform = hash(tuple, proto, tables.hash_seed());
    // One key and one flow after the other in the same place on the stack.
    let mut flow = first(tuple.reversed(), claim.service, claim.backend, touch);
    for attempt in 0..SNAT_TRIES_MAX {
        let port = Be16::new(min.wrapping_add(scale(uniform, span) as u16));
        let dst = if proto == A::ICMP { port } else { claim.to.ports.dst };
        claim.to = Tuple { src: tables.node_ip(), dst: claim.to.dst, ports: Ports { src: port, dst } };
        let mut key = key(claim.to.reversed(), proto, Direction::IN);
        // It is there already when a connection is opened again from the same port.
        if tables.add_flow(FlowMap::Nat, &key, &flow)?
            || tables.peek(FlowMap::Nat, &key) == Some(flow.to)
            || (attempt >= SNAT_TRIES_FREE && touch.opens() && take_over(tables, &key, &flow)?)
        {
            key.tuple = *tuple;
            key.direction = Direction::OUT;
            flow.to = claim.to;
            return tables.put_flow(FlowMap::Nat, &key, &flow);
        }
        tables.count(Counter::SnatRetry, 0);
        uniform = uniform.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
    }
    Err(DropReason::NoSnatPort)
}

/// Gives the port of a connection that is over to another flow: its request's entry goes, its answer's becomes `flow`.
#[inline(never)]
fn take_over<A: Family, T: Tables<A>>(tables: &T, answer: &FlowKey<A>, flow: &Flow<A>) -> Result<bool, DropReason> {
    let mut key = *answer;
    if !finished(tables, answer, flow.seen_ns, &mut key) {
        return Ok(false);
    }
    // One CPU at a time, and each looks again: what it saw may be what another one has just replaced.
    key = FlowKey { direction: Direction::TAKEOVER, ..*answer };
    if !tables.add_flow(FlowMap::Nat, &key, flow)? {
        return Ok(false);
    }
    let mut taken = Ok(false);
    if finished(tables, answer, flow.seen_ns, &mut key) {
        tables.remove_flow(FlowMap::Nat, &key);
        taken = tables.put_flow(FlowMap::Nat, answer, flow).map(|()| true);
    }
    key = FlowKey { direction: Direction::TAKEOVER, ..*answer };
    tables.remove_flow(FlowMap::Nat, &key);
    taken
}

/// Is the connection with this entry for answers over? Then `request` becomes the key of its other entry.
#[inline(never)]
fn finished<A: Family, T: Tables<A>>(tables: &T, answer: &FlowKey<A>, now_ns: u64, request: &mut FlowKey<A>) -> bool {
    let Some((to, half)) = tables.look(FlowMap::Nat, answer, |flow| (flow.to, Half::of(flow))) else { return false };
    *request = key(to.reversed(), answer.proto, Direction::OUT);
    let over = |flow: &Flow<A>| flow.to == answer.tuple.reversed() && is_over(Half::of(flow), half, now_ns);
    tables.look(FlowMap::Nat, request, over).unwrap_or(false)
}

/// An LRU map may have evicted the entry for answers alone.
#[inline(always)]
pub fn repair_sometimes<A: Family, T: Tables<A>>(tables: &T, tuple: &Tuple<A>, flow: &Touched<A>, touch: &Touch) {
    if flow.packets & (REPAIR_PACKETS - 1) == 0 || touch.opens() {
        repair(tables, tuple, &flow.to, touch);
    }
}

#[inline(never)]
fn repair<A: Family, T: Tables<A>>(tables: &T, tuple: &Tuple<A>, to: &Tuple<A>, touch: &Touch) {
    let answer = key(to.reversed(), touch.proto, Direction::IN);
    let back = first(tuple.reversed(), ServiceId(0), BackendId(0), touch);
    if tables.add_flow(FlowMap::Nat, &answer, &back) == Ok(true) {
        tables.count(Counter::HalfFlow, 0);
    }
}

/// An error about an answer of a masqueraded flow, of which the outside knows the node's port, or about a request of
/// a client outside, who knows the service. False: it is about no known flow.
#[inline(never)]
pub fn error_out<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ip<A>,
) -> Result<bool, DropReason> {
    let Some(mut quoted) = icmp::quoted(packet, ip) else { return Ok(false) };
    let touch = Touch::error(packet, tables, &quoted.ip);
    let mut key = key(quoted.tuple().reversed(), quoted.ip.proto, Direction::OUT);
    let mut flow = tables.touch(FlowMap::Nat, &key, &touch);
    let masqueraded = flow.is_some();
    if !masqueraded {
        key.direction = Direction::INBOUND;
        if tables.touch(FlowMap::Conntrack, &key, &touch).is_some() {
            return Ok(true);
        }
        key.direction = Direction::IN;
        flow = tables.touch(FlowMap::Nat, &key, &touch);
    }
    let Some(flow) = flow else { return Ok(false) };
    tables.count(Counter::IcmpError, packet.bytes());
    // From the backend itself, or from a router on the way.
    let src = if masqueraded || ip.src == quoted.ip.dst { flow.to.src } else { ip.src };
    icmp::translate(packet, ip, &mut quoted, src, flow.to.dst, &flow.to.reversed())?;
    Ok(true)
}

/// What an answer from outside to the node's address is for.
#[inline(always)]
pub fn unmasquerade<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ip<A>,
    transport: &mut Transport,
) -> Result<bool, DropReason> {
    if transport.kind == Kind::IcmpError {
        return error_in(packet, tables, ip);
    }
    // An echo request to the node is for the node.
    let answer = transport.kind.has_flow() && !(transport.kind == Kind::Echo && transport.flags == A::ECHO_REQUEST);
    if !answer || ip.dst != tables.node_ip() || !in_range(tables, transport.ports.dst) {
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

/// An error from outside about a masqueraded packet, or about a service's answer.
#[inline(never)]
fn error_in<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ip<A>,
) -> Result<bool, DropReason> {
    let Some(mut quoted) = icmp::quoted(packet, ip) else { return Ok(false) };
    let touch = Touch::error(packet, tables, &quoted.ip);
    let masqueraded = quoted.ip.src == tables.node_ip() && in_range(tables, quoted.ports.src);
    let direction = if masqueraded { Direction::IN } else { Direction::OUT };
    let key = key(quoted.tuple().reversed(), quoted.ip.proto, direction);
    let Some(flow) = tables.touch(FlowMap::Nat, &key, &touch) else { return Ok(false) };
    tables.count(Counter::IcmpError, packet.bytes());
    let inner = flow.to.reversed();
    // From the other end itself, or from a router on the way.
    let src = if ip.src == quoted.ip.dst { inner.dst } else { ip.src };
    icmp::translate(packet, ip, &mut quoted, src, flow.to.dst, &inner)?;
    Ok(true)
}

/// Is this a port that the node takes for flows of others?
#[inline(always)]
pub fn in_range<T: Host>(tables: &T, port: Be16) -> bool {
    let port = port.get();
    port >= tables.snat_port_min() && port <= tables.snat_port_max()
}
