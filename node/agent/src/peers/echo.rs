//! ICMP echo (RFC 792), and ICMPv6's (RFC 4443 section 4).

use std::io;
use std::net::IpAddr;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio::net::UdpSocket;

/// What differs between the families.
#[derive(Clone, Copy, Debug)]
struct Kind {
    family: AddressFamily,
    protocol: SockProtocol,
    echo: u8,
    reply: u8,
    /// Of IPv6 a raw socket gets what comes after the header (RFC 3542 section 3).
    has_header: bool,
}

const V4: Kind =
    Kind { family: AddressFamily::Inet, protocol: SockProtocol::Icmp, echo: 8, reply: 0, has_header: true };
const V6: Kind =
    Kind { family: AddressFamily::Inet6, protocol: SockProtocol::IcmpV6, echo: 128, reply: 129, has_header: false };

/// Asks in the network namespace of the thread that opened it, by every family that its kernel has.
pub struct Socket {
    v4: Option<Raw>,
    v6: Option<Raw>,
}

impl Socket {
    /// Needs CAP_NET_RAW and a tokio runtime.
    pub fn open() -> io::Result<Self> {
        Ok(Self { v4: Raw::open(V4)?, v6: Raw::open(V6)? })
    }

    /// Sends one question. One that cannot be sent is one that is not answered.
    pub fn ask(&self, to: IpAddr, sequence: u16) {
        let raw = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let sent = raw.as_ref().map_or(Err(io::ErrorKind::Unsupported.into()), |raw| raw.ask(to, sequence));
        if let Err(error) = sent {
            tracing::debug!(%to, %error, "echo not sent");
        }
    }

    /// The next answer to a question of this socket: who answered which.
    pub async fn answer(&self) -> io::Result<(IpAddr, u16)> {
        let answer = async |raw: &Option<Raw>| match raw {
            Some(raw) => raw.answer().await,
            None => std::future::pending().await,
        };
        tokio::select! {
            answer = answer(&self.v4) => answer,
            answer = answer(&self.v6) => answer,
        }
    }
}

/// A raw socket; what a UDP socket does with addresses and bytes is all that it needs.
struct Raw {
    socket: UdpSocket,
    kind: Kind,
    /// Tells this process's questions from those of others.
    id: u16,
}

impl Raw {
    /// `None` where the kernel does not have the family.
    fn open(kind: Kind) -> io::Result<Option<Self>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let raw = match socket(kind.family, SockType::Raw, flags, kind.protocol) {
            Ok(raw) => raw,
            Err(nix::Error::EAFNOSUPPORT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The low half of a process's number is its own often enough; sources are compared too.
        let id = std::process::id() as u16;
        Ok(Some(Self { socket: UdpSocket::from_std(raw.into())?, kind, id }))
    }

    fn ask(&self, to: IpAddr, sequence: u16) -> io::Result<()> {
        // The kernel writes over the checksum of ICMPv6, which its pseudo-header is part of.
        self.socket.try_send_to(&message(self.kind.echo, self.id, sequence), (to, 0).into()).map(drop)
    }

    async fn answer(&self) -> io::Result<(IpAddr, u16)> {
        let mut buffer = [0; 128];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).await?;
            if let Some((id, sequence)) = reply(self.kind, &buffer[..length])
                && id == self.id
            {
                return Ok((from.ip(), sequence));
            }
        }
    }
}

fn message(kind: u8, id: u16, sequence: u16) -> [u8; 8] {
    let [id, sequence] = [id.to_be_bytes(), sequence.to_be_bytes()];
    let mut message = [kind, 0, 0, 0, id[0], id[1], sequence[0], sequence[1]];
    let words = message.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    // RFC 1071: the ones' complement of the ones' complement sum.
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// Identifier and sequence number of an echo reply, from what a raw socket gets.
fn reply(kind: Kind, packet: &[u8]) -> Option<(u16, u16)> {
    let header = if kind.has_header { usize::from(packet.first()? & 0xf) * 4 } else { 0 };
    let message: &[u8; 8] = packet.get(header..header + 8)?.try_into().ok()?;
    let [found, 0, _, _, id @ .., s1, s2] = message else { return None };
    (*found == kind.reply).then_some((u16::from_be_bytes(*id), u16::from_be_bytes([*s1, *s2])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_sums_up_to_nothing() {
        let sent = message(V4.echo, 0xbeef, 0x0102);
        let sum: u32 = sent.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[track_caller]
    fn check(kind: Kind, header: &[u8]) {
        let packet = |found| [header, &message(found, 0xbeef, 0x0102)].concat();
        assert_eq!(reply(kind, &packet(kind.reply)), Some((0xbeef, 0x0102)));
        assert_eq!(reply(kind, &packet(kind.echo)), None, "a question");
        assert_eq!(reply(kind, &packet(kind.reply)[..header.len() + 6]), None, "cut off");
    }

    #[test]
    fn replies_are_read_past_the_header_that_a_socket_gets() {
        check(V4, &[0x46; 24]);
        check(V6, &[]);
    }
}
