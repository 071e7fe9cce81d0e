//! How long connections to services take, by backend: log2 histograms that the socket hooks keep.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Addr4, Addr6, Be16, ServiceId,
    family::{of_families, pod_of_families},
};

/// Buckets of a histogram: bucket `i` counts what took from 2^i to 2^(i+1) µs, the first also what took less, the last
/// (from 8 s on) also what took more.
pub const BUCKETS: usize = 24;

of_families! {
    /// One backend of one service.
    pub struct LatencyKey<A> {
        pub service: ServiceId,
        pub addr: A,
        pub port: Be16,
        pub pad: [u8; 2],
    }
}
const _: () = assert!(size_of::<LatencyKey<Addr4>>() == 12 && size_of::<LatencyKey<Addr6>>() == 24);

/// What was seen of the connections to a backend. CPUs add to it atomically.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Latency {
    /// From connect() to the handshake's end.
    pub connect: [u32; BUCKETS],
    /// The smoothed round-trip time (RFC 6298) when the connection closed.
    pub rtt: [u32; BUCKETS],
    pub connect_us: u64,
    pub rtt_us: u64,
    /// Segments sent again.
    pub retransmits: u64,
}
const _: () = assert!(size_of::<Latency>() == 8 * BUCKETS + 24);

crate::pod!(Latency);
crate::layout::fields! {
    Latency { connect, rtt, connect_us, rtt_us, retransmits }
}
pod_of_families!(LatencyKey);
