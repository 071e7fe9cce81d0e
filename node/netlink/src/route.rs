//! Routes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteType,
};

use crate::{Error, Handle, Result};

/// A unicast route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    pub dst: IpNet,
    pub via: Option<IpAddr>,
    /// Index of the device.
    pub dev: Option<u32>,
    /// The source address that local processes get.
    pub src: Option<IpAddr>,
    pub scope: RouteScope,
    /// The gateway is on the device's link whatever the other routes say.
    pub onlink: bool,
    pub mtu: Option<u32>,
    /// Who made the route (`RTPROT_*`): owners find their own routes by it. 4 (static) by default.
    pub protocol: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum RouteScope {
    #[default]
    Universe,
    Link,
}

impl Route {
    pub fn new(dst: IpNet) -> Self {
        let protocol = RouteProtocol::Static.into();
        Self { dst, via: None, dev: None, src: None, scope: RouteScope::Universe, onlink: false, mtu: None, protocol }
    }

    pub fn default4() -> Self {
        Self::new(IpNet::V4(Ipv4Net::default()))
    }

    pub fn default6() -> Self {
        Self::new(IpNet::V6(Ipv6Net::default()))
    }

    pub fn via(self, via: IpAddr) -> Self {
        Self { via: Some(via), ..self }
    }

    pub fn dev(self, index: u32) -> Self {
        Self { dev: Some(index), ..self }
    }

    pub fn src(self, src: IpAddr) -> Self {
        Self { src: Some(src), ..self }
    }

    pub fn link_scope(self) -> Self {
        Self { scope: RouteScope::Link, ..self }
    }

    pub fn onlink(self) -> Self {
        Self { onlink: true, ..self }
    }

    pub fn mtu(self, mtu: u32) -> Self {
        Self { mtu: Some(mtu), ..self }
    }

    pub fn protocol(self, protocol: u8) -> Self {
        Self { protocol, ..self }
    }
}

impl Handle {
    pub async fn route_add(&self, route: &Route) -> Result<()> {
        let request = self.rt.route().add(route.message());
        request.execute().await.map_err(|e| Error::netlink("add route", route, e))
    }

    /// Adds, or replaces the route of the same destination.
    pub async fn route_replace(&self, route: &Route) -> Result<()> {
        let request = self.rt.route().add(route.message()).replace();
        request.execute().await.map_err(|e| Error::netlink("replace route", route, e))
    }

    /// As [`Handle::route_replace`], without a write when the route is there: a replaced route drops cached
    /// destinations of live connections.
    pub async fn ensure_route(&self, route: &Route) -> Result<()> {
        if self.route_list().await?.contains(route) { Ok(()) } else { self.route_replace(route).await }
    }

    /// Absent is success.
    pub async fn route_del(&self, route: &Route) -> Result<()> {
        match self.rt.route().del(route.message()).execute().await {
            Ok(()) => Ok(()),
            Err(e) => match Error::netlink("delete route", route, e) {
                error if error.is_absent() => Ok(()),
                error => Err(error),
            },
        }
    }

    /// The unicast routes of the main table, both families.
    pub async fn route_list(&self) -> Result<Vec<Route>> {
        let _dump = self.dump().await;
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let messages: Vec<RouteMessage> = self
                .rt
                .route()
                .get(message)
                .execute()
                .try_collect()
                .await
                .map_err(|e| Error::netlink("list", "routes", e))?;
            routes.extend(messages.iter().filter_map(parse));
        }
        Ok(routes)
    }
}

impl Route {
    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = self.protocol.into();
        message.header.kind = RouteType::Unicast;
        message.header.destination_prefix_length = self.dst.prefix_len();
        message.header.address_family = match self.dst {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        message.header.scope = match self.scope {
            RouteScope::Universe => rtnetlink::packet_route::route::RouteScope::Universe,
            RouteScope::Link => rtnetlink::packet_route::route::RouteScope::Link,
        };
        if self.onlink {
            message.header.flags.insert(RouteFlags::Onlink);
        }
        let attributes = &mut message.attributes;
        if self.dst.prefix_len() > 0 {
            attributes.push(RouteAttribute::Destination(self.dst.network().into()));
        }
        attributes.extend(self.via.map(|ip| RouteAttribute::Gateway(ip.into())));
        attributes.extend(self.dev.map(RouteAttribute::Oif));
        attributes.extend(self.src.map(|ip| RouteAttribute::PrefSource(ip.into())));
        attributes.extend(self.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
        message
    }
}

fn parse(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let mut dst = any;
    let mut route = Route::new(IpNet::from(any)).protocol(header.protocol.into());
    route.onlink = header.flags.contains(RouteFlags::Onlink);
    if header.scope == rtnetlink::packet_route::route::RouteScope::Link {
        route.scope = RouteScope::Link;
    }
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = ip(address)?,
            RouteAttribute::Gateway(address) => route.via = ip(address),
            RouteAttribute::PrefSource(address) => route.src = ip(address),
            RouteAttribute::Oif(index) => route.dev = Some(*index),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    route.dst = IpNet::new(dst, header.destination_prefix_length).ok()?;
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(dev) = self.dev {
            write!(f, " dev {dev}")?;
        }
        Ok(())
    }
}
