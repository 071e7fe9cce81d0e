//! Load balancing: frontends, backends, session affinity, and what a socket remembers.
//!
//! **Swapping a service** is one atomic write. Backends are written under `generation + 1`, then
//! the frontend value is replaced (readers see the old service or the new one, never a mixture),
//! then, after a grace period, the backends of the old generation are deleted. A reader that holds
//! an old frontend value past the grace period misses its backend and looks the frontend up again.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Addr4, Be16, limits::SOCKET_ORIGINS_MAX};

/// One port of a Service: it has its own backends. Dense, allocated by the agent.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct ServiceId(pub u32);

/// One backend address of a service port.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct BackendId(pub u32);

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What clients dial.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FrontendKey4 {
    pub addr: Addr4,
    pub port: Be16,
    pub proto: u8,
    /// [`scope`]: the same address can behave differently for clients outside the cluster.
    pub scope: u8,
}
const _: () = assert!(size_of::<FrontendKey4>() == 8);

/// Values of [`FrontendKey4::scope`].
pub mod scope {
    /// Clients in pods and on nodes (`internalTrafficPolicy`).
    pub const INTERNAL: u8 = 0;
    /// Clients outside the cluster (`externalTrafficPolicy`).
    pub const EXTERNAL: u8 = 1;
}

/// The service behind a frontend.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Frontend4 {
    pub service: ServiceId,
    pub generation: u16,
    /// Slots `0..backends` exist under this generation.
    pub backends: u16,
    /// Slots `0..local` are on this node.
    pub local: u16,
    /// [`frontend_flag`].
    pub flags: u16,
    /// Session affinity lifetime; 0 is none.
    pub affinity_s: u32,
}
const _: () = assert!(size_of::<Frontend4>() == 16);

/// Bits of [`Frontend4::flags`].
pub mod frontend_flag {
    /// Only backends on this node (`internalTrafficPolicy: Local`, `externalTrafficPolicy: Local`).
    pub const LOCAL_ONLY: u16 = 1 << 0;
    /// The frontend is a NodePort.
    pub const NODE_PORT: u16 = 1 << 1;
    /// The frontend is a load balancer's address.
    pub const LOAD_BALANCER: u16 = 1 << 2;
    /// Clients outside must be in one of the service's source ranges ([`super::RangeKey4`]).
    pub const SOURCE_RANGES: u16 = 1 << 3;
    /// The frontend is one of `externalIPs`.
    pub const EXTERNAL_IP: u16 = 1 << 4;
    /// The frontend is a pod's `hostPort`.
    pub const HOST_PORT: u16 = 1 << 5;
}

/// Where a backend's address is.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BackendKey {
    pub service: ServiceId,
    pub generation: u16,
    pub slot: u16,
}
const _: () = assert!(size_of::<BackendKey>() == 8);

/// A backend's address, inline: no second lookup.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Backend4 {
    pub addr: Addr4,
    pub port: Be16,
    /// [`backend_flag`].
    pub flags: u8,
    /// Topology zone, 0 if unknown.
    pub zone: u8,
    pub id: BackendId,
}
const _: () = assert!(size_of::<Backend4>() == 12);

/// Bits of [`Backend4::flags`].
pub mod backend_flag {
    /// On this node.
    pub const LOCAL: u8 = 1 << 0;
    /// Serving while it terminates.
    pub const TERMINATING: u8 = 1 << 1;
}

/// A backend that a service with session affinity has. The value is the generation that wrote it:
/// members are added before the frontend is replaced and stale ones removed after it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemberKey4 {
    pub service: ServiceId,
    pub addr: Addr4,
    pub port: Be16,
    pub pad: [u8; 2],
}
const _: () = assert!(size_of::<MemberKey4>() == 12);

/// A range of addresses that may be clients of a service; the prefix length of the trie counts the
/// service's 32 bits too.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RangeKey4 {
    /// In network order, as tries compare bytes.
    pub service: [u8; 4],
    pub addr: Addr4,
}
const _: () = assert!(size_of::<RangeKey4>() == 8);

impl RangeKey4 {
    #[inline(always)]
    pub const fn new(service: ServiceId, addr: Addr4) -> Self {
        Self { service: service.0.to_be_bytes(), addr }
    }
}

/// A client of a service with session affinity.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AffinityKey {
    /// A network namespace's cookie (a pod has one address, so this is its `ClientIP`), or the
    /// address of a client outside the cluster in the first four bytes.
    pub client: u64,
    pub service: ServiceId,
    /// `config::CLIENT_*`.
    pub kind: u8,
    pub pad: [u8; 3],
}
const _: () = assert!(size_of::<AffinityKey>() == 16);

/// The backend a client is bound to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Affinity4 {
    /// Boot-time clock of the last use.
    pub used_ns: u64,
    pub addr: Addr4,
    pub port: Be16,
    pub pad: [u8; 2],
}
const _: () = assert!(size_of::<Affinity4>() == 16);

/// The address a socket dialled and the backend it got.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Origin4 {
    pub addr: Addr4,
    pub port: Be16,
    pub backend_port: Be16,
    pub backend_addr: Addr4,
    pub service: ServiceId,
}
const _: () = assert!(size_of::<Origin4>() == 16);

/// Socket storage: freed with its socket, so it never runs full and never forgets.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Origins4 {
    /// Set by `connect`; `backend_addr` 0.0.0.0 means none.
    pub peer: Origin4,
    /// Set by `sendmsg` on unconnected sockets, oldest replaced first.
    pub sent: [Origin4; SOCKET_ORIGINS_MAX],
    /// Slot of `sent` to write next.
    pub next: u32,
    pub pad: u32,
}
const _: () = assert!(size_of::<Origins4>() == 16 + 16 * SOCKET_ORIGINS_MAX + 8);

crate::pod!(
    ServiceId,
    BackendId,
    FrontendKey4,
    Frontend4,
    BackendKey,
    Backend4,
    MemberKey4,
    RangeKey4,
    AffinityKey,
    Affinity4,
    Origin4,
    Origins4,
);
