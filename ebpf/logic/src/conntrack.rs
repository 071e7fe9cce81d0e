//! Flows: what a packet does to the entry it belongs to.

use xebec_abi::{BackendId, Direction, Flow, FlowKey, FlowState, ServiceId, Tuple, proto};

use crate::{
    Family, Host, Packet,
    header::{Ip, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, Transport},
};

/// A packet, as its flow sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    pub now_ns: u64,
    pub bytes: u64,
    pub proto: u8,
    pub tcp_flags: u8,
    /// An error quotes the flow; it neither opens nor closes it.
    pub quoted: bool,
}

impl Touch {
    #[inline(always)]
    pub fn new<A: Family>(packet: &impl Packet, tables: &impl Host, ip: &Ip<A>, transport: &Transport) -> Self {
        Self {
            now_ns: tables.now_ns(),
            bytes: packet.bytes(),
            proto: ip.proto,
            tcp_flags: transport.flags,
            quoted: false,
        }
    }

    /// An ICMP error about a packet with the header `quoted`.
    #[inline(always)]
    pub fn error<A: Family>(packet: &impl Packet, tables: &impl Host, quoted: &Ip<A>) -> Self {
        Self { now_ns: tables.now_ns(), bytes: packet.bytes(), proto: quoted.proto, tcp_flags: 0, quoted: true }
    }

    /// Does this packet open a TCP connection?
    #[inline(always)]
    pub fn opens(&self) -> bool {
        self.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN
    }
}

/// What a packet learns from its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touched<A: Family> {
    /// What its tuple becomes.
    pub to: Tuple<A>,
    /// Packets of the flow, this one counted.
    pub packets: u32,
}

/// The flow after one more packet.
#[inline(always)]
pub fn touch<A: Family>(flow: &mut Flow<A>, touch: &Touch) -> Touched<A> {
    flow.state = next(flow.state, touch);
    flow.seen_ns = touch.now_ns;
    flow.packets = flow.packets.wrapping_add(1);
    flow.bytes = flow.bytes.wrapping_add(touch.bytes);
    Touched { to: flow.to, packets: flow.packets as u32 }
}

/// TCP: SYN opens (again, when a port is reused), any other segment shows an open connection, FIN
/// and RST close. Others are open from their second packet on.
#[inline(always)]
pub fn next(state: FlowState, touch: &Touch) -> FlowState {
    if touch.quoted {
        return state;
    }
    if touch.proto != proto::TCP {
        return FlowState::OPEN;
    }
    if touch.tcp_flags & (TCP_FIN | TCP_RST) != 0 {
        FlowState::CLOSING
    } else if touch.opens() {
        FlowState::OPENING
    } else if state == FlowState::CLOSING {
        state
    } else {
        FlowState::OPEN
    }
}

/// A flow at its first packet.
#[inline(always)]
pub fn first<A: Family>(to: Tuple<A>, service: ServiceId, backend: BackendId, touch: &Touch) -> Flow<A> {
    Flow { to, state: FlowState::OPENING, service, backend, seen_ns: touch.now_ns, packets: 1, bytes: touch.bytes }
}

#[inline(always)]
pub fn key<A: Family>(tuple: Tuple<A>, proto: u8, direction: Direction) -> FlowKey<A> {
    FlowKey { tuple, proto, direction, pad: [0; 2] }
}

#[cfg(test)]
mod tests;
