//! Histograms of what connections take.

use xebec_abi::latency::{BUCKETS, Latency};

/// A connection was established `us` microseconds after its SYN.
#[inline(always)]
pub fn connected(latency: &mut Latency, us: u64) {
    count(&mut latency.connect, us);
    latency.connect_us = latency.connect_us.wrapping_add(us);
}

/// A connection closed. `srtt` is in eighths of a microsecond, as `struct tcp_sock` has it (include/linux/tcp.h); 0 if
/// there was no sample.
#[inline(always)]
pub fn closed(latency: &mut Latency, srtt: u32) {
    if srtt == 0 {
        return;
    }
    let us = u64::from(srtt >> 3);
    count(&mut latency.rtt, us);
    latency.rtt_us = latency.rtt_us.wrapping_add(us);
}

/// The bucket of so many microseconds.
#[inline(always)]
pub const fn bucket(us: u64) -> usize {
    let log = 63 - (us | 1).leading_zeros() as usize;
    if log < BUCKETS { log } else { BUCKETS - 1 }
}

#[inline(always)]
fn count(histogram: &mut [u32; BUCKETS], us: u64) {
    if let Some(count) = histogram.get_mut(bucket(us)) {
        *count = count.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(us: u64, expected: usize) {
        assert_eq!(bucket(us), expected, "{us} us");
    }

    #[test]
    fn a_bucket_reaches_from_a_power_of_two_to_the_next() {
        check(0, 0);
        check(1, 0);
        check(2, 1);
        check(3, 1);
        check(4, 2);
        check(1_023, 9);
        check(1_024, 10);
        check((1 << BUCKETS) - 1, BUCKETS - 1);
        check(1 << BUCKETS, BUCKETS - 1);
        check(u64::MAX, BUCKETS - 1);
    }

    #[test]
    fn a_connection_counts_once_and_one_without_a_sample_has_no_round_trip() {
        let mut latency = Latency::default();
        connected(&mut latency, 100);
        closed(&mut latency, 0);
        assert_eq!((latency.connect[6], latency.connect_us), (1, 100));
        assert_eq!(latency.rtt.iter().sum::<u32>(), 0);
        closed(&mut latency, 8 * 33);
        assert_eq!((latency.rtt[5], latency.rtt_us), (1, 33));
    }
}
