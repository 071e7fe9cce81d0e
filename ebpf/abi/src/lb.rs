//! Load balancing: frontends, backends, session affinity, and what a socket remembers.
//!
//! **Swapping a service** is one atomic write. Backends are written under `generation + 1`, then
//! the frontend value is replaced (readers see the old service or the new one, never a mixture),
//! then, after a grace period, the backends of the old generation are deleted. A reader that holds
//! an old frontend value past the grace period misses its backend and looks the frontend up again.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Addr4, Addr6, Address, Be16,
    family::{of_families, pod_of_families},
    limits::{FIRST_BACKENDS, SOCKET_ORIGINS_MAX},
};

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

of_families! {
    /// What clients dial.
    pub struct FrontendKey<A> {
        pub addr: A,
        pub port: Be16,
        pub proto: u8,
        /// [`scope`]: the same address can behave differently for clients outside the cluster.
        pub scope: u8,
    }
}
const _: () = assert!(size_of::<FrontendKey<Addr4>>() == 8 && size_of::<FrontendKey<Addr6>>() == 20);

/// Values of [`FrontendKey::scope`].
pub mod scope {
    /// Clients in pods and on nodes (`internalTrafficPolicy`).
    pub const INTERNAL: u8 = 0;
    /// Clients outside the cluster (`externalTrafficPolicy`).
    pub const EXTERNAL: u8 = 1;
}

/// The service behind a frontend.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FrontendValue {
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
const _: () = assert!(size_of::<FrontendValue>() == 16);

of_families! {
    /// What the map of frontends holds.
    pub struct FrontendEntry<A> {
        pub value: FrontendValue,
        /// With [`frontend_flag::FIRST`] the backends of the first slots, so that those of most services take no other look
        /// into memory: of a table that no cache holds each look takes 0.3 us.
        pub first: [Backend<A>; FIRST_BACKENDS],
    }
}
const _: () = assert!(size_of::<FrontendEntry<Addr4>>() == 64 && size_of::<FrontendEntry<Addr6>>() == 112);

impl<A: Address> From<FrontendValue> for FrontendEntry<A> {
    /// Its backends are found in their own map.
    fn from(value: FrontendValue) -> Self {
        Self { value, ..Self::default() }
    }
}

