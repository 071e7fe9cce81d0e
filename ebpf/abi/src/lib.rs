//! Every byte the kernel programs and user space exchange: map keys and values, map names,
//! limits, counters and drop reasons.
//!
//! Rules (a test and compile-time assertions hold them): no implicit padding, `pad` fields are
//! always zero, network-order values are [`Be16`] or byte arrays, sizes are asserted. Types whose
//! layout depends on the IP family have the address as parameter ([`Address`]); their names of one
//! family end in it.
#![no_std]

mod be;
pub mod config;
pub mod conntrack;
mod family;
pub mod latency;
pub mod layout;
pub mod lb;
pub mod limits;
pub mod maglev;
pub mod names;
pub mod proto;
mod rate;
mod route;
pub mod stats;

pub use be::Be16;
pub use config::VERSION;
pub use conntrack::{Direction, Flow, Flow1, FlowKey, FlowState, FragmentKey, OtherFlow, Ports, RehearsalFlow, Tuple};
pub use family::{Addr4, Addr6, Address};
pub use lb::{
    Affinity, AffinityKey, Backend, BackendId, BackendKey, FrontendEntry, FrontendKey, FrontendValue, MemberKey,
    Origin, Origins, RangeKey, ServiceId,
};
pub use maglev::{MaglevBlock, MaglevKey};
pub use rate::{PodRate, pod_flag};
pub use route::{Endpoint, L2Key, L2Mac, LocalPod, PrefixKey};
pub use stats::{Counter, DropReason, MapId, Traffic};

pub type Tuple4 = Tuple<Addr4>;
pub type FlowKey4 = FlowKey<Addr4>;
pub type Flow4 = Flow<Addr4>;
pub type FragmentKey4 = FragmentKey<Addr4>;
pub type FrontendKey4 = FrontendKey<Addr4>;
pub type Backend4 = Backend<Addr4>;
pub type MemberKey4 = MemberKey<Addr4>;
pub type RangeKey4 = RangeKey<Addr4>;
pub type Affinity4 = Affinity<Addr4>;
pub type AffinityKey4 = AffinityKey<Addr4>;
pub type Origin4 = Origin<Addr4>;
pub type Origins4 = Origins<Addr4>;
pub type PrefixKey4 = PrefixKey<Addr4>;
pub type Endpoint4 = Endpoint<Addr4>;
pub type L2Key4 = L2Key<Addr4>;

pub type Tuple6 = Tuple<Addr6>;
pub type FlowKey6 = FlowKey<Addr6>;
pub type Flow6 = Flow<Addr6>;
pub type FragmentKey6 = FragmentKey<Addr6>;
pub type FrontendKey6 = FrontendKey<Addr6>;
pub type Backend6 = Backend<Addr6>;
pub type MemberKey6 = MemberKey<Addr6>;
pub type RangeKey6 = RangeKey<Addr6>;
pub type Affinity6 = Affinity<Addr6>;
pub type AffinityKey6 = AffinityKey<Addr6>;
pub type Origin6 = Origin<Addr6>;
pub type Origins6 = Origins<Addr6>;
pub type PrefixKey6 = PrefixKey<Addr6>;
pub type Endpoint6 = Endpoint<Addr6>;
pub type L2Key6 = L2Key<Addr6>;

/// Declares that user space may copy these types to and from maps.
macro_rules! pod {
    ($($ty:ty),* $(,)?) => { $(
        // SAFETY: zerocopy's derives prove at compile time that the type has no padding and that
        // every bit pattern is a value of it.
        #[cfg(feature = "user")]
        #[allow(unsafe_code)]
        unsafe impl aya::Pod for $ty {}
        const _: () = {
            const fn plain<T: zerocopy::FromBytes + zerocopy::IntoBytes>() {}
            plain::<$ty>()
        };
    )* };
}
pub(crate) use pod;
