//! Masquerade: what a pod sends outside the cluster leaves from the node's address, and so does what a client outside
//! sends to a backend on another node.

use xebec_abi::{
    BackendId, Be16, Counter, Direction, DropReason, Flow, FlowKey, Ports, ServiceId, Tuple,
    limits::{SNAT_TRIES_FREE, SNAT_TRIES_MAX, SNAT_TRIES_PATIENT},
};

use crate::{
    Family, FlowMap, Host, Packet, Room, Tables,
    conntrack::{Half, Touch, begin, follow, is_answer, is_over, set_answer_key, set_key},
    dsr,
    external::Way,
    header::Kind,
    icmp,
    lb::{Choice, hash, scale},
    nat,
    transient::{enlist, follow_answer, follow_request},
};

/// A lost entry for answers is written again at least this often.
const REPAIR_PACKETS: u32 = 64;

/// Translates a packet that leaves the cluster, unless it answers a flow from outside.
#[inline(always)]
pub fn masquerade<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<(), DropReason> {
    match room.transport.kind {
        kind if kind.has_flow() => {}
        Kind::IcmpError => {
            return if error_out(packet, tables, room)? { Ok(()) } else { Err(DropReason::UnknownProtocol) };
        }
        Kind::UnknownFragment => return Err(DropReason::UnknownFragment),
        _ => return Err(DropReason::UnknownProtocol),
    }
    let Room { ip, transport, touch, key, claim, .. } = room;
    *touch = Touch::new(packet, ip, transport);
    set_key(key, ip, transport.ports, Direction::OUT);
    let turn = (&*touch, ip.l4);
    match follow_request(packet, tables, FlowMap::Nat, key, turn, &mut claim.to) {
        Some(packets) => repair_sometimes(tables, &key.tuple, &claim.to, packets, touch),
        None => {
            key.direction = Direction::INBOUND;
            if follow_answer(packet, tables, FlowMap::Conntrack, key, turn, &mut claim.to).is_some() {
                return Ok(());
            }
            // A backend's answer to a client outside.
            key.direction = Direction::IN;
            if follow_answer(packet, tables, FlowMap::Nat, key, turn, &mut claim.to).is_none() {
                if touch.accepts() {
                    // Its client would not know it from another address, and new ones of the same ports would not either.
                    return Err(DropReason::NoFlow);
                }
                claim.to = key.tuple;
                (claim.service, claim.backend) = (ServiceId(0), BackendId(0));
                self::claim(tables, &key.tuple, claim, touch)?;
                tables.count(Counter::Masquerade, touch.bytes);
            }
        }
    }
    nat::translate(packet, ip, transport, &claim.to)
}

/// What a new flow becomes, and room for its entries.
#[derive(Clone, Copy, Default, Debug)]
pub struct Claim<A: Family> {
    pub to: Tuple<A>,
    pub service: ServiceId,
    pub backend: BackendId,
    pub key: FlowKey<A>,
    pub flow: Flow<A>,
    /// Of another flow, whose port is taken.
    other: FlowKey<A>,
    pub choice: Choice<A>,
}

impl<A: Family> Claim<A> {
    /// Makes the entry of a flow's requests, from what its other entry has, or what there would be in one. True: it is new.
    #[inline(always)]
    pub fn put_request<T: Tables<A>>(&mut self, tables: &T, tuple: &Tuple<A>) -> Result<bool, DropReason> {
        self.key.tuple = *tuple;
        self.key.direction = Direction::OUT;
        self.flow.to = self.to;
        tables.put_flow(FlowMap::Nat, &self.key, &self.flow)
    }
}

/// Finds a free port of the node, or one whose flow is over or half-open, and makes node and port the source of `claim.to`.
/// The entry for answers is the claim: it is added only if it is not there.
#[inline(always)]
pub fn claim<A: Family, T: Tables<A>>(
    tables: &T,
    tuple: &Tuple<A>,
    claim: &mut Claim<A>,
    touch: &Touch,
) -> Result<(), DropReason> {
    // Here, not in what takes the port: that has no stack left for it.
    if take(tables, tuple, claim, touch)? {
        enlist(tables, FlowMap::Nat, &claim.key);
    }
    Ok(())
}

