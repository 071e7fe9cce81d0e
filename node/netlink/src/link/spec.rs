//! What a device should be.

use std::fmt;

use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, InfoVxlan, LinkInfo, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{Link, info};
use crate::{MacAddr, Netns};

#[derive(Clone, Debug)]
pub struct LinkSpec {
    end: Peer,
    kind: LinkKind,
    master: Option<u32>,
    index: Option<u32>,
    up: bool,
}

#[derive(Clone, Debug)]
pub enum LinkKind {
    Veth(Peer),
    Bridge,
    Dummy,
    Vxlan(Vxlan),
}

/// The far end of a veth pair, or what every device has. It is born down, and its owner sets it up in its namespace:
/// the kernel registers it before the two ends know each other, and answers `up` with ENOTCONN (veth_newlink).
#[derive(Clone, Debug, Default)]
pub struct Peer {
    name: String,
    mac: Option<MacAddr>,
    mtu: Option<u32>,
    netns: Option<Netns>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vxlan {
    /// The tunnel key travels with each packet (`bpf_skb_set_tunnel_key`): one device for every remote node.
    /// `zero_csum6`: over IPv6 it takes packets without a UDP checksum (RFC 6935), which programs send.
    CollectMetadata { port: u16, zero_csum6: bool },
    /// A classic point-to-multipoint device with one VNI.
    Vni { vni: u32, port: u16 },
}

impl Peer {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub fn mac(self, mac: MacAddr) -> Self {
        Self { mac: Some(mac), ..self }
    }

    pub fn mtu(self, mtu: u32) -> Self {
        Self { mtu: Some(mtu), ..self }
    }

    /// Where the device is born; without it, in the namespace of the handle.
    pub fn netns(self, netns: &Netns) -> Self {
        Self { netns: Some(netns.clone()), ..self }
    }

    fn builder(&self) -> LinkMessageBuilder<LinkUnspec> {
        let mut builder = LinkUnspec::new_with_name(&self.name);
        if let Some(mac) = self.mac {
            builder = builder.address(mac.0.to_vec());
        }
        if let Some(mtu) = self.mtu {
            builder = builder.mtu(mtu);
        }
        if let Some(netns) = &self.netns {
            builder = builder.setns_by_fd(netns.raw_fd());
        }
        builder
    }
}

impl LinkSpec {
    pub fn new(name: &str, kind: LinkKind) -> Self {
        Self { end: Peer::new(name), kind, master: None, index: None, up: false }
    }

    pub fn veth(name: &str, peer: Peer) -> Self {
        Self::new(name, LinkKind::Veth(peer))
    }

    pub fn bridge(name: &str) -> Self {
        Self::new(name, LinkKind::Bridge)
    }

    pub fn dummy(name: &str) -> Self {
        Self::new(name, LinkKind::Dummy)
    }

    pub fn vxlan(name: &str, vxlan: Vxlan) -> Self {
        Self::new(name, LinkKind::Vxlan(vxlan))
    }

    pub fn mac(self, mac: MacAddr) -> Self {
        Self { end: self.end.mac(mac), ..self }
    }

    pub fn mtu(self, mtu: u32) -> Self {
        Self { end: self.end.mtu(mtu), ..self }
    }

    pub fn netns(self, netns: &Netns) -> Self {
        Self { end: self.end.netns(netns), ..self }
    }

    pub fn up(self) -> Self {
        Self { up: true, ..self }
    }

    /// The index that the device gets when it is made: of one that others know by it.
    pub fn index(self, index: u32) -> Self {
        Self { index: Some(index), ..self }
    }

    /// Index of the bridge that the device becomes a port of.
    pub fn master(self, index: u32) -> Self {
        Self { master: Some(index), ..self }
    }

    pub fn name(&self) -> &str {
        &self.end.name
    }

