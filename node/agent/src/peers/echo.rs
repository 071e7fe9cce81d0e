//! ICMP echo (RFC 792).

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio::net::UdpSocket;

const ECHO_REPLY: u8 = 0;
const ECHO: u8 = 8;

/// Asks in the network namespace of the thread that opened it.
pub struct Socket {
    /// A raw one; what a UDP socket does with addresses and bytes is all that it needs.
    socket: UdpSocket,
    /// Tells this process's questions from those of others.
    id: u16,
}

impl Socket {
    /// Needs CAP_NET_RAW and a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let raw = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
        // The low half of a process's number is its own often enough; sources are compared too.
        Ok(Self { socket: UdpSocket::from_std(raw.into())?, id: std::process::id() as u16 })
    }

    /// Sends one question. One that cannot be sent is one that is not answered.
    pub fn ask(&self, to: Ipv4Addr, sequence: u16) {
        if let Err(error) = self.socket.try_send_to(&message(ECHO, self.id, sequence), (to, 0).into()) {
            tracing::debug!(%to, %error, "echo not sent");
        }
    }

    /// The next answer to a question of this socket: who answered which.
    pub async fn answer(&self) -> io::Result<(Ipv4Addr, u16)> {
        let mut buffer = [0; 128];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).await?;
            if let IpAddr::V4(from) = from.ip()
                && let Some((id, sequence)) = reply(&buffer[..length])
                && id == self.id
            {
                return Ok((from, sequence));
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

/// Identifier and sequence number of an echo reply, from a packet with its IPv4 header.
fn reply(packet: &[u8]) -> Option<(u16, u16)> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let message: &[u8; 8] = packet.get(header..header + 8)?.try_into().ok()?;
    let [kind, 0, _, _, id @ .., s1, s2] = message else { return None };
    (*kind == ECHO_REPLY).then_some((u16::from_be_bytes(*id), u16::from_be_bytes([*s1, *s2])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_sums_up_to_nothing_and_replies_are_read_past_the_header() {
        let sent = message(ECHO, 0xbeef, 0x0102);
        let sum: u32 = sent.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        let packet = |kind| [&[0x46; 24][..], &message(kind, 0xbeef, 0x0102)].concat();
        assert_eq!(reply(&packet(ECHO_REPLY)), Some((0xbeef, 0x0102)));
        assert_eq!(reply(&packet(ECHO)), None, "a question");
        assert_eq!(reply(&packet(ECHO_REPLY)[..30]), None, "cut off");
    }
}
