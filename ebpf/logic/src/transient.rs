//! Flows that may go at any time: half-open ones, whose client may be forged, and closed ones. Only so many of them have
//! a place, in the order in which they came, and the one that has waited longest makes place for another. So neither a
//! flood of first packets nor many short connections push out an established flow, which has no place to lose.
//!
//! A flow is half-open until its client shows that it got an answer: TCP by the acknowledgement number, which nobody can
//! send who did not see the answer; others by another packet after it. A half-open flow whose entries went is chosen again
//! by its next packet, and chosen alike: by hash.

use xebec_abi::{Counter, Direction, FlowKey, FlowState, Tuple, proto};

use crate::{
    Family, FlowMap, Packet, Tables,
    conntrack::{Half, Touch, follow, is_answer, is_done, next},
    header::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
};

/// Offsets in a TCP header.
const SEQ: usize = 4;
const ACK: usize = 8;

/// Room of a CPU for the flow that makes place, and where the next one goes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Turn<A: Family> {
    /// By map.
    pub next: [u32; 2],
    pub leaving: FlowKey<A>,
    pub answer: FlowKey<A>,
}

/// [`follow`]s a packet of the flow's client: it may show that it got the answer. `l4` is where its transport header is.
#[inline(always)]
pub fn follow_request<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    map: FlowMap,
    key: &FlowKey<A>,
    (touch, l4): (&Touch, usize),
    to: &mut Tuple<A>,
) -> Option<u32> {
    let (packets, state) = follow(tables, map, key, touch, to)?;
    requested(packet, tables, map, key, touch, l4, state);
    Some(packets)
}

/// [`follow`]s a packet to the flow's client.
#[inline(always)]
pub fn follow_answer<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    map: FlowMap,
    key: &FlowKey<A>,
    (touch, l4): (&Touch, usize),
    to: &mut Tuple<A>,
) -> Option<u32> {
    let (packets, state) = follow(tables, map, key, touch, to)?;
    answered(packet, tables, map, key, touch, l4, state);
    Some(packets)
}

/// After a packet of its client was counted on a flow, which is in `state` then.
#[inline(always)]
pub fn requested<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    map: FlowMap,
    key: &FlowKey<A>,
    touch: &Touch,
    l4: usize,
    state: FlowState,
) {
    if state.is_answered() || touch.tcp_flags & (TCP_FIN | TCP_RST) != 0 {
        confirm(tables, map, key, touch, number(packet, l4 + ACK));
    }
}

/// After a packet to its client was counted on a flow.
#[inline(always)]
pub fn answered<A: Family, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    map: FlowMap,
    key: &FlowKey<A>,
    touch: &Touch,
    l4: usize,
    state: FlowState,
) {
    if state == FlowState::OPENING || touch.tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST) != 0 {
        answer(tables, map, key, touch, number(packet, l4 + SEQ));
    }
}

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn confirm<A: Family, T: Tables<A>>(tables: &T, map: FlowMap, key: &FlowKey<A>, touch: &Touch, ack: u32) {
    let is_closed = tables.alter(map, key, |flow| {
        if is_shown(flow.state, touch, ack) {
            flow.state = next(FlowState::OPEN, touch);
        }
        flow.state.is_closed()
    });
    if is_closed == Some(true) {
        enlist(tables, map, key);
    }
}

#[inline(always)]
fn is_shown(state: FlowState, touch: &Touch, ack: u32) -> bool {
    let acknowledges = touch.tcp_flags & (TCP_SYN | TCP_RST | TCP_ACK) == TCP_ACK;
    state.is_answered() && (touch.proto != proto::TCP || (acknowledges && state.shows(ack)))
}

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn answer<A: Family, T: Tables<A>>(tables: &T, map: FlowMap, key: &FlowKey<A>, touch: &Touch, seq: u32) {
    let is_answer = touch.proto != proto::TCP || touch.tcp_flags & (TCP_RST | TCP_ACK) == TCP_ACK;
    let state = FlowState::answered(seq);
    if key.direction == Direction::INBOUND {
        // One entry is for both ways.
        tables.alter(map, key, |flow| {
            if is_answer && flow.state.is_half_open() {
                flow.state = state;
            }
        });
        return;
    }
    let mut request = FlowKey::default();
    let is_closed = tables.alter(map, key, |flow| {
        if is_answer && flow.state == FlowState::OPENING {
            flow.state = next(FlowState::OPEN, touch);
        }
        request.tuple.set_reversed(&flow.to);
        flow.state.is_closed()
    });
    let direction = if key.direction == Direction::IN { Direction::OUT } else { Direction::SERVICE };
    request.set(key.proto, direction);
    if is_answer {
        tables.alter(map, &request, |flow| {
            if flow.state.is_half_open() {
                flow.state = state;
            }
        });
    }
    if is_closed == Some(true) {
        enlist(tables, map, &request);
    }
}

/// A number of a TCP header, in host order; of a packet without one, of no meaning.
#[inline(always)]
fn number<P: Packet>(packet: &P, offset: usize) -> u32 {
    packet.load::<4>(offset).map_or(0, u32::from_be_bytes)
}

/// Gives a transient flow, by the key of its request, the place of the one that has waited longest, which goes if it is
/// still half-open, or over. Not inlined, for the sake of the caller's stack.
#[inline(never)]
pub fn enlist<A: Family, T: Tables<A>>(tables: &T, map: FlowMap, key: &FlowKey<A>) {
    tables.enlist(map, key, |leaving, answer| {
        if leaving.proto != 0 && leaving != key {
            leave(tables, map, leaving, answer);
        }
    });
}

/// `answer` is room for a key.
#[inline(always)]
fn leave<A: Family, T: Tables<A>>(tables: &T, map: FlowMap, request: &FlowKey<A>, answer: &mut FlowKey<A>) {
    let look = tables.look(map, request, |flow| {
        answer.tuple.set_reversed(&flow.to);
        Half::of(flow)
    });
    let Some(half) = look else { return };
    let is_half_open = half.state.is_half_open();
    if is_half_open {
        tables.count(Counter::HalfOpenEvicted, 0);
    }
    if request.direction == Direction::INBOUND {
        if is_half_open {
            tables.remove_flow(map, request);
        }
        return;
    }
    let direction = if request.direction == Direction::OUT { Direction::IN } else { Direction::REPLY };
    answer.set(request.proto, direction);
    let other = tables.look(map, answer, |flow| (Half::of(flow), is_answer(&flow.to, &request.tuple)));
    let is_over = match other {
        Some((other, true)) => is_done(half, other),
        _ => half.state.is_closed(),
    };
    if is_half_open || is_over {
        if matches!(other, Some((_, true))) {
            tables.remove_flow(map, answer);
        }
        tables.remove_flow(map, request);
    }
}

#[cfg(test)]
mod tests;