/// Bits of [`FrontendValue::flags`]; the upper four are the size of a Maglev table ([`crate::maglev::flags`]).
pub mod frontend_flag {
    /// Only backends on this node (`internalTrafficPolicy: Local`, `externalTrafficPolicy: Local`).
    pub const LOCAL_ONLY: u16 = 1 << 0;
    /// The frontend is a NodePort.
    pub const NODE_PORT: u16 = 1 << 1;
    /// The frontend is a load balancer's address.
    pub const LOAD_BALANCER: u16 = 1 << 2;
    /// Clients must be in one of the service's source ranges ([`super::RangeKey`]).
    pub const SOURCE_RANGES: u16 = 1 << 3;
    /// The frontend is one of `externalIPs`.
    pub const EXTERNAL_IP: u16 = 1 << 4;
    /// The frontend is a pod's `hostPort`.
    pub const HOST_PORT: u16 = 1 << 5;
    /// Direct server return: a backend on another node sees its client, and answers it past the node that was dialled.
    pub const DSR: u16 = 1 << 6;
    /// The entry has the first backends ([`super::FrontendEntry`]).
    pub const FIRST: u16 = 1 << 7;
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

of_families! {
    /// A backend's address, inline: no second lookup.
    pub struct Backend<A> {
        pub addr: A,
        pub port: Be16,
        /// [`backend_flag`].
        pub flags: u8,
        /// Its share of a Maglev table, in comparison with others'; 0 is as 1.
        pub weight: u8,
        pub id: BackendId,
    }
}
const _: () = assert!(size_of::<Backend<Addr4>>() == 12 && size_of::<Backend<Addr6>>() == 24);

/// Bits of [`Backend::flags`].
pub mod backend_flag {
    /// On this node.
    pub const LOCAL: u8 = 1 << 0;
    /// Serving while it terminates.
    pub const TERMINATING: u8 = 1 << 1;
}

of_families! {
    /// A backend that a service with session affinity has. The value is the generation that wrote it:
    /// members are added before the frontend is replaced and stale ones removed after it.
    pub struct MemberKey<A> {
        pub service: ServiceId,
        pub addr: A,
        pub port: Be16,
        pub pad: [u8; 2],
    }
}
const _: () = assert!(size_of::<MemberKey<Addr4>>() == 12 && size_of::<MemberKey<Addr6>>() == 24);

of_families! {
    /// A range of addresses that may be clients of a service; the prefix length of the trie counts the
    /// service's 32 bits too.
    pub struct RangeKey<A> {
        /// In network order, as tries compare bytes.
        pub service: [u8; 4],
        pub addr: A,
    }
}
const _: () = assert!(size_of::<RangeKey<Addr4>>() == 8 && size_of::<RangeKey<Addr6>>() == 20);

impl<A: Address> RangeKey<A> {
    #[inline(always)]
    pub const fn new(service: ServiceId, addr: A) -> Self {
        Self { service: service.0.to_be_bytes(), addr }
    }
}

of_families! {
    /// A client of a service with session affinity.
    pub struct AffinityKey<A> {
        /// A network namespace's cookie (a pod has one address, so this is its `ClientIP`), or the
        /// address of a client outside the cluster in the first bytes.
        pub client: A::Client,
        pub service: ServiceId,
        /// `config::CLIENT_*`.
        pub kind: u8,
        pub pad: [u8; 3],
    }
}
const _: () = assert!(size_of::<AffinityKey<Addr4>>() == 16 && size_of::<AffinityKey<Addr6>>() == 24);

of_families! {
    /// The backend a client is bound to.
    pub struct Affinity<A> {
        /// The monotonic clock at the last use.
        pub used_ns: u64,
        pub addr: A,
        pub port: Be16,
        pub pad: A::PortPad,
    }
}
const _: () = assert!(size_of::<Affinity<Addr4>>() == 16 && size_of::<Affinity<Addr6>>() == 32);

of_families! {
    /// The address a socket dialled and the backend it got.
    pub struct Origin<A> {
        pub addr: A,
        pub port: Be16,
        pub backend_port: Be16,
        pub backend_addr: A,
        pub service: ServiceId,
    }
}
const _: () = assert!(size_of::<Origin<Addr4>>() == 16 && size_of::<Origin<Addr6>>() == 40);

of_families! {
    /// Socket storage: freed with its socket, so it never runs full and never forgets.
    pub struct Origins<A> {
        /// Set by `connect`; zeroes mean none.
        pub peer: Origin<A>,
        /// Set by `sendmsg` on unconnected sockets, oldest replaced first.
        pub sent: [Origin<A>; SOCKET_ORIGINS_MAX],
        /// Slot of `sent` to write next.
        pub next: u32,
        /// Of a TCP socket that connects to a service: when it began, in µs of the boot-time clock, of which these are
        /// the lower bits. Once it is connected: how many µs that took, until they are counted; then zero.
        pub connect_us: u32,
    }
}
const _: () = assert!(
    size_of::<Origins<Addr4>>() == 16 * (1 + SOCKET_ORIGINS_MAX) + 8
        && size_of::<Origins<Addr6>>() == 40 * (1 + SOCKET_ORIGINS_MAX) + 8
);

crate::pod!(ServiceId, BackendId, FrontendValue, BackendKey);
crate::layout::whole!(ServiceId, BackendId);
crate::layout::fields! {
    FrontendValue { service, generation, backends, local, flags, affinity_s }
    BackendKey { service, generation, slot }
}
pod_of_families!(FrontendKey, FrontendEntry, Backend, MemberKey, RangeKey, AffinityKey, Affinity, Origin, Origins);
