//! Per-packet load balancing, for what the socket hooks did not see: raw sockets, clients in other
//! cgroups or network namespaces.

use xebec_abi::{Counter, Direction, DropReason, FrontendKey, Tuple, lb::scope};

use crate::{
    Family, FlowMap, Packet, Tables,
    conntrack::{Touch, first, key},
    header::{Ip, Kind, Transport},
    lb::{Client, Selection, hash, select},
    nat,
};

/// Sends a packet that a pod addressed to a service to one of its backends: `ip` says which.
#[inline(always)]
pub fn forward<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &mut Ip<A>,
    transport: &mut Transport,
    netns: u64,
) -> Result<(), DropReason> {
    match transport.kind {
        Kind::Tcp | Kind::Udp => {}
        Kind::UnknownFragment => return Err(DropReason::UnknownFragment),
        _ => return Err(DropReason::NoService),
    }
    let tuple = ip.tuple(transport.ports);
    let touch = Touch::new(packet, tables, ip, transport);
    let request = key(tuple, ip.proto, Direction::SERVICE);
    // A new connection may use the ports of one that is over: its backend may be gone.
    let known = if touch.opens() { None } else { tables.touch(FlowMap::Conntrack, &request, &touch) };
    let to = match known {
        Some(flow) => flow.to,
        None => open(tables, &tuple, netns, &touch)?,
    };
    nat::translate(packet, ip, transport, &to)
}

/// Chooses a backend and remembers it, for the request and for its answer. Not inlined: the stack of
/// a program is 512 bytes, and this part needs its own only once per flow.
#[inline(never)]
fn open<A: Family, T: Tables<A>>(
    tables: &T,
    tuple: &Tuple<A>,
    netns: u64,
    touch: &Touch,
) -> Result<Tuple<A>, DropReason> {
    let (tuple, proto) = (*tuple, touch.proto);
    let frontend = FrontendKey { addr: tuple.dst, port: tuple.ports.dst, proto, scope: scope::INTERNAL };
    // A hash, so that retransmissions choose the same backend even if nothing can be remembered.
    let pick = hash(&tuple, proto, tables.hash_seed());
    let client = Client::Netns(netns);
    let (frontend, backend) = match select(tables, &frontend, client, pick) {
        Selection::NotAService => return Err(DropReason::NoService),
        Selection::NoBackend => return Err(DropReason::NoBackend),
        Selection::NoLocalBackend => return Err(DropReason::NoLocalBackend),
        Selection::Backend(frontend, backend) => (frontend, backend),
    };
    let mut to = Tuple { dst: backend.addr, ..tuple };
    to.ports.dst = backend.port;
    if to.dst == tuple.src {
        // A pod that reaches itself must not see its own address as the source: it would answer
        // itself, untranslated.
        to.src = tables.hairpin_ip();
    }
    // The answer's entry first: an answer must never find nothing. One key and one flow after the
    // other in the same place on the stack.
    let mut key = key(to.reversed(), proto, Direction::REPLY);
    let mut flow = first(tuple.reversed(), frontend.service, backend.id, touch);
    for _ in 0..2 {
        tables.put_flow(FlowMap::Conntrack, &key, &flow)?;
        key.tuple = tuple;
        key.direction = Direction::SERVICE;
        flow.to = to;
    }
    tables.count(Counter::PacketLb, touch.bytes);
    Ok(to)
}
