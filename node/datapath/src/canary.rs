//! A frontend that nobody needs: what dials it sees whether the hooks on its way do what they are there for.

use std::net::{Ipv4Addr, SocketAddrV4};

use xebec_abi::proto::{TCP, UDP};

use crate::{Backend, Datapath, Frontend, FrontendKey, Result, Service};

/// Link-local (RFC 3927), next to the hairpin address: nobody's in a cluster, and dialled by the canary alone.
pub const CANARY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 77, 78), 1);

impl Datapath {
    /// Leads [`CANARY`], TCP and UDP, to a process of this node. [`Datapath::frontends`] does not show it.
    pub fn put_canary(&self, backend: SocketAddrV4) -> Result<()> {
        let service = |proto| Service {
            frontends: vec![Frontend {
                key: FrontendKey::cluster_ip((*CANARY.ip()).into(), CANARY.port(), proto),
                flags: 0,
            }],
            backends: vec![Backend {
                addr: (*backend.ip()).into(),
                port: backend.port(),
                local: true,
                terminating: false,
            }],
            ..Service::default()
        };
        self.put_services(&[service(TCP), service(UDP)]).map(drop)
    }
}

pub(crate) fn is_canary(key: &FrontendKey) -> bool {
    key.addr == *CANARY.ip()
}
