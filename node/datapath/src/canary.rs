//! Frontends that nobody needs: what dials them sees whether the hooks on its way do what they are there for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use xebec_abi::proto::{TCP, UDP};

use crate::{Backend, Datapath, Frontend, FrontendKey, Result, Service};

/// Link-local (RFC 3927), next to the hairpin address: nobody's in a cluster, and dialled by the canary alone.
pub const CANARY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 77, 78), 1);

/// Of the prefix whose packets are discarded (RFC 6666): nobody's anywhere.
pub const CANARY6: SocketAddrV6 = SocketAddrV6::new(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0x4d4e), 1, 0, 0);

impl Datapath {
    /// Leads the canary of the backend's family, TCP and UDP, to a process of this node, and returns it.
    /// [`Datapath::frontends`] does not show it.
    pub fn put_canary(&self, backend: SocketAddr) -> Result<SocketAddr> {
        let canary: SocketAddr = if backend.is_ipv4() { CANARY.into() } else { CANARY6.into() };
        let service = |proto| Service {
            frontends: vec![Frontend { key: FrontendKey::cluster_ip(canary.ip(), canary.port(), proto), flags: 0 }],
            backends: vec![Backend {
                addr: backend.ip(),
                port: backend.port(),
                local: true,
                terminating: false,
                weight: 0,
            }],
            ..Service::default()
        };
        self.put_services(&[service(TCP), service(UDP)])?;
        Ok(canary)
    }
}

pub(crate) fn is_canary(addr: IpAddr) -> bool {
    addr == *CANARY.ip() || addr == *CANARY6.ip()
}
