//! ICMP errors quote the packet that they are about. When that packet was translated, the error is
//! translated too, outside and inside, so that it reaches the socket that sent the packet: path MTU
//! discovery and "port unreachable" depend on it.

use xebec_abi::{Addr4, Be16, DropReason, Ports, Tuple4, proto};

use crate::{
    Csum, Packet,
    csum::{self, diff},
    header::{self, Fragment, Ipv4},
    lb::word,
    nat::{address_diff, store_addresses},
};

const ICMP_BYTES: usize = 8;
const ICMP_CSUM: usize = 2;
/// An IPv4 header with options and eight bytes, in an ICMP error in an IPv4 header.
const QUOTED_BYTES: u32 = 20 + 8;

/// The packet an error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted {
    pub ip: Ipv4,
    pub offset: usize,
    pub ports: Ports,
    /// Where its ports lie.
    at: usize,
}

impl Quoted {
    #[inline(always)]
    pub fn tuple(&self) -> Tuple4 {
        self.ip.tuple(self.ports)
    }
}

/// Parses the packet that the ICMP error in `ip` quotes. `None`: it cannot belong to a flow.
#[inline(always)]
pub fn quoted<P: Packet>(packet: &mut P, ip: &Ipv4) -> Option<Quoted> {
    let offset = ip.l4 + ICMP_BYTES;
    if !packet.pull(offset as u32 + QUOTED_BYTES) {
        return None;
    }
    let inner = header::ipv4(packet, offset)?;
    if inner.fragment == Fragment::Later {
        return None;
    }
    let (ports, at) = match inner.proto {
        proto::TCP | proto::UDP => (header::ports(packet.load::<4>(inner.l4)?), inner.l4),
        proto::ICMP => {
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
/// The ICMP checksum covers the quoted bytes. A quoted header's addresses and its own checksum
/// cancel out, so only the ports count. The quoted transport checksum is left as it was: nobody can
/// verify it over a cut packet.
#[inline(always)]
pub fn translate<P: Packet>(
    packet: &mut P,
    ip: &mut Ipv4,
    quoted: &Quoted,
    src: Addr4,
    dst: Addr4,
    inner: &Tuple4,
) -> Result<(), DropReason> {
    rewrite(packet, ip, quoted, src, dst, inner).ok_or(DropReason::PacketWrite)
}

#[inline(always)]
fn rewrite<P: Packet>(
    packet: &mut P,
    ip: &mut Ipv4,
    quoted: &Quoted,
    src: Addr4,
    dst: Addr4,
    inner: &Tuple4,
) -> Option<()> {
    if quoted.ip.proto == proto::ICMP {
        let (old, new) = (quoted.ports.src.bytes(), inner.ports.src.bytes());
        let diff = diff(u32::from(u16::from_ne_bytes(old)), u32::from(u16::from_ne_bytes(new)));
        packet.add_csum(ip.l4 + ICMP_CSUM, diff, Csum::Data, false)?;
        packet.store(quoted.at, new)?;
    } else {
        let (old, new) = (word(quoted.ports.src, quoted.ports.dst), word(inner.ports.src, inner.ports.dst));
        packet.add_csum(ip.l4 + ICMP_CSUM, diff(old, new), Csum::Data, false)?;
        packet.store(quoted.at, new.to_ne_bytes())?;
    }
    let csum = csum::update(quoted.ip.csum, address_diff(&quoted.ip, inner));
    packet.store(quoted.offset + 10, csum)?;
    packet.store(quoted.offset + 12, inner.src)?;
    packet.store(quoted.offset + 16, inner.dst)?;
    let outer = Tuple4 { src, dst, ports: Ports::default() };
    let addresses = address_diff(ip, &outer);
    store_addresses(packet, ip, &outer, addresses)
}
