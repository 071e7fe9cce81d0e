//! How far this node is: the resourceVersion of the EndpointSlices that the datapath has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xebec_client::informer::Informer;
use xebec_types::discovery::EndpointSlice;

/// The highest resourceVersion that an informer of EndpointSlices has shown. Versions of one kind arrive in order, so
/// every node passes through each of them.
#[derive(Clone, Debug, Default)]
pub struct SliceVersion(Arc<AtomicU64>);

impl SliceVersion {
    /// Follows the informer. A subscription made earlier has every change up to the version that is read here.
    pub fn follow(slices: &Informer<EndpointSlice>) -> Self {
        let version = Self::default();
        let sink = Arc::downgrade(&version.0);
        slices.on_change(move |change| {
            let (Some(sink), Some(slice)) = (sink.upgrade(), change.object()) else { return };
            let of_slice = slice.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
            sink.fetch_max(of_slice.unwrap_or(0), Ordering::AcqRel);
        });
        version
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
