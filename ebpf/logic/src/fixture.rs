//! Packets and a node for tests.

use xebec_abi::{
    Addr4, Backend4, BackendId, BackendKey, Be16, DropReason, Endpoint4, FrontendKey4, FrontendValue, LocalPod, Ports,
    PrefixKey4, ServiceId, Tuple4, proto,
};

use crate::{
    Csum, Packet, Verdict,
    model::{Bytes, Model, checksum},
    netdev::from_netdev,
};

pub const POD: Addr4 = [10, 244, 1, 2];
pub const OTHER: Addr4 = [10, 244, 1, 3];
pub const REMOTE: Addr4 = [10, 244, 2, 5];
pub const REMOTE_NODE: Addr4 = [172, 30, 0, 12];
pub const NODE: Addr4 = [172, 30, 0, 11];
pub const OUTSIDE: Addr4 = [192, 0, 2, 7];
pub const VIP: Addr4 = [10, 96, 0, 50];
pub const IFINDEX: u32 = 5;

/// A node with two pods, another node, and no services.
pub fn node() -> Model {
    let mut model = Model::default();
    for (addr, ifindex) in [(POD, IFINDEX), (OTHER, IFINDEX + 1)] {
        let pod = LocalPod {
            ifindex,
            pod_mac: [2, 0, 0, 0, 0, addr[3]],
            host_mac: [2, 0, 0, 0, 1, addr[3]],
            netns_cookie: 100 + u64::from(addr[3]),
            ..LocalPod::default()
        };
        model.pods.insert(addr, pod);
    }
    let key = PrefixKey4 { addr: [10, 244, 2, 0], prefix_len: 24, pad: [0; 3] };
    model.remotes.insert(key, Endpoint4 { node: REMOTE_NODE, identity: 0 });
    model
}

/// Adds a service at `VIP:80` for TCP, UDP and SCTP, under ids 1 to 3.
pub fn serve(model: &mut Model, backends: &[Addr4], local: u16, flags: u16, affinity_s: u32) {
    for (id, proto) in [(1, proto::TCP), (2, proto::UDP), (3, proto::SCTP)] {
        let key = FrontendKey4 { addr: VIP, port: Be16::new(80), proto, scope: 0 };
        let service = ServiceId(id);
        let count = backends.len() as u16;
        model
            .frontends
            .insert(key, FrontendValue { service, generation: 3, backends: count, local, flags, affinity_s });
        for (slot, addr) in (0..).zip(backends) {
            let backend = Backend4 { addr: *addr, port: Be16::new(8080), id: BackendId(9), ..Backend4::default() };
            model.backends.insert(BackendKey { service, generation: 3, slot }, backend);
        }
    }
}

pub fn tuple(src: Addr4, sport: u16, dst: Addr4, dport: u16) -> Tuple4 {
    Tuple4 { src, dst, ports: Ports { src: Be16::new(sport), dst: Be16::new(dport) } }
}

pub fn tcp(tuple: Tuple4, flags: u8) -> Bytes {
    let mut segment = vec![0; 20];
    segment[..4].copy_from_slice(&ports(&tuple));
    segment[12] = 0x50;
    segment[13] = flags;
    finish(tuple, proto::TCP, segment, Some(16), 0)
}

pub fn udp(tuple: Tuple4, checksummed: bool) -> Bytes {
    let mut datagram = vec![0; 8];
    datagram[..4].copy_from_slice(&ports(&tuple));
    datagram[5] = 12;
    datagram.extend(*b"data");
    finish(tuple, proto::UDP, datagram, checksummed.then_some(6), 0)
}

/// One chunk of a type, and data behind it.
pub fn sctp(tuple: Tuple4, chunk: u8, data: &[u8]) -> Bytes {
    let mut packet = vec![0; 16];
    packet[..4].copy_from_slice(&ports(&tuple));
    packet[4..8].copy_from_slice(&[1, 2, 3, 4]);
    packet[12] = chunk;
    packet[14..16].copy_from_slice(&(4 + data.len() as u16).to_be_bytes());
    packet.extend(data);
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    finish(tuple, proto::SCTP, packet, None, 0)
}

/// CRC-32C, bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A fragment of a datagram: `fragment` is the header's flags and offset.
pub fn fragment(tuple: Tuple4, fragment: u16) -> Bytes {
    let mut payload = if fragment & 0x1fff == 0 { ports(&tuple).to_vec() } else { vec![0xaa; 4] };
    payload.extend([0; 12]);
    finish(tuple, proto::UDP, payload, None, fragment)
}

/// ICMP echo with the identifier in both ports of `tuple`.
pub fn echo(kind: u8, tuple: Tuple4) -> Bytes {
    let [a, b] = tuple.ports.src.bytes();
    icmp(tuple, vec![kind, 0, 0, 0, a, b, 0, 1])
}

/// "Port unreachable" from `src` about `about`, which has an Ethernet header of its own here.
pub fn unreachable(src: Addr4, about: &Bytes) -> Bytes {
    let quoted = &about.0[14..about.0.len().min(14 + 28)];
    let dst = [quoted[12], quoted[13], quoted[14], quoted[15]];
    icmp(tuple(src, 0, dst, 0), [&[3, 3, 0, 0, 0, 0, 0, 0], quoted].concat())
}

