//! Direct server return: what a client outside sends to a service goes on to the node of its backend as it is, and that
//! node answers the client itself. So the backend sees its client's address, and answers do not come back here.
//!
//! The node that was dialled chooses the node, and remembers it. It sends the packet there through a tunnel of its own
//! network identifier, which says all there is to say: the packet is for a service, and for a backend of that node. That node
//! chooses among its own, and keeps both entries of the flow as if the client had dialled it. For a NodePort, whose address
//! only the first node knows as its own, it has a frontend without an address.
//!
//! The first node sees no answers, so it takes a flow for established by its second packet.

use xebec_abi::{
    Be16, Counter, Direction, DropReason, Flow, FlowState, FrontendKey, Tuple, config::DSR_NODE_PORT,
    lb::frontend_flag, lb::scope,
};

use crate::{
    Action, Family, FlowMap, Host, Packet, Room, Tables, Verdict,
    conntrack::{Touch, begin, next, set_key},
    external::{self, Way},
    header::{self, Kind},
    lb::Client,
    maglev, mtu, nat, reject,
    snat::{self, Claim},
    transient::{enlist, follow_request},
    xdp::overlay_bytes,
};

/// The source port of an entry whose client dialled a NodePort.
const NODE_PORT: Be16 = Be16::new(1);

/// Do packets with this tuple go on as they are, where they become `to`? Then that names another node as the source: a flow
/// that keeps its client's address has that there, and a masqueraded one this node's.
#[inline(always)]
pub fn goes_on<A: Family, T: Tables<A>>(tables: &T, tuple: &Tuple<A>, to: &Tuple<A>) -> bool {
    to.src != tuple.src && to.src != tables.node_ip()
}

/// Does a new flow to the backend in `chosen` go on as it is? Then `chosen` says so. Not if the client is a process of the
/// backend's node, which would take the answer for one of the backend's own; nor to a node that no tunnel leads to. Not
/// inlined, for the sake of the caller's stack.
#[inline(never)]
pub fn leads<A: Family, T: Tables<A>>(tables: &T, tuple: &Tuple<A>, chosen: &mut Claim<A>) -> bool {
    let flags = chosen.choice.frontend.flags;
    if tables.dsr_vni() == 0 || flags & frontend_flag::DSR == 0 {
        return false;
    }
    let Some(node) = tables.remote(&chosen.to.dst).map(|remote| remote.node) else { return false };
    if !is_end(tables, node) || node == tuple.src {
        return false;
    }
    if tables.remote(&tuple.src).is_some_and(|client| client.node == node) {
        return false;
    }
    chosen.to.src = node;
    chosen.to.ports.src = if flags & frontend_flag::NODE_PORT != 0 { NODE_PORT } else { Be16::ZERO };
    true
}

/// Can this be the end of a tunnel? With native routes the ways to nodes of both families are of both.
#[inline(always)]
fn is_end<A: Family, T: Host>(tables: &T, node: A) -> bool {
    let is_ipv4 = node == A::of_node(node.to_node());
    node != A::UNSPECIFIED && is_ipv4 != tables.tunnels_ipv6()
}

/// Makes the one entry of a new flow that goes on as it is.
#[inline(never)]
pub fn remember<A: Family, T: Tables<A>>(
    tables: &T,
    tuple: &Tuple<A>,
    chosen: &mut Claim<A>,
    touch: &Touch,
) -> Result<(), DropReason> {
    begin(tables, &mut chosen.flow, tuple, chosen.service, chosen.backend, touch);
    chosen.key.proto = touch.proto;
    if chosen.put_request(tables, tuple)? {
        enlist(tables, FlowMap::Nat, &chosen.key);
    }
    Ok(())
}

/// After a packet was counted on a flow that goes on as it is. Its second is all that ever shows that it is one.
#[inline(always)]
pub fn follow<A: Family, T: Tables<A>>(tables: &T, room: &Room<A>, packets: u32) {
    if packets == 2 {
        establish(tables, room);
    }
}

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn establish<A: Family, T: Tables<A>>(tables: &T, room: &Room<A>) {
    let open = |flow: &mut Flow<A>| {
        if flow.state.is_half_open() {
            flow.state = next(FlowState::OPEN, &room.touch);
        }
    };
    tables.alter(FlowMap::Nat, &room.key, open);
}

/// What the tunnel takes. Beside an overlay, what that takes.
#[inline(always)]
fn tunnel_mtu<T: Host>(tables: &T) -> u32 {
    let around = if tables.overlay() { 0 } else { overlay_bytes(tables) };
    tables.pod_mtu().wrapping_sub(around)
}

