//! Parsing: Ethernet, IPv4, and the few bytes of the transport header that decisions need.

use xebec_abi::{Addr4, Be16, DropReason, FragmentKey4, Ports, Tuple4, proto};

use crate::{Packet, Tables};

pub const ETHERNET_BYTES: usize = 14;
pub const IPV4_BYTES: usize = 20;
pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_ARP: u16 = 0x0806;

/// Offset of the IPv4 header's own fields.
pub const IP: usize = ETHERNET_BYTES;
pub const IP_TTL: usize = IP + 8;
pub const IP_CSUM: usize = IP + 10;
pub const IP_SRC: usize = IP + 12;

pub const TCP_FIN: u8 = 0x01;
pub const TCP_SYN: u8 = 0x02;
pub const TCP_RST: u8 = 0x04;
pub const TCP_ACK: u8 = 0x10;

/// What an Ethernet frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    Ipv4(Ipv4),
    Arp,
    Other,
}

/// Place of a packet in a fragmented datagram (RFC 791).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fragment {
    Whole,
    /// Has the transport header.
    First,
    Later,
}

/// The fields of an IPv4 header that decisions need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4 {
    pub src: Addr4,
    pub dst: Addr4,
    pub proto: u8,
    pub ttl: u8,
    pub csum: [u8; 2],
    pub id: Be16,
    pub fragment: Fragment,
    /// Offset of the transport header from the start of the packet.
    pub l4: usize,
}

/// What kind of transport a packet has, as far as translation goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Tcp,
    Udp,
    /// ICMP echo: its identifier stands for both ports.
    Echo,
    /// An ICMP error, about the packet that it quotes.
    IcmpError,
    /// A later fragment whose first one was not seen.
    UnknownFragment,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transport {
    pub kind: Kind,
    pub ports: Ports,
    /// TCP flags; for ICMP, the type.
    pub flags: u8,
    /// False for later fragments, which have no transport header to change.
    pub present: bool,
}

impl Ipv4 {
    #[inline(always)]
    pub fn tuple(&self, ports: Ports) -> Tuple4 {
        Tuple4 { src: self.src, dst: self.dst, ports }
    }
}

impl Kind {
    /// Can a flow of this kind be tracked and translated?
    #[inline(always)]
    pub fn has_flow(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Echo)
    }
}

/// Parses up to the IPv4 header.
#[inline(always)]
pub fn frame(packet: &impl Packet) -> Result<Frame, DropReason> {
    let ethertype = packet.load::<2>(12).ok_or(DropReason::InvalidPacket)?;
    match u16::from_be_bytes(ethertype) {
        ETHERTYPE_IPV4 => ipv4(packet, IP).map(Frame::Ipv4).ok_or(DropReason::InvalidPacket),
        ETHERTYPE_ARP => Ok(Frame::Arp),
        _ => Ok(Frame::Other),
    }
}

/// Parses an IPv4 header at `offset`, which may be that of a packet quoted by an ICMP error.
#[inline(always)]
pub fn ipv4(packet: &impl Packet, offset: usize) -> Option<Ipv4> {
    let b = packet.load::<IPV4_BYTES>(offset)?;
    let header = usize::from(b[0] & 0x0f) * 4;
    if b[0] >> 4 != 4 || header < IPV4_BYTES {
        return None;
    }
    let fragment = u16::from_be_bytes([b[6], b[7]]);
    Some(Ipv4 {
        src: [b[12], b[13], b[14], b[15]],
        dst: [b[16], b[17], b[18], b[19]],
        proto: b[9],
        ttl: b[8],
        csum: [b[10], b[11]],
        id: Be16::from_bytes([b[4], b[5]]),
        fragment: match fragment {
            f if f & 0x1fff != 0 => Fragment::Later,
            f if f & 0x2000 != 0 => Fragment::First,
            _ => Fragment::Whole,
        },
        l4: offset + header,
    })
}

/// Parses the transport header; of a later fragment, finds what the first one said.
#[inline(always)]
pub fn transport<T: Tables>(packet: &mut impl Packet, tables: &T, ip: &Ipv4) -> Result<Transport, DropReason> {
    if ip.fragment == Fragment::Later {
        return Ok(later(tables, ip));
    }
    if ip.l4 != IP + IPV4_BYTES && !packet.pull(ip.l4 as u32 + 8) {
        return Err(DropReason::InvalidPacket);
    }
    let transport = parse(packet, ip).ok_or(DropReason::InvalidPacket)?;
    if ip.fragment == Fragment::First && transport.kind.has_flow() {
        tables.put_fragment(&fragment_key(ip), &transport.ports);
    }
    Ok(transport)
}

#[inline(always)]
fn parse(packet: &impl Packet, ip: &Ipv4) -> Option<Transport> {
    let none = Ports::default();
    match ip.proto {
        proto::TCP => {
            let ports = ports(packet.load::<4>(ip.l4)?);
            let [flags] = packet.load::<1>(ip.l4 + 13)?;
            Some(Transport { kind: Kind::Tcp, ports, flags, present: true })
        }
        proto::UDP => {
            let ports = ports(packet.load::<4>(ip.l4)?);
            Some(Transport { kind: Kind::Udp, ports, flags: 0, present: true })
        }
        proto::ICMP => {
            let b = packet.load::<8>(ip.l4)?;
            let id = Be16::from_bytes([b[4], b[5]]);
            Some(match b[0] {
                // Echo reply and echo.
                0 | 8 => Transport { kind: Kind::Echo, ports: Ports { src: id, dst: id }, flags: b[0], present: true },
                // Destination unreachable, time exceeded, parameter problem (RFC 792).
                3 | 11 | 12 => Transport { kind: Kind::IcmpError, ports: none, flags: b[0], present: true },
                _ => Transport { kind: Kind::Other, ports: none, flags: b[0], present: true },
            })
        }
        _ => Some(Transport { kind: Kind::Other, ports: none, flags: 0, present: true }),
    }
}

#[inline(always)]
fn later<T: Tables>(tables: &T, ip: &Ipv4) -> Transport {
    let kind = match ip.proto {
        proto::TCP => Kind::Tcp,
        proto::UDP => Kind::Udp,
        proto::ICMP => Kind::Echo,
        _ => Kind::Other,
    };
    match tables.fragment(&fragment_key(ip)) {
        Some(ports) => Transport { kind, ports, flags: 0, present: false },
        None => Transport { kind: Kind::UnknownFragment, ports: Ports::default(), flags: 0, present: false },
    }
}

#[inline(always)]
pub fn ports(b: [u8; 4]) -> Ports {
    Ports { src: Be16::from_bytes([b[0], b[1]]), dst: Be16::from_bytes([b[2], b[3]]) }
}

#[inline(always)]
fn fragment_key(ip: &Ipv4) -> FragmentKey4 {
    FragmentKey4 { src: ip.src, dst: ip.dst, id: ip.id, proto: ip.proto, pad: 0 }
}
