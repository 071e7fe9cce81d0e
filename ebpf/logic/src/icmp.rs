//! ICMP errors quote the packet that they are about. When that packet was translated, the error is
//! translated too, outside and inside, so that it reaches the socket that sent the packet: path MTU
//! discovery and "port unreachable" depend on it.

use xebec_abi::{Be16, DropReason, Ports, Tuple, proto};

use crate::{
    Csum, Family, Packet,
    csum::diff,
    family::address_diff,
    header::{self, Fragment, IP, Ip},
    lb::word,
};

const ICMP_BYTES: usize = 8;
const ICMP_CSUM: usize = 2;
/// What an error quotes of the transport header at least.
const QUOTED_BYTES: usize = 8;

/// The packet an error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted<A: Family> {
    pub ip: Ip<A>,
    pub offset: usize,
    pub ports: Ports,
    /// Where its ports lie.
    at: usize,
}

impl<A: Family> Quoted<A> {
    #[inline(always)]
    pub fn tuple(&self) -> Tuple<A> {
        self.ip.tuple(self.ports)
    }
}

/// Parses the packet that the ICMP error in `ip` quotes. `None`: it cannot belong to a flow.
#[inline(always)]
pub fn quoted<A: Family, P: Packet>(packet: &mut P, ip: &Ip<A>) -> Option<Quoted<A>> {
    let offset = ip.l4 + ICMP_BYTES;
    if !packet.pull((offset + A::HEADER_BYTES + QUOTED_BYTES) as u32) {
        return None;
    }
    let inner = A::parse(packet, offset)?;
    if inner.fragment == Fragment::Later {
        return None;
    }
    let (ports, at) = match inner.proto {
        proto::TCP | proto::UDP => (header::ports(packet.load::<4>(inner.l4)?), inner.l4),
        icmp if icmp == A::ICMP => {
            let [a, b] = packet.load::<2>(inner.l4 + 4)?;
            let id = Be16::from_bytes([a, b]);
            (Ports { src: id, dst: id }, inner.l4 + 4)
        }
        _ => return None,
    };
    Some(Quoted { ip: inner, offset, ports, at })
}

/// Rewrites an error: `src` and `dst` outside, `inner` inside.
///
/// The ICMP checksum covers the quoted bytes. In IPv4 a quoted header's addresses and its own
/// checksum cancel out, so only the ports count; ICMPv6 covers addresses inside and outside. The quoted transport checksum is left as it was: nobody can
/// verify it over a cut packet.
#[inline(always)]
pub fn translate<A: Family, P: Packet>(
    packet: &mut P,
    ip: &mut Ip<A>,
    quoted: &mut Quoted<A>,
    src: A,
    dst: A,
    inner: &Tuple<A>,
) -> Result<(), DropReason> {
    rewrite(packet, ip, quoted, src, dst, inner).ok_or(DropReason::PacketWrite)
}

#[inline(always)]
fn rewrite<A: Family, P: Packet>(
    packet: &mut P,
    ip: &mut Ip<A>,
    quoted: &mut Quoted<A>,
    src: A,
    dst: A,
    inner: &Tuple<A>,
) -> Option<()> {
    if quoted.ip.proto == A::ICMP {
        let (old, new) = (quoted.ports.src.bytes(), inner.ports.src.bytes());
        let diff = diff(u32::from(u16::from_ne_bytes(old)), u32::from(u16::from_ne_bytes(new)));
        packet.add_csum(ip.l4 + ICMP_CSUM, diff, Csum::Data, false)?;
        packet.store(quoted.at, new)?;
    } else {
        let (old, new) = (word(quoted.ports.src, quoted.ports.dst), word(inner.ports.src, inner.ports.dst));
        packet.add_csum(ip.l4 + ICMP_CSUM, diff(old, new), Csum::Data, false)?;
        packet.store(quoted.at, new.to_ne_bytes())?;
    }
    let inside = address_diff(&quoted.ip, inner);
    let outer = Tuple { src, dst, ports: Ports::default() };
    let outside = address_diff(ip, &outer);
    if A::ICMP_COVERS_ADDRESSES {
        packet.add_csum(ip.l4 + ICMP_CSUM, inside, Csum::Data, false)?;
        packet.add_csum(ip.l4 + ICMP_CSUM, outside, A::PSEUDO, false)?;
    }
    A::store_addresses(packet, &mut quoted.ip, quoted.offset, inner, inside)?;
    A::store_addresses(packet, ip, IP, &outer, outside)
}
