//! IPv6 (RFC 8200).

use xebec_abi::{Addr4, Addr6, Address, Counter, DropReason, Tuple, proto};

use super::Family;
use crate::{
    Csum, Host, Packet, Verdict,
    csum::{add, diff},
    header::{Fragment, IP, Ip, Kind},
    lb::mix,
    nat::{TCP_CSUM, UDP_CSUM},
};

const BYTES: usize = 40;
const PAYLOAD_LENGTH: usize = 4;
const HOP_LIMIT: usize = 7;
const SRC: usize = 8;
const DST: usize = 24;
const ANSWER_HOP_LIMIT: u8 = 64;

/// Extension headers that are walked at most, and how far into the packet: enough for every host, and few steps for
/// the verifier.
const EXTENSIONS_MAX: usize = 4;
const TRANSPORT_MAX: usize = 400;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Third word of an IPv4-mapped address, `::ffff:a.b.c.d`.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

/// ICMPv6 types of what only routers may say (RFC 4861).
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT: u8 = 137;

/// The fields that IPv4 does not have.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Header6 {
    /// Of the fragment header, zeroes without one.
    pub id: [u8; 4],
}

impl Family for Addr6 {
    type Header = Header6;
    const ETHERTYPE: u16 = 0x86dd;
    const HEADER_BYTES: usize = BYTES;
    const ICMP: u8 = proto::ICMPV6;
    const ECHO_REQUEST: u8 = 128;
    const PORT_UNREACHABLE: [u8; 2] = [1, 4];
    const TOO_BIG: [u8; 2] = [2, 0];
    const MTU_MIN: u32 = 1_280;
    const PSEUDO: Csum = Csum::Pseudo6;
    const ICMP_COVERS_ADDRESSES: bool = true;
    const COUNTS_OTHERS: bool = false;

    #[inline(always)]
    fn parse<P: Packet>(packet: &mut P, offset: usize, ip: &mut Ip<Self>) -> Option<()> {
        let [version, _, _, _, _, _, next, ttl] = packet.load::<8>(offset)?;
        if version >> 4 != 6 {
            return None;
        }
        packet.load_words(offset + SRC, ip.src.words_mut())?;
        packet.load_words(offset + DST, ip.dst.words_mut())?;
        (ip.proto, ip.ttl, ip.fragment, ip.l4) = (next, ttl, Fragment::Whole, offset + BYTES);
        ip.header = Header6 { id: [0; 4] };
        if is_extension(next) {
            walk(packet, ip)?;
        }
        Some(())
    }

    #[inline(always)]
    fn icmp_kind(kind: u8) -> Kind {
        match kind {
            // Echo request and reply.
            128 | 129 => Kind::Echo,
            // Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
            1..=4 => Kind::IcmpError,
            _ => Kind::Other,
        }
    }

    #[inline(always)]
    fn fragment_id(ip: &Ip<Self>) -> [u8; 4] {
        ip.header.id
    }

    #[inline(always)]
    fn store_addresses<P: Packet>(
        packet: &mut P,
        ip: &mut Ip<Self>,
        offset: usize,
        to: &Tuple<Self>,
        _diff: u32,
    ) -> Option<()> {
        ip.src = to.src;
        ip.dst = to.dst;
        store_addresses(packet, offset, &to.src, &to.dst)
    }

    #[inline(always)]
    fn decrement_ttl<P: Packet>(packet: &mut P, ip: &mut Ip<Self>) -> Option<()> {
        let [next] = packet.load::<1>(IP + HOP_LIMIT - 1)?;
        let new = ip.ttl.wrapping_sub(1);
        let words = [[next, ip.ttl], [next, new]].map(|word| u32::from(u16::from_ne_bytes(word)));
        ip.ttl = new;
        packet.store(IP + HOP_LIMIT, [new])?;
        // No header checksum makes up for it.
        packet.add_frame_csum(diff(words[0], words[1]));
        Some(())
    }

    #[inline(always)]
    fn answer_header<P: Packet>(packet: &mut P, ip: &Ip<Self>, proto: u8, bytes: u16) -> Option<()> {
        let [high, low] = bytes.to_be_bytes();
        packet.store(IP, [0x60, 0, 0, 0])?;
        packet.store(IP + PAYLOAD_LENGTH, [high, low, proto, ANSWER_HOP_LIMIT])?;
        store_addresses(packet, IP, &ip.dst, &ip.src)
    }

    /// Its sender alone cuts it.
    #[inline(always)]
    fn may_fragment<P: Packet>(_: &P) -> bool {
        false
    }

    #[inline(always)]
    fn payload_bytes<P: Packet>(packet: &P) -> Option<u32> {
        Some(u32::from(u16::from_be_bytes(packet.load::<2>(IP + PAYLOAD_LENGTH)?)))
    }

