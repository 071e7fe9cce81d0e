//! Every byte the kernel programs and user space exchange: map keys and values, map names,
//! limits, counters and drop reasons.
//!
//! Rules (a test and compile-time assertions hold them): no implicit padding, `pad` fields are
//! always zero, network-order values are [`Be16`] or byte arrays, sizes are asserted. Types whose
//! layout depends on the IP family end in the family.
#![no_std]

mod be;
pub mod config;
pub mod conntrack;
pub mod latency;
pub mod lb;
pub mod limits;
pub mod names;
pub mod proto;
pub mod route;
pub mod stats;

pub use be::Be16;
pub use config::VERSION;
pub use conntrack::{Direction, Flow4, FlowKey4, FlowState, FragmentKey4, Ports, Tuple4};
pub use lb::{
    Affinity4, AffinityKey, Backend4, BackendId, BackendKey, Frontend4, FrontendKey4, MemberKey4, Origin4, Origins4,
    RangeKey4, ServiceId,
};
pub use route::{Endpoint4, L2Key4, L2Mac, Pod4, PrefixKey4};
pub use stats::{Counter, DropReason, MapId, Traffic};

/// An IPv4 address in network order.
pub type Addr4 = [u8; 4];

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
