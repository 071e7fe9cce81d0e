//! Random packets that collide often: few addresses, few ports, every protocol and every kind of damage.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use xebec_abi::{Addr4, FlowKey4, Tuple4};
use xebec_logic::model::checksum;

use crate::Generate;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const DONT_FRAGMENT: u16 = 0x4000;

pub struct Generator {
    addresses: Vec<[u8; 4]>,
    ports: Vec<u16>,
}

/// A TCP segment without data.
pub fn segment(tuple: &Tuple4, flags: u8) -> Vec<u8> {
    let mut packet = ethernet(0x0800);
    packet.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, TCP, 0, 0]);
    packet.extend([tuple.src, tuple.dst].concat());
    packet.extend([tuple.ports.src.bytes(), tuple.ports.dst.bytes()].concat());
    packet.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    packet
}

impl Generator {
    pub fn new() -> Self {
        let mut addresses = vec![
            [172, 30, 0, 11],
            [172, 30, 0, 12],
            [10, 244, 1, 1],
            [169, 254, 77, 77],
            [192, 0, 2, 7],
            [224, 0, 0, 1],
            [10, 244, 9, 9],
            [10, 244, 77, 1],
            [10, 96, 0, 9],
            [172, 30, 0, 13],
            [198, 51, 100, 1],
        ];
        // Pods here, pods elsewhere, services.
        for last in 1..8 {
            addresses.extend([[10, 244, 1, last], [10, 244, 1, last], [10, 244, 2, last], [10, 96, 0, last / 2 + 1]]);
            addresses.extend([[203, 0, 113, last / 2], [172, 30, 0, 11]]);
        }
        Self { addresses, ports: vec![53, 80, 8_080, 8_081, 8_082, 8_083, 8_085, 4_000, 4_001, 61_000, 61_001, 65_535] }
    }
}

impl Generate<Addr4> for Generator {
    fn packet(&self, random: &mut StdRng) -> Vec<u8> {
        let mut packet = ethernet(match random.random_range(0..40) {
            0 | 3 => 0x0806,
            1 => 0x86dd,
            2 => random.random(),
            _ => 0x0800,
        });
        if packet[12..14] == [8, 6] && random.random_bool(0.9) {
            packet.extend(self.arp(random));
        } else {
            packet.extend(self.datagram(random, 0));
        }
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
        let least = if packet[12..14] == [0x86, 0xdd] { 54 } else { 34 };
        packet.resize(packet.len().max(least), 0);
        packet
    }

    /// A packet of a flow, or an error about the packet that a packet of the flow answers.
    fn about(&self, random: &mut StdRng, flow: &FlowKey4) -> Vec<u8> {
        let tuple = flow.tuple;
        let ip = if random.random_bool(0.5) {
            let payload = self.segment(random, &tuple, flow.proto);
            let fragment = *[0, DONT_FRAGMENT].choose(random).unwrap();
            header(random, tuple.src, tuple.dst, flow.proto, fragment, &payload)
        } else {
            let quoted = tuple.reversed();
            let payload = self.segment(random, &quoted, flow.proto);
            let inner = header(random, quoted.src, quoted.dst, flow.proto, 0, &payload);
            let src = if random.random_bool(0.5) { quoted.dst } else { self.address(random) };
            let error = error(random, &inner);
            header(random, src, quoted.src, ICMP, 0, &error)
        };
        [ethernet(0x0800), ip].concat()
    }
}

impl Generator {
    fn segment(&self, random: &mut StdRng, tuple: &Tuple4, proto: u8) -> Vec<u8> {
        let (src, dst) = (tuple.ports.src.bytes(), tuple.ports.dst.bytes());
        let ports = [src[0], src[1], dst[0], dst[1]];
        match proto {
            TCP => tcp(random, tuple.src, tuple.dst, ports),
            UDP => udp(random, tuple.src, tuple.dst, ports),
            SCTP => crate::sctp(random, ports),
            _ => echo(*[0, 8].choose(random).unwrap(), dst),
        }
    }

    fn datagram(&self, random: &mut StdRng, depth: u8) -> Vec<u8> {
        let (mut src, mut dst) = (self.address(random), self.address(random));
        // Often a pod of this node, so that the interesting paths are common.
        if random.random_bool(0.5) {
            src = [10, 244, 1, random.random_range(2..6)];
        }
        if random.random_bool(0.2) {
            dst = [172, 30, 0, 11];
        }
        let proto = *[TCP, TCP, UDP, UDP, ICMP, ICMP, SCTP, SCTP, 47].choose(random).unwrap();
        let ports = self.ports(random);
        let payload = match proto {
            TCP => tcp(random, src, dst, ports),
            UDP => udp(random, src, dst, ports),
            SCTP => crate::sctp(random, ports),
            ICMP => self.icmp(random, depth),
            _ => (0..random.random_range(0..40)).map(|_| random.random()).collect(),
        };
        let fragment = match random.random_range(0..12) {
            0 => 0x2000,
            1 => 0x2000 | random.random_range(1..100),
            2 => random.random_range(1..100),
            3..6 => DONT_FRAGMENT,
            _ => 0,
        };
        header(random, src, dst, proto, fragment, &payload)
    }

