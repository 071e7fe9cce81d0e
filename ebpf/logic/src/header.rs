//! Parsing: Ethernet, IP, and the few bytes of the transport header that decisions need.

use xebec_abi::{Be16, DropReason, FragmentKey, Ports, Tuple, proto};

use crate::{Family, Packet, Tables};

pub const ETHERNET_BYTES: usize = 14;
pub const ETHERTYPE_ARP: u16 = 0x0806;

/// Offset of the IP header.
pub const IP: usize = ETHERNET_BYTES;

pub const TCP_FIN: u8 = 0x01;
pub const TCP_SYN: u8 = 0x02;
pub const TCP_RST: u8 = 0x04;
pub const TCP_ACK: u8 = 0x10;

/// What an Ethernet frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    Ip,
    Arp,
    Other,
}

/// Place of a packet in a fragmented datagram (RFC 791).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Fragment {
    #[default]
    Whole,
    /// Has the transport header.
    First,
    Later,
}

/// The fields of a header that decisions need.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ip<A: Family> {
    pub src: A,
    pub dst: A,
    pub proto: u8,
    pub ttl: u8,
    pub header: A::Header,
    pub fragment: Fragment,
    /// Offset of the transport header from the start of the packet.
    pub l4: usize,
}

/// What kind of transport a packet has, as far as translation goes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Kind {
    #[default]
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

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Transport {
    pub kind: Kind,
    pub ports: Ports,
    /// TCP flags; for ICMP, the type.
    pub flags: u8,
    /// False for later fragments, which have no transport header to change.
    pub present: bool,
}

impl<A: Family> Ip<A> {
    #[inline(always)]
    pub fn tuple(&self, ports: Ports) -> Tuple<A> {
        Tuple { src: self.src, dst: self.dst, ports }
    }
}

impl Kind {
    /// Can a flow of this kind be tracked and translated?
    #[inline(always)]
    pub fn has_flow(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Echo)
    }
}

/// Parses up to the IP header, into `ip`.
#[inline(always)]
pub fn frame<A: Family, P: Packet>(packet: &mut P, ip: &mut Ip<A>) -> Result<Frame, DropReason> {
    let ethertype = packet.load::<2>(12).ok_or(DropReason::InvalidPacket)?;
    match u16::from_be_bytes(ethertype) {
        ethertype if ethertype == A::ETHERTYPE => {
            A::parse(packet, IP, ip).map(|()| Frame::Ip).ok_or(DropReason::InvalidPacket)
        }
        ETHERTYPE_ARP => Ok(Frame::Arp),
        _ => Ok(Frame::Other),
    }
}

/// Parses the transport header; of a later fragment, finds what the first one said.
#[inline(always)]
pub fn transport<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<A>,
) -> Result<Transport, DropReason> {
    if ip.fragment == Fragment::Later {
        return Ok(later(tables, ip));
    }
    if ip.l4 != IP + A::HEADER_BYTES && !packet.pull(ip.l4 as u32 + 8) {
        return Err(DropReason::InvalidPacket);
    }
    let transport = parse(packet, ip).ok_or(DropReason::InvalidPacket)?;
    if ip.fragment == Fragment::First && transport.kind.has_flow() {
        remember(tables, ip, &transport.ports);
    }
    Ok(transport)
}

/// What the later fragments of a datagram want to know. Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn remember<A: Family, T: Tables<A>>(tables: &T, ip: &Ip<A>, ports: &Ports) {
    tables.put_fragment(&fragment_key(ip), ports);
}

#[inline(always)]
fn parse<A: Family, P: Packet>(packet: &P, ip: &Ip<A>) -> Option<Transport> {
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
        icmp if icmp == A::ICMP => {
            let b = packet.load::<8>(ip.l4)?;
            let id = Be16::from_bytes([b[4], b[5]]);
            let kind = A::icmp_kind(b[0]);
            let ports = if kind == Kind::Echo { Ports { src: id, dst: id } } else { none };
            Some(Transport { kind, ports, flags: b[0], present: true })
        }
        _ => Some(Transport { kind: Kind::Other, ports: none, flags: 0, present: true }),
    }
}

#[inline(always)]
fn later<A: Family, T: Tables<A>>(tables: &T, ip: &Ip<A>) -> Transport {
    let kind = match ip.proto {
        proto::TCP => Kind::Tcp,
        proto::UDP => Kind::Udp,
        icmp if icmp == A::ICMP => Kind::Echo,
        _ => Kind::Other,
    };
    match remembered(tables, ip) {
        Some(ports) => Transport { kind, ports, flags: 0, present: false },
        None => Transport { kind: Kind::UnknownFragment, ports: Ports::default(), flags: 0, present: false },
    }
}

#[inline(always)]
pub fn ports(b: [u8; 4]) -> Ports {
    Ports { src: Be16::from_bytes([b[0], b[1]]), dst: Be16::from_bytes([b[2], b[3]]) }
}

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn remembered<A: Family, T: Tables<A>>(tables: &T, ip: &Ip<A>) -> Option<Ports> {
    tables.fragment(&fragment_key(ip))
}

#[inline(always)]
fn fragment_key<A: Family>(ip: &Ip<A>) -> FragmentKey<A> {
    FragmentKey { src: ip.src, dst: ip.dst, id: A::fragment_id(ip), proto: ip.proto, pad: Default::default() }
}
