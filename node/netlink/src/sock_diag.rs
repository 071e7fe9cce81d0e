//! Sockets of a namespace, found and closed from outside: sock_diag(7) and `SOCK_DESTROY`.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::{Error, Netns, Result};

/// include/uapi/linux/sock_diag.h and inet_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_sockid`: ports, addresses, interface, cookie.
const ID_BYTES: usize = 48;
/// Where it starts in `struct inet_diag_msg` and in `struct inet_diag_req_v2`.
const ID_IN_ANSWER: usize = HEADER_BYTES + 4;
/// A connected UDP socket has this state (net/ipv4/datagram.c).
const ESTABLISHED: u32 = 1 << 1;
const ANSWER_BYTES: usize = 32 << 10;

impl Netns {
    /// Closes the UDP sockets of the namespace that are connected to one of `peers`: their next call fails with
    /// ECONNABORTED, and a client connects again. Unconnected sockets stay. Returns how many.
    pub fn destroy_udp(&self, peers: &BTreeSet<SocketAddr>) -> Result<usize> {
        let failed = |source| Error::Netlink {
            operation: "close UDP sockets in",
            object: self.path().display().to_string(),
            source,
        };
        self.run(|| destroy_udp(peers))?.map_err(failed)
    }
}

fn destroy_udp(peers: &BTreeSet<SocketAddr>) -> io::Result<usize> {
    let protocol = SockProtocol::NetlinkSockDiag;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let mut count = 0;
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        for id in connected(&netlink, family)? {
            if peer(family, &id).is_some_and(|peer| peers.contains(&peer)) {
                count += usize::from(destroy(&netlink, family, &id)?);
            }
        }
    }
    Ok(count)
}

type Id = [u8; ID_BYTES];

fn request(kind: u16, flags: i32, family: u8, id: &Id) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_BYTES + 8 + ID_BYTES);
    message.extend(((HEADER_BYTES + 8 + ID_BYTES) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    // Sequence number and sender: one request at a time on a socket of its own.
    message.extend([0; 8]);
    message.extend([family, libc::IPPROTO_UDP as u8, 0, 0]);
    message.extend(ESTABLISHED.to_ne_bytes());
    message.extend(id);
    message
}

fn connected(netlink: &OwnedFd, family: u8) -> io::Result<Vec<Id>> {
    let dump = request(SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP, family, &[0; ID_BYTES]);
    send(netlink.as_raw_fd(), &dump, MsgFlags::empty())?;
    let (mut found, mut buffer) = (Vec::new(), vec![0; ANSWER_BYTES]);
    loop {
        let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, message)) = next(&mut rest) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(found),
                libc::NLMSG_ERROR => return error(message).map(|()| found),
                _ => found
                    .extend(message.get(ID_IN_ANSWER..ID_IN_ANSWER + ID_BYTES).and_then(|id| Id::try_from(id).ok())),
            }
        }
    }
}

/// False when the socket was gone already.
fn destroy(netlink: &OwnedFd, family: u8, id: &Id) -> io::Result<bool> {
    send(netlink.as_raw_fd(), &request(SOCK_DESTROY, libc::NLM_F_ACK, family, id), MsgFlags::empty())?;
    let mut buffer = vec![0; ANSWER_BYTES];
    let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    match next(&mut &buffer[..length]).map_or(Ok(()), |(_, message)| error(message)) {
        Err(gone) if gone.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

/// The first message's type and bytes; `rest` starts at the one after it.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
    let message = rest.get(..length).filter(|message| message.len() >= HEADER_BYTES)?;
    // Messages start at multiples of four.
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, message))
}

/// `struct nlmsgerr`: a negative errno, zero for success.
fn error(message: &[u8]) -> io::Result<()> {
    let code =
        message.get(HEADER_BYTES..HEADER_BYTES + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The address that the socket is connected to; a mapped one is of IPv4.
fn peer(family: u8, id: &Id) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(id.get(2..4)?.try_into().ok()?);
    let address: [u8; 16] = id.get(20..36)?.try_into().ok()?;
    let ip = if i32::from(family) == libc::AF_INET {
        IpAddr::from([address[0], address[1], address[2], address[3]])
    } else {
        Ipv6Addr::from(address).to_canonical()
    };
    Some(SocketAddr::new(ip, port))
}
