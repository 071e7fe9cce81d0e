//! Refusals, as kube-proxy's REJECT: a client of a service without backends is told at once. TCP gets a reset (RFC 9293
//! section 3.5.2), UDP "port unreachable" (RFC 1122 section 3.2.2.1), from the address that it dialled.

use xebec_abi::{Counter, DropReason, proto};

use crate::{
    Packet, Tables, Verdict,
    csum::{add, fold},
    header::{ETHERNET_BYTES, Fragment, IP, IPV4_BYTES, Ipv4, Kind, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, Transport},
};

const L4: usize = IP + IPV4_BYTES;
const TCP_BYTES: usize = 20;
const ICMP_BYTES: usize = 8;
/// The header and the eight bytes that every error quotes at least.
const QUOTE_BYTES: usize = IPV4_BYTES + 8;
const RESET_BYTES: usize = L4 + TCP_BYTES;
const UNREACHABLE_BYTES: usize = L4 + ICMP_BYTES + QUOTE_BYTES;
const TTL: u8 = 64;
const DONT_FRAGMENT: u8 = 0x40;

/// What becomes of a packet that no backend is there for. It is turned into its answer, if it may have one.
#[inline(always)]
pub fn reply<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ipv4,
    transport: &Transport,
    reason: DropReason,
) -> Result<Verdict, DropReason> {
    // Headers with options would be quoted in part; of a datagram in pieces the first one counts.
    let plain = ip.l4 == L4 && ip.fragment == Fragment::Whole;
    if reason != DropReason::NoBackend || !plain {
        return Err(reason);
    }
    let written = match transport.kind {
        // A reset is never answered by a reset.
        Kind::Tcp if transport.flags & TCP_RST == 0 => reset(packet, ip),
        Kind::Udp => unreachable(packet, ip),
        _ => return Err(reason),
    };
    written.ok_or(reason)?;
    tables.count(Counter::Rejected, packet.bytes());
    Ok(Verdict::REFUSE)
}

/// By words: arrays of bytes would take more stack than a program has.
#[inline(never)]
fn reset<P: Packet>(packet: &mut P, ip: &Ipv4) -> Option<()> {
    let length = u16::from_be_bytes(packet.load::<2>(IP + 2)?);
    let [a, b, c, d] = packet.load::<4>(L4)?;
    let mut seq = u32::from_be_bytes(packet.load::<4>(L4 + 4)?);
    let mut ack = u32::from_be_bytes(packet.load::<4>(L4 + 8)?);
    let [offset, mut flags] = packet.load::<2>(L4 + 12)?;
    if flags & TCP_ACK != 0 {
        (seq, ack, flags) = (ack, 0, TCP_RST);
    } else {
        let headers = IPV4_BYTES as u32 + u32::from(offset >> 4) * 4;
        let controls = u32::from(flags & TCP_SYN != 0) + u32::from(flags & TCP_FIN != 0);
        let occupied = u32::from(length).wrapping_sub(headers).wrapping_add(controls);
        (seq, ack, flags) = (0, seq.wrapping_add(occupied), TCP_RST | TCP_ACK);
    }
    let ports = word([c, d, a, b]);
    let (seq, ack) = (seq.to_be(), ack.to_be());
    let flags = word([(TCP_BYTES as u8 / 4) << 4, flags, 0, 0]);
    let pseudo = add(add(word(ip.src), word(ip.dst)), word([0, proto::TCP, 0, TCP_BYTES as u8]));
    let sum = add(add(add(add(pseudo, ports), seq), ack), flags);
    let [high, low] = (!fold(sum)).to_ne_bytes();
    envelope(packet, ip, proto::TCP, RESET_BYTES)?;
    packet.store(L4, ports.to_ne_bytes())?;
    packet.store(L4 + 4, seq.to_ne_bytes())?;
    packet.store(L4 + 8, ack.to_ne_bytes())?;
    packet.store(L4 + 12, flags.to_ne_bytes())?;
    packet.store(L4 + 16, [high, low, 0, 0])
}

#[inline(never)]
fn unreachable<P: Packet>(packet: &mut P, ip: &Ipv4) -> Option<()> {
    let mut quote = [0_u32; QUOTE_BYTES / 4];
    for (index, quoted) in quote.iter_mut().enumerate() {
        *quoted = word(packet.load::<4>(IP + index * 4)?);
    }
    // Destination unreachable, port unreachable (RFC 792).
    let kind = word([3, 3, 0, 0]);
    let [high, low] = (!fold(quote.iter().copied().fold(kind, add))).to_ne_bytes();
    envelope(packet, ip, proto::ICMP, UNREACHABLE_BYTES)?;
    packet.store(L4, [3, 3, high, low])?;
    packet.store(L4 + 4, [0; 4])?;
    for (index, quoted) in quote.iter().enumerate() {
        packet.store(L4 + ICMP_BYTES + index * 4, quoted.to_ne_bytes())?;
    }
    Some(())
}

/// Makes the packet as long as its answer, and writes the headers of one.
/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn envelope<P: Packet>(packet: &mut P, ip: &Ipv4, proto: u8, bytes: usize) -> Option<()> {
    packet.resize(bytes as u32)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = packet.load::<12>(0)?;
    packet.store(0, [g, h, i, j, k, l, a, b, c, d, e, f])?;
    let [high, low] = ((bytes - ETHERNET_BYTES) as u16).to_be_bytes();
    let sum = add(add(word([0x45, 0, high, low]), word([0, 0, DONT_FRAGMENT, 0])), word([TTL, proto, 0, 0]));
    let [e, f] = (!fold(add(sum, add(word(ip.src), word(ip.dst))))).to_ne_bytes();
    packet.store(IP, [0x45, 0, high, low])?;
    packet.store(IP + 4, [0, 0, DONT_FRAGMENT, 0])?;
    packet.store(IP + 8, [TTL, proto, e, f])?;
    packet.store(IP + 12, ip.dst)?;
    packet.store(IP + 16, ip.src)
}

#[inline(always)]
fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests;
