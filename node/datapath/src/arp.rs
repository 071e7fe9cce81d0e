//! A device's own address, and unasked-for ARP answers on it.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const ETHERTYPE_ARP: u16 = 0x0806;
/// Ethernet, IPv4, six and four bytes of address, request (RFC 5227 section 3 prefers requests for announcements).
const HEADER: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const BROADCAST: [u8; 6] = [0xff; 6];

/// The address of a device, by name, in the calling thread's network namespace.
pub fn mac(device: &str) -> io::Result<[u8; 6]> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut request = request(device)?;
    // SAFETY: the request is a live local of the type that this ioctl reads and fills.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the ioctl succeeded, so it filled this member of the union.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    let [a, b, c, d, e, f, ..] = data.map(i8::cast_unsigned);
    Ok([a, b, c, d, e, f])
}

/// Tells everybody on the device's network that `addr` is at `mac`.
pub fn announce(ifindex: u32, mac: [u8; 6], addr: [u8; 4]) -> io::Result<()> {
    let packet = [&HEADER[..], &mac, &addr, &[0; 6], &addr].concat();
    send(ifindex, ETHERTYPE_ARP, BROADCAST, &packet)
}

/// A device ioctl's argument that names the device.
pub fn request(device: &str) -> io::Result<libc::ifreq> {
    // SAFETY: zeroes are a value of this C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = device.as_bytes();
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// Sends a packet, without its Ethernet header, out of a device.
pub fn send(ifindex: u32, ethertype: u16, destination: [u8; 6], packet: &[u8]) -> io::Result<()> {
    let protocol = ethertype.to_be();
    let socket = socket(libc::AF_PACKET, libc::SOCK_DGRAM, i32::from(protocol))?;
    // SAFETY: zeroes are a value of this C structure.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = protocol;
    to.sll_ifindex = ifindex.cast_signed();
    to.sll_halen = 6;
    to.sll_addr[..6].copy_from_slice(&destination);
    // SAFETY: packet and address are live locals of the sizes that are passed.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
