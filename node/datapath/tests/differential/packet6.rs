//! Random packets of IPv6 that collide often: few addresses, few ports, extension headers, and every kind of damage.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use xebec_abi::{Addr6, FlowKey6, Tuple6};
use xebec_logic::model::checksum;

use crate::{Generate, family::v6};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

pub struct Generator {
    addresses: Vec<Addr6>,
    ports: Vec<u16>,
}

/// A TCP segment with these flags and zeroes.
pub fn segment(tuple: &Tuple6, flags: u8) -> Vec<u8> {
    let mut packet = ethernet(0x86dd);
    packet.extend([0x60, 0, 0, 0, 0, 20, TCP, 64]);
    packet.extend([tuple.src.octets(), tuple.dst.octets()].concat());
    packet.extend([tuple.ports.src.bytes(), tuple.ports.dst.bytes()].concat());
    packet.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    packet
}

impl Generator {
    pub fn new() -> Self {
        let mut addresses: Vec<Addr6> = [
            "2001:db8::11",
            "2001:db8::12",
            "fd10:db8:0:1::1",
            "fd78:6562:6563::4d4d",
            "2001:db8:ffff::7",
            "ff02::1",
            "fe80::1",
            "::",
            "fd10:db8:0:9::9",
            "fd96:db8::9",
            "2001:db8::13",
        ]
        .map(v6)
        .to_vec();
        for last in 1..8 {
            let text = [
                format!("fd10:db8:0:1::{last}"),
                format!("fd10:db8:0:1::{last}"),
                format!("fd10:db8:0:2::{last}"),
                format!("fd96:db8::{}", last / 2 + 1),
                format!("2001:db8:113::{}", last / 2),
                "2001:db8::11".to_owned(),
            ];
            addresses.extend(text.iter().map(|text| v6(text)));
        }
        Self { addresses, ports: vec![53, 80, 8_080, 8_081, 8_082, 8_083, 8_085, 4_000, 4_001, 61_000, 61_001, 65_535] }
    }
}

impl Generate<Addr6> for Generator {
    fn packet(&self, random: &mut StdRng) -> Vec<u8> {
        let ethertype = match random.random_range(0..40) {
            0 => 0x0800,
            1 => random.random(),
            _ => 0x86dd,
        };
        let body = if random.random_ratio(1, 20) { self.solicitation(random) } else { self.datagram(random, 0) };
        let mut packet = [ethernet(ethertype), body].concat();
        match random.random_range(0..20) {
            0 => packet.truncate(random.random_range(14..packet.len().max(15))),
            // One wrong byte.
            1 => {
                let at = random.random_range(12..packet.len());
                packet[at] = random.random();
            }
            _ => {}
        }
        // The kernel refuses to run what is shorter than the header that its Ethernet type promises.
        packet.resize(packet.len().max(54), 0);
        packet
    }

    /// A packet of a flow, or an error about the packet that a packet of the flow answers.
    fn about(&self, random: &mut StdRng, flow: &FlowKey6) -> Vec<u8> {
        let tuple = flow.tuple;
        let ip = if random.random_bool(0.5) {
            let payload = self.segment(random, &tuple, flow.proto);
            header(random, tuple.src, tuple.dst, flow.proto, &payload)
        } else {
            let quoted = tuple.reversed();
            let payload = self.segment(random, &quoted, flow.proto);
            let inner = header(random, quoted.src, quoted.dst, flow.proto, &payload);
            let src = if random.random_bool(0.5) { quoted.dst } else { self.address(random) };
            let error = error(random, src, quoted.src, &inner);
            header(random, src, quoted.src, ICMPV6, &error)
        };
        [ethernet(0x86dd), ip].concat()
    }
}

impl Generator {
    fn segment(&self, random: &mut StdRng, tuple: &Tuple6, proto: u8) -> Vec<u8> {
        let (src, dst) = (tuple.ports.src.bytes(), tuple.ports.dst.bytes());
        let ports = [src[0], src[1], dst[0], dst[1]];
        match proto {
            TCP => tcp(random, tuple.src, tuple.dst, ports),
            UDP => udp(random, tuple.src, tuple.dst, ports),
            SCTP => crate::sctp(random, ports),
            _ => echo(*[128, 129].choose(random).unwrap(), tuple.src, tuple.dst, dst),
        }
    }

    fn datagram(&self, random: &mut StdRng, depth: u8) -> Vec<u8> {
        let (mut src, mut dst) = (self.address(random), self.address(random));
        // Often a pod of this node, so that the interesting paths are common.
        if random.random_bool(0.5) {
            src = v6(&format!("fd10:db8:0:1::{}", random.random_range(2..6)));
        }
        if random.random_bool(0.2) {
            dst = v6("2001:db8::11");
        }
        let proto = *[TCP, TCP, UDP, UDP, ICMPV6, ICMPV6, SCTP, SCTP, 59].choose(random).unwrap();
        let ports = self.ports(random);
        let payload = match proto {
            TCP => tcp(random, src, dst, ports),
            UDP => udp(random, src, dst, ports),
            SCTP => crate::sctp(random, ports),
            ICMPV6 => self.icmp(random, src, dst, depth),
            _ => (0..random.random_range(0..40)).map(|_| random.random()).collect(),
        };
        let (next, payload) = extended(random, proto, payload);
        header(random, src, dst, next, &payload)
    }