    fn arp(&self, random: &mut StdRng) -> Vec<u8> {
        // Mostly requests for what is announced: a run has few of them, and must not be without.
        let operation = *[1, 1, 1, 0, 2].choose(random).unwrap();
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation];
        let (sender, target) = (self.address(random), [203, 0, 113, random.random_range(1..5)]);
        arp.extend([2, 0, 0, 0, 8, 8]);
        arp.extend(sender);
        arp.extend([0; 6]);
        arp.extend(target);
        arp
    }

    fn icmp(&self, random: &mut StdRng, depth: u8) -> Vec<u8> {
        let kind = *[0, 8, 3, 3, 3, 11, 12, 5, 13].choose(random).unwrap();
        if [3, 11, 12].contains(&kind) && depth == 0 {
            let quoted = self.datagram(random, 1);
            return error(random, &quoted);
        }
        echo(kind, self.ports.choose(random).unwrap().to_be_bytes())
    }

    fn address(&self, random: &mut StdRng) -> [u8; 4] {
        *self.addresses.choose(random).unwrap()
    }

    fn ports(&self, random: &mut StdRng) -> [u8; 4] {
        let mut port = || self.ports.choose(random).unwrap().to_be_bytes();
        let (src, dst) = (port(), port());
        [src[0], src[1], dst[0], dst[1]]
    }
}

fn header(random: &mut StdRng, src: [u8; 4], dst: [u8; 4], proto: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let options = if random.random_ratio(1, 10) { 4 * random.random_range(1..=10) } else { 0 };
    let mut header = vec![0; 20 + options];
    header[0] = 0x40 | (header.len() / 4) as u8;
    header[1] = random.random();
    let length = (header.len() + payload.len()) as u16;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[5] = random.random_range(0..4);
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    header[8] = *[64, 64, 64, 64, 2, 1, 0].choose(random).unwrap();
    header[9] = proto;
    header[12..16].copy_from_slice(&src);
    header[16..20].copy_from_slice(&dst);
    random.fill(&mut header[20..]);
    let sum = checksum(&header, 0).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [&header, payload].concat()
}

fn tcp(random: &mut StdRng, src: [u8; 4], dst: [u8; 4], ports: [u8; 4]) -> Vec<u8> {
    let mut tcp = vec![0; 20 + crate::payload(random)];
    random.fill(&mut tcp[..]);
    tcp[..4].copy_from_slice(&ports);
    tcp[13] = *[0x02, 0x12, 0x10, 0x18, 0x11, 0x04].choose(random).unwrap();
    transport_checksum(&mut tcp, 16, TCP, src, dst);
    tcp
}

fn udp(random: &mut StdRng, src: [u8; 4], dst: [u8; 4], ports: [u8; 4]) -> Vec<u8> {
    let mut udp = vec![0; 8 + crate::payload(random)];
    random.fill(&mut udp[..]);
    udp[..4].copy_from_slice(&ports);
    let length = udp.len() as u16;
    udp[4..6].copy_from_slice(&length.to_be_bytes());
    transport_checksum(&mut udp, 6, UDP, src, dst);
    if random.random_ratio(1, 5) {
        udp[6..8].fill(0);
    }
    udp
}

fn echo(kind: u8, id: [u8; 2]) -> Vec<u8> {
    let mut icmp = vec![kind, 0, 0, 0, id[0], id[1], 0, 0];
    let sum = checksum(&icmp, 0).to_be_bytes();
    icmp[2..4].copy_from_slice(&sum);
    icmp
}

fn error(random: &mut StdRng, quoted: &[u8]) -> Vec<u8> {
    let kind = *[3, 11, 12].choose(random).unwrap();
    let least = if random.random_bool(0.5) { quoted.len() } else { quoted.len().min(28) };
    let mut icmp = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    icmp.extend(&quoted[..least]);
    let sum = checksum(&icmp, 0).to_be_bytes();
    icmp[2..4].copy_from_slice(&sum);
    icmp
}

fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut header = vec![2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 8, 8];
    header.extend(ethertype.to_be_bytes());
    header
}

fn transport_checksum(segment: &mut [u8], at: usize, proto: u8, src: [u8; 4], dst: [u8; 4]) {
    segment[at..at + 2].fill(0);
    let mut pseudo = [src, dst].concat();
    pseudo.extend([0, proto]);
    pseudo.extend((segment.len() as u16).to_be_bytes());
    let initial = u32::from(!checksum(&pseudo, 0));
    let sum = checksum(segment, initial).to_be_bytes();
    segment[at..at + 2].copy_from_slice(&sum);
}
