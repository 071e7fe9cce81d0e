//! Per-packet load balancing, for what the socket hooks did not see (raw sockets, clients in other
//! cgroups or network namespaces) or left alone, as a socket's address was not known yet.

use xebec_abi::{
    Counter, Direction, DropReason, FrontendKey, Ports, Tuple,
    lb::{frontend_flag, scope},
};

use crate::{
    Family, FlowMap, Packet, Room, Tables,
    conntrack::{Touch, begin, is_known, set_key},
    header::Kind,
    lb::{Choice, Client, Selection, hash, select},
    nat,
    snat::Claim,
    transient::{enlist, follow_request},
};

/// Sends a packet that a pod addressed to a service to one of its backends: `ip` says which.
#[inline(always)]
pub fn forward<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
    netns: u64,
) -> Result<(), DropReason> {
    match room.transport.kind {
        kind if kind.has_ports() => {}
        Kind::UnknownFragment => return Err(DropReason::UnknownFragment),
        _ => return Err(DropReason::NoService),
    }
    let Room { ip, transport, touch, key, claim, .. } = room;
    *touch = Touch::new(packet, ip, transport);
    set_key(key, ip, transport.ports, Direction::SERVICE);
    // A new connection may use the ports of one that is over: its backend may be gone.
    let turn = (&*touch, ip.l4);
    if touch.opens() || follow_request(packet, tables, FlowMap::Conntrack, key, turn, &mut claim.to).is_none() {
        // Here, not in what opens: that has no stack left for it.
        if open(tables, &key.tuple, netns, touch, claim)? {
            enlist(tables, FlowMap::Conntrack, &claim.key);
        }
    }
    nat::translate(packet, ip, transport, &claim.to)
}

/// Chooses a backend and remembers it, for the request and for its answer. True: the flow is new. Not inlined: the stack of
/// a program is 512 bytes, and this part needs its own only once per flow.
#[inline(never)]
fn open<A: Family, T: Tables<A>>(
    tables: &T,
    tuple: &Tuple<A>,
    netns: u64,
    touch: &Touch,
    claim: &mut Claim<A>,
) -> Result<bool, DropReason> {
    let proto = touch.proto;
    let frontend = FrontendKey { addr: tuple.dst, port: tuple.ports.dst, proto, scope: scope::INTERNAL };
    // A hash, so that retransmissions choose the same backend even if nothing can be remembered.
    let pick = hash(tuple, proto, tables.hash_seed());
    let client = Client::Netns(netns);
    match select(tables, &frontend, client, pick, &mut claim.choice) {
        Selection::NotAService => return Err(DropReason::NoService),
        Selection::NoBackend => return Err(DropReason::NoBackend),
        Selection::NoLocalBackend => return Err(DropReason::NoLocalBackend),
        Selection::Backend => {}
    }
    let Claim { to, key, flow, choice: Choice { frontend, backend, .. }, .. } = claim;
    if frontend.flags & frontend_flag::SOURCE_RANGES != 0 && !tables.in_source_ranges(frontend.service, tuple.src) {
        return Err(DropReason::SourceRange);
    }
    to.set(&tuple.src, &backend.addr, Ports { dst: backend.port, ..tuple.ports });
    if to.dst == tuple.src {
        // A pod that reaches itself must not see its own address as the source: it would answer
        // itself, untranslated.
        to.src = tables.hairpin_ip();
    }
    if touch.opens() {
        key.tuple = *tuple;
        key.set(proto, Direction::SERVICE);
        if is_known(tables, FlowMap::Conntrack, key, to) {
            return Ok(false);
        }
    }
    // The answer's entry first: an answer must never find nothing.
    key.tuple.set_reversed(to);
    key.set(proto, Direction::REPLY);
    begin(tables, flow, tuple, frontend.service, backend.id, touch);
    tables.put_flow(FlowMap::Conntrack, key, flow)?;
    key.tuple = *tuple;
    key.direction = Direction::SERVICE;
    flow.to = *to;
    let is_new = tables.put_flow(FlowMap::Conntrack, key, flow)?;
    tables.count(Counter::PacketLb, touch.bytes);
    Ok(is_new)
}