/// The way of a packet that goes on as it is, to the node in `claim.to`. What is too long for the tunnel is refused, if it may
/// not be cut: the tunnel cuts the rest, around it.
#[inline(always)]
pub fn onward<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
) -> Result<Verdict, DropReason> {
    let Room { ip, transport, claim: Claim { to, .. }, node, .. } = room;
    if ip.ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    if !mtu::fits(packet, ip, tunnel_mtu(tables)) && mtu::is_uncut(packet, tables, ip, transport) {
        room.mtu = tunnel_mtu(tables);
        return mtu::refuse(packet, tables, room);
    }
    nat::decrement_ttl(packet, ip)?;
    tables.count(Counter::ToDsr, packet.bytes());
    *node = to.src;
    Ok(Verdict::dsr(to.src.to_node(), to.ports.src == NODE_PORT))
}

/// Is this the network identifier of packets that another node passes on?
#[inline(always)]
pub fn is_for<T: Host>(tables: &T, vni: u32) -> bool {
    tables.dsr_vni() != 0 && vni & !DSR_NODE_PORT == tables.dsr_vni()
}

/// What the room's node passes on to a backend here.
#[inline(always)]
pub fn receive<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
    vni: u32,
) -> Result<Verdict, DropReason> {
    if !is_node(tables, &room.node) {
        return Err(DropReason::UnknownNode);
    }
    header::transport(packet, tables, &room.ip, &mut room.transport)?;
    match room.transport.kind {
        kind if kind.has_ports() => {
            let is_node_port = vni & DSR_NODE_PORT != 0;
            if let Err(reason) = translate(packet, tables, room, is_node_port) {
                return reject::reply(packet, tables, room, reason).map(|_| Verdict::FORWARD_PASSED);
            }
        }
        Kind::IcmpError => {
            if snat::error_in(packet, tables, room)? != Way::Translated {
                return Err(DropReason::NoService);
            }
        }
        Kind::UnknownFragment => return Err(DropReason::UnknownFragment),
        _ => return Err(DropReason::NoService),
    }
    let way = external::onward(packet, tables, room)?;
    Ok(match way.action {
        Action::Forward | Action::Answer => Verdict::FORWARD_PASSED,
        _ => way,
    })
}

/// Is this the address of a node's end of the tunnel? Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn is_node<A: Family, T: Tables<A>>(tables: &T, addr: &A) -> bool {
    tables.remote(addr).is_some_and(|known| known.node == *addr)
}

/// As [`external::forward`], for a backend here.
#[inline(always)]
fn translate<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &mut Room<A>,
    is_node_port: bool,
) -> Result<(), DropReason> {
    let Room { ip, transport, touch, key, claim, .. } = room;
    *touch = Touch::new(packet, ip, transport);
    set_key(key, ip, transport.ports, Direction::OUT);
    let known = match touch.opens() {
        true => None,
        false => follow_request(packet, tables, FlowMap::Nat, key, (touch, ip.l4), &mut claim.to),
    };
    match known {
        // An entry of the time when clients dialled this node, and the backend was elsewhere, would send it around.
        Some(packets) if !goes_on(tables, &key.tuple, &claim.to) => {
            snat::repair_sometimes(tables, &key.tuple, &claim.to, packets, touch);
        }
        _ => {
            if !choose(tables, &key.tuple, touch, claim, is_node_port)? {
                return Err(DropReason::NoService);
            }
            external::open(tables, &key.tuple, claim, touch, false)?;
        }
    }
    nat::translate(packet, ip, transport, &claim.to)
}

/// As [`external::choose`]. If no backend is here any more it is one elsewhere, which then sees this node.
#[inline(never)]
fn choose<A: Family, T: Tables<A>>(
    tables: &T,
    tuple: &Tuple<A>,
    touch: &Touch,
    chosen: &mut Claim<A>,
    is_node_port: bool,
) -> Result<bool, DropReason> {
    let addr = if is_node_port { A::UNSPECIFIED } else { tuple.dst };
    let frontend = FrontendKey { addr, port: tuple.ports.dst, proto: touch.proto, scope: scope::EXTERNAL };
    external::select_for(
        tables,
        &frontend,
        Client::Passed(tuple.src),
        tuple,
        maglev::flow_hash(tuple, touch.proto),
        chosen,
    )
}

#[cfg(test)]
mod tests;