/// True: the flow is new. Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn take<A: Family, T: Tables<A>>(
    tables: &T,
    tuple: &Tuple<A>,
    claim: &mut Claim<A>,
    touch: &Touch,
) -> Result<bool, DropReason> {
    let Claim { to, service, backend, key, flow, other, .. } = claim;
    let proto = touch.proto;
    let min = tables.snat_port_min();
    let span = u32::from(tables.snat_port_max().wrapping_sub(min)) + 1;
    let mut uniform = hash(tuple, proto, tables.hash_seed());
    begin(tables, flow, tuple, *service, *backend, touch);
    to.src = tables.node_ip();
    for attempt in 0..SNAT_TRIES_MAX {
        let port = Be16::new(min.wrapping_add(scale(uniform, span) as u16));
        let dst = if proto == A::ICMP { port } else { to.ports.dst };
        to.ports = Ports { src: port, dst };
        key.tuple.set_reversed(to);
        key.set(proto, Direction::IN);
        let is_taken = match tables.look(FlowMap::Nat, key, |known| known.to == flow.to) {
            // To try and add what is there makes the map evict other flows (in a flood of IPv6, one of four established).
            None => tables.add_flow(FlowMap::Nat, key, flow)?,
            // When a connection is opened again from the same port.
            Some(true) => true,
            // A segment in the middle of a connection is of no use from another port.
            Some(false) if attempt < SNAT_TRIES_FREE || (touch.is_of_connection() && !touch.opens()) => false,
            Some(false) => take_over(tables, key, flow, attempt >= SNAT_TRIES_PATIENT, other)?,
        };
        if is_taken {
            return claim.put_request(tables, tuple);
        }
        tables.count(Counter::SnatRetry, 0);
        uniform = uniform.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
    }
    Err(DropReason::NoSnatPort)
}

/// Gives the port of a flow that is over to another one: its request's entry goes, its answer's becomes `flow`.
#[inline(never)]
fn take_over<A: Family, T: Tables<A>>(
    tables: &T,
    answer: &FlowKey<A>,
    flow: &Flow<A>,
    pressed: bool,
    key: &mut FlowKey<A>,
) -> Result<bool, DropReason> {
    if !finished(tables, answer, (flow.seen_ns, pressed), key) {
        return Ok(false);
    }
    // One CPU at a time, and each looks again: what it saw may be what another one has just replaced.
    *key = FlowKey { direction: Direction::TAKEOVER, ..*answer };
    if !tables.add_flow(FlowMap::Nat, key, flow)? {
        return Ok(false);
    }
    let mut taken = Ok(false);
    if finished(tables, answer, (flow.seen_ns, pressed), key) {
        tables.remove_flow(FlowMap::Nat, key);
        taken = tables.put_flow(FlowMap::Nat, answer, flow).map(|_| true);
        tables.count(Counter::SnatTakeover, 0);
    }
    *key = FlowKey { direction: Direction::TAKEOVER, ..*answer };
    tables.remove_flow(FlowMap::Nat, key);
    taken
}

/// Is the flow with this entry for answers over? Then `request` becomes the key of its other entry.
#[inline(never)]
fn finished<A: Family, T: Tables<A>>(
    tables: &T,
    answer: &FlowKey<A>,
    (now_ns, pressed): (u64, bool),
    request: &mut FlowKey<A>,
) -> bool {
    let look = |flow: &Flow<A>| {
        request.tuple.set_reversed(&flow.to);
        Half::of(flow)
    };
    let Some(half) = tables.look(FlowMap::Nat, answer, look) else { return false };
    request.set(answer.proto, Direction::OUT);
    let over = |flow: &Flow<A>| is_answer(&flow.to, &answer.tuple) && is_over(Half::of(flow), half, now_ns, pressed);
    tables.look(FlowMap::Nat, request, over).unwrap_or(false)
}

/// An LRU map may have evicted the entry for answers alone.
#[inline(always)]
pub fn repair_sometimes<A: Family, T: Tables<A>>(
    tables: &T,
    tuple: &Tuple<A>,
    to: &Tuple<A>,
    packets: u32,
    touch: &Touch,
) {
    if packets & (REPAIR_PACKETS - 1) == 0 || touch.opens() {
        repair(tables, tuple, to, touch);
    }
}

