//! What dials the canary's frontend.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};

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

/// An IPv4 packet with a UDP datagram; the kernel fills in the header's checksum, and UDP's is optional (RFC 768).
pub fn datagram(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let udp_length = (8 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_length).to_be_bytes());
    // No fragments, 64 hops, UDP.
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    for field in [from.port(), to.port(), udp_length, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

/// Sends a whole packet in the calling thread's network namespace. A raw socket: hooks at sockets do not see it.
pub fn send_raw(packet: &[u8], to: SocketAddrV4) -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
    sendto(socket.as_raw_fd(), packet, &SockaddrIn::from(to), MsgFlags::empty())?;
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
    fn packets_are_laid_out_as_rfc_791_and_768_say() {
        let (from, to) =
            (SocketAddrV4::new([10, 244, 0, 2].into(), 7), SocketAddrV4::new([169, 254, 77, 78].into(), 1));
        let packet = datagram(from, to, b"xb");
        let header = [0x45, 0, 0, 30, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 244, 0, 2, 169, 254, 77, 78];
        assert_eq!(packet, [&header[..], &[0, 7, 0, 1, 0, 10, 0, 0], b"xb"].concat());
    }
}