    pub(super) fn kind_name(&self) -> &'static str {
        match self.kind {
            LinkKind::Veth(_) => "veth",
            LinkKind::Bridge => "bridge",
            LinkKind::Dummy => "dummy",
            LinkKind::Vxlan(_) => "vxlan",
        }
    }

    pub(super) fn message(&self) -> LinkMessage {
        let (kind, data) = match &self.kind {
            LinkKind::Veth(peer) => (InfoKind::Veth, Some(InfoData::Veth(InfoVeth::Peer(peer.builder().build())))),
            LinkKind::Bridge => (InfoKind::Bridge, None),
            LinkKind::Dummy => (InfoKind::Dummy, None),
            LinkKind::Vxlan(vxlan) => (InfoKind::Vxlan, Some(InfoData::Vxlan(vxlan.attributes()))),
        };
        let mut builder = self.end.builder();
        if let Some(master) = self.master {
            builder = builder.controller(master);
        }
        if self.up {
            builder = builder.up();
        }
        let mut message = builder.build();
        message.header.index = self.index.unwrap_or_default();
        let mut link_info = vec![LinkInfo::Kind(kind)];
        link_info.extend(data.map(LinkInfo::Data));
        message.attributes.push(rtnetlink::packet_route::link::LinkAttribute::LinkInfo(link_info));
        message
    }

    /// The request that brings `actual` in line, or `None` when it is.
    pub(super) fn change(&self, actual: &Link) -> Option<LinkMessageBuilder<LinkUnspec>> {
        let mac = self.end.mac.filter(|mac| Some(*mac) != actual.mac);
        let mtu = self.end.mtu.filter(|mtu| *mtu != actual.mtu);
        let master = self.master.filter(|master| Some(*master) != actual.master);
        let up = self.up && !actual.up;
        if mac.is_none() && mtu.is_none() && master.is_none() && !up {
            return None;
        }
        let mut builder = LinkUnspec::new_with_index(actual.index);
        if let Some(mac) = mac {
            builder = builder.address(mac.0.to_vec());
        }
        if let Some(mtu) = mtu {
            builder = builder.mtu(mtu);
        }
        if let Some(master) = master {
            builder = builder.controller(master);
        }
        Some(if up { builder.up() } else { builder })
    }

    pub(super) fn parameters_differ(&self, actual: &LinkMessage) -> bool {
        let LinkKind::Vxlan(wanted) = self.kind else {
            return false;
        };
        let Some(data) = info(actual).find_map(|info| match info {
            LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
            _ => None,
        }) else {
            return true;
        };
        let has = |attribute: InfoVxlan| data.contains(&attribute);
        match wanted {
            Vxlan::CollectMetadata { port, zero_csum6 } => {
                !has(InfoVxlan::CollectMetadata(true))
                    || !has(InfoVxlan::Port(port))
                    || (zero_csum6 && !has(InfoVxlan::UDPZeroCsumRX(true)))
            }
            Vxlan::Vni { vni, port } => !has(InfoVxlan::Id(vni)) || !has(InfoVxlan::Port(port)),
        }
    }
}

impl Vxlan {
    fn attributes(self) -> Vec<InfoVxlan> {
        match self {
            Self::CollectMetadata { port, zero_csum6 } => {
                let mut attributes =
                    vec![InfoVxlan::CollectMetadata(true), InfoVxlan::Learning(false), InfoVxlan::Port(port)];
                attributes.extend(zero_csum6.then_some(InfoVxlan::UDPZeroCsumRX(true)));
                attributes
            }
            Self::Vni { vni, port } => vec![InfoVxlan::Id(vni), InfoVxlan::Port(port)],
        }
    }
}

impl fmt::Display for LinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.end.name, self.kind_name())?;
        if let LinkKind::Veth(peer) = &self.kind {
            write!(f, ", peer {}", peer.name)?;
            if let Some(netns) = &peer.netns {
                write!(f, " in {}", netns.path().display())?;
            }
        }
        f.write_str(")")
    }
}
