//! Network devices.

mod spec;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, State};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use tokio::time::Instant;

pub use spec::{LinkKind, LinkSpec, Peer, Vxlan};

use crate::{Error, Handle, MacAddr, Netns, Result};

/// include/uapi/linux/if_link.h
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// A device as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Option<MacAddr>,
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Up and with a carrier, and the kernel has acted on it: packets that are sent are not dropped any more.
    pub operational: bool,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Index of the veth peer (in the peer's namespace) or of the underlying device.
    pub link: Option<u32>,
    /// `veth`, `bridge`, `vxlan`, `dummy`; empty for physical devices and `lo`.
    pub kind: String,
}

impl Handle {
    pub async fn links(&self) -> Result<Vec<Link>> {
        let _dump = self.dump().await;
        let messages: Vec<LinkMessage> =
            self.rt.link().get().execute().try_collect().await.map_err(|e| Error::netlink("list", "links", e))?;
        Ok(messages.iter().map(Link::from).collect())
    }

    pub async fn link_by_name(&self, name: &str) -> Result<Option<Link>> {
        found(self.rt.link().get().match_name(name).execute().try_next().await, name)
    }

    pub async fn link_by_index(&self, index: u32) -> Result<Option<Link>> {
        found(self.rt.link().get().match_index(index).execute().try_next().await, &index.to_string())
    }

    /// As [`Handle::link_by_name`], where absence is an error.
    pub async fn link(&self, name: &str) -> Result<Link> {
        self.link_by_name(name).await?.ok_or_else(|| Error::NoSuchLink(name.to_owned()))
    }

    /// One request: a veth comes into being with both ends named, addressed and in their namespaces.
    pub async fn link_add(&self, spec: &LinkSpec) -> Result<()> {
        let request = self.rt.link().add(spec.message());
        request.execute().await.map_err(|e| Error::netlink("add link", spec, e))
    }

    pub async fn link_add_veth(&self, name: &str, peer: Peer) -> Result<()> {
        self.link_add(&LinkSpec::veth(name, peer)).await
    }

    pub async fn link_add_bridge(&self, name: &str) -> Result<()> {
        self.link_add(&LinkSpec::bridge(name)).await
    }

    pub async fn link_add_dummy(&self, name: &str) -> Result<()> {
        self.link_add(&LinkSpec::dummy(name)).await
    }

    pub async fn link_add_vxlan(&self, name: &str, vxlan: Vxlan) -> Result<()> {
        self.link_add(&LinkSpec::vxlan(name, vxlan)).await
    }

    /// Makes the device, or brings the MTU, state, MAC and master of the one of that name in line.
    ///
    /// A device of another kind is an error, except that a VXLAN device with other parameters is replaced: the kernel
    /// does not change `collect_metadata` or the port of a live one.
    pub async fn ensure_link(&self, spec: &LinkSpec) -> Result<Link> {
        let name = spec.name();
        match self.raw_link(name).await? {
            None => self.link_add(spec).await?,
            Some(message) => {
                let link = Link::from(&message);
                if link.kind != spec.kind_name() {
                    let actual = if link.kind.is_empty() { "a physical device".to_owned() } else { link.kind };
                    return Err(Error::OtherKind { name: name.to_owned(), actual, wanted: spec.kind_name() });
                }
                if spec.parameters_differ(&message) {
                    self.link_del(name).await?;
                    self.link_add(spec).await?;
                } else if let Some(change) = spec.change(&link) {
                    self.change("update link", name, change).await?;
                }
            }
        }
        self.link(name).await
    }

    /// Absent is success.
    pub async fn link_del(&self, name: &str) -> Result<()> {
        match self.link_by_name(name).await? {
            None => Ok(()),
            Some(link) => self.link_del_index(link.index).await,
        }
    }

    pub async fn link_del_index(&self, index: u32) -> Result<()> {
        match self.rt.link().del(index).execute().await.map_err(|e| Error::netlink("delete link", index, e)) {
            Err(error) if error.is_absent() => Ok(()),
            outcome => outcome,
        }
    }

