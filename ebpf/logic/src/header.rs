//! Parsing: Ethernet, IP, and the few bytes of the transport header that decisions need.

use xebec_abi::{Be16, DropReason, FragmentKey, Ports, Tuple, proto};

use crate::{Family, Packet, Tables, sctp};

pub const ETHERNET_BYTES: usize = 14;
pub const ETHERTYPE_ARP: u16 = 0x0806;

/// Offset of the IP header.
pub const IP: usize = ETHERNET_BYTES;

/// Offset of the flags from the start of the header.
const TCP_FLAGS: usize = 13;
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
    Sctp,
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
    /// TCP flags, and what is like them of SCTP ([`sctp::flags`]); for ICMP, the type.
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
        self.has_ports() || self == Self::Echo
    }

    /// Can it be for a service?
    #[inline(always)]
    pub fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Sctp)
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

/// Parses the transport header, into `transport`; of a later fragment, finds what the first one said.
#[inline(always)]
pub fn transport<A: Family, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<A>,
    transport: &mut Transport,
) -> Result<(), DropReason> {
    if ip.fragment == Fragment::Later {
        later(tables, ip, transport);
        return Ok(());
    }
    if ip.l4 != IP + A::HEADER_BYTES && !packet.pull(ip.l4 as u32 + read_bytes(ip.proto)) {
        return Err(DropReason::InvalidPacket);
    }
    parse(packet, ip, transport).ok_or(DropReason::InvalidPacket)?;
    if ip.fragment == Fragment::First && transport.kind.has_flow() {
        remember(tables, ip, &transport.ports);
    }
    Ok(())
}

/// What the later fragments of a datagram want to know. Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn remember<A: Family, T: Tables<A>>(tables: &T, ip: &Ip<A>, ports: &Ports) {
    tables.put_fragment(&fragment_key(ip), ports);
}

/// How much of a transport header [`parse`] reads; an echo's and UDP's have no more.
#[inline(always)]
fn read_bytes(proto: u8) -> u32 {
    match proto {
        proto::TCP => TCP_FLAGS as u32 + 1,
        proto::SCTP => sctp::CHUNK as u32 + 1,
        _ => 8,
    }
}

#[inline(always)]
fn parse<A: Family, P: Packet>(packet: &P, ip: &Ip<A>, transport: &mut Transport) -> Option<()> {
    transport.present = true;
    match ip.proto {
        proto::TCP | proto::UDP | proto::SCTP => {
            transport.ports = ports(packet.load::<4>(ip.l4)?);
            (transport.kind, transport.flags) = match ip.proto {
                proto::TCP => (Kind::Tcp, packet.load::<1>(ip.l4 + TCP_FLAGS)?[0]),
                proto::SCTP => (Kind::Sctp, sctp::flags(packet.load::<1>(ip.l4 + sctp::CHUNK)?[0])),
                _ => (Kind::Udp, 0),
            };
        }
        icmp if icmp == A::ICMP => {
            let b = packet.load::<8>(ip.l4)?;
            let id = Be16::from_bytes([b[4], b[5]]);
            (transport.kind, transport.flags) = (A::icmp_kind(b[0]), b[0]);
            transport.ports = if transport.kind == Kind::Echo { Ports { src: id, dst: id } } else { Ports::default() };
        }
        _ => (transport.kind, transport.ports, transport.flags) = (Kind::Other, Ports::default(), 0),
    }
    Some(())
}

#[inline(always)]
fn later<A: Family, T: Tables<A>>(tables: &T, ip: &Ip<A>, transport: &mut Transport) {
    let kind = match ip.proto {
        proto::TCP => Kind::Tcp,
        proto::UDP => Kind::Udp,
        proto::SCTP => Kind::Sctp,
        icmp if icmp == A::ICMP => Kind::Echo,
        _ => Kind::Other,
    };
    let first = remembered(tables, ip);
    *transport = Transport {
        kind: if first.is_some() { kind } else { Kind::UnknownFragment },
        ports: first.unwrap_or_default(),
        flags: 0,
        present: false,
    };
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

#[cfg(test)]
mod tests {
    use xebec_abi::Addr4;

    use super::*;
    use crate::fixture::{POD, Skb, VIP, node, sctp, tcp, tuple, udp};

    /// Behind options a driver's buffer may end anywhere.
    #[test]
    fn what_is_read_of_a_transport_header_is_pulled() {
        const NO_OPERATIONS: [u8; 8] = [1; 8];
        let dialled = tuple(POD, 4000, VIP, 80);
        for (packet, kind, flags) in [
            (tcp(dialled, 0x12), Kind::Tcp, 0x12),
            (udp(dialled, true), Kind::Udp, 0),
            (sctp(dialled, 1, &[0; 16]), Kind::Sctp, sctp::flags(1)),
        ] {
            for linear in 42..80 {
                let mut packet = packet.clone();
                packet.0[14] += 2;
                packet.0.splice(34..34, NO_OPERATIONS);
                let mut packet = Skb { bytes: packet.0.len() as u64, packet, segment_bytes: 0, linear };
                let (mut ip, mut found) = (Ip::<Addr4>::default(), Transport::default());
                assert!(matches!(frame(&mut packet, &mut ip), Ok(Frame::Ip)));
                assert_eq!(transport(&mut packet, &node(), &ip, &mut found), Ok(()), "{kind:?}, {linear} linear");
                assert_eq!(found, Transport { kind, ports: dialled.ports, flags, present: true });
            }
        }
    }
}
