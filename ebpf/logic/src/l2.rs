//! Addresses that the node speaks for without having them: ARP requests for them are answered at the uplink (RFC 826).

use xebec_abi::{Be16, Counter, L2Key4};

use crate::{
    Packet, Tables, Verdict,
    header::{ETHERNET_BYTES, ETHERTYPE_ARP},
};

/// Ethernet (1), IPv4, six and four bytes of address.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];
const HEADER: usize = ETHERNET_BYTES;
const OPERATION: usize = HEADER + 6;
const SENDER: usize = HEADER + 8;
const TARGET: usize = HEADER + 18;

/// What becomes of an ARP packet that arrives at the device `ifindex`; `None` of any other. Requests for addresses that
/// the node announces there are answered, the rest is the stack's.
#[inline(always)]
pub fn arp<P: Packet, T: Tables>(packet: &mut P, tables: &T, ifindex: u32) -> Option<Verdict> {
    let ethertype = Be16::from_bytes(packet.load::<2>(12)?);
    (ethertype.get() == ETHERTYPE_ARP).then(|| answer(packet, tables, ifindex).unwrap_or(Verdict::PASS))
}

/// Not inlined, for the sake of the caller's stack.
#[inline(never)]
fn answer<P: Packet, T: Tables>(packet: &mut P, tables: &T, ifindex: u32) -> Option<Verdict> {
    let [a, b, c, d, e, f, operation @ ..] = packet.load::<8>(HEADER)?;
    if [a, b, c, d, e, f] != ETHERNET_IPV4 || operation != REQUEST {
        return None;
    }
    let target = packet.load::<4>(TARGET + 6)?;
    let mac = tables.announced(&L2Key4 { addr: target, ifindex })?.mac;
    let sender = packet.load::<10>(SENDER)?;
    let [a, b, c, d, e, f, ..] = sender;
    packet.store(0, [a, b, c, d, e, f])?;
    packet.store(6, mac)?;
    packet.store(OPERATION, REPLY)?;
    packet.store(SENDER, mac)?;
    packet.store(SENDER + 6, target)?;
    packet.store(TARGET, sender)?;
    tables.count(Counter::ArpReply, packet.bytes());
    Some(Verdict::ANSWER)
}

#[cfg(test)]
mod tests {
    use xebec_abi::L2Mac;

    use super::*;
    use crate::{fixture::node, model::Bytes};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
    const ASKER: [u8; 6] = [2, 0, 0, 0, 0, 0xbb];
    const INGRESS: [u8; 4] = [203, 0, 113, 10];

    fn packet(operation: u8, target: [u8; 4]) -> Bytes {
        let ethernet = [&[0xff; 6][..], &ASKER, &[8, 6]].concat();
        let body = [&[0, 1, 8, 0, 6, 4, 0, operation][..], &ASKER, &[192, 0, 2, 1], &[0; 6], &target].concat();
        Bytes([ethernet, body, vec![0; 18]].concat())
    }

    #[test]
    fn requests_for_announced_addresses_are_answered() {
        let mut model = node();
        model.announced.insert(L2Key4 { addr: INGRESS, ifindex: 3 }, L2Mac { mac: MAC, pad: [0; 2] });
        let mut request = packet(1, INGRESS);
        assert_eq!(arp(&mut request, &model, 3), Some(Verdict::ANSWER));
        let ethernet = [&ASKER[..], &MAC, &[8, 6]].concat();
        let reply = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &MAC, &INGRESS, &ASKER, &[192, 0, 2, 1]].concat();
        assert_eq!(request.0[..42], [ethernet, reply].concat());
        let mut strange = packet(1, INGRESS);
        strange.0[19] = 5;
        let mut short = packet(1, INGRESS);
        short.0.truncate(40);
        for (before, ifindex) in [
            (packet(1, INGRESS), 4),
            (packet(2, INGRESS), 3),
            (packet(1, [203, 0, 113, 11]), 3),
            (strange, 3),
            (short, 3),
        ] {
            let mut same = before.clone();
            assert_eq!(arp(&mut same, &model, ifindex), Some(Verdict::PASS));
            assert_eq!(same, before);
        }
    }
}
