//! What dials the canary's frontend.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
};

use super::{Outcomes, mapped};

const PATIENCE: Duration = Duration::from_millis(500);

/// Dials `frontend` by TCP and UDP, one of IPv4 by an IPv4 socket and by an IPv6 one, from the calling process's cgroup.
/// Returns each hook that this exercises, with what is wrong with it.
pub fn dial(frontend: SocketAddr) -> Outcomes {
    let sockets = match frontend {
        SocketAddr::V4(ipv4) => vec![("sock4", frontend, ""), ("sock6", mapped(ipv4), "")],
        SocketAddr::V6(_) => vec![("sock6", frontend, " to IPv6")],
    };
    let mut outcomes = Outcomes::new();
    for (family, to, whither) in sockets {
        let mut note = |hook: &str, fault: io::Result<()>| {
            // A machine without IPv6 needs no hooks for it.
            if !fault.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EAFNOSUPPORT)) {
                outcomes.insert(format!("{family}_{hook}{whither}"), fault.err().map(|error| error.to_string()));
            }
        };
        match TcpStream::connect_timeout(&to, PATIENCE) {
            Ok(stream) => {
                note("connect", Ok(()));
                note("getpeername", stream.peer_addr().and_then(|peer| same("the peer", peer, to)));
            }
            Err(error) => note("connect", Err(error)),
        }
        match ask(to) {
            Ok(from) => {
                note("sendmsg", Ok(()));
                note("recvmsg", same("the sender", from, to));
            }
            Err(error) => note("sendmsg", Err(error)),
        }
    }
    outcomes
}

fn same(what: &str, shown: SocketAddr, expected: SocketAddr) -> io::Result<()> {
    if shown == expected { Ok(()) } else { Err(io::Error::other(format!("{what} of {expected} is shown as {shown}"))) }
}

/// The address that an answer comes from.
fn ask(to: SocketAddr) -> io::Result<SocketAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(b"canary", to)?;
    Ok(socket.recv_from(&mut [0; 64])?.1)
}

const UDP: u8 = 17;
const HOPS: u8 = 64;

/// An IP packet with a UDP datagram. In IPv4 the kernel fills in the header's checksum, and UDP's is optional (RFC 768);
/// in IPv6 it is not (RFC 8200 section 8.1).
pub fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut udp = [from.port(), to.port(), length, 0].map(u16::to_be_bytes).concat();
    udp.extend(payload);
    match (from.ip(), to.ip()) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let sum = checksum(&[&from.octets()[..], &to.octets(), &[0, UDP], &length.to_be_bytes(), &udp].concat());
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
            let [high, low] = length.to_be_bytes();
            [&[0x60, 0, 0, 0, high, low, UDP, HOPS][..], &from.octets(), &to.octets(), &udp].concat()
        }
        (from, to) => {
            let octets = |ip| if let IpAddr::V4(ip) = ip { ip.octets() } else { [0; 4] };
            let [high, low] = (20 + length).to_be_bytes();
            // No fragments.
            let header = [0x45, 0, high, low, 0, 0, 0x40, 0, HOPS, UDP, 0, 0];
            [&header[..], &octets(from), &octets(to), &udp].concat()
        }
    }
}

/// RFC 1071; zero, which would say that there is none, as its other form (RFC 768).
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => u16::MAX,
        sum => sum,
    }
}

/// Sends a whole packet in the calling thread's network namespace. A raw socket: hooks at sockets do not see it.
pub fn send_raw(packet: &[u8], to: IpAddr) -> io::Result<()> {
    let raw = |family| socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
    // The port of a raw socket is a protocol, or zero (`rawv6_sendmsg`, net/ipv6/raw.c).
    match SocketAddr::new(to, 0) {
        SocketAddr::V4(to) => {
            let socket = raw(AddressFamily::Inet)?;
            sendto(socket.as_raw_fd(), packet, &SockaddrIn::from(to), MsgFlags::empty())?
        }
        SocketAddr::V6(to) => {
            let socket = raw(AddressFamily::Inet6)?;
            sendto(socket.as_raw_fd(), packet, &SockaddrIn6::from(to), MsgFlags::empty())?
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_frontend_without_hooks_is_reported_hook_by_hook() {
        // Nobody listens, and no hook leads elsewhere.
        let free = |ip: IpAddr| TcpListener::bind((ip, 0)).expect("a port").local_addr().expect("an address");
        let outcomes = dial(free(Ipv4Addr::LOCALHOST.into()));
        assert!(outcomes["sock4_connect"].as_ref().is_some_and(|fault| fault.contains("refused")), "{outcomes:?}");
        assert!(outcomes["sock4_sendmsg"].is_some(), "{outcomes:?}");
        assert!(!outcomes.contains_key("sock4_getpeername"), "nothing was connected: {outcomes:?}");
        let outcomes = dial(free(Ipv6Addr::LOCALHOST.into()));
        let names: Vec<_> = outcomes.keys().collect();
        assert_eq!(names, ["sock6_connect to IPv6", "sock6_sendmsg to IPv6"]);
    }

    #[test]
    fn packets_are_laid_out_as_rfcs_791_8200_and_768_say() {
        let at = |ip: &str, port| SocketAddr::new(ip.parse().expect("an address"), port);
        let packet = datagram(at("10.244.0.2", 7), at("169.254.77.78", 1), b"xb");
        let header = [0x45, 0, 0, 30, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 244, 0, 2, 169, 254, 77, 78];
        assert_eq!(packet, [&header[..], &[0, 7, 0, 1, 0, 10, 0, 0], b"xb"].concat());
        let packet = datagram(at("fd00::2", 7), at("100::4d4e", 1), b"xb");
        assert_eq!(packet[..8], [0x60, 0, 0, 0, 0, 10, 17, 64]);
        assert_eq!((&packet[8..10], &packet[24..26]), (&[0xfd, 0][..], &[1, 0][..]));
        // Words: fd00 2, 0100 4d4e, 17, length twice, ports, payload.
        let sum = 0xfd00_u32 + 2 + 0x0100 + 0x4d4e + 17 + 10 + 10 + 7 + 1 + 0x7862;
        let [high, low] = (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes();
        assert_eq!(packet[40..], [0, 7, 0, 1, 0, 10, high, low, b'x', b'b']);
    }
}
