//! `lo` without a runtime: for processes that live a millisecond.

use std::io;

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{LinkUnspec, packet_route::link::LinkMessage};

use crate::{Error, Netns, Result};

/// The kernel makes `lo` first in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK_INDEX: u32 = 1;

impl Netns {
    /// Sets `lo` up, blocking.
    pub fn loopback_up(&self) -> Result<()> {
        self.run(set_up)?.map_err(|source| Error::Netns {
            operation: "set up the loopback of",
            path: self.path().to_owned(),
            source,
        })
    }
}

fn set_up() -> io::Result<()> {
    let message: LinkMessage = LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build();
    let mut packet = NetlinkMessage::from(RouteNetlinkMessage::SetLink(message));
    packet.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        // An acknowledgement is an error message with code 0 (netlink(7)).
        NetlinkPayload::Error(error) if error.raw_code() != 0 => Err(error.to_io()),
        _ => Ok(()),
    }
}
