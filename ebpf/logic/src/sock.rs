//! The socket hooks: a connection to a service is made to one of its backends, at no cost per
//! packet, and the application sees the service's address.

use xebec_abi::{
    Be16, Counter, FrontendKey, Origin, Origins, lb::frontend_flag, lb::scope, limits::SOCKET_ORIGINS_MAX, proto,
};

use crate::{
    Family, Tables,
    lb::{Choice, Client, Selection, select},
};

/// An address as a socket call names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketAddress<A> {
    pub addr: A,
    pub port: Be16,
}

/// What becomes of a `connect` or `sendmsg`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Translation<A: Family> {
    /// Not to a service.
    Unchanged,
    /// To a service without a backend: ECONNREFUSED, at once, as when kube-proxy rejects.
    Refused,
    /// To a load balancer's address whose source ranges do not name this node: EPERM, as where a packet filter drops what a
    /// process sends.
    Forbidden,
    /// Go to `backend_addr` and `backend_port`.
    Backend(Origin<A>),
}

/// Where a socket that dials `to` goes. `netns` is the cookie of its network namespace.
#[inline(always)]
pub fn translate<A: Family, T: Tables<A>>(tables: &T, to: SocketAddress<A>, proto: u8, netns: u64) -> Translation<A> {
    if proto != proto::TCP && proto != proto::UDP {
        return Translation::Unchanged;
    }
    // NodePorts are on the node's loopback address, not on each pod's own.
    if to.addr.is_loopback() && netns != tables.node_netns() {
        return Translation::Unchanged;
    }
    let key = FrontendKey { addr: to.addr, port: to.port, proto, scope: scope::INTERNAL };
    let mut choice = Choice::default();
    match select(tables, &key, Client::Netns(netns), tables.random(), &mut choice) {
        Selection::NotAService => Translation::Unchanged,
        Selection::NoBackend | Selection::NoLocalBackend => {
            tables.count(Counter::SocketRefused, 0);
            Translation::Refused
        }
        Selection::Backend => {
            let Choice { frontend, backend, .. } = choice;
            let limited = frontend.flags & frontend_flag::SOURCE_RANGES != 0 && tables.node_netns() != 0;
            if limited && netns != tables.node_netns() {
                // A socket may not have its address yet; the pod's packets do, and `from_pod` sees each.
                return Translation::Unchanged;
            }
            if limited && !tables.in_source_ranges(frontend.service, tables.node_ip()) {
                return Translation::Forbidden;
            }
            tables.count(Counter::SocketLb, 0);
            Translation::Backend(Origin {
                addr: to.addr,
                port: to.port,
                backend_port: backend.port,
                backend_addr: backend.addr,
                service: frontend.service,
            })
        }
    }
}

/// May a process of the node have this port? Not one that is a NodePort on the address: it would never be reached.
#[inline(always)]
pub fn may_bind<A: Family, T: Tables<A>>(tables: &T, at: SocketAddress<A>, proto: u8, netns: u64) -> bool {
    if netns != tables.node_netns() || at.port == Be16::ZERO {
        return true;
    }
    let addr = if at.addr == A::UNSPECIFIED { tables.node_ip() } else { at.addr };
    let key = FrontendKey { addr, port: at.port, proto, scope: scope::INTERNAL };
    let taken = tables.frontend(&key).is_some_and(|frontend| frontend.flags & frontend_flag::NODE_PORT != 0);
    if taken {
        tables.count(Counter::BindRefused, 0);
    }
    !taken
}

/// The service address of the socket's peer, if the socket was connected to a service.
#[inline(always)]
pub fn peer<A: Family>(origins: &Origins<A>, peer: SocketAddress<A>) -> Option<SocketAddress<A>> {
    origin(&origins.peer, peer)
}

/// The service address of whoever sent a datagram, if the socket dialled a service there.
#[inline(always)]
pub fn sender<A: Family>(origins: &Origins<A>, from: SocketAddress<A>) -> Option<SocketAddress<A>> {
    if let Some(service) = origin(&origins.peer, from) {
        return Some(service);
    }
    let mut slot = 0;
    while slot < SOCKET_ORIGINS_MAX {
        if let Some(service) = origin(&origins.sent[slot], from) {
            return Some(service);
        }
        slot += 1;
    }
    None
}

/// Remembers where an unconnected socket sent a datagram, in the oldest slot.
#[inline(always)]
pub fn remember<A: Family>(origins: &mut Origins<A>, sent: Origin<A>) {
    let from = SocketAddress { addr: sent.backend_addr, port: sent.backend_port };
    let mut slot = 0;
    while slot < SOCKET_ORIGINS_MAX {
        let known = &mut origins.sent[slot];
        if known.backend_addr == from.addr && known.backend_port == from.port {
            *known = sent;
            return;
        }
        slot += 1;
    }
    let next = origins.next as usize & (SOCKET_ORIGINS_MAX - 1);
    origins.sent[next] = sent;
    origins.next = origins.next.wrapping_add(1);
}

const _: () = assert!(SOCKET_ORIGINS_MAX.is_power_of_two());

#[inline(always)]
fn origin<A: Family>(origin: &Origin<A>, at: SocketAddress<A>) -> Option<SocketAddress<A>> {
    let same = origin.backend_addr == at.addr && origin.backend_port == at.port;
    (same && origin.service.0 != 0).then_some(SocketAddress { addr: origin.addr, port: origin.port })
}

#[cfg(test)]
mod tests;
