//! ICMP errors quote the packet that they are about. When that packet was translated, the error is
//! translated too, outside and inside, so that it reaches the socket that sent the packet: path MTU
//! discovery and "port unreachable" depend on it.

use xebec_abi::{Be16, DropReason, Ports, Tuple, proto};

use crate::{
    Csum, Family, Packet, Room,
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
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
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

/// Parses the packet that the ICMP error in `ip` quotes, into `quoted`. `None`: it cannot belong to a flow.
#[inline(always)]
pub fn quoted<A: Family, P: Packet>(packet: &mut P, ip: &Ip<A>, quoted: &mut Quoted<A>) -> Option<()> {
    let offset = ip.l4 + ICMP_BYTES;
    if !packet.pull((offset + A::HEADER_BYTES + QUOTED_BYTES) as u32) {
        return None;
    }
    A::parse(packet, offset, &mut quoted.ip)?;
    let inner = &quoted.ip;
    if inner.fragment == Fragment::Later {
        return None;
    }
    quoted.offset = offset;
    (quoted.ports, quoted.at) = match inner.proto {
        proto::TCP | proto::UDP | proto::SCTP => (header::ports(packet.load::<4>(inner.l4)?), inner.l4),
        icmp if icmp == A::ICMP => {
            let [a, b] = packet.load::<2>(inner.l4 + 4)?;
            let id = Be16::from_bytes([a, b]);
            (Ports { src: id, dst: id }, inner.l4 + 4)
        }
        _ => return None,
    };
    Some(())
}

/// Rewrites the error in `room`, about a flow whose other packets become `room.claim.to`: so it goes where they go, and
/// quotes what was sent there. From the flow's end itself, its source changes too; a router's stays.
///
/// The ICMP checksum covers the quoted bytes. In IPv4 a quoted header's addresses and its own checksum cancel out, so
/// only the ports count; ICMPv6 covers addresses inside and outside. The quoted transport checksum is left as it was:
/// nobody can verify it over a cut packet.
#[inline(always)]
pub fn translate<A: Family, P: Packet>(
    packet: &mut P,
    room: &mut Room<A>,
    is_from_end: bool,
) -> Result<(), DropReason> {
    rewrite(packet, room, is_from_end).ok_or(DropReason::PacketWrite)
}

#[inline(always)]
fn rewrite<A: Family, P: Packet>(packet: &mut P, room: &mut Room<A>, is_from_end: bool) -> Option<()> {
    let Room { ip, key, claim, quoted, .. } = room;
    let outer = &mut key.tuple;
    outer.src = if is_from_end { claim.to.src } else { ip.src };
    outer.dst = claim.to.dst;
    core::mem::swap(&mut claim.to.src, &mut claim.to.dst);
    core::mem::swap(&mut claim.to.ports.src, &mut claim.to.ports.dst);
    let inner = &claim.to;
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
    let (inside, outside) = (address_diff(&quoted.ip, inner), address_diff(ip, outer));
    if A::ICMP_COVERS_ADDRESSES {
        packet.add_csum(ip.l4 + ICMP_CSUM, inside, Csum::Data, false)?;
        packet.add_csum(ip.l4 + ICMP_CSUM, outside, A::PSEUDO, false)?;
    }
    A::store_addresses(packet, &mut quoted.ip, quoted.offset, inner, inside)?;
    A::store_addresses(packet, ip, IP, outer, outside)
}