    pub async fn link_set_up(&self, name: &str) -> Result<()> {
        self.change("set up link", name, named(name).up()).await
    }

    /// Waits until the device is operational, at most `limit`; returns whether it is.
    ///
    /// The second end of a veth pair to come up sends at once; for the first one a work item of the kernel attaches the
    /// queue a little later, and until then it drops what is sent (`linkwatch_do_dev`, `dev_activate`).
    pub async fn link_wait_operational(&self, name: &str, limit: Duration) -> Result<bool> {
        let end = Instant::now() + limit;
        let mut asked = 0_u32;
        while !self.link(name).await?.operational {
            if Instant::now() >= end {
                return Ok(false);
            }
            asked += 1;
            if asked > 8 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(true)
    }

    pub async fn link_set_down(&self, name: &str) -> Result<()> {
        self.change("set down link", name, named(name).down()).await
    }

    pub async fn link_set_mtu(&self, name: &str, mtu: u32) -> Result<()> {
        self.change("set the MTU of link", name, named(name).mtu(mtu)).await
    }

    pub async fn link_set_mac(&self, name: &str, mac: MacAddr) -> Result<()> {
        self.change("set the MAC address of link", name, named(name).address(mac.0.to_vec())).await
    }

    /// Makes the device a port of the bridge `master`, or of none.
    pub async fn link_set_master(&self, name: &str, master: Option<&str>) -> Result<()> {
        let index = match master {
            Some(master) => self.link(master).await?.index,
            None => 0,
        };
        self.change("set the master of link", name, named(name).controller(index)).await
    }

    /// Moves the device to another namespace; its addresses and routes are lost, it is down there.
    pub async fn link_set_netns(&self, name: &str, netns: &Netns) -> Result<()> {
        self.change("move link", name, named(name).setns_by_fd(netns.raw_fd())).await
    }

    pub async fn link_set_name(&self, name: &str, new: &str) -> Result<()> {
        let index = self.link(name).await?.index;
        self.change("rename link", name, LinkUnspec::new_with_index(index).name(new)).await
    }

    /// Has the device's driver run an XDP program, in the place of one that it has. It goes with the device.
    pub async fn link_set_xdp(&self, name: &str, program: BorrowedFd<'_>) -> Result<()> {
        let xdp = vec![LinkXdp::Fd(program.as_raw_fd()), LinkXdp::Flags(XDP_FLAGS_DRV_MODE)];
        let message = named(name).append_extra_attribute(LinkAttribute::Xdp(xdp));
        self.change("attach an XDP program to link", name, message).await
    }

    async fn change(&self, operation: &'static str, name: &str, message: LinkMessageBuilder<LinkUnspec>) -> Result<()> {
        let request = self.rt.link().change(message.build());
        request.execute().await.map_err(|e| Error::netlink(operation, name, e))
    }

    async fn raw_link(&self, name: &str) -> Result<Option<LinkMessage>> {
        present(self.rt.link().get().match_name(name).execute().try_next().await, name)
    }
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            operational: false,
            master: None,
            link: None,
            kind: kind(message).map(|kind| kind.to_string()).unwrap_or_default(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok().map(MacAddr),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::OperState(state) => link.operational = *state == State::Up,
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::Link(index) => link.link = Some(*index),
                _ => {}
            }
        }
        link
    }
}

fn kind(message: &LinkMessage) -> Option<&InfoKind> {
    info(message).find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })
}

fn info(message: &LinkMessage) -> impl Iterator<Item = &LinkInfo> {
    message.attributes.iter().flat_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => info.as_slice(),
        _ => &[],
    })
}

fn named(name: &str) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_name(name)
}

fn found(answer: Result<Option<LinkMessage>, rtnetlink::Error>, object: &str) -> Result<Option<Link>> {
    Ok(present(answer, object)?.as_ref().map(Link::from))
}

fn present(answer: Result<Option<LinkMessage>, rtnetlink::Error>, object: &str) -> Result<Option<LinkMessage>> {
    match answer.map_err(|e| Error::netlink("look up link", object, e)) {
        Err(error) if error.is_absent() => Ok(None),
        outcome => outcome,
    }
}
