use nix::time::{ClockId, clock_gettime};

/// The clock of `bpf_ktime_get_ns` and, to a tick, `bpf_ktime_get_coarse_ns`, which the programs stamp entries with.
pub fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned())
}