fn icmp(tuple: Tuple4, mut message: Vec<u8>) -> Bytes {
    let sum = checksum(&message, 0).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    finish(tuple, proto::ICMP, message, None, 0)
}

fn ports(tuple: &Tuple4) -> [u8; 4] {
    let ([a, b], [c, d]) = (tuple.ports.src.bytes(), tuple.ports.dst.bytes());
    [a, b, c, d]
}

fn finish(tuple: Tuple4, proto: u8, mut payload: Vec<u8>, csum: Option<usize>, fragment: u16) -> Bytes {
    if let Some(at) = csum {
        let sum = checksum(&payload, pseudo(tuple, proto, payload.len())).to_be_bytes();
        payload[at..at + 2].copy_from_slice(&sum);
    }
    let mut packet = vec![2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 8, 8, 8, 0, 0x45, 0, 0, 0, 0, 77, 0, 0, 64, proto, 0, 0];
    packet[16..18].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
    packet[20..22].copy_from_slice(&fragment.to_be_bytes());
    packet.extend(tuple.src);
    packet.extend(tuple.dst);
    let sum = checksum(&packet[14..34], 0).to_be_bytes();
    packet[24..26].copy_from_slice(&sum);
    packet.extend(payload);
    Bytes(packet)
}

fn pseudo(tuple: Tuple4, proto: u8, len: usize) -> u32 {
    let words = [tuple.src, tuple.dst].concat();
    let sum: u32 = words.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    sum + u32::from(proto) + len as u32
}

/// The packet's tuple, after every checksum in it has been computed anew and compared.
#[track_caller]
pub fn verified(packet: &Bytes) -> Tuple4 {
    let ip = &packet.0[14..34];
    assert_eq!(checksum(ip, 0), 0, "IPv4 checksum of {packet:02x?}");
    let payload = &packet.0[34..];
    let addr = |at: usize| [ip[at], ip[at + 1], ip[at + 2], ip[at + 3]];
    let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    let (src, dst) = (addr(12), addr(16));
    let whole = ip[6] & 0x3f == 0 && ip[7] == 0;
    match ip[9] {
        proto::ICMP => {
            assert_eq!(checksum(payload, 0), 0, "ICMP checksum of {packet:02x?}");
            tuple(src, port(4), dst, port(4))
        }
        proto::SCTP => {
            let field = &payload[8..12];
            let zeroed = [&payload[..8], &[0; 4], &payload[12..]].concat();
            assert!(field == [0; 4] || field == crc32c(&zeroed).to_le_bytes(), "CRC-32C of {packet:02x?}");
            tuple(src, port(0), dst, port(2))
        }
        protocol => {
            let tuple = tuple(src, port(0), dst, port(2));
            let none = protocol == proto::UDP && payload[6..8] == [0, 0];
            if whole && !none {
                let sum = checksum(payload, pseudo(tuple, protocol, payload.len()));
                assert_eq!(sum, 0, "transport checksum of {packet:02x?}");
            }
            tuple
        }
    }
}

/// The tuple of the packet that an ICMP error quotes.
#[track_caller]
pub fn quoted(packet: &Bytes) -> Tuple4 {
    let inner = &packet.0[42..];
    assert_eq!(checksum(&inner[..20], 0), 0, "quoted IPv4 checksum of {packet:02x?}");
    let addr = |at: usize| [inner[at], inner[at + 1], inner[at + 2], inner[at + 3]];
    let port = |at: usize| u16::from_be_bytes([inner[at], inner[at + 1]]);
    tuple(addr(12), port(20), addr(16), port(22))
}

/// What becomes of a packet at the node's uplink.
#[track_caller]
pub fn arrives(model: &Model, packet: &Bytes, expected: Result<Verdict, DropReason>) -> Bytes {
    let mut packet = packet.clone();
    assert_eq!(from_netdev(&mut packet, model), expected, "{packet:02x?}");
    packet
}

/// A packet as a host's stack has it.
pub struct Skb {
    pub packet: Bytes,
    /// Of all that is yet to be cut into segments.
    pub bytes: u64,
    /// The payload of each.
    pub segment_bytes: u32,
    /// Nothing behind is read or written before it is pulled.
    pub linear: usize,
}

impl Packet for Skb {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn segment_bytes(&self) -> u32 {
        self.segment_bytes
    }

    fn pull(&mut self, bytes: u32) -> bool {
        let pulled = self.packet.pull(bytes);
        if pulled {
            self.linear = self.linear.max(bytes as usize);
        }
        pulled
    }

    fn resize(&mut self, bytes: u32) -> Option<()> {
        self.packet.resize(bytes)
    }

    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.packet.load(offset).filter(|_| offset + N <= self.linear)
    }

    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        if offset + N <= self.linear { self.packet.store(offset, bytes) } else { None }
    }

    fn add_csum(&mut self, offset: usize, diff: u32, csum: Csum, optional: bool) -> Option<()> {
        self.packet.add_csum(offset, diff, csum, optional)
    }

    fn mark_congestion(&mut self) -> bool {
        self.packet.mark_congestion()
    }

    fn add_frame_csum(&mut self, diff: u32) {
        self.packet.add_frame_csum(diff);
    }
}
