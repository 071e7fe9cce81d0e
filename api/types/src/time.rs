//! Wall-clock time in the API's types.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
pub use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock. Pure code takes `now` as an argument; only shells call this.
#[must_use]
pub fn now() -> Timestamp {
    at(SystemTime::now())
}

/// A time of the system's; the epoch for what was before it.
#[must_use]
pub fn at(time: SystemTime) -> Timestamp {
    // `Timestamp::try_from` needs jiff's `std`, which nothing here turns on.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    let nanoseconds = i32::try_from(since.subsec_nanos()).unwrap_or_default();
    Timestamp::new(seconds, nanoseconds).unwrap_or_default()
}

/// `metav1.Time` has whole seconds on the wire.
#[must_use]
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

#[must_use]
pub fn micro_time(at: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at))
}

/// How long `at` lies before `now`; zero if it lies after.
#[must_use]
pub fn since(at: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(at).try_into().unwrap_or(Duration::ZERO)
}

/// How long until `at`; zero if it has passed.
#[must_use]
pub fn until(at: Timestamp, now: Timestamp) -> Duration {
    since(now, at)
}

#[must_use]
pub fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}