    /// Mostly one for what is announced: a run has few of them, and must not be without.
    fn solicitation(&self, random: &mut StdRng) -> Vec<u8> {
        let (src, dst) = (self.address(random), v6("ff02::1:ff00:1"));
        let kind = *[135, 135, 135, 136, 134].choose(random).unwrap();
        let target = v6(&format!("2001:db8:113::{}", random.random_range(1..5)));
        let mut message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
        if random.random_bool(0.7) {
            message.extend([1, 1, 2, 0, 0, 0, 8, 8]);
        }
        transport_checksum(&mut message, 2, ICMPV6, src, dst);
        let mut ip = header(random, src, dst, ICMPV6, &message);
        ip[7] = if random.random_bool(0.9) { 255 } else { 64 };
        ip
    }

    fn icmp(&self, random: &mut StdRng, src: Addr6, dst: Addr6, depth: u8) -> Vec<u8> {
        let kind = *[128, 129, 1, 2, 2, 3, 4, 133, 143].choose(random).unwrap();
        if kind <= 4 && depth == 0 {
            let quoted = self.datagram(random, 1);
            return error(random, src, dst, &quoted);
        }
        echo(kind, src, dst, self.ports.choose(random).unwrap().to_be_bytes())
    }

    fn address(&self, random: &mut StdRng) -> Addr6 {
        *self.addresses.choose(random).unwrap()
    }

    fn ports(&self, random: &mut StdRng) -> [u8; 4] {
        let mut port = || self.ports.choose(random).unwrap().to_be_bytes();
        let (src, dst) = (port(), port());
        [src[0], src[1], dst[0], dst[1]]
    }
}

/// Some payloads come behind extension headers, of fragments too.
fn extended(random: &mut StdRng, proto: u8, payload: Vec<u8>) -> (u8, Vec<u8>) {
    let (mut next, mut payload) = (proto, payload);
    let count = if random.random_ratio(1, 3) { random.random_range(1..6) } else { 0 };
    for _ in 0..count {
        let kind = *[0, 43, FRAGMENT, FRAGMENT, 51, 60].choose(random).unwrap();
        let units: u8 = if kind == FRAGMENT { 0 } else { *[0, 0, 1, 2, 50].choose(random).unwrap() };
        let bytes = match kind {
            FRAGMENT => 8,
            51 => usize::from(units) * 4 + 8,
            _ => usize::from(units) * 8 + 8,
        };
        let mut extension = vec![0; bytes];
        (extension[0], extension[1]) = (next, units);
        if kind == FRAGMENT {
            let place: u16 = *[0, 1, 1, 8, 9, 800].choose(random).unwrap();
            extension[2..4].copy_from_slice(&place.to_be_bytes());
            extension[7] = random.random_range(0..4);
        }
        (next, payload) = (kind, [extension, payload].concat());
    }
    (next, payload)
}

fn header(random: &mut StdRng, src: Addr6, dst: Addr6, next: u8, payload: &[u8]) -> Vec<u8> {
    let hops = *[64, 64, 64, 64, 2, 1, 0].choose(random).unwrap();
    let [high, low] = (payload.len() as u16).to_be_bytes();
    let fixed = [0x60, random.random(), random.random(), random.random(), high, low, next, hops];
    [&fixed[..], &src.octets(), &dst.octets(), payload].concat()
}

fn tcp(random: &mut StdRng, src: Addr6, dst: Addr6, ports: [u8; 4]) -> Vec<u8> {
    let mut tcp = vec![0; 20 + crate::payload(random)];
    random.fill(&mut tcp[..]);
    tcp[..4].copy_from_slice(&ports);
    tcp[13] = *[0x02, 0x12, 0x10, 0x18, 0x11, 0x04].choose(random).unwrap();
    transport_checksum(&mut tcp, 16, TCP, src, dst);
    tcp
}

fn udp(random: &mut StdRng, src: Addr6, dst: Addr6, ports: [u8; 4]) -> Vec<u8> {
    let mut udp = vec![0; 8 + crate::payload(random)];
    random.fill(&mut udp[..]);
    udp[..4].copy_from_slice(&ports);
    let length = udp.len() as u16;
    udp[4..6].copy_from_slice(&length.to_be_bytes());
    transport_checksum(&mut udp, 6, UDP, src, dst);
    udp
}

fn echo(kind: u8, src: Addr6, dst: Addr6, id: [u8; 2]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, id[0], id[1], 0, 0];
    transport_checksum(&mut message, 2, ICMPV6, src, dst);
    message
}

fn error(random: &mut StdRng, src: Addr6, dst: Addr6, quoted: &[u8]) -> Vec<u8> {
    let kind = *[1, 2, 3, 4].choose(random).unwrap();
    let least = if random.random_bool(0.5) { quoted.len() } else { quoted.len().min(48) };
    let mut message = [&[kind, 0, 0, 0, 0, 0, 5, 0][..], &quoted[..least]].concat();
    transport_checksum(&mut message, 2, ICMPV6, src, dst);
    message
}

fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut header = vec![2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 8, 8];
    header.extend(ethertype.to_be_bytes());
    header
}

fn transport_checksum(segment: &mut [u8], at: usize, proto: u8, src: Addr6, dst: Addr6) {
    segment[at..at + 2].fill(0);
    let length = (segment.len() as u32).to_be_bytes();
    let pseudo = [&src.octets()[..], &dst.octets(), &length, &[0, 0, 0, proto]].concat();
    let sum = checksum(segment, u32::from(!checksum(&pseudo, 0))).to_be_bytes();
    segment[at..at + 2].copy_from_slice(&sum);
}
