//! How fast packets go into a pod whose `kubernetes.io/ingress-bandwidth` says so.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The token bucket of a pod; the key is its host-side device. It is kept as the time at which it would be full again: the
/// virtual scheduling algorithm of ATM's GCRA (ITU-T I.371), which one word holds and one addition changes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PodRate {
    /// 0 is no limit.
    pub bytes_per_s: u64,
    /// How long the bucket takes to fill.
    pub burst_ns: u64,
    /// When it is full, on the clock of flows.
    pub full_ns: u64,
}
const _: () = assert!(size_of::<PodRate>() == 24);

/// Bits of [`crate::LocalPod::flags`].
pub mod pod_flag {
    /// The pod has a [`super::PodRate`].
    pub const LIMITED: u32 = 1;
}

crate::pod!(PodRate);
crate::layout::fields! {
    PodRate { bytes_per_s, burst_ns, full_ns }
}
