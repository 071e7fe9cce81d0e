use nix::time::{ClockId, clock_gettime};

/// The clock of `bpf_ktime_get_boot_ns`, which the programs stamp entries with.
pub fn boot_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |time| time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned())
}
