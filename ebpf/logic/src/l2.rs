//! Addresses that the node speaks for without having them: ARP requests (RFC 826) and neighbour solicitations (RFC 4861)
//! for them are answered at the uplink.

use xebec_abi::{Addr4, Addr6, Address, Be16, Counter, L2Key4, L2Key6, proto};

use crate::{
    Family, Packet, Tables, Verdict,
    csum::{add, fold},
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
pub fn arp<P: Packet, T: Tables<Addr4>>(packet: &mut P, tables: &T, ifindex: u32) -> Option<Verdict> {
    let ethertype = Be16::from_bytes(packet.load::<2>(12)?);
    let verdict = |answers: bool| if answers { Verdict::ANSWER } else { Verdict::PASS };
    (ethertype.get() == ETHERTYPE_ARP).then(|| verdict(answers(packet, tables, ifindex)))
}

/// Not inlined, for the sake of the caller's stack. A word is what it returns: of what it would write through a pointer
/// LLVM may return the pointer too, and verifiers refuse one to the stack.
#[inline(never)]
fn answers<P: Packet, T: Tables<Addr4>>(packet: &mut P, tables: &T, ifindex: u32) -> bool {
    answer(packet, tables, ifindex).is_some()
}

#[inline(always)]
fn answer<P: Packet, T: Tables<Addr4>>(packet: &mut P, tables: &T, ifindex: u32) -> Option<()> {
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
    Some(())
}

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const IPV6_SRC: usize = HEADER + 8;
const ICMPV6: usize = HEADER + Addr6::HEADER_BYTES;
const NDP_TARGET: usize = ICMPV6 + 8;
const NDP_OPTION: usize = NDP_TARGET + 16;
/// Type, code, checksum, flags, target, and the option "target link-layer address".
const ADVERTISEMENT_BYTES: usize = 32;
/// What has not passed a router (RFC 4861 section 7.1.1).
const HOP_LIMIT: u8 = 255;
/// Solicited, override.
const FLAGS: [u8; 4] = [0x60, 0, 0, 0];

/// What becomes of a neighbour solicitation that arrives at the device `ifindex` for an address that the node announces
/// there; `None` of any other packet.
#[inline(always)]
pub fn neighbour<P: Packet, T: Tables<Addr6>>(packet: &mut P, tables: &T, ifindex: u32) -> Option<Verdict> {
    let ethertype = Be16::from_bytes(packet.load::<2>(12)?);
    let [next, hop_limit] = packet.load::<2>(HEADER + 6)?;
    if ethertype.get() != Addr6::ETHERTYPE || next != proto::ICMPV6 || hop_limit != HOP_LIMIT {
        return None;
    }
    let [kind, code] = packet.load::<2>(ICMPV6)?;
    if kind != SOLICITATION || code != 0 || !packet.pull(NDP_OPTION as u32) {
        return None;
    }
    advertises(packet, tables, ifindex).then_some(Verdict::ANSWER)
}

/// As [`answers`].
#[inline(never)]
fn advertises<P: Packet, T: Tables<Addr6>>(packet: &mut P, tables: &T, ifindex: u32) -> bool {
    advertise(packet, tables, ifindex).is_some()
}

/// By words: arrays of bytes would take more stack than a program has.
#[inline(always)]
fn advertise<P: Packet, T: Tables<Addr6>>(packet: &mut P, tables: &T, ifindex: u32) -> Option<()> {
    let (mut target, mut asker) = (Addr6::UNSPECIFIED, Addr6::UNSPECIFIED);
    packet.load_words(NDP_TARGET, target.words_mut())?;
    packet.load_words(IPV6_SRC, asker.words_mut())?;
    // Somebody who asks without an address wants to have this one: the stack knows no better.
    if asker == Addr6::UNSPECIFIED {
        return None;
    }
    let mac = tables.announced(&L2Key6 { addr: target, ifindex })?.mac;
    packet.resize((ICMPV6 + ADVERTISEMENT_BYTES) as u32)?;
    let [a, b, c, d, e, f] = packet.load::<6>(6)?;
    packet.store(0, [a, b, c, d, e, f])?;
    packet.store(6, mac)?;
    let [a, b, c, d, e, f] = mac;
    let pseudo = add(add(target.sum(), asker.sum()), word([0, proto::ICMPV6, 0, ADVERTISEMENT_BYTES as u8]));
    let option = add(word([2, 1, a, b]), word([c, d, e, f]));
    let message = add(add(word([ADVERTISEMENT, 0, 0, 0]), word(FLAGS)), add(target.sum(), option));
    let [high, low] = (!fold(add(pseudo, message))).to_ne_bytes();
    packet.store(HEADER, [0x60, 0, 0, 0, 0, ADVERTISEMENT_BYTES as u8, proto::ICMPV6, HOP_LIMIT])?;
    packet.store_words(IPV6_SRC, target.words())?;
    packet.store_words(IPV6_SRC + 16, asker.words())?;
    packet.store(ICMPV6, [ADVERTISEMENT, 0, high, low])?;
    packet.store(ICMPV6 + 4, FLAGS)?;
    packet.store(NDP_OPTION, [2, 1, a, b, c, d, e, f])?;
    tables.count(Counter::ArpReply, packet.bytes());
    Some(())
}

#[inline(always)]
fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
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
