//! Permanent neighbour entries: where the MAC address is known, nobody needs to ask by ARP.

use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};

use crate::{Error, Handle, MacAddr, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbour {
    pub dev: u32,
    pub ip: IpAddr,
    pub mac: MacAddr,
}

impl Handle {
    /// Adds or replaces, permanently.
    pub async fn neigh_add(&self, neighbour: Neighbour) -> Result<()> {
        let request = self.rt.neighbours().add(neighbour.dev, neighbour.ip);
        let request = request.state(NeighbourState::Permanent).link_layer_address(&neighbour.mac.0).replace();
        request.execute().await.map_err(|e| Error::netlink("add neighbour", about(neighbour.dev, neighbour.ip), e))
    }

    /// Absent is success.
    pub async fn neigh_del(&self, dev: u32, ip: IpAddr) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = dev;
        let (family, address) = match ip {
            IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
            IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
        };
        message.header.family = family;
        message.attributes.push(NeighbourAttribute::Destination(address));
        match self.rt.neighbours().del(message).execute().await {
            Ok(()) => Ok(()),
            Err(e) => match Error::netlink("delete neighbour", about(dev, ip), e) {
                error if error.is_absent() => Ok(()),
                error => Err(error),
            },
        }
    }

    /// The permanent entries of every device.
    pub async fn neigh_list(&self) -> Result<Vec<Neighbour>> {
        let _dump = self.dump().await;
        let messages: Vec<NeighbourMessage> = self
            .rt
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| Error::netlink("list", "neighbours", e))?;
        Ok(messages.iter().filter_map(parse).collect())
    }
}

fn parse(message: &NeighbourMessage) -> Option<Neighbour> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let ip = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok().map(MacAddr),
        _ => None,
    })?;
    Some(Neighbour { dev: message.header.ifindex, ip, mac })
}

fn about(dev: u32, ip: IpAddr) -> String {
    format!("{ip} on link {dev}")
}
