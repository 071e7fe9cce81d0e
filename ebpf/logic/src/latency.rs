//! Histograms of what connections take.

use xebec_abi::latency::BUCKETS;

/// Microseconds of a smoothed round-trip time in eighths of one, as `struct tcp_sock` has it (include/linux/tcp.h);
/// `None` if there was no sample.
#[inline(always)]
pub const fn round_trip_us(srtt: u32) -> Option<u64> {
    if srtt == 0 { None } else { Some((srtt >> 3) as u64) }
}

/// The bucket of so many microseconds.
#[inline(always)]
pub const fn bucket(us: u64) -> usize {
    let log = 63 - (us | 1).leading_zeros() as usize;
    if log < BUCKETS { log } else { BUCKETS - 1 }
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
    fn a_round_trip_is_in_eighths_and_none_without_a_sample() {
        assert_eq!([0, 7, 8 * 33].map(round_trip_us), [None, Some(0), Some(33)]);
    }
}
