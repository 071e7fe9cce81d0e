//! News of devices, addresses, routes and neighbours.

use std::sync::Arc;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::sys::SocketAddr;
use tokio::task::JoinSet;

use crate::{Error, Netns, Result};

/// A socket that the kernel tells when something of one namespace comes, changes or goes.
#[derive(Debug)]
pub struct Changes {
    is_news: fn(&NetlinkMessage<Message>) -> bool,
    messages: UnboundedReceiver<(NetlinkMessage<Message>, SocketAddr)>,
    /// Reads the socket; ends with this.
    _connection: Arc<JoinSet<()>>,
}

impl Changes {
    /// What goes, and devices that change. Routes and neighbours that come are no news: nothing that was there is missing
    /// because of them. Needs a tokio runtime.
    pub fn follow(netns: &Netns) -> Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Neigh,
        ];
        Self::open(netns, &groups, is_loss)
    }

    /// Addresses that come or go, of any device. Needs a tokio runtime.
    pub fn of_addresses(netns: &Netns) -> Result<Self> {
        Self::open(netns, &[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr], is_renumbering)
    }

    fn open(netns: &Netns, groups: &[MulticastGroup], is_news: fn(&NetlinkMessage<Message>) -> bool) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let socket = netns.run(|| {
            let _guard = runtime.enter();
            rtnetlink::new_multicast_connection(groups)
        })?;
        let (connection, _, messages) =
            socket.map_err(|source| Error::Open { netns: netns.path().display().to_string(), source })?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { is_news, messages, _connection: Arc::new(tasks) })
    }

    /// Returns when there has been news since the last call. False when the socket is lost.
    pub async fn next(&mut self) -> bool {
        while let Some((message, _)) = self.messages.next().await {
            if (self.is_news)(&message) {
                // What has queued up is one change.
                while self.messages.try_recv().is_ok() {}
                return true;
            }
        }
        false
    }
}

fn is_renumbering(message: &NetlinkMessage<Message>) -> bool {
    matches!(
        &message.payload,
        NetlinkPayload::InnerMessage(Message::NewAddress(_) | Message::DelAddress(_)) | NetlinkPayload::Overrun(_)
    )
}

fn is_loss(message: &NetlinkMessage<Message>) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(message) => matches!(
            message,
            Message::NewLink(_)
                | Message::DelLink(_)
                | Message::DelAddress(_)
                | Message::DelRoute(_)
                | Message::DelNeighbour(_)
        ),
        // More came than the socket holds: anything may be among it.
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}
