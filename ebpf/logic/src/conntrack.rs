//! Flows: what a packet does to the entry it belongs to.

use xebec_abi::{
    BackendId, Direction, Flow, FlowKey, FlowState, Ports, ServiceId, Tuple,
    limits::{LINGER_NS, RESET_NS, RESET_PRESSED_NS},
    proto,
};

use crate::{
    Family, FlowMap, Host, Packet, Tables,
    header::{Ip, Kind, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, Transport},
};

/// A packet, as its flow sees it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Touch {
    pub bytes: u64,
    pub proto: u8,
    /// And what is like them of SCTP; none of what has no connections.
    pub tcp_flags: u8,
    /// An error quotes the flow; it neither opens nor closes it.
    pub quoted: bool,
}

impl Touch {
    #[inline(always)]
    pub fn new<A: Family>(packet: &impl Packet, ip: &Ip<A>, transport: &Transport) -> Self {
        Self {
            bytes: packet.bytes(),
            proto: ip.proto,
            tcp_flags: if transport.kind == Kind::Echo { 0 } else { transport.flags },
            quoted: false,
        }
    }

    /// An ICMP error about a packet with the header `quoted`.
    #[inline(always)]
    pub fn error<A: Family>(packet: &impl Packet, quoted: &Ip<A>) -> Self {
        Self { bytes: packet.bytes(), proto: quoted.proto, tcp_flags: 0, quoted: true }
    }

    /// Is the protocol one that opens and closes connections, or associations?
    #[inline(always)]
    pub fn is_of_connection(&self) -> bool {
        matches!(self.proto, proto::TCP | proto::SCTP)
    }

    /// Does this packet open a connection?
    #[inline(always)]
    pub fn opens(&self) -> bool {
        self.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN
    }

    /// Does it accept one?
    #[inline(always)]
    pub fn accepts(&self) -> bool {
        self.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN | TCP_ACK
    }
}

/// Counts a packet on a flow. A packet without one does not ask what time it is.
#[inline(always)]
pub fn touch<A: Family>(flow: &mut Flow<A>, touch: &Touch, now_ns: u64) {
    flow.state = next(flow.state, touch);
    flow.seen_ns = now_ns;
    flow.packets = flow.packets.wrapping_add(1);
    flow.bytes = flow.bytes.wrapping_add(touch.bytes);
}

/// Counts a packet on a flow, if there is one: then `to` is what its tuple becomes, and the answer how many packets the
/// flow has had, and its state now.
#[inline(always)]
pub fn follow<A: Family, T: Tables<A>>(
    tables: &T,
    map: FlowMap,
    key: &FlowKey<A>,
    touch: &Touch,
    to: &mut Tuple<A>,
) -> Option<(u32, FlowState)> {
    tables.touch(map, key, touch, |flow| {
        *to = flow.to;
        (flow.packets as u32, flow.state)
    })
}

/// Whether a flow is half-open, [`crate::transient`] decides. Connections: FIN closes, and so does RST unless something follows
/// it. SYN opens what is closed (a port is used again); anybody could send it to a connection that is open.
#[inline(always)]
pub fn next(state: FlowState, touch: &Touch) -> FlowState {
    if touch.quoted || state.is_half_open() {
        return state;
    }
    if touch.tcp_flags & TCP_RST != 0 {
        FlowState::RESET
    } else if touch.tcp_flags & TCP_FIN != 0 {
        FlowState::CLOSING
    } else if touch.opens() && state.is_closed() {
        FlowState::OPENING
    } else if state == FlowState::CLOSING && touch.tcp_flags & TCP_SYN == 0 {
        state
    } else {
        FlowState::OPEN
    }
}

/// What one of a connection's two entries says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Half {
    pub state: FlowState,
    pub seen_ns: u64,
    pub service: ServiceId,
}

impl Half {
    #[inline(always)]
    pub fn of<A: Family>(flow: &Flow<A>) -> Self {
        Self { state: flow.state, seen_ns: flow.seen_ns, service: flow.service }
    }

    /// Of what is inside the cluster: of a service, what answers; else what asks.
    #[inline(always)]
    fn inside(self, answer: Self) -> FlowState {
        if self.service == ServiceId(0) { self.state } else { answer.state }
    }
}

