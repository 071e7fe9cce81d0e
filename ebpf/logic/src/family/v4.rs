//! IPv4 (RFC 791).

use xebec_abi::{Addr4, Be16, DropReason, Tuple, proto};

use super::{Family, word_diff};
use crate::{
    Csum, Host, Packet, Verdict,
    csum::{self, add, diff, fold},
    header::{Fragment, IP, Ip, Kind},
    lb::mix,
};

const BYTES: usize = 20;
const FLAGS: usize = 6;
const TTL: usize = 8;
const CSUM: usize = 10;
const SRC: usize = 12;
const ANSWER_TTL: u8 = 64;
const DONT_FRAGMENT: u8 = 0x40;

/// The fields that IPv6 does not have.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Header4 {
    pub csum: [u8; 2],
    pub id: Be16,
}

impl Family for Addr4 {
    type Header = Header4;
    const ETHERTYPE: u16 = 0x0800;
    const HEADER_BYTES: usize = BYTES;
    const ICMP: u8 = proto::ICMP;
    const ECHO_REQUEST: u8 = 8;
    const PORT_UNREACHABLE: [u8; 2] = [3, 3];
    const TOO_BIG: [u8; 2] = [3, 4];
    const MTU_MIN: u32 = 576;
    const PSEUDO: Csum = Csum::Pseudo;
    const ICMP_COVERS_ADDRESSES: bool = false;
    const COUNTS_OTHERS: bool = true;

    #[inline(always)]
    fn parse<P: Packet>(packet: &mut P, offset: usize, ip: &mut Ip<Self>) -> Option<()> {
        let b = packet.load::<BYTES>(offset)?;
        let header = usize::from(b[0] & 0x0f) * 4;
        if b[0] >> 4 != 4 || header < BYTES {
            return None;
        }
        let fragment = u16::from_be_bytes([b[6], b[7]]);
        *ip = Ip {
            src: [b[12], b[13], b[14], b[15]],
            dst: [b[16], b[17], b[18], b[19]],
            proto: b[9],
            ttl: b[8],
            header: Header4 { csum: [b[10], b[11]], id: Be16::from_bytes([b[4], b[5]]) },
            fragment: match fragment {
                f if f & 0x1fff != 0 => Fragment::Later,
                f if f & 0x2000 != 0 => Fragment::First,
                _ => Fragment::Whole,
            },
            l4: offset + header,
        };
        Some(())
    }

    #[inline(always)]
    fn icmp_kind(kind: u8) -> Kind {
        match kind {
            // Echo reply and echo.
            0 | 8 => Kind::Echo,
            // Destination unreachable, time exceeded, parameter problem (RFC 792).
            3 | 11 | 12 => Kind::IcmpError,
            _ => Kind::Other,
        }
    }

    #[inline(always)]
    fn fragment_id(ip: &Ip<Self>) -> [u8; 2] {
        ip.header.id.bytes()
    }

    #[inline(always)]
    fn store_addresses<P: Packet>(
        packet: &mut P,
        ip: &mut Ip<Self>,
        offset: usize,
        to: &Tuple<Self>,
        diff: u32,
    ) -> Option<()> {
        ip.header.csum = csum::update(ip.header.csum, diff);
        ip.src = to.src;
        ip.dst = to.dst;
        let ([a, b, c, d], [e, f, g, h]) = (to.src, to.dst);
        packet.store(offset + CSUM, ip.header.csum)?;
        packet.store(offset + SRC, [a, b, c, d, e, f, g, h])
    }

    #[inline(always)]
    fn decrement_ttl<P: Packet>(packet: &mut P, ip: &mut Ip<Self>) -> Option<()> {
        let new = ip.ttl.wrapping_sub(1);
        let words = [[ip.ttl, ip.proto], [new, ip.proto]].map(|w| u32::from(u16::from_ne_bytes(w)));
        ip.header.csum = csum::update(ip.header.csum, diff(words[0], words[1]));
        ip.ttl = new;
        packet.store(IP + TTL, [new, ip.proto, ip.header.csum[0], ip.header.csum[1]])
    }

    #[inline(always)]
    fn answer_header<P: Packet>(packet: &mut P, ip: &Ip<Self>, proto: u8, bytes: u16) -> Option<()> {
        let word = u32::from_ne_bytes;
        let [high, low] = bytes.wrapping_add(BYTES as u16).to_be_bytes();
        let sum = add(add(word([0x45, 0, high, low]), word([0, 0, DONT_FRAGMENT, 0])), word([ANSWER_TTL, proto, 0, 0]));
        let [e, f] = (!fold(add(sum, add(word(ip.src), word(ip.dst))))).to_ne_bytes();
        packet.store(IP, [0x45, 0, high, low])?;
        packet.store(IP + 4, [0, 0, DONT_FRAGMENT, 0])?;
        packet.store(IP + 8, [ANSWER_TTL, proto, e, f])?;
        packet.store(IP + 12, ip.dst)?;
        packet.store(IP + 16, ip.src)
    }

    #[inline(always)]
    fn may_fragment<P: Packet>(packet: &P) -> bool {
        packet.load::<1>(IP + FLAGS).is_some_and(|[flags]| flags & DONT_FRAGMENT == 0)
    }

    #[inline(always)]
    fn payload_bytes<P: Packet>(packet: &P) -> Option<u32> {
        Some(u32::from(u16::from_be_bytes(packet.load::<2>(IP + 2)?)).wrapping_sub(BYTES as u32))
    }

    #[inline(always)]
    fn distinction<P: Packet>(_: &P, ip: &Ip<Self>) -> Option<[u8; 2]> {
        Some(ip.header.id.bytes())
    }

    #[inline(always)]
    fn on_link<P: Packet, T: Host>(_: &P, _: &T, _: &Ip<Self>) -> Option<Result<Verdict, DropReason>> {
        None
    }

    /// 224.0.0.0/4 and the limited broadcast.
    #[inline(always)]
    fn is_multicast(self) -> bool {
        self[0] >= 224
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self[0] == 127
    }

    #[inline(always)]
    fn sum(self) -> u32 {
        u32::from_ne_bytes(self)
    }

    #[inline(always)]
    fn diff(old: Self, new: Self) -> u32 {
        word_diff(old, new)
    }

    #[inline(always)]
    fn mix(self, hash: u32) -> u32 {
        mix(hash, u32::from_ne_bytes(self))
    }

    #[inline(always)]
    fn store<P: Packet>(self, packet: &mut P, offset: usize) -> Option<()> {
        packet.store(offset, self)
    }

    #[inline(always)]
    fn of_node(node: Addr4) -> Self {
        node
    }

    #[inline(always)]
    fn to_node(self) -> Addr4 {
        self
    }
}
