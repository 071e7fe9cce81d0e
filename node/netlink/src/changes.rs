//! News of devices, routes and neighbours.

use std::sync::Arc;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::sys::SocketAddr;
use tokio::task::JoinSet;

use crate::{Error, Netns, Result};

/// A socket that the kernel tells when a device, route or neighbour of one namespace comes, changes or goes.
#[derive(Debug)]
pub struct Changes {
    messages: UnboundedReceiver<(NetlinkMessage<Message>, SocketAddr)>,
    /// Reads the socket; ends with this.
    _connection: Arc<JoinSet<()>>,
}

impl Changes {
    /// Needs a tokio runtime.
    pub fn follow(netns: &Netns) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Neigh,
        ];
        let socket = netns.run(|| {
            let _guard = runtime.enter();
            rtnetlink::new_multicast_connection(&groups)
        })?;
        let (connection, _, messages) =
            socket.map_err(|source| Error::Open { netns: netns.path().display().to_string(), source })?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { messages, _connection: Arc::new(tasks) })
    }

    /// Returns when something has gone or a device has changed since the last call. Routes and neighbours that come
    /// are no news: nothing that was there is missing because of them. False when the socket is lost.
    pub async fn next(&mut self) -> bool {
        while let Some((message, _)) = self.messages.next().await {
            if is_loss(&message) {
                // What has queued up is one change.
                while self.messages.try_recv().is_ok() {}
                return true;
            }
        }
        false
    }
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
