//! Addresses of devices.

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};

use crate::{Error, Handle, Result};

impl Handle {
    /// An IPv6 address can be used at once: nobody is asked whether it is unique, as whoever numbers the network knows.
    pub async fn addr_add(&self, index: u32, address: IpNet) -> Result<()> {
        let mut request = self.rt.address().add(index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            // Else the kernel tests it in the background, and takes no route with it as the source until then.
            request.message_mut().header.flags.insert(AddressHeaderFlags::Nodad);
        }
        request.execute().await.map_err(|e| Error::netlink("add address", about(index, address), e))
    }

    pub async fn ensure_addr(&self, index: u32, address: IpNet) -> Result<()> {
        match self.addr_add(index, address).await {
            Err(error) if error.is_exists() => Ok(()),
            outcome => outcome,
        }
    }

    /// Exactly `addresses`; link-local IPv6 addresses, which the kernel makes, stay.
    pub async fn ensure_addrs(&self, index: u32, addresses: &[IpNet]) -> Result<()> {
        for stale in self.addr_list(index).await?.into_iter().filter(|a| !addresses.contains(a) && !link_local(a)) {
            self.addr_del(index, stale).await?;
        }
        for address in addresses {
            self.ensure_addr(index, *address).await?;
        }
        Ok(())
    }

    /// Absent is success.
    pub async fn addr_del(&self, index: u32, address: IpNet) -> Result<()> {
        let messages = self.addr_messages(index).await?;
        let Some(message) = messages.into_iter().find(|m| network(m) == Some(address)) else {
            return Ok(());
        };
        match self.rt.address().del(message).execute().await {
            Ok(()) => Ok(()),
            Err(e) => match Error::netlink("delete address", about(index, address), e) {
                error if error.is_absent() => Ok(()),
                error => Err(error),
            },
        }
    }

    pub async fn addr_list(&self, index: u32) -> Result<Vec<IpNet>> {
        Ok(self.addr_messages(index).await?.iter().filter_map(network).collect())
    }

    /// The addresses of all devices of the namespace.
    pub async fn addr_list_all(&self) -> Result<Vec<IpNet>> {
        let _dump = self.dump().await;
        let messages: Vec<AddressMessage> = self
            .rt
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| Error::netlink("list addresses of", "every link", e))?;
        Ok(messages.iter().filter_map(network).collect())
    }

    async fn addr_messages(&self, index: u32) -> Result<Vec<AddressMessage>> {
        let _dump = self.dump().await;
        let request = self.rt.address().get().set_link_index_filter(index);
        request.execute().try_collect().await.map_err(|e| Error::netlink("list addresses of link", index, e))
    }
}

/// `IFA_LOCAL` is the device's own address; on point-to-point links `IFA_ADDRESS` is the other end's (rtnetlink(7)).
fn network(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let address = || {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    };
    IpNet::new(local.or_else(address)?, message.header.prefix_len).ok()
}

fn link_local(address: &IpNet) -> bool {
    matches!(address, IpNet::V6(v6) if v6.addr().is_unicast_link_local())
}

fn about(index: u32, address: IpNet) -> String {
    format!("{address} of link {index}")
}
