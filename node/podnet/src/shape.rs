//! How fast a pod sends. Its own end of the pair waits, so its sockets do, and nothing is lost.

use xebec_netlink::{Handle, Netns, Shape};

use crate::ipam::Record;
use crate::network::label;
use crate::{Error, PodNetwork, Result};

/// A pod may send so much at once, and so much may wait: what its rate is in one part of so many of a second,
const MOMENTS: u64 = 20;
/// but at least two of the largest packets that the kernel makes of segments.
const LEAST_BYTES: u32 = 128 << 10;

impl PodNetwork {
    /// Limits how fast the pod of a record sends; `None` is no limit. False if it was so already.
    ///
    /// # Errors
    /// Also when the pod's network namespace is gone.
    pub async fn shape(&self, record: &Record, bytes_per_s: Option<u64>) -> Result<bool> {
        let _turn = self.turn(&record.container).await;
        let shaped = shape_in(record, bytes_per_s).await;
        shaped.map_err(|source| Error::Pod { pod: label(record), source })
    }
}

async fn shape_in(record: &Record, bytes_per_s: Option<u64>) -> xebec_netlink::Result<bool> {
    let pod = Handle::in_netns(&Netns::open(&record.netns)?)?;
    let index = pod.link(&record.ifname).await?.index;
    match bytes_per_s {
        Some(bytes_per_s) => pod.shape(index, &of_rate(bytes_per_s)).await,
        None => pod.unshape(index).await,
    }
}

fn of_rate(bytes_per_s: u64) -> Shape {
    let bytes = u32::try_from(bytes_per_s / MOMENTS).unwrap_or(u32::MAX).max(LEAST_BYTES);
    Shape { bytes_per_s, burst_bytes: bytes, limit_bytes: bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_moment_and_at_least_two_large_packets() {
        for (bytes_per_s, bytes) in [(125, 131_072), (125_000_000, 6_250_000), (125_000_000_000_000, u32::MAX)] {
            let expected = Shape { bytes_per_s, burst_bytes: bytes, limit_bytes: bytes };
            assert_eq!(of_rate(bytes_per_s), expected);
        }
    }
}