    /// Its header has no number: the checksum of TCP or UDP.
    #[inline(always)]
    fn distinction<P: Packet>(packet: &P, ip: &Ip<Self>) -> Option<[u8; 2]> {
        packet.load(ip.l4 + if ip.proto == proto::TCP { TCP_CSUM } else { UDP_CSUM })
    }

    /// Neighbour discovery, multicast listener reports and whatever else a pod says with link-local addresses is for
    /// its node's stack. Not inlined, for the sake of the caller's stack.
    #[inline(never)]
    fn on_link<P: Packet, T: Host>(packet: &P, tables: &T, ip: &Ip<Self>) -> Option<Result<Verdict, DropReason>> {
        let unspecified = is_unspecified(&ip.src) && ip.proto == proto::ICMPV6;
        if !unspecified && !is_link_local(&ip.src) {
            return None;
        }
        if !ip.dst.is_multicast() && !is_link_local(&ip.dst) {
            return Some(Err(DropReason::InvalidSource));
        }
        if ip.proto == proto::ICMPV6 {
            let Some([kind]) = packet.load::<1>(ip.l4) else { return Some(Err(DropReason::InvalidPacket)) };
            if kind == ROUTER_ADVERTISEMENT || kind == REDIRECT {
                return Some(Err(DropReason::InvalidSource));
            }
        }
        tables.count(Counter::ToStack, packet.bytes());
        Some(Ok(Verdict::PASS))
    }

    #[inline(always)]
    fn is_multicast(self) -> bool {
        self.words()[0].to_ne_bytes()[0] == 0xff
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        let [a, b, c, d] = *self.words();
        a | b | c == 0 && d == 1_u32.to_be()
    }

    #[inline(always)]
    fn sum(self) -> u32 {
        let [a, b, c, d] = *self.words();
        add(add(a, b), add(c, d))
    }

    #[inline(always)]
    fn diff(old: Self, new: Self) -> u32 {
        let ([a, b, c, d], [e, f, g, h]) = (*old.words(), *new.words());
        add(add(diff(a, e), diff(b, f)), add(diff(c, g), diff(d, h)))
    }

    #[inline(always)]
    fn mix(self, hash: u32) -> u32 {
        let [a, b, c, d] = *self.words();
        mix(mix(mix(mix(hash, a), b), c), d)
    }

    #[inline(always)]
    fn store<P: Packet>(self, packet: &mut P, offset: usize) -> Option<()> {
        packet.store_words(offset, self.words())
    }

    /// IPv4-mapped.
    #[inline(always)]
    fn of_node(node: Addr4) -> Self {
        let node = u32::from_ne_bytes(node);
        Self::from_words([0, 0, if node == 0 { 0 } else { MAPPED }, node])
    }

    #[inline(always)]
    fn to_node(self) -> Addr4 {
        let [a, b, c, d] = *self.words();
        if a | b == 0 && c == MAPPED { d.to_ne_bytes() } else { [0; 4] }
    }
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

/// Walks extension headers up to the transport header or the end of what is walked. `None`: one is cut short, or the
/// transport header is too far away. Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn walk<P: Packet>(packet: &mut P, ip: &mut Ip<Addr6>) -> Option<()> {
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(ip.proto) {
            break;
        }
        if ip.l4 > TRANSPORT_MAX || !packet.pull(ip.l4 as u32 + 8) {
            return None;
        }
        let [next, length, high, low, id @ ..] = packet.load::<8>(ip.l4)?;
        let units = usize::from(length);
        ip.l4 += match ip.proto {
            FRAGMENT => 8,
            AUTHENTICATION => units * 4 + 8,
            _ => units * 8 + 8,
        };
        if ip.proto == FRAGMENT {
            let place = u16::from_be_bytes([high, low]);
            ip.header.id = id;
            if place & 0xfff8 != 0 {
                ip.fragment = Fragment::Later;
                ip.proto = next;
                break;
            }
            if place & 1 != 0 {
                ip.fragment = Fragment::First;
            }
        }
        ip.proto = next;
    }
    (ip.l4 <= TRANSPORT_MAX).then_some(())
}

#[inline(always)]
fn store_addresses<P: Packet>(packet: &mut P, offset: usize, src: &Addr6, dst: &Addr6) -> Option<()> {
    packet.store_words(offset + SRC, src.words())?;
    packet.store_words(offset + DST, dst.words())
}

/// fe80::/10
#[inline(always)]
const fn is_link_local(addr: &Addr6) -> bool {
    u32::from_be(addr.words()[0]) >> 22 == 0xfe80 >> 6
}

#[inline(always)]
fn is_unspecified(addr: &Addr6) -> bool {
    *addr == Addr6::UNSPECIFIED
}
