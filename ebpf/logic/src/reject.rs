//! Refusals, from the address that was dialled. As with kube-proxy's REJECT, a client of a service without backends is
//! told at once: TCP by a reset (RFC 9293 section 3.5.2), UDP and SCTP by "port unreachable" (RFC 1122 section 3.2.2.1). Who sends
//! what is too long for its next hop is told what fits (RFC 1191 section 4, RFC 8201).

use xebec_abi::{Counter, DropReason, proto};

use crate::{
    Family, Packet, Room, Tables, Verdict,
    csum::{add, fold},
    header::{Fragment, IP, Ip, Kind, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
};

const TCP_BYTES: usize = 20;
const ICMP_BYTES: usize = 8;
/// What every error quotes at least, after the header.
const QUOTE_BYTES: usize = 8;
/// A fragment header of IPv6, or options of IPv4, that are quoted too.
const OPTION_BYTES: usize = 8;
/// Of an IPv6 header and what follows it.
const QUOTE_WORDS_MAX: usize = (40 + OPTION_BYTES + QUOTE_BYTES) / 4;

/// Where the transport header of an answer starts.
#[inline(always)]
const fn l4<A: Family>() -> usize {
    IP + A::HEADER_BYTES
}

/// What becomes of a packet in `room` that no backend is there for. It is turned into its answer, if it may have one.
#[inline(always)]
pub fn reply<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    room: &Room<A>,
    reason: DropReason,
) -> Result<Verdict, DropReason> {
    let Room { ip, transport, touch, .. } = room;
    if reason != DropReason::NoBackend || !is_plain(ip) {
        return Err(reason);
    }
    let written = match transport.kind {
        // A reset is never answered by a reset.
        Kind::Tcp if transport.flags & TCP_RST == 0 => reset(packet, ip),
        Kind::Udp | Kind::Sctp => error(packet, ip, A::PORT_UNREACHABLE, 0, quote_words::<A>(0)),
        _ => return Err(reason),
    };
    written.ok_or(reason)?;
    tables.count(Counter::Rejected, touch.bytes);
    tables.count_drop(reason, touch.bytes);
    Ok(Verdict::ANSWER)
}

/// Turns a packet into its answer: packets of up to `mtu` bytes fit. `None`: it may have none, or could not be written.
#[inline(always)]
pub fn too_big<A: Family, P: Packet>(packet: &mut P, ip: &Ip<A>, mtu: u32) -> Option<()> {
    // One or the other, which verifiers know more of than of what lies between.
    let words = match ip.l4 {
        at if at == l4::<A>() => quote_words::<A>(0),
        at if at == l4::<A>() + OPTION_BYTES => quote_words::<A>(OPTION_BYTES),
        _ => return None,
    };
    if ip.fragment == Fragment::Later {
        return None;
    }
    error(packet, ip, A::TOO_BIG, mtu, words)
}

/// What is quoted of a packet with so many bytes between its IP header and the transport's.
#[inline(always)]
const fn quote_words<A: Family>(options: usize) -> usize {
    (A::HEADER_BYTES + options + QUOTE_BYTES) / 4
}

/// Without options, and no part of a datagram.
#[inline(always)]
pub fn is_plain<A: Family>(ip: &Ip<A>) -> bool {
    ip.l4 == l4::<A>() && ip.fragment == Fragment::Whole
}

/// By words: arrays of bytes would take more stack than a program has.
#[inline(never)]
fn reset<A: Family, P: Packet>(packet: &mut P, ip: &Ip<A>) -> Option<()> {
    let l4 = l4::<A>();
    let length = A::payload_bytes(packet)?;
    let [a, b, c, d] = packet.load::<4>(l4)?;
    let mut seq = u32::from_be_bytes(packet.load::<4>(l4 + 4)?);
    let mut ack = u32::from_be_bytes(packet.load::<4>(l4 + 8)?);
    let [offset, mut flags] = packet.load::<2>(l4 + 12)?;
    if flags & TCP_ACK != 0 {
        (seq, ack, flags) = (ack, 0, TCP_RST);
    } else {
        let header = u32::from(offset >> 4) * 4;
        let controls = u32::from(flags & TCP_SYN != 0) + u32::from(flags & TCP_FIN != 0);
        let occupied = length.wrapping_sub(header).wrapping_add(controls);
        (seq, ack, flags) = (0, seq.wrapping_add(occupied), TCP_RST | TCP_ACK);
    }
    let ports = word([c, d, a, b]);
    let (seq, ack) = (seq.to_be(), ack.to_be());
    let flags = word([(TCP_BYTES as u8 / 4) << 4, flags, 0, 0]);
    let sum = add(add(add(add(pseudo(ip, proto::TCP, TCP_BYTES), ports), seq), ack), flags);
    let [high, low] = (!fold(sum)).to_ne_bytes();
    resize(packet, l4 + TCP_BYTES)?;
    envelope(packet, ip, proto::TCP, TCP_BYTES)?;
    packet.store(l4, ports.to_ne_bytes())?;
    packet.store(l4 + 4, seq.to_ne_bytes())?;
    packet.store(l4 + 8, ack.to_ne_bytes())?;
    packet.store(l4 + 12, flags.to_ne_bytes())?;
    packet.store(l4 + 16, [high, low, 0, 0])
}

/// An ICMP error of a type and code, about the packet, which moves back to where it is quoted: the stack has no room for
/// it. `more` is the word that follows the checksum, `words` is how many are quoted.
#[inline(never)]
fn error<A: Family, P: Packet>(
    packet: &mut P,
    ip: &Ip<A>,
    [kind, code]: [u8; 2],
    more: u32,
    words: usize,
) -> Option<()> {
    let (l4, bytes, more) = (l4::<A>(), ICMP_BYTES + words * 4, more.to_be());
    resize(packet, l4 + bytes)?;
    let mut sum = add(word([kind, code, 0, 0]), more);
    for index in (0..QUOTE_WORDS_MAX).rev().filter(|index| *index < words) {
        let quoted = packet.load::<4>(IP + index * 4)?;
        packet.store(l4 + ICMP_BYTES + index * 4, quoted)?;
        sum = add(sum, word(quoted));
    }
    if A::ICMP_COVERS_ADDRESSES {
        sum = add(sum, pseudo(ip, A::ICMP, bytes));
    }
    let [high, low] = (!fold(sum)).to_ne_bytes();
    envelope(packet, ip, A::ICMP, bytes)?;
    packet.store(l4, [kind, code, high, low])?;
    packet.store(l4 + 4, more.to_ne_bytes())
}

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn resize<P: Packet>(packet: &mut P, bytes: usize) -> Option<()> {
    packet.resize(bytes as u32)
}

/// Turns the packet's headers into those of an answer with `bytes` of payload. Not inlined, for the sake of the
/// caller's stack.
#[inline(never)]
fn envelope<A: Family, P: Packet>(packet: &mut P, ip: &Ip<A>, proto: u8, bytes: usize) -> Option<()> {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = packet.load::<12>(0)?;
    packet.store(0, [g, h, i, j, k, l, a, b, c, d, e, f])?;
    A::answer_header(packet, ip, proto, bytes as u16)
}

/// The words of the pseudo-header added up.
#[inline(always)]
fn pseudo<A: Family>(ip: &Ip<A>, proto: u8, bytes: usize) -> u32 {
    let [high, low] = (bytes as u16).to_be_bytes();
    add(add(ip.src.sum(), ip.dst.sum()), word([0, proto, high, low]))
}

#[inline(always)]
fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests;
