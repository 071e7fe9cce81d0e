//! Unasked-for neighbour advertisements, and the link-layer groups in which neighbours ask (RFC 4861).

use std::{io, net::Ipv6Addr, os::fd::AsRawFd};

use nix::net::if_::if_indextoname;

use crate::arp;

const ETHERTYPE_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
/// `ff02::1` and its Ethernet group (RFC 2464 section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// Tells everybody on the device's network that `addr` is at `mac` (RFC 4861 section 7.2.6).
pub fn announce(ifindex: u32, mac: [u8; 6], addr: Ipv6Addr) -> io::Result<()> {
    arp::send(ifindex, ETHERTYPE_IPV6, ALL_NODES_MAC, &advertisement(mac, addr))
}

/// From the address itself, with the override flag.
fn advertisement(mac: [u8; 6], addr: Ipv6Addr) -> Vec<u8> {
    let mut message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &addr.octets(), &[2, 1], &mac].concat();
    let length = message.len() as u16;
    let pseudo = [&addr.octets()[..], &ALL_NODES.octets(), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    let checksum = checksum(&[pseudo, message.clone()].concat());
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let [high, low] = length.to_be_bytes();
    [&[0x60, 0, 0, 0, high, low, ICMPV6, 255][..], &addr.octets(), &ALL_NODES.octets(), &message].concat()
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Lets the device receive what neighbours ask about an address that it does not have. Twice is once.
pub fn listen(ifindex: u32, addr: Ipv6Addr) -> io::Result<()> {
    match change(ifindex, addr, libc::SIOCADDMULTI) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// The device may be gone, or another address may have shared the group's last three bytes: then its neighbours ask
/// again when what they remember is old, and until then know the answer.
pub fn ignore(ifindex: u32, addr: Ipv6Addr) {
    if let Err(error) = change(ifindex, addr, libc::SIOCDELMULTI) {
        tracing::debug!(%addr, ifindex, %error, "leave the solicited-node group");
    }
}

fn change(ifindex: u32, addr: Ipv6Addr, request: libc::Ioctl) -> io::Result<()> {
    let socket = arp::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let device = if_indextoname(ifindex).map_err(io::Error::from)?;
    let mut argument = arp::request(&device.to_string_lossy())?;
    argument.ifr_ifru.ifru_hwaddr.sa_family = libc::AF_UNSPEC as u16;
    // SAFETY: every bit pattern is a value of this member of the union, which is zeroed besides.
    let data = unsafe { &mut argument.ifr_ifru.ifru_hwaddr.sa_data };
    for (to, from) in data.iter_mut().zip(solicited_node_mac(addr)) {
        *to = from.cast_signed();
    }
    // SAFETY: the argument is a live local of the type that these ioctls read.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Of `ff02::1:ffXX:XXXX` (RFC 4291 section 2.7.1).
fn solicited_node_mac(addr: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c] = addr.octets();
    [0x33, 0x33, 0xff, a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertisements_have_a_right_checksum_and_name_the_address() {
        let addr: Ipv6Addr = "2001:db8::10".parse().expect("an address");
        let mac = [2, 0, 0, 0, 0, 0xaa];
        let packet = advertisement(mac, addr);
        assert_eq!(packet.len(), 72);
        let (header, message) = packet.split_at(40);
        let sum = checksum(&[&header[8..40], &[0, 0, 0, 32, 0, 0, 0, ICMPV6], message].concat());
        assert_eq!(sum, 0);
        assert_eq!((&message[8..24], &message[26..]), (&addr.octets()[..], &mac[..]));
    }

    #[test]
    fn neighbours_ask_in_the_group_of_the_last_three_bytes() {
        let addr = "2001:db8::1:fe12:3456".parse().expect("an address");
        assert_eq!(solicited_node_mac(addr), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    }
}