#[inline(never)]
fn repair<A: Family, T: Tables<A>>(tables: &T, tuple: &Tuple<A>, to: &Tuple<A>, touch: &Touch) {
    let (mut answer, mut back) = (FlowKey::default(), Flow::default());
    answer.tuple.set_reversed(to);
    answer.set(touch.proto, Direction::IN);
    begin(tables, &mut back, tuple, ServiceId(0), BackendId(0), touch);
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
    room: &mut Room<A>,
) -> Result<bool, DropReason> {
    let Room { ip, touch, key, claim, quoted, .. } = room;
    let Some(()) = icmp::quoted(packet, ip, quoted) else { return Ok(false) };
    *touch = Touch::error(packet, &quoted.ip);
    set_answer_key(key, &quoted.ip, quoted.ports, Direction::OUT);
    let is_masqueraded = follow(tables, FlowMap::Nat, key, touch, &mut claim.to).is_some();
    if !is_masqueraded {
        key.direction = Direction::INBOUND;
        if tables.touch(FlowMap::Conntrack, key, touch, |_| ()).is_some() {
            return Ok(true);
        }
        key.direction = Direction::IN;
        if follow(tables, FlowMap::Nat, key, touch, &mut claim.to).is_none() {
            return Ok(false);
        }
    }
    tables.count(Counter::IcmpError, packet.bytes());
    // From the backend itself, or from a router on the way.
    let is_from_end = is_masqueraded || ip.src == quoted.ip.dst;
    icmp::translate(packet, room, is_from_end)?;
    Ok(true)
}

/// What an answer from outside to the node's address is for.
#[inline(always)]
pub fn unmasquerade<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<Way, DropReason> {
    if room.transport.kind == Kind::IcmpError {
        return error_in(packet, tables, room);
    }
    let Room { ip, transport, touch, key, claim, .. } = room;
    // An echo request to the node is for the node.
    let answer = transport.kind.has_flow() && !(transport.kind == Kind::Echo && transport.flags == A::ECHO_REQUEST);
    if !answer || ip.dst != tables.node_ip() || !in_range(tables, transport.ports.dst) {
        return Ok(Way::None);
    }
    *touch = Touch::new(packet, ip, transport);
    set_key(key, ip, transport.ports, Direction::IN);
    if follow_answer(packet, tables, FlowMap::Nat, key, (touch, ip.l4), &mut claim.to).is_none() {
        tables.count(Counter::SnatMiss, touch.bytes);
        return Ok(Way::None);
    }
    nat::translate(packet, ip, transport, &claim.to)?;
    Ok(Way::Translated)
}

/// An error from outside about a masqueraded packet, or about a service's answer, which goes where the requests go.
#[inline(never)]
pub fn error_in<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<Way, DropReason> {
    let Room { ip, touch, key, claim, quoted, .. } = room;
    let Some(()) = icmp::quoted(packet, ip, quoted) else { return Ok(Way::None) };
    *touch = Touch::error(packet, &quoted.ip);
    let is_masqueraded = quoted.ip.src == tables.node_ip() && in_range(tables, quoted.ports.src);
    let direction = if is_masqueraded { Direction::IN } else { Direction::OUT };
    set_answer_key(key, &quoted.ip, quoted.ports, direction);
    if follow(tables, FlowMap::Nat, key, touch, &mut claim.to).is_none() {
        return Ok(Way::None);
    }
    if !is_masqueraded && dsr::goes_on(tables, &key.tuple, &claim.to) {
        return Ok(if tables.dsr_vni() == 0 { Way::None } else { Way::On });
    }
    tables.count(Counter::IcmpError, packet.bytes());
    // From the other end itself, or from a router on the way.
    let is_from_end = ip.src == quoted.ip.dst;
    icmp::translate(packet, room, is_from_end)?;
    Ok(Way::Translated)
}

/// Is this a port that the node takes for flows of others?
#[inline(always)]
pub fn in_range<T: Host>(tables: &T, port: Be16) -> bool {
    let port = port.get();
    port >= tables.snat_port_min() && port <= tables.snat_port_max()
}