/// Have both ends closed a connection, or has the one in the cluster aborted it?
#[inline(always)]
pub fn is_done(request: Half, answer: Half) -> bool {
    (request.state.is_closed() && answer.state.is_closed()) || request.inside(answer) == FlowState::RESET
}

/// Is a connection over for so long that another one may have its port? As when Linux reopens or evicts one that is in
/// TIME_WAIT (`nf_conntrack_tcp_packet`, `nf_nat_used_tuple_harder`), except that nobody knows the sequence numbers here:
/// a server that is in TIME_WAIT itself and sees an older one sends its client back to try again (RFC 6191 has the rule).
/// A half-open flow is over if it is as silent, or if others are `pressed` for a port; then one that was reset is, sooner.
#[inline(always)]
pub fn is_over(request: Half, answer: Half, now_ns: u64, pressed: bool) -> bool {
    let is_half_open = request.state.is_half_open();
    if is_half_open && pressed {
        return true;
    }
    let either = request.state == FlowState::RESET || answer.state == FlowState::RESET;
    let linger = if is_half_open || is_done(request, answer) {
        LINGER_NS
    } else if either {
        if pressed { RESET_PRESSED_NS } else { RESET_NS }
    } else {
        return false;
    };
    let silent = |half: Half| now_ns.saturating_sub(half.seen_ns) > linger;
    silent(request) && silent(answer)
}

/// Is this the tuple of the answer to `other`?
#[inline(always)]
pub fn is_answer<A: Family>(tuple: &Tuple<A>, other: &Tuple<A>) -> bool {
    tuple.src == other.dst
        && tuple.dst == other.src
        && tuple.ports.src == other.ports.dst
        && tuple.ports.dst == other.ports.src
}

/// Is there a connection already that is not closed, to the backend in `to`? Then `to` becomes what its tuple becomes: the
/// SYN is that of a client who waits for an answer, or anybody's, which does not end a connection. If its client did, the
/// backend tells it to reset the connection (RFC 9293 section 3.10.7.4), and the SYN after that opens another one.
#[inline(always)]
pub fn is_known<A: Family, T: Tables<A>>(tables: &T, map: FlowMap, key: &FlowKey<A>, to: &mut Tuple<A>) -> bool {
    let now_ns = tables.now_ns();
    let look = |flow: &mut Flow<A>| {
        let is_same = flow.to.dst == to.dst && flow.to.ports.dst == to.ports.dst;
        let is_known = is_same && !flow.state.is_closed();
        if is_known {
            flow.seen_ns = now_ns;
            to.src = flow.to.src;
            to.ports.src = flow.to.ports.src;
        }
        is_known
    };
    tables.alter(map, key, look).unwrap_or(false)
}

/// Makes it a flow at its first packet, whose tuple becomes that of the answer to `other`.
#[inline(always)]
pub fn begin<A: Family>(
    tables: &impl Host,
    flow: &mut Flow<A>,
    other: &Tuple<A>,
    service: ServiceId,
    backend: BackendId,
    touch: &Touch,
) {
    flow.to.set_reversed(other);
    (flow.state, flow.service, flow.backend) = (FlowState::OPENING, service, backend);
    (flow.seen_ns, flow.packets, flow.bytes) = (tables.now_ns(), 1, touch.bytes);
}

#[inline(always)]
pub fn key<A: Family>(tuple: Tuple<A>, proto: u8, direction: Direction) -> FlowKey<A> {
    FlowKey { tuple, proto, direction, pad: [0; 2] }
}

/// Makes it the key of a packet.
#[inline(always)]
pub fn set_key<A: Family>(key: &mut FlowKey<A>, ip: &Ip<A>, ports: Ports, direction: Direction) {
    key.tuple.set(&ip.src, &ip.dst, ports);
    key.set(ip.proto, direction);
}

/// Makes it the key of the answer to a packet.
#[inline(always)]
pub fn set_answer_key<A: Family>(key: &mut FlowKey<A>, ip: &Ip<A>, ports: Ports, direction: Direction) {
    key.tuple.set(&ip.dst, &ip.src, Ports { src: ports.dst, dst: ports.src });
    key.set(ip.proto, direction);
}

#[cfg(test)]
mod tests;
